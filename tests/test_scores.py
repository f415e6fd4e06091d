"""What a run says in numbers: networks by whatever name, what is unknown, and what density tells."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from dgcl_nb.core import IGNORE_INDEX
from dgcl_nb.looking.report_density import (
    density_sentences,
    fifths,
    fifths_table,
    histogram_figure,
    known_cells,
)
from dgcl_nb.looking.report_page import headline_scores
from dgcl_nb.looking.report_tables import class_table, compared_scores, page_words, score_table
from dgcl_nb.looking.demo_run import make_demo_run
from dgcl_nb.looking.scores import (
    shared_background,
    class_ious,
    last_evaluation,
    measures_of,
    networks_of,
    open_shown,
    predictor_of,
    scored_in,
    scores_of,
    sentence_of,
)

SMALL = dict(steps=60, snapshots=3, num_images=2, max_per_class=20)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return open_shown(make_demo_run(tmp_path_factory.mktemp("runs") / "dgcl", **SMALL))


# Networks have the names that the run gives them


def evaluation(step, best_step, best, **miou):
    scores = {f"miou_{name}": value for name, value in miou.items()}
    ious = {name: [value, value + 1] for name, value in miou.items()}
    return dict(step=step, event="eval", best_miou=best, best_step=best_step, iou_per_class=ious) | scores


def write_run(folder, *lines, result=None):
    folder.mkdir()
    config = dict(method="cps", preset="digits", steps=20, seed=0)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if result:
        common = dict(steps=20, seconds=9.0, iou_per_class=dict(road=61.0, sky=62.0))
        (folder / "result.json").write_text(json.dumps(common | result))
    return open_shown(folder)


@pytest.fixture
def two_networks(tmp_path):
    "A run of two networks that no other method has."
    lines = [evaluation(10, 10, 58.0, one=58.0, two=60.0), evaluation(20, 20, 61.0, one=61.0, two=59.0)]
    result = dict(predictor="one", miou=dict(one=61.0, two=59.0), miou_student=None, miou_teacher=None)
    return write_run(tmp_path / "a", *lines, result=result)


def test_networks__of_any_name(two_networks):
    run = two_networks
    assert networks_of(run)["two"] == dict(last=59.0, best_step=10, best=60.0)
    assert predictor_of(run) == "one" and scores_of(run)["miou"] == 61.0
    assert [k for k in measures_of(run) if k.startswith("miou_")] == ["miou_one", "miou_two"]
    assert class_ious(run) == dict(road=dict(one=61.0, two=59.0), sky=dict(one=62.0, two=60.0))
    shown = class_table(run) + score_table(run)
    assert "mIoU of the two" in shown and "student" not in shown and "teacher" not in shown
    assert ("59.0 %", "mIoU of the two") in headline_scores(run)
    assert "one, two" in page_words(run)


def test_sentence__of_a_result_alone_and_of_unknown_seconds(two_networks):
    folder = two_networks.path
    (folder / "config.json").unlink()
    assert sentence_of(open_shown(folder)).startswith("20 steps; ")
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(result | dict(seconds=None)))
    run = open_shown(folder)
    assert sentence_of(run) == "20 steps." and "finished after 20 steps in 0 s" in repr(run)
    (folder / "result.json").unlink()
    assert sentence_of(open_shown(folder)) == "a number of steps that no file tells."


def test_networks__of_two_runs_that_name_them_differently(two_networks, demo):
    table = compared_scores(two_networks, demo)
    for name in ("one", "two", *networks_of(demo)):
        assert f"mIoU of the {name}, last step" in table


@pytest.mark.parametrize("best, predictor", [(61.0, "one"), (59.0, "two")])
def test_predictor__of_a_run_without_a_result_is_the_one_that_best_speaks_of(tmp_path, best, predictor):
    run = write_run(tmp_path / "a", evaluation(10, 10, best, one=61.0, two=59.0))
    assert predictor_of(run) == predictor and scores_of(run)["miou"] == best


def test_predictor__is_the_first_where_nothing_else_tells(tmp_path):
    line = evaluation(10, 10, None, one=61.0, two=59.0)
    assert predictor_of(write_run(tmp_path / "a", line)) == "one"


def test_scored_in__results_of_both_kinds():
    older = dict(miou_student=1.0, miou_teacher=None, best_miou=3.0)
    newer = dict(miou=dict(b=2.0, a=1.0), miou_student=1.0, miou_teacher=None)
    assert scored_in(older) == dict(student=1.0)
    assert list(scored_in(newer).items()) == [("b", 2.0), ("a", 1.0)]
    assert scored_in({}) == {}


def test_scores__of_an_unfinished_run_are_those_of_its_last_evaluation(tmp_path):
    run = open_shown(make_demo_run(tmp_path / "a", until=40, **SMALL))
    last = last_evaluation(run)
    assert scores_of(run)["miou"] == last["miou_teacher"] and scores_of(run)["silhouette"] is None
    assert class_ious(run)["3"]["student"] == last["iou_per_class"]["student"][4]


# Background is a matter of the data


def test_background__is_spoken_of_where_there_is_one(two_networks, demo):
    scores = "silhouette, Calinski-Harabasz, Davies-Bouldin"
    assert shared_background(demo) == "background" and "without background" in page_words(demo)[scores]
    assert shared_background(two_networks) is None and "without" not in page_words(two_networks)[scores]
    assert shared_background(demo, two_networks) is None


# Density


def cells(density, wrong, truth=None):
    "What of a snapshot speaks about density."
    n = len(density)
    return SimpleNamespace(
        pixel_density=np.asarray(density),
        pixel_confidence=np.linspace(0.1, 1, n),
        pixel_class=np.ones(n, int) if truth is None else truth,
        pixel_pseudo=1 + np.asarray(wrong),
        pixel_image=np.arange(n),
        step=5,
        palette=np.zeros((2, 3), np.uint8),
        class_names=("a", "b"),
    )


def test_fifths__by_hand():
    n = 20
    density, wrong = np.linspace(0.1, 1, n), np.arange(n) < 4
    snap = cells(density, wrong)
    assert [g["wrong"] for g in fifths(snap)] == [1, 0, 0, 0, 0]
    assert [g["count"] for g in fifths(snap)] == [4] * 5
    said = density_sentences(snap)
    assert said.startswith(
        "At step 5, 100 % of the sparsest fifth of 20 sampled cells have a wrong pseudo-label, "
        "and 0 % of the densest. At equal confidence, wrong:"
    )
    assert "left out" not in said
    snap.pixel_density = np.where(np.arange(n) < 15, np.nan, density)
    assert fifths(snap) == [] and density_sentences(snap).startswith("Only 5 sampled cells")


def test_fifths__of_one_snapshot_are_said_once():
    early, late = (cells(np.linspace(0.1, 1, 20), np.arange(20) < 4) for _ in range(2))
    late.step = 9
    once, twice = fifths_table(late, late), fifths_table(early, late)
    assert once.count("density at 9") == 1 and "two steps" not in once
    assert "density at 5" in twice and "density at 9" in twice and "at two steps" in twice
    assert once.count("<td") * 2 == twice.count("<td")


@pytest.mark.parametrize("unknown", [np.nan, 0.0])  # version 0.1 wrote 0
def test_unknown_density__is_left_out_and_counted(unknown):
    n = 40
    density = np.linspace(0.1, 1, n)
    density[::4] = unknown
    truth = np.ones(n, int)
    truth[:2] = IGNORE_INDEX  # the first one has no density either
    snap = cells(density, np.arange(n) % 3 == 0, truth)
    known = known_cells(snap)
    assert (len(known), known.left_out) == (29, 11) and np.isfinite(known.density).all()
    assert known.density.min() > 0.1
    assert density_sentences(snap).endswith(
        "Of the 40 sampled cells 11 are left out: their density or their true class is unknown."
    )
    assert "11 are left out" in histogram_figure(SimpleNamespace(name="a"), [snap]).caption
