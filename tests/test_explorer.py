"""The explorer's Python side: what the page is given, what is kept when steps change, layouts in the background, and bad input."""
import asyncio
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from test_state import NAMES, part, state

from dgcl_nb.core import InputError
from dgcl_nb.looking.runs import make_demo_run, open_run
from dgcl_nb.snapshots import save_snapshot
from dgcl_nb.widgets import explorer as room
from dgcl_nb.widgets.explorer import (
    EXPLORER_CSS, EXPLORER_ESM, Explorer, explore, explorer_values, replace_layout, to_scatter,
)
from dgcl_nb.widgets.scene import COLUMN_TYPES, THUMB_SIDE, carry_rows, thumbnails, usable
from dgcl_nb.widgets.front import front_page


@pytest.fixture(scope="module")
def run(tmp_path_factory): return make_demo_run(tmp_path_factory.mktemp("runs") / "demo", steps=300, snapshots=3)


@pytest.fixture(scope="module")
def snaps(run): return open_run(run).load_all()


def column(scene, name, *shape): return np.frombuffer(scene[name], np.dtype(COLUMN_TYPES.get(name, "uint16")).newbyteorder("<")).reshape(-1, *shape)


def test_scene__holds_every_column_of_every_step(snaps):
    w = explore(snaps)
    for name in COLUMN_TYPES:
        expected = np.concatenate([getattr(s, name) for s in w.states]).astype(COLUMN_TYPES[name])
        assert np.array_equal(column(w.scene, name, *expected.shape[1:]), expected, equal_nan=name == "density")
    near = column(w.scene, "near", 8)
    assert near[len(w.states[0]) + 5].tolist() == w.states[1].neighbours(5, 8)[0].tolist()


def test_scene__images_of_different_steps_have_one_numbering():
    a, b = state(image=np.full(60, 1)), state(image=np.full(60, 0), image_ids=("b", "c"), step=8)
    scene = explorer_values([a, b])["scene"]
    assert scene["image_ids"] == ["a", "b", "c"] and set(column(scene, "image").tolist()) == {1}
    lost = explorer_values([state(image=np.full(60, -1), image_ids=())])["scene"]
    assert set(column(lost, "image").tolist()) == {-1} and lost["image_ids"] == []


def test_thumbnails__are_small(snaps):
    big = replace(snaps[0], image=np.zeros((len(snaps[0].image_id), 300, 400, 3), np.uint8))
    images, size = thumbnails([big])
    assert size == (75, 100) and max(size) <= THUMB_SIDE and all(i.shape == (75, 100, 3) for i in images.values())
    assert thumbnails([]) == ({}, (0, 0))


def test_scene__one_class_and_few_points():
    lone = part(state(label=np.zeros(60, int), pseudo=np.zeros(60, int), class_names=("ground",), palette=np.zeros((1, 3), np.uint8)), [0, 1, 2])
    assert explorer_values([lone])["scene"]["steps"] == [dict(step=7, n=3, k=2)]
    assert explorer_values([part(lone, [0])])["scene"]["steps"][0]["k"] == 0 and explorer_values([part(lone, [])])["scene"]["steps"][0]["n"] == 0


@pytest.mark.parametrize("call, message", [
    (lambda: explorer_values([]), "there is no step to show; give at least one"), (lambda: explorer_values([state()], colour="x"), "an explorer has no setting 'colour'"),
    (lambda: explorer_values([state(), state(class_names=("a", "b", "c"))]), "2 different lists of classes or colours"),
    (lambda: explore(3), "cannot explore a int"), (lambda: explore([state(), "runs/x"]), "cannot explore a ExplorerState|does not exist"),
    (lambda: explore("/nowhere/run"), "/nowhere/run does not exist"), (lambda: explore([state()], layout="tsne"), "unknown layout 'tsne'; valid: pca, umap"),
    (lambda: Explorer([state()], colour_by="size"), "unknown colour_by 'size'"), (lambda: Explorer([state()], step_index=1), "step_index is 1; there are 1 steps: 0 to 0"),
    (lambda: Explorer([state()], density_range=(2, 1)), "density_range is"), (lambda: Explorer([state()], clicked=60), "clicked is 60; there are 60 points: -1 to 59")])
def test_bad_input__is_a_sentence(call, message):
    with pytest.raises(InputError, match=message): call()


def test_many_points__python_answers_a_click(monkeypatch):
    monkeypatch.setattr(room, "NEAR_LIMIT", 50)
    w = Explorer([state()])
    assert w.scene["steps"] == [dict(step=7, n=60, k=0)] and w.scene["near"] == b""
    w.clicked = 4
    rows, cosines = w.state.neighbours(4, 8)
    assert w.found == dict(step=7, row=4, rows=rows.tolist(), cosines=cosines.tolist())
    w.clicked = -1; assert w.found["row"] == 4


def test_shown__follows_the_sliders(snaps):
    w = explore(snaps)
    w.confidence_range = (.6, 1.); w.classes = [0, 3]
    assert np.array_equal(w.shown(), np.flatnonzero(w.states[-1].mask(confidence=(.6, 1.), classes=[0, 3])))
    w.step_index = 0
    assert np.array_equal(w.shown(), np.flatnonzero(w.states[0].mask(confidence=(.6, 1.), classes=[0, 3])))


def test_set_states__keeps_what_the_user_set(snaps):
    w = explore(snaps[:2])
    w.density_range, w.colour_by, w.selected, w.clicked = (.7, 1.), "density", [3, 40], 40
    w.set_states([part(s, slice(10, None)) for s in explore(snaps).states], snaps)
    assert (w.step_index, w.selected, w.clicked, w.density_range, w.colour_by) == (2, [30], 30, [.7, 1.], "density")
    w.step_index = 0; w.set_states(explore(snaps).states)
    assert w.step_index == 0 and w.selected == [40]                       # who went back stays there
    w.set_states([w.states[2]]); assert w.step_index == 0 and w.scene["steps"][0]["step"] == snaps[2].step


def test_carry__by_cell_not_by_row():
    a, order = state(image=np.zeros(60, int), row=np.arange(60) // 8, col=np.arange(60) % 8), np.random.default_rng(1).permutation(60)
    b = part(a, order)
    assert carry_rows([5, 9], a, b) == sorted(np.flatnonzero(np.isin(order, [5, 9])).tolist())
    assert carry_rows([5], a, part(replace(a, image=np.ones(60, int)), order)) == [] and carry_rows([], a, b) == []


def test_selection__is_saved_and_marked(snaps, tmp_path):
    w = explore(snaps); w.selected = [7, 2]
    assert w.selection()["count"] == 2 and w.marks() == [[int(w.state.image[i]), int(w.state.row[i]), int(w.state.col[i])] for i in (7, 2)]
    assert len(w.save_selection(tmp_path / "two.csv").read_text().splitlines()) == 3
    w.selected = []
    with pytest.raises(InputError, match="nothing is selected; draw a line around points"): w.save_selection(tmp_path / "none.csv")


def test_two_widgets__on_one_run_are_independent(run):
    a, b = explore(run), explore(run)
    a.density_range, a.selected, a.step_index = (.9, 1.), [1], 0
    assert b.density_range is None and b.selected == [] and b.step_index == 2


def test_explore__takes_all_kinds_of_source(run, snaps, tmp_path):
    path = save_snapshot(tmp_path, snaps[0])
    for source, steps in ((str(run), 3), (run / "snapshots", 3), (open_run(run), 3), (snaps, 3), (snaps[1], 1), (path, 1), ([path, snaps[2]], 2), (state(), 1)):
        assert len(explore(source).states) == steps


def test_explore__leaves_out_diverged_and_damaged_steps(snaps, tmp_path):
    for s in snaps: save_snapshot(tmp_path, s)
    save_snapshot(tmp_path, replace(snaps[2], step=900, feats=snaps[2].feats * np.float16(np.nan)))
    (tmp_path / "snapshots" / "step_0001000.npz").write_bytes(b"PK half")
    w = explore(tmp_path)
    assert [s.step for s in w.states] == [s.step for s in snaps] and "step 900" in w.note and "step_0001000.npz cannot be read" in w.note
    with pytest.raises(InputError, match="are NaN or infinite"): usable([replace(snaps[2], feats=snaps[2].feats * np.float16(np.nan))])
    for p in list((tmp_path / "snapshots").iterdir())[:]: p.write_bytes(b"PK half")
    with pytest.raises(InputError, match="cannot be read as a whole snapshot"): explore(tmp_path)


def test_layout__takes_the_place_of_pca_and_keeps_settings(snaps, monkeypatch):
    real = room.joint_layout
    monkeypatch.setattr(room, "joint_layout", lambda feats, kind="umap", keys=None: [xy + 100 * (kind == "umap") for xy in real(feats, kind="pca")])
    w = explore(snaps, layout="umap", density_range=(.5, 1.))
    assert w.layout_done.wait(20)
    assert w.scene["layout"] == "UMAP" and w.state.xy.min() > 50 and w.density_range == [.5, 1.] and w.note == ""


def test_layout__that_fails_leaves_pca_and_says_so(snaps, monkeypatch):
    w = explore(snaps)
    def fail(*args, **kwargs): raise InputError("umap-learn is not installed")
    monkeypatch.setattr(room, "joint_layout", fail)
    replace_layout(w).join(20)
    assert w.layout_done.is_set() and w.scene["layout"] == "PCA" and w.note == "UMAP could not be computed (umap-learn is not installed); this is PCA"


def test_layout__is_applied_on_the_loop_and_dropped_when_steps_changed(snaps, monkeypatch):
    real, go, seen = room.joint_layout, threading.Event(), []
    def slow(feats, kind="umap", keys=None): go.wait(20); return real(feats, kind="pca")
    async def session():
        w = explore(snaps[:2])
        w.observe(lambda change: seen.append(threading.current_thread() is threading.main_thread()), "note")
        monkeypatch.setattr(room, "joint_layout", slow)
        replace_layout(w)
        assert "is being computed and will take the place of PCA" in w.note
        w.set_states([replace(s, xy=s.xy * 2) for s in w.states]); go.set()
        while not w.layout_done.is_set(): await asyncio.sleep(.01)
        return w
    w = asyncio.run(session())
    assert w.scene["layout"] == "PCA" and w.note == "" and seen == [True, True]


def test_page__holds_no_address(snaps):
    page = front_page(EXPLORER_ESM, EXPLORER_CSS, explorer_values(explore(snaps).states, snaps))
    assert "http" not in page and len(page) < 600_000


def test_awkward_names__reach_the_page_whole():
    page = front_page(EXPLORER_ESM, EXPLORER_CSS, explorer_values([state(class_names=("</script>", *NAMES[1:]))]))
    assert page.count("</script") == 1


def test_to_scatter__without_the_package_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "jscatter", None)
    with pytest.raises(InputError, match=r"to_scatter needs jupyter-scatter: pip install 'dgcl_nb\[fast\]'"): to_scatter(state())
    with pytest.raises(InputError, match="unknown colour_by 'size'"): to_scatter(state(), "size")


def test_to_scatter__colours_by_everything():
    pytest.importorskip("jscatter", reason="jupyter-scatter is not installed (the extra [fast])")
    for by in room.COLOURS: assert to_scatter(state(), by) is not None
