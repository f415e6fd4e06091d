"""Who may know whom: the import lines of the generated modules against the table of rooms, and the index notebook against the rooms there are."""
import ast
import json
import re

import pytest
from sync_gate import ROOT, source_notebook

NBS, PACKAGE = ROOT / "nbs", "dgcl_nb"

METHODS = "supervised self_training dgcl mean_teacher cutmix cct gct cps u2pl ps_mt pcr gta_seg"
# What each room may import: names of rooms, and "A-B" for every room whose notebook's number is in A..B.
ROOMS = {
    "core": "",
    "data.splits": "core", "data.digits": "core data.splits", "data.files": "core data.splits",
    "data.sets": "core data.splits data.digits data.files",
    "views": "core", "batches": "core views data.splits",
    "model": "core",
    "density": "core", "bank": "core", "sampling": "core", "pseudo_labels": "core", "losses": "core",
    "methods.base": "00-44", **{f"methods.{name}": "00-44 methods.base" for name in METHODS.split()},
    "metrics": "core", "evaluation": "core metrics", "snapshots": "core metrics",
    "config": "00-62", "engine": "00-63",
    "train": "00-64", "predict": "00-65", "bench": "00-66", "evaluate": "00-67", "data.__main__": "00-68",
    "plots": "core metrics", "layout": "core density", "runs": "core snapshots data.splits data.digits",
    "widgets.front": "core", "widgets.state": "core density snapshots layout",
    "widgets.explorer": "core snapshots layout runs widgets.front widgets.state", "widgets.overlay": "core snapshots runs widgets.front",
    "widgets.monitor": "core snapshots 70-76", "report": "core snapshots 70-77",
}


def number_of(notebook):
    "The reading number of a room, from its notebook's file name (40 of nbs/40_density.ipynb)."
    return int(re.match(r"(\d\d)_", notebook.rsplit("/", 1)[-1])[1])


def room_of(path):
    "The room's name of a module file: dgcl_nb/methods/base.py is methods.base."
    return ".".join(path.relative_to(ROOT / PACKAGE).with_suffix("").parts)


def dynamic_imports(node):
    "Names given to import_module() and __import__() as plain strings."
    called = getattr(node.func, "attr", getattr(node.func, "id", ""))
    if called in ("import_module", "__import__"): yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant))


def imported_names(source, room):
    "Dotted names that the module `room` imports anywhere in its source, relative ones made absolute."
    parts = f"{PACKAGE}.{room}".split(".")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import): yield from (a.name for a in node.names)
        elif isinstance(node, ast.Call): yield from dynamic_imports(node)
        elif isinstance(node, ast.ImportFrom):
            start = ".".join([*parts[:-node.level], *filter(None, [node.module])]) if node.level else node.module
            yield from (f"{start}.{a.name}" for a in node.names)


def imported_rooms(source, room, rooms):
    "The rooms among `rooms` (names) that `room` imports; a name of this package that belongs to no room is given as it is."
    for name in imported_names(source, room):
        if name != PACKAGE and not name.startswith(PACKAGE + "."): continue
        parts = name.split(".")[1:]
        found = [".".join(parts[:n]) for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in rooms]
        if found: yield found[0]
        elif parts not in ([], ["__version__"]): yield ".".join(parts)


def allowed(room, numbers):
    "The set of rooms that `room` may import, given the numbers of all rooms."
    names = set()
    for word in ROOMS[room].split():
        span = re.fullmatch(r"(\d\d)-(\d\d)", word)
        names |= {r for r, n in numbers.items() if int(span[1]) <= n <= int(span[2])} if span else {word}
    return names - {room}


def faults(numbers, imports):
    "What breaks the plan, as sentences; `numbers` {room: number}, `imports` {room: set of rooms}."
    found = [f"{room} is not in the table of rooms" for room in numbers if room not in ROOMS]
    for room in numbers.keys() & ROOMS.keys():
        found += [f"{room} must not import {other}" for other in sorted(imports[room] - allowed(room, numbers))]
    for room, others in imports.items():
        for other in others & numbers.keys():
            a, b = numbers[room], numbers[other]
            if b >= a: found.append(f"{room} ({a}) imports {other} ({b}): imports point to smaller numbers")
            if a <= 64 and b >= 70: found.append(f"{room} ({a}) imports {other} ({b}): what computes must not know what shows")
            if 40 <= a <= 44 and 40 <= b <= 44: found.append(f"{room} imports {other}: rooms 40-44 do not know each other")
            if room.startswith("methods.") and other.startswith("methods.") and other != "methods.base": found.append(f"{room} imports its sibling {other}")
    return sorted(found)


def read_rooms():
    "({room: number}, {room: set of rooms it imports}) of the package as it stands."
    modules = {room_of(p): p for p in sorted((ROOT / PACKAGE).rglob("*.py")) if source_notebook(p, ROOT)}
    numbers = {room: number_of(source_notebook(p, ROOT)) for room, p in modules.items()}
    return numbers, {room: set(imported_rooms(p.read_text(encoding="utf-8"), room, set(modules) | set(ROOMS))) for room, p in modules.items()}


def test_rooms__import_only_what_the_table_allows():
    numbers, imports = read_rooms()
    assert numbers and not faults(numbers, imports), "\n".join(faults(numbers, imports))


def test_rooms__notebook_and_module_have_one_name():
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        notebook = source_notebook(path, ROOT)
        if notebook: assert notebook == f"nbs/{number_of(notebook):02d}_{room_of(path)}.ipynb"


NUMBERS = {"core": 0, "views": 20, "model": 30, "density": 40, "bank": 41, "methods.base": 50, "methods.supervised": 51, "methods.dgcl": 53,
           "metrics": 60, "snapshots": 62, "config": 63, "train": 65, "plots": 70, "report": 78}


@pytest.mark.parametrize("room, source, message", [
    ("bank", "from .density import multi_scale_density", "rooms 40-44 do not know each other"),
    ("methods.dgcl", "from .supervised import Supervised", "imports its sibling methods.supervised"),
    ("methods.dgcl", "from ..metrics import SegScore", "methods.dgcl must not import metrics"),
    ("model", "from dgcl_nb.views import weak_view", "model must not import views"),
    ("train", "from .plots import show", "train must not import plots"),
    ("snapshots", "def f():\n    import dgcl_nb.plots", "what computes must not know what shows"),
    ("snapshots", "importlib.import_module('dgcl_nb.report')", "snapshots must not import report"),
    ("core", "from dgcl_nb import model", "imports point to smaller numbers"),
    ("plots", "from .nowhere import x", "plots must not import nowhere"),
])
def test_faults__are_found(room, source, message):
    imports = {r: set() for r in NUMBERS} | {room: set(imported_rooms(source, room, set(ROOMS)))}
    assert any(message in f for f in faults(NUMBERS, imports))


@pytest.mark.parametrize("room, source", [
    ("core", "import torch.nn as nn\nfrom dgcl_nb import __version__"),
    ("methods.dgcl", "from .base import Method\nfrom ..density import multi_scale_density\nfrom dgcl_nb.bank import MemoryBank"),
    ("config", "from .methods.dgcl import DGCLConfig\nfrom .snapshots import Snapshot"),
    ("report", "from .plots import show\nfrom .snapshots import load_snapshot"),
])
def test_faults__none_in_what_is_allowed(room, source):
    imports = {r: set() for r in NUMBERS} | {room: set(imported_rooms(source, room, set(ROOMS)))}
    assert faults(NUMBERS, imports) == []


def test_faults__a_room_outside_the_table():
    assert faults({"utils": 45}, {"utils": set()}) == ["utils is not in the table of rooms"]


def test_index__links_every_room_and_nothing_that_is_not_there():
    cells = json.loads((NBS / "index.ipynb").read_text(encoding="utf-8"))["cells"]
    links = set(re.findall(r"\]\(([\w./-]+\.ipynb)\)", "\n".join("".join(c["source"]) for c in cells)))
    there = {str(p.relative_to(NBS)) for p in NBS.rglob("*.ipynb") if not {".ipynb_checkpoints", "index.ipynb"} & set(p.parts)}
    assert links == there, f"in the index only: {sorted(links - there)}; not in the index: {sorted(there - links)}"
