"JavaScript and CSS in files: how they are joined, that lessons show them as they are, and node's own tests."

import json
import re
import shutil
import subprocess
from functools import cache

import pytest
from sync_gate import ROOT

from dgcl_nb.core import InputError
from dgcl_nb.looking import static
from dgcl_nb.looking.static import (
    join_modules,
    parse_module,
    read_constants,
    read_static,
    read_styles,
    static_names,
)

JS_TESTS = ROOT / "tests" / "js"
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(
    NODE is None, reason="node is not installed (on Debian: apt-get install nodejs)"
)
SHOWN = re.compile(r"^show_source\(['\"]([\w./]+)['\"]\)$", re.M)
NAMED = re.compile(r'^test\("(.+?)", ', re.M)
RESULT = re.compile(r"^(ok|not ok) \d+ - (.*)$", re.M)


@pytest.fixture
def files(monkeypatch):
    "Files in place of those of the package: {name: text}."
    texts = {}
    monkeypatch.setattr(static, "read_static", texts.__getitem__)
    return texts


def lines_of(name):
    return read_static(name).splitlines()


def test_join__dependencies_come_first_and_once(files):
    files["a/top.js"] = (
        'import { left } from "./left.js";\nimport { right } from "../right.js";\nconst top = 1;\n'
    )
    files["a/left.js"] = 'import { base } from "../base.js";\nexport const left = base;\n'
    files["right.js"] = 'import { base } from "./base.js";\nexport function right() {}\n'
    files["base.js"] = "export const base = 1;\n"
    joined = join_modules("a/top.js")
    wanted = ["const base = 1;", "const left = base;", "function right() {}", "const top = 1;"]
    assert [line for line in joined.splitlines() if line] == wanted


def test_join__constants_come_before_all(files):
    files["a.js"] = "const b = WORDS;\n"
    assert (
        join_modules("a.js", WORDS={"x": [1, "</a>"]})
        == 'const WORDS = {"x": [1, "</a>"]};\n\nconst b = WORDS;\n'
    )


def test_join__two_texts_and_a_list_over_several_lines(files):
    files["a.js"] = "export const one = 1;\nexport class Two {}\nexport async function three() {}\n"
    text = 'import {\n  one,\n  Two\n} from "a.js";\nconst four = one;\n'
    joined = join_modules(text, "const five = 5;\n")
    assert joined.startswith("const one = 1;\nclass Two {}\nasync function three() {}")
    assert joined.endswith("const four = one;\n\nconst five = 5;\n")


@pytest.mark.parametrize("text, message", [
    ('import { no } from "a.js";\n', "imports no, which a.js does not export"),
    ('import { hidden } from "a.js";\n', "imports hidden, which a.js does not export"),
    ('import { one } from "a.js";\nconst hidden = 1;\n', "hidden is declared in a.js and in the text given"),
    ('import { one } from "a.js";\nfunction one() {}\n', "one is declared in a.js and in the text given"),
    ('import { one } from "a.js";\nconst { x, hidden } = {};\n', "hidden is declared in a.js and in"),
    ('import * as a from "a.js";\n', r"cannot join 'import \* as a from"),
    ('import one from "a.js";\n', "cannot join 'import one from"),
    ('import { one as two } from "a.js";\n', "cannot join 'import { one as two }"),
    ("export default 1;\n", "cannot join 'export default 1;'; write import"),
    ("export { one };\n", "cannot join 'export { one };'"),
])  # fmt: skip
def test_join__refuses(files, text, message):
    files["a.js"] = "export const one = 1;\nconst hidden = 2;\n"
    with pytest.raises(InputError, match=message):
        join_modules(text)


def test_join__refuses_a_circle(files):
    files["a.js"] = 'import { b } from "./b.js";\nexport const a = 1;\n'
    files["b.js"] = 'import { a } from "./a.js";\nexport const b = 1;\n'
    with pytest.raises(InputError, match=r"in a circle: a\.js -> b\.js -> a\.js"):
        join_modules("a.js")


def test_read__an_unknown_file_names_the_nearest():
    with pytest.raises(
        InputError, match="unknown static file 'front/colour.js'; did you mean front/colours.js"
    ):
        read_static("front/colour.js")
    with pytest.raises(InputError, match="unknown static file 'front'"):
        read_styles("front")


def test_constants__are_json(files):
    files["a.js"] = '// values\nexport const A = [1,\n  2];\nexport const B = {"x": null};\n'
    assert read_constants("a.js") == dict(A=[1, 2], B=dict(x=None))
    files["b.js"] = "export const A = [1, 2,];\n"
    with pytest.raises(InputError, match="b.js: the value of A is no JSON"):
        read_constants("b.js")


def test_files__are_short_and_of_the_package():
    names = static_names()
    assert {"front/data.js", "explorer/render.js", "overlay/overlay.css"} <= set(names)
    too_long = {name: len(lines_of(name)) for name in names if len(lines_of(name)) > 150}
    assert not too_long, "split them: at most 150 lines a file"
    wide = {name for name in names if any(len(line) > 110 for line in lines_of(name))}
    assert not wide, "at most 110 characters a line"
    unnamed = {name for name in names if not lines_of(name)[0].startswith(("//", "/*"))}
    assert not unnamed, "a file begins with a comment that says what it is for"


@pytest.mark.parametrize("name", [n for n in static_names() if n.endswith(".js")])
def test_files__join_alone(name):
    assert parse_module(read_static(name), name).declared
    join_modules(name)


def test_files__are_in_the_wheel(monkeypatch):
    from setuptools import Distribution
    from setuptools.config.pyprojecttoml import apply_configuration

    monkeypatch.chdir(ROOT)
    project = apply_configuration(Distribution({"script_name": "setup.py"}), "pyproject.toml")
    build = project.get_command_obj("build_py")
    build.ensure_finalized()
    built = {f"{folder}/{name}" for _, folder, _, names in build.data_files for name in names}
    assert {f"dgcl_nb/static/{name}" for name in static_names()} <= built


def shown_in_lessons():
    "{file: what the saved output of its show_source says} of all notebooks."
    shown = {}
    for path in (ROOT / "nbs").rglob("*.ipynb"):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            found = SHOWN.search("".join(cell["source"]))
            if found:
                data = [output.get("data", {}) for output in cell["outputs"]]
                shown[found[1]] = "".join(part for d in data for part in d.get("text/markdown", []))
    return shown


def test_lessons__show_files_as_they_are():
    shown = shown_in_lessons()
    explained = {name for name in static_names() if name.split("/")[0] in ("front", "explorer", "overlay")}
    assert not explained - set(shown), "no lesson shows them"
    stale = [name for name, text in shown.items() if read_static(name).rstrip() not in text]
    assert not stale, "run these lessons anew with nbdev-test --save"


# node's own tests


def named_tests():
    "(file, name) of each test that is named in a file; a file that makes its tests in a loop has one, ''."
    for path in sorted(JS_TESTS.glob("*.test.mjs")):
        names = NAMED.findall(path.read_text(encoding="utf-8")) or [""]
        yield from ((path.name, name) for name in names)


@cache
def run_node(file):
    "{name: whether it passed} of all tests of a file, and what node said."
    command = [NODE, "--test", "--test-reporter=tap", str(JS_TESTS / file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    results = {name: word == "ok" for word, name in RESULT.findall(done.stdout)}
    return results, done.stdout + done.stderr


@needs_node
@pytest.mark.parametrize("file, name", list(named_tests()))
def test_node(file, name):
    "A test of the page's functions, run by node."
    results, said = run_node(file)
    assert results, said
    assert results[name] if name else all(results.values()), said


@needs_node
def test_node__ran_all_and_no_other():
    for file in {file for file, name in named_tests() if name}:
        assert set(run_node(file)[0]) == {name for other, name in named_tests() if other == file}
