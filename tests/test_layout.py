"""Layouts: invariances, points that come and go, exact neighbours, threads, a machine without umap-learn."""

import logging
import re
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from helpers import clean_environment

from dgcl_nb.core import InputError
from dgcl_nb.looking import layout
from dgcl_nb.looking.layout import (
    align,
    carry_over,
    knn_graph,
    match_rows,
    normalise,
    pca_layout,
    spread,
    umap_layout,
)
from dgcl_nb.looking.layout_time import (
    follow_layout,
    joint_layout,
    link_graph,
    movement,
    place_new,
    time_links,
)


def clusters(n=60, dim=12, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    return rng.normal(0, 2, (classes, dim))[labels] + rng.normal(0, 0.4, (n, dim)) + 1, labels


FEATS, LABELS = clusters()
FEW_EPOCHS = 20


def test_pca__is_centred_of_unit_spread_and_about_directions_only():
    xy = pca_layout(FEATS)
    assert xy.dtype == np.float32
    assert np.allclose(xy.mean(0), 0, atol=1e-5)
    assert spread(xy) == pytest.approx(1, abs=1e-5)
    lengths = np.random.default_rng(0).uniform(0.1, 9, (len(FEATS), 1))
    np.testing.assert_allclose(pca_layout(FEATS * lengths), xy, atol=1e-4)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(0, 1, (12, 12)))[0]
    np.testing.assert_allclose(align(pca_layout(FEATS @ rotation), xy), xy, atol=1e-3)


@pytest.mark.parametrize(
    "feats",
    [
        FEATS.astype(np.float16),
        torch.tensor(FEATS),
        torch.tensor(FEATS).bfloat16(),
        torch.tensor(FEATS, requires_grad=True),
    ],
)
def test_pca__takes_any_float_array(feats):
    assert pca_layout(feats).shape == (60, 2)


def test_pca__lies_over_the_one_before():
    before = pca_layout(FEATS)
    mirrored = before * [1, -1]
    np.testing.assert_allclose(pca_layout(FEATS, like=mirrored), mirrored, atol=1e-4)
    unknown = mirrored.copy()
    unknown[10:] = np.nan
    np.testing.assert_allclose(pca_layout(FEATS, like=unknown), mirrored, atol=1e-3)


@pytest.mark.parametrize(
    "feats",
    [np.zeros((0, 5)), np.ones((1, 5)), np.ones((7, 5)), np.zeros((7, 5)), np.arange(6.0)[:, None] - 2],
)
def test_pca__is_defined_for_few_and_equal_points(feats):
    xy = pca_layout(feats)
    assert xy.shape == (len(feats), 2) and np.isfinite(xy).all()


@pytest.mark.parametrize(
    "feats, message",
    [
        (np.array([[1, 2], [np.nan, 1], [np.inf, 0]]), r"NaN or inf.* in 2 of 3 rows of feats.*np.isfinite"),
        (np.zeros((2, 8, 4, 4)), r"\(2, 8, 4, 4\), but must be \(n, D\).*flatten\(0, 2\)"),
        (np.zeros((3, 0)), r"\(3, 0\), but must be \(n, D\)"),
    ],
)
def test_all_layouts__refuse_what_is_no_feature(feats, message):
    for lay_out in (pca_layout, knn_graph, umap_layout):
        with pytest.raises(InputError, match=message):
            lay_out(feats)
    with pytest.raises(InputError, match=message):
        follow_layout(feats, np.zeros((len(feats), 2)))
    with pytest.raises(InputError, match=message):
        joint_layout([feats])


@pytest.mark.parametrize("lay_out", [pca_layout, umap_layout, follow_layout, place_new])
def test_all_layouts__refuse_a_layout_of_other_points(lay_out):
    said = r"\(59, 2\), but there are 60 points: give \(60, 2\).*carry_over"
    with pytest.raises(InputError, match=said):
        lay_out(FEATS, np.zeros((59, 2)))


def test_align__undoes_any_rigid_motion_and_never_scales():
    rng = np.random.default_rng(0)
    xy = rng.normal(0, 1, (50, 2))
    for seed in range(5):
        rotation = np.linalg.qr(np.random.default_rng(seed).normal(0, 1, (2, 2)))[0]
        np.testing.assert_allclose(align(xy @ rotation + rng.normal(0, 5, 2), xy), xy, atol=1e-5)
    assert spread(align(3 * xy, xy)) == pytest.approx(3 * spread(xy), rel=1e-5)
    np.testing.assert_allclose(align(xy[:1] + 4, xy[:1]), xy[:1], atol=1e-5)


def test_normalise__rounding_is_not_enlarged():
    assert not normalise(np.full((9, 2), 3.0) + 1e-9 * np.arange(18).reshape(9, 2)).any()


def test_knn__is_that_of_the_cosine():
    rows, distances = knn_graph(FEATS, 7)
    unit = FEATS / np.linalg.norm(FEATS, axis=1, keepdims=True)
    full = 1 - unit @ unit.T
    np.fill_diagonal(full, -1)
    assert (rows == np.argsort(full, axis=1)[:, :7]).all() and (rows[:, 0] == np.arange(60)).all()
    np.testing.assert_allclose(distances[:, 1:], np.sort(full, axis=1)[:, 1:7], atol=1e-5)
    assert not distances[:, 0].any()
    assert rows.dtype == np.int32
    assert distances.dtype == np.float32
    assert rows.flags.c_contiguous
    assert distances.flags.c_contiguous


def test_knn__fewer_points_than_neighbours():
    rows, _ = knn_graph(FEATS[:4], 15)
    assert sorted(rows[0]) == [0, 1, 2, 3]
    assert knn_graph(FEATS[:1], 15)[0].tolist() == [[0]]
    with pytest.raises(InputError, match="k is 1, but it counts the point itself"):
        knn_graph(FEATS, 1)


def test_umap__same_seed_same_layout_and_no_global_random_state():
    torch.manual_seed(0)
    np.random.seed(0)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    xy = umap_layout(FEATS, epochs=FEW_EPOCHS)
    assert torch.equal(state, torch.get_rng_state()) and (numpy_state == np.random.get_state()[1]).all()
    np.testing.assert_array_equal(umap_layout(FEATS, epochs=FEW_EPOCHS), xy)
    assert (umap_layout(FEATS, epochs=FEW_EPOCHS, seed=1) != xy).any()
    assert spread(xy) == pytest.approx(1, abs=1e-3)


def test_umap__leaves_its_start_as_it_was():
    start = pca_layout(FEATS)
    kept = start.copy()
    umap_layout(FEATS, start, epochs=FEW_EPOCHS)
    np.testing.assert_array_equal(start, kept)


@pytest.mark.parametrize(
    "feats, why",
    [
        (FEATS[:4], r"4 points are too few \(at least 5\)"),
        (np.ones((40, 3)), "the network has collapsed"),
        (np.zeros((40, 3)), "the network has collapsed"),
    ],
)
def test_umap__says_why_it_shows_the_start(caplog, feats, why):
    with caplog.at_level(logging.WARNING, logger="dgcl_nb.looking.layout"):
        np.testing.assert_array_equal(umap_layout(feats), pca_layout(feats))
        assert len(joint_layout([feats[:2], feats[2:]])) == 2
    assert [bool(re.search(why, r.getMessage())) for r in caplog.records] == [True, True]


@pytest.mark.parametrize(
    "feats",
    [
        FEATS[:5],
        np.repeat(FEATS[:6], 5, axis=0),
        np.sign(FEATS[:, :1]) * FEATS[:, :1] ** 2 - 1,
        FEATS[LABELS == 0],
    ],
    ids=["five", "duplicates", "one channel", "one class"],
)
def test_umap__odd_points_have_a_layout(feats):
    xy = umap_layout(feats, epochs=FEW_EPOCHS)
    assert xy.shape == (len(feats), 2) and np.isfinite(xy).all()


def test_umap__in_two_threads_at_once():
    found = {}

    def work(i):
        found[i] = umap_layout(FEATS, epochs=FEW_EPOCHS)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 3 and all((xy == found[0]).all() for xy in found.values())


def test_follow__moves_less_than_anew_and_keeps_the_classes_apart():
    later = FEATS + np.random.default_rng(1).normal(0, 0.3, FEATS.shape)
    first = umap_layout(FEATS)
    follow, anew = follow_layout(later, first), umap_layout(later)
    assert movement([first, follow])[0] < min(0.25, movement([first, anew])[0])
    nearest = torch.cdist(*[torch.tensor(follow)] * 2).topk(5, largest=False).indices[:, 1:].numpy()
    assert (LABELS[nearest] == LABELS[:, None]).mean() > 0.9


def test_follow__points_that_come_and_go():
    keys = np.stack([np.arange(60) // 10, np.arange(60) % 10, np.zeros(60, int)], 1)
    first = umap_layout(FEATS)
    now = np.r_[50:60, 5:45]
    feats = np.concatenate([FEATS[now], FEATS[:3] + 0.01])
    keys_now = np.concatenate([keys[now], [[9, 9, 9], [9, 9, 8], [-1, 0, 0]]])
    carried = carry_over(first, keys, keys_now)
    np.testing.assert_array_equal(carried[:50], first[now])
    assert np.isnan(carried[50:]).all()
    started = place_new(feats, carried)
    assert np.isfinite(started).all() and (started[:50] == carried[:50]).all()
    for new, old in zip(started[50:], first[:3]):
        assert np.linalg.norm(new - old) < 1  # amid points of its class
    xy = follow_layout(feats, carried)
    assert np.isfinite(xy).all() and movement([first, xy], [keys, keys_now])[0] < 0.5
    unknown = carry_over(first[:0], keys[:0], keys)
    assert np.isfinite(follow_layout(FEATS, unknown)).all()


def test_match__names_that_are_not_unique_match_nobody():
    assert match_rows([[1, 2], [1, 2], [3, 4]], [[1, 2], [3, 4], [5, 6]]).tolist() == [-1, 2, -1]
    assert match_rows([7, 8], [8, 7, 8]).tolist() == [1, 0, 1]
    assert match_rows(np.zeros((0, 3)), np.zeros((2, 3))).tolist() == [-1, -1]
    with pytest.raises(InputError, match="the same columns, such as image, row, column"):
        match_rows([[1, 2]], [1])


def test_joint__is_one_set_cut_into_parts():
    whole = pca_layout(np.concatenate([FEATS, FEATS[:7]]))
    parts = joint_layout([FEATS, FEATS[:7]], kind="pca")
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-4)
    assert [len(p) for p in parts] == [60, 7]
    assert [p.shape for p in joint_layout([FEATS[:0], FEATS], kind="pca")] == [(0, 2), (60, 2)]


def test_joint__links_hold_a_cell_to_its_past():
    shifted = [FEATS + s * np.random.default_rng(i).normal(0, 1, 12) for i, s in enumerate((2.5, 1.5, 0))]
    cells = [np.arange(60)] * 3
    free, linked = movement(joint_layout(shifted)), movement(joint_layout(shifted, keys=cells))
    assert linked.max() < 0.5 * free.max()


def test_joint__bad_input():
    with pytest.raises(InputError, match="unknown layout 'tsne'"):
        joint_layout([FEATS], kind="tsne")
    with pytest.raises(InputError, match="12 channels cannot share a layout"):
        joint_layout([FEATS, FEATS[:, :5]])
    with pytest.raises(InputError, match=r"keys name \[60\] cells, but there are \[60, 60\] rows"):
        joint_layout([FEATS, FEATS], keys=[np.arange(60)])


def test_links__each_row_keeps_itself_first_and_holds_no_neighbour_twice():
    feats = np.concatenate([FEATS, FEATS + 0.3])
    graph = knn_graph(feats, 8)
    rows, distances = link_graph(graph, time_links([np.arange(60), np.arange(60)]))
    assert (rows[:, 0] == np.arange(120)).all()
    assert all(len(set(r)) == 8 for r in rows.tolist())
    assert (np.diff(distances, axis=1) >= 0).all()
    assert all(i + 60 in rows[i] and i in rows[i + 60] for i in range(60))
    assert graph[0].tolist() == knn_graph(feats, 8)[0].tolist()  # the graph that came in is as it was


def test_movement__is_free_of_size_and_nan_where_nothing_is_common():
    a, b = np.random.default_rng(0).normal(0, 1, (2, 30, 2))
    assert movement([a, b])[0] == pytest.approx(movement([9 * a, 9 * b])[0])
    assert np.isnan(movement([a, b], [np.arange(30), np.arange(30, 60)])[0])
    assert np.isnan(movement([a * 0, a * 0])[0])
    with pytest.raises(InputError, match="30 and 9 points; give keys"):
        movement([a, b[:9]])


MISSING = """
import sys
import numpy as np
from dgcl_nb.looking.layout import pca_layout, umap_layout, umap_problem, umap_ready, warm_umap
from dgcl_nb.looking.layout_time import joint_layout
print([m for m in ("umap", "numba", "plotly") if m in sys.modules])  # imported late
sys.modules["umap"] = None
feats = np.random.default_rng(0).normal(0, 1, (20, 3))
warm_umap().join()
print(umap_ready(), umap_problem())
for lay_out, given in ((umap_layout, feats), (joint_layout, [feats])):
    try:
        lay_out(given)
    except ValueError as e:
        print(type(e).__name__, e)
print(pca_layout(feats).shape, joint_layout([feats], kind="pca")[0].shape)
"""


def run_code(code):
    "A process that runs some lines of Python, finished."
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=120)


def test_umap__missing_is_a_sentence_and_pca_still_works():
    done = run_code(MISSING)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said.pop(0) == "[]"
    assert said[0].startswith("False a UMAP layout needs the package umap-learn")
    assert "pip install 'dgcl_nb[looking]'" in said[0]
    assert said[1].startswith("InputError")
    assert said[1] == said[2]
    assert said[3] == "(20, 2) (20, 2)"


def test_warm__failure_is_kept_as_a_sentence(monkeypatch, caplog):
    def fails(*args, **kwargs):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(layout, "umap_layout", fails)
    monkeypatch.setattr(layout, "_WARM", dict(thread=None, problem=""))
    thread = layout.warm_umap()
    thread.join()
    assert thread.daemon and layout.warm_umap() is thread
    said = "UMAP failed at its first layout (RuntimeError: no compiler); the PCA layout needs nothing"
    assert layout.umap_problem() == said


def test_warm__does_not_hold_up_the_end_of_a_process():
    lines = "import time", "from dgcl_nb.looking.layout import warm_umap", "warm_umap()", "time.sleep(.2)"
    assert run_code("\n".join(lines)).returncode == 0
