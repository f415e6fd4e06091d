"Pages that are written from the package: settings, presets, methods, the run folder, the public names."

import dataclasses
import inspect
import re
import sys
import typing
from pathlib import Path

from dgcl_nb.config import METHODS, Run, parse_run
from dgcl_nb.looking.panels import QUANTITIES
from dgcl_nb.ranges import DEFAULT_RULES, KINDS, Length, declared
from dgcl_nb.result import RESULT
from dgcl_nb.settings import FOR
from dgcl_nb.snapshot_schema import SHAPES, Snapshot

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.append(str(ROOT / "tests"))
from help_texts import comments, comments_in, names_of_sections, typed  # noqa: E402

HEADING = re.compile(r"^##+ (.*)$", re.M)
DEVIATIONS = re.compile(r"^\|.*\b(?:released|PixelSSL)\b.*\|\n\|---", re.M)
"The head of the table in a method's notebook that compares paper, released code and this package."


def table(head, rows):
    "A Markdown table."
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(x).replace("|", "\\|") for x in line) + " |" for line in lines)


def allowed(hint):
    "What a setting may be, in words, from its declared type."
    kind, rules = (hint.__origin__, hint.__metadata__) if hasattr(hint, "__metadata__") else (hint, ())
    parts = [part for part in typing.get_args(kind) if part not in (type(None), Ellipsis)]
    if typing.get_origin(kind) is tuple:
        number = "any number of values" if Ellipsis in typing.get_args(kind) else f"{len(parts)} values"
        return f"{number}, each {allowed(parts[0])}"
    if parts:
        return f"{allowed(parts[0])}, or nothing"
    told = [str(rule) for rule in rules or DEFAULT_RULES.get(kind, ()) if not isinstance(rule, Length)]
    # of a rule for numbers only whole ones need a word more
    said = [] if rules and told and kind is not int else [KINDS[kind]]
    return ", ".join(said + told * bool(rules))


def setting_rows(value, prefix=""):
    "Each setting of a group and of those inside it: its name, default, what it may be, what it means."
    texts, hints = comments(type(value)), declared(type(value))
    for name, default in ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value)):
        if dataclasses.is_dataclass(default):
            yield from setting_rows(default, f"{prefix}{name}.")
        else:
            shown = f"`{typed(default)}`" if typed(default) else ""
            yield f"`--{prefix}{name}`", shown, allowed(hints[name]), texts.get(name, "")


def settings_page(text):
    "Every setting of every method, below an introduction."
    head, run, about = ["setting", "default", "allowed", "meaning"], Run(), comments(Run)
    own = [row for row in setting_rows(run) if "." not in row[0]]
    parts = [text, "## Of a run", table(head, own)]
    values = {f.name: getattr(run, f.name) for f in dataclasses.fields(run)}
    groups = {name: (about[name], v) for name, v in values.items() if dataclasses.is_dataclass(v)}
    for method in METHODS.values():
        for name, cls in method.settings.items():
            groups.setdefault(name, (inspect.getdoc(cls), cls()))
    for name, (said, value) in groups.items():
        parts += [f"## {name}", said, table(head, setting_rows(value, f"{name}."))]
    return "\n\n".join(parts)


def presets_page(text):
    "Every section of the shipped settings.ini, with the sources that it names."
    presets, _ = names_of_sections()
    rows = []
    for name in presets:
        run = parse_run(["--preset", name], "/nowhere")
        labels = run.data.lists or run.data.num_labelled
        shown = (run.data.name, labels, run.model.encoder, run.views.crop, run.steps)
        rows.append((f"[{name}](#{name})", *shown))
    parts = [text, table(["preset", "data", "labels", "encoder", "crop", "steps"], rows)]
    ini = (ROOT / "settings.ini").read_text(encoding="utf-8")
    # a comment above a section belongs to it
    for section, name in re.findall(r"((?:^#.*\n)*^\[(.*)\]\n(?:[^\[#\n].*\n|\n(?=[^\[#\n]))*)", ini, re.M):
        parts += [f"## {name}", f"```ini\n{section.strip()}\n```"]
    return "\n\n".join(parts)


def slug(title):
    "The anchor of a heading."
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def methods_page(text, rooms):
    "Every method: its room, its settings, where it differs, what restores the released code."
    ini, rows = (ROOT / "settings.ini").read_text(encoding="utf-8"), []
    for name, method in METHODS.items():
        path, source = rooms[method.__module__]
        compared = DEVIATIONS.search(source)
        above = HEADING.findall(source[: compared.start()]) if compared else []
        differs = f"[paper, code, here]({path}#{slug(above[-1])})" if above else ""
        settings = ", ".join(f"[{group}](settings.md#{group})" for group in method.settings)
        variants = re.findall(rf"^\[(variant \w+){FOR}{name}\]", ini, re.M)
        links = ", ".join(f"[{v.split()[1]}](presets.md#{slug(v + FOR + name)})" for v in variants)
        rows.append((f"[{name}]({path})", inspect.getdoc(method).splitlines()[0], settings, differs, links))
    head = ["method", "in a sentence", "settings", "what differs", "own variants"]
    return f"{text}\n\n{table(head, rows)}"


def run_folder_page(text):
    "What each file of a run folder holds, below a description by hand."
    said = comments_in(inspect.getsource(Snapshot))
    arrays = [(f"`{k}`", dtype, f"({', '.join(axes)})", said[k]) for k, (dtype, axes) in SHAPES.items()]
    logged = [(f"`{name}`", q.title, q.meaning) for name, q in QUANTITIES.items()]
    claims = [(f"`{name}`", kind.words) for name, kind in RESULT.items()]
    return text.format(
        snapshot=table(["array", "type", "axes", "meaning"], arrays),
        metrics=table(["name", "title", "meaning"], logged),
        result=table(["key", "value"], claims),
    )


def api_page(module, room):
    "The public names of a module. The contents do not list it: they would be twice as long on every page."
    where = f"[All modules](index.md); explained and tested in [{room}](../{room})."
    parts = ["---\norphan: true\n---", f"# {module.name}", module.about, where]
    for name, (source, said) in module.constants().items():
        parts += [f"## {name}", said, f"```python\n{source}\n```"]
    for name, node in module.objects().items():
        parts += [f"## {name}", f"```python\n{module.stub(node)}\n```"]
    return "\n\n".join(parts)


def api_index(modules):
    "Every module in a line."
    rows = [(f"[{m.name}]({m.name}.md)", m.about) for m in modules]
    return f"# Public names\n\n{table(['module', 'what it is about'], rows)}"
