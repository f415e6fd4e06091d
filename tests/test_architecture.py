"""Who may know whom: import lines against the table of families; the index against the rooms there are;
checks of lessons that can fail."""

import ast
import itertools
import json
import re
from typing import NamedTuple

import pytest
from sync_gate import ROOT, source_notebook

NBS, PACKAGE = ROOT / "nbs", "dgcl_nb"


class Place(NamedTuple):
    "Where a room's notebook lies: its folder below nbs/ (empty: nbs/ itself) and its number in there."

    folder: str
    number: int


# The families, in the order in which data flows through them: name -> (folder, numbers)
FAMILIES = dict(
    base=("", range(0, 10)),
    data=("data", range(0, 100)),
    views=("", range(20, 30)),
    networks=("", range(30, 40)),
    parts=("", range(40, 50)),
    methods=("methods", range(0, 100)),
    run=("", range(60, 70)),
    commands=("commands", range(0, 100)),
    looking=("looking", range(0, 100)),
)
# Which families a family may import besides itself.
MAY_IMPORT = dict(
    base="",
    data="base",
    views="base data",
    networks="base",
    parts="base",
    methods="base data views networks parts",
    run="base data views networks parts methods",
    commands="base data views networks parts methods run",
    looking="base",
)
# Rooms that a family may import one by one: what a viewer reads, and what its demonstration is made of; and
# for a command that writes a page how elements are escaped, and how it looks. A run's cells by the hundred
# thousand are made by a command and shown by a viewer: each knows the other's half.
SINGLE_ROOMS = dict(
    looking="snapshots snapshot_schema metrics density data.splits data.digits data.segdata deep_cells",
    commands="looking.html looking.static looking.features looking.collect",
)
# In these families no room knows another, but for those that may know all (True) or are known by all (False).
SEPARATE = dict(
    parts={"cells": True, "contrast": True, "consistency": True, "negatives": True},
    methods={"methods.protocol": False},
)


def place_of(notebook):
    "The place of a room: nbs/data/01_digits.ipynb is number 1 of folder data."
    found = re.fullmatch(r"nbs/(?:(\w+)/)?(\d\d)_[\w.]+\.ipynb", notebook)
    assert found, f"{notebook}: a room's notebook is nbs/NN_name.ipynb or nbs/FOLDER/NN_name.ipynb"
    return Place(found[1] or "", int(found[2]))


def family_of(place):
    "The family of a place, or None outside the table."
    return next(
        (
            f
            for f, (folder, numbers) in FAMILIES.items()
            if folder == place.folder and place.number in numbers
        ),
        None,
    )


def room_of(path):
    "The room's name of a module file: dgcl_nb/methods/protocol.py is methods.protocol."
    return ".".join(path.relative_to(ROOT / PACKAGE).with_suffix("").parts)


def dynamic_imports(node):
    "Names given to import_module() and __import__() as plain strings."
    called = getattr(node.func, "attr", getattr(node.func, "id", ""))
    if called in ("import_module", "__import__"):
        yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant))


def imported_names(source, room):
    "Dotted names that the module `room` imports anywhere in its source, relative ones made absolute."
    parts = f"{PACKAGE}.{room}".split(".")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.Call):
            yield from dynamic_imports(node)
        elif isinstance(node, ast.ImportFrom):
            start = (
                ".".join([*parts[: -node.level], *filter(None, [node.module])]) if node.level else node.module
            )
            yield from (f"{start}.{a.name}" for a in node.names)


def imported_rooms(source, room, rooms):
    "The rooms among `rooms` that `room` imports; a name of the package that is no room is given as it is."
    for name in imported_names(source, room):
        if name != PACKAGE and not name.startswith(PACKAGE + "."):
            continue
        parts = name.split(".")[1:]
        prefixes = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
        found = [p for p in prefixes if p in rooms]
        if found:
            yield found[0]
        elif parts not in ([], ["__version__"]):
            yield ".".join(parts)


def fault_between(room, other, places):
    "Why `room` must not import `other`, or None."
    mine, theirs = family_of(places[room]), family_of(places[other])
    if mine != theirs:
        allowed = theirs in MAY_IMPORT[mine].split() or other in SINGLE_ROOMS.get(mine, "").split()
        return None if allowed else f"the family '{mine}' must not know '{theirs}'"
    if places[other].number >= places[room].number:
        return "imports point to smaller numbers"
    exceptions = SEPARATE.get(mine)
    if exceptions is None or exceptions.get(room) is True or exceptions.get(other) is False:
        return None
    return f"rooms of the family '{mine}' do not know each other"


def faults(places, imports):
    "What breaks the plan, as sentences; `places` {room: Place}, `imports` {room: set of rooms}."
    found = [
        f"{room}: {place} belongs to no family" for room, place in places.items() if family_of(place) is None
    ]
    for room, others in imports.items():
        for other in sorted(others - {room}):
            why = fault_between(room, other, places) if other in places else "there is no such room"
            if why:
                found.append(f"{room} imports {other}: {why}")
    return sorted(found)


def read_rooms():
    "({room: Place}, {room: set of rooms it imports}) of the package as it stands."
    modules = {room_of(p): p for p in sorted((ROOT / PACKAGE).rglob("*.py")) if source_notebook(p, ROOT)}
    places = {room: place_of(source_notebook(p, ROOT)) for room, p in modules.items()}
    imports = {
        room: set(imported_rooms(p.read_text(encoding="utf-8"), room, set(modules)))
        for room, p in modules.items()
    }
    return places, imports


def test_rooms__import_only_what_the_table_allows():
    places, imports = read_rooms()
    assert places and not faults(places, imports), "\n".join(faults(places, imports))


def test_rooms__notebook_and_module_have_one_name():
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        notebook = source_notebook(path, ROOT)
        name = "command" if path.stem == "__main__" else path.stem
        assert not notebook or notebook.endswith(f"_{name}.ipynb"), f"{notebook} exports {path.name}"


PLACES = {
    "core": Place("", 0),
    "data.splits": Place("data", 0),
    "data.digits": Place("data", 1),
    "views": Place("", 20),
    "model": Place("", 30),
    "density": Place("", 40),
    "bank": Place("", 41),
    "cells": Place("", 46),
    "methods.protocol": Place("methods", 0),
    "methods.supervised": Place("methods", 1),
    "methods.dgcl": Place("methods", 3),
    "metrics": Place("", 60),
    "snapshots": Place("", 62),
    "config": Place("", 64),
    "train": Place("commands", 0),
    "looking.figures": Place("looking", 0),
    "report": Place("looking", 30),
}


@pytest.mark.parametrize(
    "room, source, message",
    [
        (
            "bank",
            "from .density import multi_scale_density",
            "rooms of the family 'parts' do not know each other",
        ),
        (
            "methods.dgcl",
            "from .supervised import Supervised",
            "rooms of the family 'methods' do not know each other",
        ),
        ("methods.dgcl", "from ..metrics import SegScore", "the family 'methods' must not know 'run'"),
        ("model", "from dgcl_nb.views import weak_view", "the family 'networks' must not know 'views'"),
        ("train", "from .looking.figures import show", "the family 'commands' must not know 'looking'"),
        (
            "snapshots",
            "def f():\n    import dgcl_nb.looking.figures",
            "the family 'run' must not know 'looking'",
        ),
        (
            "snapshots",
            "importlib.import_module('dgcl_nb.report')",
            "the family 'run' must not know 'looking'",
        ),
        ("report", "from .config import Run", "the family 'looking' must not know 'run'"),
        ("report", "from .methods.dgcl import DGCL", "the family 'looking' must not know 'methods'"),
        ("core", "from dgcl_nb import model", "the family 'base' must not know 'networks'"),
        ("data.splits", "from .digits import SceneSet", "imports point to smaller numbers"),
        ("looking.figures", "from .nowhere import x", "there is no such room"),
    ],
)
def test_faults__are_found(room, source, message):
    imports = {r: set() for r in PLACES} | {room: set(imported_rooms(source, room, set(PLACES)))}
    assert any(message in f for f in faults(PLACES, imports))


@pytest.mark.parametrize(
    "room, source",
    [
        ("core", "import torch.nn as nn\nfrom dgcl_nb import __version__"),
        (
            "methods.dgcl",
            "from .protocol import Method\nfrom ..density import unit_rows\nfrom dgcl_nb.bank import REFRESH",
        ),
        ("cells", "from .density import multi_scale_density\nfrom .bank import MemoryBank"),
        ("config", "from .methods.dgcl import DGCLConfig\nfrom .snapshots import Snapshot"),
        ("report", "from .looking.figures import show\nfrom .snapshots import load_snapshot"),
    ],
)
def test_faults__none_in_what_is_allowed(room, source):
    imports = {r: set() for r in PLACES} | {room: set(imported_rooms(source, room, set(PLACES)))}
    assert faults(PLACES, imports) == []


def test_faults__a_room_outside_the_table():
    assert faults({"utils": Place("", 50)}, {"utils": set()}) == [
        "utils: Place(folder='', number=50) belongs to no family"
    ]


METHOD_ROOMS = sorted(p for p in (ROOT / PACKAGE / "methods").glob("[a-z]*.py") if p.stem != "protocol")
MOST_SHARED = 5
"Lines in a row that two methods may have in common outside `forward`, which each writes out whole."


def left_out(node):
    "Whether a node is an import, a text that stands alone (a docstring), or `forward`."
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return isinstance(node, (ast.Import, ast.ImportFrom)) or is_text or getattr(node, "name", "") == "forward"


def own_lines(source):
    "The lines of a method's code, in order: no blank ones, comments, imports, docstrings, nor `forward`."
    lines = [line.partition("#")[0].strip() for line in source.splitlines()]
    for node in filter(left_out, ast.walk(ast.parse(source))):
        size = node.end_lineno - node.lineno + 1
        lines[node.lineno - 1 : node.end_lineno] = [""] * size
        if getattr(node, "name", ""):  # what stands on both sides of `forward` is not in a row
            lines[node.lineno - 1] = f"forward of {hash(source)}"
    return [line for line in lines if line]


def shared_runs(one, other, length=MOST_SHARED + 1):
    "Runs of `length` equal lines of two lists."

    def runs(lines):
        return {tuple(lines[i : i + length]) for i in range(len(lines) - length + 1)}

    return runs(one) & runs(other)


def test_methods__share_no_six_lines_outside_forward():
    lines = {p.stem: own_lines(p.read_text(encoding="utf-8")) for p in METHOD_ROOMS}
    found = {
        (one, other): ["\n".join(run) for run in shared_runs(lines[one], lines[other])]
        for one, other in itertools.combinations(lines, 2)
    }
    assert len(lines) == 14 and not {pair: runs for pair, runs in found.items() if runs}


def test_own_lines__leave_out_what_may_repeat():
    head, tail = "import a\n\n\nclass M:\n    'Says.'\n\n", "    x = 1  # why\n"
    first, barrier, last = own_lines(f"{head}    def forward(self):\n        return 1\n\n{tail}")
    assert (first, last) == ("class M:", "x = 1") and barrier.startswith("forward of")
    assert shared_runs(list("abcdefg"), list("xbcdefg")) == {tuple("bcdefg")}


def test_index__links_every_room_and_nothing_that_is_not_there():
    cells = json.loads((NBS / "index.ipynb").read_text(encoding="utf-8"))["cells"]
    links = set(re.findall(r"\]\(([\w./-]+\.ipynb)\)", "\n".join("".join(c["source"]) for c in cells)))
    there = {
        str(p.relative_to(NBS))
        for p in NBS.rglob("*.ipynb")
        if not {".ipynb_checkpoints", "index.ipynb"} & set(p.parts)
    }
    assert links == there, (
        f"in the index only: {sorted(links - there)}; not in the index: {sorted(there - links)}"
    )


def idle_checks(source):
    "Calls of expect_fail without `with`, which check nothing, in the source of a cell or of a test."
    code = "\n".join(line for line in source.split("\n") if not line.lstrip().startswith(("%", "!")))
    calls = [n.value for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Expr)]
    return [ast.unparse(c) for c in calls if isinstance(c, ast.Call) and ast.unparse(c.func) == "expect_fail"]


def test_lessons__every_check_can_fail():
    assert idle_checks("%time 1\nexpect_fail(lambda: 1 / 0)") == ["expect_fail(lambda: 1 / 0)"]
    assert not idle_checks("with expect_fail(ZeroDivisionError):\n    1 / 0")
    found = {}
    for path in NBS.rglob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
        idle = [call for s in code if "expect_fail(" in s for call in idle_checks(s)]
        found |= {path.name: idle} if idle else {}
    assert not found, found


FEWEST_LINES, MOST_LINES, MOST_LINES_OF = 30, 120, dict(gct=150)
"Exported lines of a method."
EXAMPLES = {"supervised", "self_training"}
"Methods that others are read beside; they may be shorter."


def exported_lines(notebook):
    "How many lines a room exports, without imports, comments and blank ones."
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    lines = [
        own_lines(s.replace("def forward(", "def forwards(")) for s in sources if s.startswith("#| export")
    ]
    return sum(map(len, lines))


def test_methods__are_neither_stubs_nor_too_long():
    lines = {p.stem: exported_lines(next(NBS.glob(f"methods/*_{p.stem}.ipynb"))) for p in METHOD_ROOMS}
    short = {n for n, num in lines.items() if num < FEWEST_LINES and n not in EXAMPLES}
    long = {n for n, num in lines.items() if num > MOST_LINES_OF.get(n, MOST_LINES)}
    assert not short | long, {n: lines[n] for n in short | long}
