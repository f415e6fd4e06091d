"The explorer's Python side: what the page is given, what stays when steps change, layouts, and bad input."

import asyncio
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from test_state import NAMES, part, state

from dgcl_nb.core import InputError
from dgcl_nb.looking.demo_run import make_demo_run
from dgcl_nb.looking.runs import open_run
from dgcl_nb.snapshots import save_snapshot
from dgcl_nb.widgets import explorer as room
from dgcl_nb.widgets import scene as scene_room
from dgcl_nb.widgets.explorer import (
    EXPLORER_CSS,
    EXPLORER_ESM,
    Explorer,
    explore,
    explorer_values,
    replace_layout,
    to_scatter,
)
from dgcl_nb.widgets.front import front_page
from dgcl_nb.widgets.scene import COLUMN_TYPES, THUMB_SIDE, carry_rows, thumbnails, usable


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_demo_run(tmp_path_factory.mktemp("runs") / "demo", steps=300, snapshots=3)


@pytest.fixture(scope="module")
def snaps(run):
    return open_run(run).load_all()


def column(scene, name, *shape):
    dtype = np.dtype(COLUMN_TYPES.get(name, "uint16")).newbyteorder("<")
    return np.frombuffer(scene[name], dtype).reshape(-1, *shape)


def images_of(scene):
    "All values of the column of images."
    return set(column(scene, "image").tolist())


def diverged(snap, **changes):
    "The snapshot with features that are all NaN."
    return replace(snap, feats=snap.feats * np.float16(np.nan), **changes)


def test_scene__holds_every_column_of_every_step(snaps):
    w = explore(snaps)
    for name in COLUMN_TYPES:
        expected = np.concatenate([getattr(s, name) for s in w.states]).astype(COLUMN_TYPES[name])
        got = column(w.scene, name, *expected.shape[1:])
        assert np.array_equal(got, expected, equal_nan=name == "density")
    near = column(w.scene, "near", 8)
    rows, _ = w.states[1].neighbours(5, 8)
    assert near[len(w.states[0]) + 5].tolist() == rows.tolist()


def test_scene__images_of_different_steps_have_one_numbering():
    a, b = state(image=np.full(60, 1)), state(image=np.full(60, 0), image_ids=("b", "c"), step=8)
    scene = explorer_values([a, b])["scene"]
    assert scene["image_ids"] == ["a", "b", "c"]
    assert images_of(scene) == {1}
    lost = explorer_values([state(image=np.full(60, -1), image_ids=())])["scene"]
    assert images_of(lost) == {-1}
    assert lost["image_ids"] == []


def test_thumbnails__are_small(snaps):
    big = replace(snaps[0], image=np.zeros((len(snaps[0].image_id), 300, 400, 3), np.uint8))
    images, size = thumbnails([big])
    assert size == (75, 100)
    assert max(size) <= THUMB_SIDE
    assert {image.shape for image in images.values()} == {(75, 100, 3)}
    assert thumbnails([]) == ({}, (0, 0))


def test_scene__one_class_and_few_points():
    one_class = dict(class_names=("ground",), palette=np.zeros((1, 3), np.uint8))
    lone = state(label=np.zeros(60, int), pseudo=np.zeros(60, int), **one_class)
    wanted = {3: dict(step=7, n=3, k=2), 1: dict(step=7, n=1, k=0), 0: dict(step=7, n=0, k=0)}
    for n, step in wanted.items():
        few = part(lone, list(range(n)))
        assert explorer_values([few])["scene"]["steps"] == [step]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: explorer_values([]), "there is no step to show; give at least one"),
        (lambda: explorer_values([state()], colour="x"), "an explorer has no setting 'colour'"),
        (
            lambda: explorer_values([state(), state(class_names=("a", "b", "c"))]),
            "2 different lists of classes or colours",
        ),
        (lambda: explore(3), "cannot explore a int"),
        (lambda: explore([state(), "runs/x"]), "cannot explore a ExplorerState|does not exist"),
        (lambda: explore("/nowhere/run"), "/nowhere/run does not exist"),
        (lambda: explore([state()], layout="tsne"), "unknown layout 'tsne'; valid: pca, umap"),
        (lambda: Explorer([state()], colour_by="size"), "unknown colour_by 'size'"),
        (lambda: Explorer([state()], step_index=1), "step_index is 1; there are 1 steps: 0 to 0"),
        (lambda: Explorer([state()], density_range=(2, 1)), "density_range is"),
        (lambda: Explorer([state()], clicked=60), "clicked is 60; there are 60 points: -1 to 59"),
    ],
)
def test_bad_input__is_a_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_many_points__python_answers_a_click(monkeypatch):
    monkeypatch.setattr(scene_room, "NEAR_LIMIT", 50)
    w = Explorer([state()])
    assert w.scene["steps"] == [dict(step=7, n=60, k=0)]
    assert w.scene["near"] == b""
    w.clicked = 4
    rows, cosines = w.state.neighbours(4, 8)
    assert w.found == dict(step=7, row=4, rows=rows.tolist(), cosines=cosines.tolist())
    w.clicked = -1
    assert w.found["row"] == 4


def test_shown__follows_the_sliders(snaps):
    w = explore(snaps)
    w.confidence_range = (0.6, 1.0)
    w.classes = [0, 3]
    for index in (2, 0):
        w.step_index = index
        mask = w.states[index].mask(confidence=(0.6, 1.0), classes=[0, 3])
        assert np.array_equal(w.shown(), np.flatnonzero(mask))


def test_set_states__keeps_what_the_user_set(snaps):
    w = explore(snaps[:2])
    w.density_range, w.colour_by = (0.7, 1.0), "density"
    w.selected, w.clicked = [3, 40], 40
    w.set_states([part(s, slice(10, None)) for s in explore(snaps).states], snaps)
    assert (w.step_index, w.selected, w.clicked) == (2, [30], 30)
    assert (w.density_range, w.colour_by) == ([0.7, 1.0], "density")
    w.step_index = 0
    w.set_states(explore(snaps).states)
    assert (w.step_index, w.selected) == (0, [40])  # who went back stays there
    w.set_states([w.states[2]])
    assert w.step_index == 0
    assert w.scene["steps"][0]["step"] == snaps[2].step


def test_carry__by_cell_not_by_row():
    a = state(image=np.zeros(60, int), row=np.arange(60) // 8, col=np.arange(60) % 8)
    order = np.random.default_rng(1).permutation(60)
    b = part(a, order)
    assert carry_rows([5, 9], a, b) == sorted(np.flatnonzero(np.isin(order, [5, 9])).tolist())
    assert carry_rows([], a, b) == []
    elsewhere = part(replace(a, image=np.ones(60, int)), order)
    assert carry_rows([5], a, elsewhere) == []


def test_selection__is_saved_and_marked(snaps, tmp_path):
    w = explore(snaps)
    w.selected = [7, 2]
    s = w.state
    assert w.selection()["count"] == 2
    assert w.marks() == [[int(s.image[i]), int(s.row[i]), int(s.col[i])] for i in (7, 2)]
    assert len(w.save_selection(tmp_path / "two.csv").read_text().splitlines()) == 3
    w.selected = []
    with pytest.raises(InputError, match="nothing is selected; draw a line around points"):
        w.save_selection(tmp_path / "none.csv")


def test_two_widgets__on_one_run_are_independent(run):
    a, b = explore(run), explore(run)
    a.density_range, a.selected, a.step_index = (0.9, 1.0), [1], 0
    assert (b.density_range, b.selected, b.step_index) == (None, [], 2)


def test_explore__takes_all_kinds_of_source(run, snaps, tmp_path):
    path = save_snapshot(tmp_path, snaps[0])
    for source in (str(run), run / "snapshots", open_run(run), snaps):
        assert len(explore(source).states) == 3
    for source in (snaps[1], path, state()):
        assert len(explore(source).states) == 1
    assert len(explore([path, snaps[2]]).states) == 2


def test_explore__leaves_out_diverged_and_damaged_steps(snaps, tmp_path):
    for s in snaps:
        save_snapshot(tmp_path, s)
    save_snapshot(tmp_path, diverged(snaps[2], step=900))
    (tmp_path / "snapshots" / "step_0001000.npz").write_bytes(b"PK half")
    w = explore(tmp_path)
    assert [s.step for s in w.states] == [s.step for s in snaps]
    assert "step 900" in w.note
    assert "step_0001000.npz cannot be read" in w.note
    with pytest.raises(InputError, match="are NaN or infinite"):
        usable([diverged(snaps[2])])
    for path in list((tmp_path / "snapshots").iterdir()):
        path.write_bytes(b"PK half")
    with pytest.raises(InputError, match="cannot be read as a whole snapshot"):
        explore(tmp_path)


def test_layout__takes_the_place_of_pca_and_keeps_settings(snaps, monkeypatch):
    real = room.joint_layout

    def shifted(feats, kind="umap", keys=None):
        return [xy + 100 * (kind == "umap") for xy in real(feats, kind="pca")]

    monkeypatch.setattr(room, "joint_layout", shifted)
    w = explore(snaps, layout="umap", density_range=(0.5, 1.0))
    assert w.layout_done.wait(20)
    assert (w.scene["layout"], w.note) == ("UMAP", "")
    assert w.state.xy.min() > 50
    assert w.density_range == [0.5, 1.0]


def test_layout__that_fails_leaves_pca_and_says_so(snaps, monkeypatch):
    w = explore(snaps)

    def fail(*args, **kwargs):
        raise InputError("umap-learn is not installed")

    monkeypatch.setattr(room, "joint_layout", fail)
    replace_layout(w).join(20)
    assert w.layout_done.is_set()
    assert w.scene["layout"] == "PCA"
    assert w.note == "UMAP could not be computed (umap-learn is not installed); this is PCA"


def test_layout__is_applied_on_the_loop_and_dropped_when_steps_changed(snaps, monkeypatch):
    real, go = room.joint_layout, threading.Event()
    on_main_thread = []  # where the page's sentence was set

    def slow(feats, kind="umap", keys=None):
        go.wait(20)
        return real(feats, kind="pca")

    def note_thread(change):
        on_main_thread.append(threading.current_thread() is threading.main_thread())

    async def session():
        w = explore(snaps[:2])
        w.observe(note_thread, "note")
        monkeypatch.setattr(room, "joint_layout", slow)
        replace_layout(w)
        assert "is being computed and will take the place of PCA" in w.note
        w.set_states([replace(s, xy=s.xy * 2) for s in w.states])
        go.set()
        while not w.layout_done.is_set():
            await asyncio.sleep(0.01)
        return w

    w = asyncio.run(session())
    assert (w.scene["layout"], w.note) == ("PCA", "")
    assert on_main_thread == [True, True]


def test_page__holds_no_address(snaps):
    page = front_page(EXPLORER_ESM, EXPLORER_CSS, explorer_values(explore(snaps).states, snaps))
    assert "http" not in page
    assert len(page) < 600_000


def test_awkward_names__reach_the_page_whole():
    awkward = state(class_names=("</script>", *NAMES[1:]))
    page = front_page(EXPLORER_ESM, EXPLORER_CSS, explorer_values([awkward]))
    assert page.count("</script") == 1


def test_to_scatter__without_the_package_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "jscatter", None)
    with pytest.raises(InputError, match=r"to_scatter needs jupyter-scatter: pip install 'dgcl_nb\[fast\]'"):
        to_scatter(state())
    with pytest.raises(InputError, match="unknown colour_by 'size'"):
        to_scatter(state(), "size")


def test_to_scatter__colours_by_everything():
    pytest.importorskip("jscatter", reason="jupyter-scatter is not installed (the extra [fast])")
    for by in room.COLOURS:
        assert to_scatter(state(), by) is not None


def test_classes__can_be_said_by_name():
    w = Explorer([state()])
    w.classes = [NAMES[0], 2]
    assert w.classes == [0, 2] and Explorer([state()], classes=[NAMES[1]]).classes == [1]
    with pytest.raises(InputError, match="unknown class 'cow'"):
        w.classes = ["cow"]


def test_selected__are_rows_of_the_step_on_view():
    w = Explorer([part(state(), range(40)), state(step=8)])
    w.selected, w.clicked = [50], 50
    w.step_index = 0
    assert w.selected == [] and w.clicked == -1
    with pytest.raises(InputError, match="selected is 50; there are 40 points"):
        w.selected = [50]
    with pytest.raises(InputError, match="clicked is 50; there are 40 points"):
        w.clicked = 50
    assert w.selection()["count"] == 0 and w.marks() == []


def test_layout__where_umap_has_nothing_to_say_it_is_not_called_umap():
    w = Explorer([part(state(), range(4))], note="Four points")
    replace_layout(w).join(20)
    assert w.scene["layout"] == "PCA"
    assert w.note.startswith("Four points. There is no UMAP layout: 4 points are too few")
