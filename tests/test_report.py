"""The report: what it shows of any run folder, what it says of a bad one, how large it may be, and that it asks the network for nothing."""
import dataclasses
import importlib.util
import json
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import clean_environment, few_images, tiny_args

from dgcl_nb import engine, report, train
from dgcl_nb.core import InputError
from dgcl_nb.run_folder import RunFolder
from dgcl_nb.looking.demo_run import make_demo_run
from dgcl_nb.snapshots import Snapshot, keep_pixels, list_snapshots, load_snapshot, save_snapshot

SMALL = dict(steps=60, snapshots=3, num_images=2, max_per_class=20)


@pytest.fixture(scope="module")
def demo(tmp_path_factory): return make_demo_run(tmp_path_factory.mktemp("runs")/"dgcl", method="dgcl", **SMALL)
@pytest.fixture(scope="module")
def other(tmp_path_factory): return make_demo_run(tmp_path_factory.mktemp("runs")/"st", method="self_training", **SMALL)


@pytest.fixture(autouse=True)
def light(monkeypatch):
    "Pages without plotly's code: two megabytes less to search."
    monkeypatch.setattr(report, "plotly_packed", lambda: "")


@pytest.fixture
def command(capsys):
    "Run the command in this process: (exit status, what it printed, what it complained)."
    def run(*args):
        try: report.main([str(a) for a in args]); status = 0
        except SystemExit as e: status = e.code or 0
        return status, *capsys.readouterr()
    return run


def change(folder, **arrays):
    "Replace arrays of the last snapshot of a run."
    save_snapshot(folder, dataclasses.replace(load_snapshot(folder), **arrays))


def sections(page): return re.findall(r'<section id="(\w+)"', page)
def notes(page): return re.findall(r"<p>(.*?)</p>", (re.search(r'<div class="notes".*?</div>', page, re.S) or [""])[0])


# What is in it

def test_page__of_one_run(command, demo, tmp_path):
    status, said, errors = command(demo, "--out", tmp_path/"new"/"a.html")
    page = (tmp_path/"new"/"a.html").read_text()
    assert status == 0 and not errors and re.fullmatch(r"\S+a\.html: \d\.\d MB in \d+\.\d s\n", said)
    assert sections(page) == ["results", "curves", "images", "features", "density", "settings"]
    assert page.count('class="plot"') == 3 and page.count("data-drawn") and "dgcl on digits, seed 0" in page
    assert notes(page) == ["The figures of this run are made up; no training took place."]
    assert "loop.sup_only_fraction" in page and "silhouette" in page


def test_page__of_two_runs(command, demo, other):
    status, said, errors = command(demo, other)
    page = (demo/"report.html").read_text()
    assert status == 0 and said.startswith(str(demo/"report.html")), errors
    assert sections(page) == ["results", "clusters", "predictions", "curves", "images", "features", "density", "settings"]
    assert "dgcl minus st" in page and "the first is better" in page and "<code>" in page
    row = re.search(r'mIoU, last step</th>(.*?)</tr>', page)[1]
    a, b, gain = (float(v.replace("−", "-")) for v in re.findall(r"[−+]?\d+\.\d", row))
    assert a - b == pytest.approx(gain, abs=.11)


def test_page__asks_for_nothing(demo, other):
    page, _ = report.fitting_page(report.open_runs([demo, other]))
    page = re.sub(r'<script type="application/json">.*?</script>', "", page, flags=re.S)
    assert not re.findall(r"""(?:src|href|action|srcset)\s*=\s*["']?(?!#|data:)[^"'>\s]+""", re.sub(r"<script.*?</script>", "", page, flags=re.S))
    assert not re.findall(r"@import|url\((?!data:)|fetch\(|XMLHttpRequest|WebSocket|importScripts|sendBeacon", page)


def test_page__every_text_is_escaped(demo, tmp_path):
    folder = make_demo_run(tmp_path/"a<i>", **SMALL)
    snap, evil = load_snapshot(folder), "</script><b>"
    for p in list_snapshots(folder): save_snapshot(folder, dataclasses.replace(load_snapshot(p), class_names=(evil, *snap.class_names[1:])))
    page, _ = report.fitting_page(report.open_runs([folder]))
    assert "</script><b>" not in page and "&lt;/script&gt;&lt;b&gt;" in page and "a<i>" not in re.sub(r"<script.*?</script>", "", page, flags=re.S)


def test_page__same_names_of_two_folders(demo, tmp_path):
    twin = make_demo_run(tmp_path/"x"/"dgcl", **SMALL | dict(steps=30))
    assert [r.name for r in report.open_runs([demo, twin])] == [str(demo), str(twin)]


def test_scores__of_an_unfinished_run_are_those_of_its_last_evaluation(tmp_path):
    run = report.open_shown(make_demo_run(tmp_path/"a", until=40, **SMALL))
    last = report.evaluations(run)[-1]
    assert report.scores_of(run)["miou"] == last["miou_teacher"] and report.scores_of(run)["silhouette"] is None
    assert report.class_ious(run)["3"]["student"] == last["iou_per_class"]["student"][4]


def test_fifths__by_hand():
    n = 20
    density, wrong = np.linspace(.1, 1, n), np.arange(n) < 4
    snap = type("Cells", (), dict(pixel_density=density, pixel_confidence=density, pixel_class=np.ones(n), pixel_pseudo=1 + wrong, pixel_image=np.arange(n), step=5))
    assert [g["wrong"] for g in report.fifths(snap)] == [1, 0, 0, 0, 0] and [g["count"] for g in report.fifths(snap)] == [4] * 5
    said = report.density_sentences(snap)
    assert said.startswith("At step 5, 100 % of the sparsest fifth of 20 sampled cells have a wrong pseudo-label, and 0 % of the densest. At equal confidence, wrong:")
    snap.pixel_density = np.where(np.arange(n) < 15, np.nan, density)
    assert report.fifths(snap) == [] and report.density_sentences(snap).startswith("Only 5 sampled cells")


# Runs that are unfinished or damaged: what is there is shown, what is missing is said

def test_unfinished__is_shown_and_says_so(command, tmp_path):
    folder = make_demo_run(tmp_path/"a", until=40, **SMALL)
    with open(folder/"metrics.jsonl", "a") as f: f.write('{"step": 41, "lo')
    status, _, errors = command(folder)
    page = (folder/"report.html").read_text()
    assert status == 0 and "features" in sections(page), errors
    assert any("not finished: step 36 of 60" in n for n in notes(page))


def test_young__has_settings_and_curves_only(command, tmp_path):
    folder = make_demo_run(tmp_path/"a", until=1, **SMALL)
    assert command(folder)[0] == 0
    page = (folder/"report.html").read_text()
    assert sections(page) == ["results", "curves", "settings"]
    assert [n for n in notes(page) if "no snapshot" in n] and [n for n in notes(page) if "no evaluation" in n]


def test_damaged__snapshot_and_result_are_left_out_with_a_sentence(command, tmp_path):
    folder = make_demo_run(tmp_path/"a", **SMALL)
    first = list_snapshots(folder)[0]
    first.write_bytes(first.read_bytes()[:5000]); (folder/"result.json").write_text("{")
    assert command(folder)[0] == 0
    page = (folder/"report.html").read_text()
    assert any("step_0000020.npz cannot be read as a whole snapshot" in n for n in notes(page)) and any("result.json is damaged" in n for n in notes(page))
    assert "features" in sections(page)


def test_nan_features__leave_the_other_views(tmp_path):
    folder = make_demo_run(tmp_path/"a", **SMALL | dict(snapshots=1))
    change(folder, feats=np.full_like(load_snapshot(folder).feats, np.nan))
    page, _ = report.fitting_page(report.open_runs([folder]))
    assert "features" not in sections(page) and "images" in sections(page)
    assert any("The features of a left out: the features of" in n and "NaN or infinite" in n for n in notes(page))


def test_one_class_and_few_cells__are_shown(tmp_path):
    folder = make_demo_run(tmp_path/"a", **SMALL | dict(snapshots=1))
    snap = load_snapshot(folder)
    save_snapshot(folder, keep_pixels(dataclasses.replace(snap, pixel_class=np.zeros_like(snap.pixel_class)), 3))
    page, _ = report.fitting_page(report.open_runs([folder]))
    assert "features" in sections(page) and "Only 3 sampled cells" in page


def test_unknown_density__is_said(tmp_path):
    folder = make_demo_run(tmp_path/"a", **SMALL | dict(snapshots=1))
    change(folder, pixel_density=np.full_like(load_snapshot(folder).pixel_density, np.nan))
    page, _ = report.fitting_page(report.open_runs([folder]))
    assert "density" not in sections(page) and any("No density is known of a" in n for n in notes(page))


def test_two_data_sets__have_no_common_figures(demo, tmp_path):
    folder = make_demo_run(tmp_path/"b", **SMALL)
    for p in list_snapshots(folder): save_snapshot(folder, dataclasses.replace(s := load_snapshot(p), class_names=("sky", *s.class_names[1:])))
    page, figures = report.fitting_page(report.open_runs([demo, folder]))
    assert not {"clusters", "predictions"} & set(figures) and any("the two runs name different classes" in n for n in notes(page))


# Errors: one sentence, exit status 2

@pytest.mark.parametrize("args,message", [
    ([], "0 run folders are given; name one, or two"),
    (["a", "b", "c"], "3 run folders are given; name one, or two"),
    (["{tmp}/nowhere"], "nowhere does not exist; name"),
    (["{tmp}/empty"], "empty is empty; name"),
    (["{demo}", "{demo}"], "is given twice; name two different runs"),
    (["{demo}", "--out", "/proc/no/report.html"], "cannot write /proc/no/report.html"),
])
def test_main__errors(command, demo, tmp_path, args, message):
    (tmp_path/"empty").mkdir()
    status, said, errors = command(*(a.format(tmp=tmp_path, demo=demo) for a in args))
    assert status == 2 and errors.startswith("error: ") and message in errors and errors.count("\n") == 1 and not said


def test_main__another_version(command, tmp_path):
    folder = make_demo_run(tmp_path/"a", **SMALL | dict(snapshots=1))
    np.savez(list_snapshots(folder)[0], version=9)
    status, _, errors = command(folder)
    assert status == 2 and "has snapshot version 9, and this dgcl_nb reads version 1; update dgcl_nb" in errors


def test_main__nothing_that_can_be_shown(command, tmp_path):
    (tmp_path/"config.json").write_text("{")
    status, _, errors = command(tmp_path)
    assert status == 2 and "holds nothing that can be shown; config.json is damaged" in errors


def test_main__without_the_extra(command, demo, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in ("plotly", "anywidget") else find(name, *a))
    status, _, errors = command(demo)
    assert status == 2 and "a report needs plotly and anywidget, which this Python lacks: pip install 'dgcl_nb[looking]'" in errors


def test_main__in_a_process_of_its_own(tmp_path):
    done = subprocess.run([sys.executable, "-m", "dgcl_nb.report", tmp_path], capture_output=True, text=True, env=clean_environment())
    assert done.returncode == 2 and "is empty" in done.stderr and "Traceback" not in done.stderr


# Size

def test_budget__the_page_is_thinned_and_says_so(demo, monkeypatch):
    whole = len(report.fitting_page(report.open_runs([demo]))[0])
    page, _ = report.fitting_page(report.open_runs([demo]), max_bytes=whole - 1000)
    assert len(page) <= whole - 1000 and any("To keep this file small it shows of dgcl" in n for n in notes(page))
    with pytest.raises(InputError, match="with the least that it can show, and 0.1 are allowed"): report.fitting_page(report.open_runs([demo]), max_bytes=100_000)


def test_budget__large_probes_of_many_snapshots_fit(tmp_path, monkeypatch):
    folder = make_demo_run(tmp_path/"a", **SMALL | dict(snapshots=10))
    rng, big = np.random.default_rng(0), (2, 256, 256)
    for p in list_snapshots(folder):
        maps = {name: rng.integers(0, 11, big, dtype=np.uint8) for name in ("target", "prediction", "pseudo_label")} | dict(kept=rng.random(big) < .5)
        maps |= {name: rng.random(big).astype(np.float16) for name in ("confidence", "entropy")} | dict(image=rng.integers(0, 256, (*big, 3), dtype=np.uint8))
        save_snapshot(folder, dataclasses.replace(load_snapshot(p), **maps))
    monkeypatch.setattr(report, "plotly_packed", lambda: "x" * 2_100_000)
    page, _ = report.fitting_page(report.open_runs([folder]))
    assert len(page) <= report.MAX_PAGE and any("maps at" in n for n in notes(page))


def test_smaller__keeps_the_schema(demo):
    snap = load_snapshot(demo)
    for amount in report.AMOUNTS:
        less = report.smaller(snap, amount)
        assert isinstance(less, Snapshot) and len(less.image_id) >= 1 and len(less.feats) <= len(snap.feats)


# After training

@pytest.fixture
def trained(tmp_path, monkeypatch, capsys):
    "Train a tiny run whose report is a child of our own: (exit status, lines printed, what the log said)."
    monkeypatch.chdir(tmp_path); monkeypatch.setattr(engine, "build_data", few_images)
    def run(child, *more):
        monkeypatch.setattr(train, "report_command", lambda folder: [sys.executable, "-c", child, str(folder)])
        try: train.main([*tiny_args("supervised", steps=2, loop__report=True), *more]); status = 0
        except SystemExit as e: status = e.code or 0
        said, errors = capsys.readouterr()
        return status, said.strip().splitlines(), errors
    return run


WRITES = "import sys; open(sys.argv[1] + '/report.html', 'w').write('a report')"


def test_train__ends_with_the_report(trained):
    status, said, errors = trained(WRITES, "--out", "a")
    assert status == 0 and said[-1].split() == ["report", "a/report.html"] and said[-2].split() == ["run", "folder", "a"], errors
    assert json.loads(RunFolder("a").config.read_text())["loop"]["report"] is True
    assert trained("raise SystemExit('error: again?')", "--out", "a", "--resume")[1][-1] == said[-1], "a finished run keeps its report"


def test_train__a_failed_report_is_one_warning(trained, caplog):
    status, said, _ = trained("import sys; sys.exit('error: no plotly here')", "--out", "a")
    warnings = [r.getMessage() for r in caplog.records if r.name == "dgcl_nb.train" and r.levelname == "WARNING"]
    assert status == 0 and said[-1].split() == ["run", "folder", "a"] and RunFolder("a").result.is_file()
    assert warnings == ["no report: no plotly here. The run is complete; later: python -m dgcl_nb.report a"]


def test_train__without_a_report(trained):
    status, said, _ = trained(WRITES, "--out", "a", "--loop.report", "False")
    assert status == 0 and not RunFolder("a").report.exists() and said[-1].split() == ["run", "folder", "a"]


def test_train__the_report_costs_the_result_nothing(trained):
    began = time.time()
    trained(f"import time; time.sleep(2); {WRITES}", "--out", "a")
    assert json.loads(RunFolder("a").result.read_text())["seconds"] <= time.time() - train.process_started() - 2
    assert time.time() - began > 2


def test_train__other_processes_report_nothing(trained, monkeypatch):
    monkeypatch.setattr(train, "fit", lambda *a, **k: dict(folder="a"))
    monkeypatch.setenv("RANK", "1")
    status, said, _ = trained(WRITES, "--out", "a")
    assert status == 0 and not said
