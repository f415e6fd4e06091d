"""Run folders of earlier versions are read on: by the run view, the report, the views and the monitor."""

import re
import shutil

import numpy as np
import pytest
from sync_gate import ROOT

from dgcl_nb import report
from dgcl_nb.looking import report_page
from dgcl_nb.looking.html import number
from dgcl_nb.looking.demo_run import make_demo_run
from dgcl_nb.looking.runs import open_run
from dgcl_nb.looking.scores import measures_of, open_shown, predictor_of, scores_of, sentence_of, title_of
from dgcl_nb.widgets.explorer import explore
from dgcl_nb.widgets.monitor import watch
from dgcl_nb.widgets.overlay import overlay_values

STEPS = [4, 8, 12]
"The snapshots of the run of version 0.1.0."


@pytest.fixture
def older(tmp_path):
    "A copy of a run folder of version 0.1.0, without its checkpoints."
    copy = tmp_path / "older"
    shutil.copytree(ROOT / "tests" / "older" / "run-0.1", copy, ignore=shutil.ignore_patterns("checkpoints"))
    return copy


@pytest.fixture(autouse=True)
def light(monkeypatch):
    "Pages without plotly's code: two megabytes less to search."
    monkeypatch.setattr(report_page, "plotly_packed", lambda: "")


def words(html):
    "What a person reads of a page: its text without elements."
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def test_run_view__reads_logs_settings_and_snapshots(older):
    run = open_run(older)
    assert run.problems == [] and run.is_finished and run.step == 12
    assert [r["step"] for r in run.records] == [1, 2, 4, 6, 8, 10, 12, 12]
    assert run.records[-1]["event"] == "eval" and run.config["method"] == "dgcl"
    assert [s.step for s in run.load_all()] == STEPS and len(run.timings) > 0


def test_scores__have_the_names_of_that_run(older):
    run = open_shown(older)
    scores, result = scores_of(run), run.result
    assert predictor_of(run) == result["predictor"] and scores["miou"] == result["miou_teacher"]
    assert scores["miou_student"] == result["miou_student"]
    assert scores["silhouette"] == result["silhouette"]
    assert title_of(run) == "dgcl on digits, seed 0" and "commit 0a1c5194b79c" in sentence_of(run)


def test_scores__of_that_run_before_its_end(older):
    (older / "result.json").unlink()
    run = open_shown(older)
    assert predictor_of(run) == "teacher"  # the one that best_miou speaks of
    assert scores_of(run)["miou"] == pytest.approx(0.3225, abs=1e-4)


def test_report__shows_its_scores(older):
    file = report.write_report(older)
    page = file.read_text()
    assert file == older / "report.html" and "left out" not in page.partition("<main>")[0]
    assert re.findall(r'<section id="(\w+)"', page) == [
        *("results", "curves", "images", "features", "density", "settings")
    ]
    run, text = open_shown(older), words(page)
    for key in ("miou_student", "miou_teacher"):
        assert f"{number(scores_of(run)[key])} %" in text
    for key in ("silhouette", "calinski_harabasz", "davies_bouldin"):
        m = measures_of(run)[key]
        assert f"{m.name} {number(scores_of(run)[key], m.digits)}" in text


@pytest.mark.parametrize("first", ["older", "newer"])
def test_report__beside_a_newer_run(older, tmp_path, first):
    newer = make_demo_run(tmp_path / "newer", steps=60, snapshots=3, num_images=2, max_per_class=20)
    folders = [older, newer] if first == "older" else [newer, older]
    file = report.write_report(*folders)
    assert file.name == f"report-vs-{folders[1].name}.html"
    text = words(file.read_text())
    for folder in folders:
        run = open_shown(folder)
        assert f"{number(scores_of(run)['miou'])} %" in text
    assert f"the difference is {folders[0].name} minus {folders[1].name}" in text


def test_explorer__opens_its_snapshots(older):
    view = explore(older)
    assert [s.step for s in view.states] == STEPS
    assert all(len(s) == 200 and np.isfinite(s.xy).all() for s in view.states)
    snap = open_run(older).latest()
    np.testing.assert_array_equal(view.states[-1].density, snap.pixel_density.astype(np.float32))
    assert view.states[-1].class_names == snap.class_names


def test_explorer__without_a_widget(older):
    from dgcl_nb.looking.report_views import AMOUNTS, explorer_view

    fragment = explorer_view(open_run(older), AMOUNTS[0])
    for step in STEPS:
        assert f'"step":{step},' in fragment


def test_overlay__shows_its_maps(older):
    values = overlay_values(open_run(older).load_all())
    assert values["meta"]["steps"] == STEPS and len(values["meta"]["images"]) == 2


def test_monitor__shows_it_as_finished(older):
    m = watch(older, every=0)
    assert m.head.head["text"].startswith("finished after 12 steps") and m.head.head["problems"] == []
    assert m.figure is not None and [s.step for s in m.explorer.states] == STEPS
