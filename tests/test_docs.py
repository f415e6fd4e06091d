"The documentation site: pages written of the package, and a build whose links lead somewhere, never out."

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))
import api  # noqa: E402
import links  # noqa: E402
import llms_ctx  # noqa: E402

TOOLS = ("sphinx", "myst_nb", "furo", "sphinx-mathjax-offline")
SOURCE = (
    '''"A room.

More of it."
'''.replace('"A', '"""A').replace('it."', 'it."""')
    + '''
__all__ = ["LIMIT", "Thing", "make"]

LIMIT = 3
"How many at most."


class Thing:
    "A thing."

    size: int = 1  # in pixels

    def __init__(self, size: int):
        self.size = size

    def grow(
        self,
        by: int,  # pixels
    ) -> int:  # the new size
        "Larger."
        return self.size + by

    def _inner(self):
        pass


def make(n: int) -> Thing:
    "Make one."
    return Thing(n)


def _hidden():
    "Not told."
'''
)


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "dgcl_nb" / "things.py"
    path.parent.mkdir()
    path.write_text(SOURCE)
    [found] = api.modules(tmp_path)
    return found


def test_api__tells_public_names_as_they_are_written(module):
    assert (module.name, module.about) == ("dgcl_nb.things", "A room.")
    assert module.constants() == {"LIMIT": ("LIMIT = 3", "How many at most.")}
    assert list(module.objects()) == ["Thing", "make"]
    thing = module.stub(module.objects()["Thing"])
    assert "size: int = 1  # in pixels" in thing and "by: int,  # pixels" in thing
    assert thing.endswith('"Larger."') and "return" not in thing and "_inner" not in thing


def test_llms_ctx__has_a_line_for_a_function_and_the_fields_of_a_class(module):
    lines = [llms_ctx.summary(node) for node in module.objects().values()]
    assert lines[1] == "make(n: int) -> Thing: Make one."
    assert lines[0].splitlines()[1:] == [
        "  size: int = 1",
        "  __init__(self, size: int)",
        "  grow(self, by: int) -> int: Larger.",
    ]


def test_links__tells_what_is_missing_and_what_comes_from_the_net(tmp_path):
    (tmp_path / "a.html").write_text('<p id="here"></p><a href="b.html#there">b</a><a href="#here">h</a>')
    (tmp_path / "b.html").write_text(
        '<p id="there"></p><a href="a.html#gone"></a><img src="no.png"><img src="data:image/png;base64,AA">'
        '<script src="https://example.org/x.js"></script><a href="https://example.org">out</a>'
    )
    assert links.problems(tmp_path) == [
        "b.html leads to no.png: no such file",
        "b.html loads https://example.org/x.js from the net",
        "b.html leads to a.html#gone: no such anchor",
    ]


@pytest.fixture(scope="module")
def texts():
    "The pages, before Sphinx sees them."
    import make

    return make.texts()


def test_pages__have_every_setting_preset_method_and_array(texts):
    from dgcl_nb.config import METHODS, parse_run
    from dgcl_nb.settings import preset_layers, setting_names
    from dgcl_nb.snapshot_schema import SHAPES

    for method in METHODS:
        names = setting_names(parse_run(["--method", method], "/nowhere"))
        assert not [name for name in names if f"| `--{name}` |" not in texts["settings.md"]]
        assert f"| [{method}](nbs/methods/" in texts["methods.md"]
    # all but the two plain ones say how they differ from what was released
    assert texts["methods.md"].count("[paper, code, here](nbs/methods/") == len(METHODS) - 2
    [(_, sections)] = preset_layers("/nowhere")
    assert re.findall(r"^## (.*)$", texts["presets.md"], re.M) == list(sections)
    lines = (ROOT / "settings.ini").read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if "=" in line and line not in texts["presets.md"]]
    assert not [name for name in SHAPES if f"`{name}`" not in texts["run_folder.md"]]


def test_pages__every_setting_says_what_is_allowed_and_means(texts):
    rows = re.findall(r"^\| `--(\S+)` \|[^|]*\|([^|]*)\|([^|]*)\|$", texts["settings.md"], re.M)
    assert len(rows) > 200 and all(allowed.strip() and meaning.strip() for _, allowed, meaning in rows)


def test_pages__every_notebook_is_there_without_its_hidden_cells(texts):
    for path in ROOT.glob("nbs/**/*.ipynb"):
        cells = json.loads(texts[str(path.relative_to(ROOT))])["cells"]
        lines = [line for cell in cells for line in "".join(cell["source"]).splitlines()]
        assert not [line for line in lines if line.startswith(("#|", "nbdev.nbdev_export"))], path.name


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    missing = [name for name in TOOLS if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"the site needs {', '.join(missing)}: make docs-tools installs it")
    out = tmp_path_factory.mktemp("docs")
    env = os.environ | dict(PYTHONPATH=str(ROOT))
    build = [sys.executable, str(ROOT / "docs" / "make.py"), str(out)]
    done = subprocess.run(build, env=env, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return out / "html"


def test_site__is_built_without_a_fault_and_has_all_pages(site):
    rooms = [path.relative_to(ROOT).with_suffix(".html") for path in ROOT.glob("nbs/**/*.ipynb")]
    pages = [*rooms, *(Path(f"api/{m.name}.html") for m in api.modules(ROOT)), Path("demo/explorer.html")]
    assert not [page for page in pages if not (site / page).is_file()]
    assert links.problems(site) == []


def test_site__names_no_server_in_its_styles_and_scripts(site):
    "What a style sheet or a script would fetch by itself, beyond what links.py sees in the pages."
    for path in [*site.rglob("*.css"), *site.rglob("*.html")]:
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//[^)\"']*", text), path.name


def test_site__mathematics_and_search_are_files_of_it(site):
    density = (site / "nbs" / "40_density.html").read_text(encoding="utf-8")
    assert "tex-svg.js" in density and (site / "_static" / "tex-svg.js").stat().st_size > 10**6
    assert "multi_scale_density" in (site / "searchindex.js").read_text(encoding="utf-8")
