"""The report: what it shows of any run folder, what it says of a bad one, and how large it may be."""

import dataclasses
import importlib.util
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import clean_environment, few_images, tiny_args

from dgcl_nb import engine, report, train
from dgcl_nb.core import InputError
from dgcl_nb.run_folder import RunFolder
from dgcl_nb.looking import report_page, scores
from dgcl_nb.looking.report_views import AMOUNTS, smaller
from dgcl_nb.looking.demo_run import make_demo_run
from dgcl_nb.snapshots import Snapshot, keep_pixels, list_snapshots, load_snapshot, save_snapshot

SMALL = dict(steps=60, snapshots=3, num_images=2, max_per_class=20)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return make_demo_run(tmp_path_factory.mktemp("runs") / "dgcl", method="dgcl", **SMALL)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return make_demo_run(tmp_path_factory.mktemp("runs") / "st", method="self_training", **SMALL)


@pytest.fixture(autouse=True)
def light(monkeypatch):
    "Pages without plotly's code: two megabytes less to search."
    monkeypatch.setattr(report_page, "plotly_packed", lambda: "")


@pytest.fixture
def command(capsys):
    "Run the command in this process: (exit status, what it printed, what it complained)."

    def run(*args):
        status = 0
        try:
            report.main([str(a) for a in args])
        except SystemExit as e:
            status = e.code or 0
        return status, *capsys.readouterr()

    return run


def change_all(folder, **arrays):
    "Replace arrays of all snapshots of a run."
    for p in list_snapshots(folder):
        save_snapshot(folder, dataclasses.replace(load_snapshot(p), **arrays))


def sections(page):
    return re.findall(r'<section id="(\w+)"', page)


def notes(page):
    found = re.search(r'<div class="notes".*?</div>', page, re.S)
    return re.findall(r"<p>(.*?)</p>", found[0]) if found else []


def page_of(*folders):
    page, _ = report.fitting_page(report.open_runs(folders))
    return page


# What is in it


def test_page__of_one_run(command, demo, tmp_path):
    file = tmp_path / "new" / "a.html"
    status, said, errors = command(demo, "--out", file)
    assert status == 0 and not errors
    assert re.fullmatch(r"\S+a\.html: \d\.\d MB in \d+\.\d s\n", said)
    page = file.read_text()
    assert sections(page) == ["results", "curves", "images", "features", "density", "settings"]
    assert page.count('class="plot"') == 4 and page.count("data-drawn")
    assert notes(page) == ["The figures of this run are made up; no training took place."]
    for words in ("dgcl on digits, seed 0", "loop.sup_only_fraction", "silhouette"):
        assert words in page


def test_page__of_two_runs(command, demo, other):
    status, said, errors = command(demo, other)
    assert status == 0 and said.startswith(str(demo / "report-vs-st.html")), errors
    page = (demo / "report-vs-st.html").read_text()
    compared = ["results", "clusters", "predictions"]
    assert sections(page) == [*compared, "curves", "images", "features", "density", "settings"]
    assert "dgcl minus st" in page and "the first is better" in page and "<code>" in page
    row = re.search(r'mIoU, last step</th>(.*?)</tr>', page)[1]
    a, b, gain = (float(v.replace("−", "-")) for v in re.findall(r"[−+]?\d+\.\d", row))
    assert a - b == pytest.approx(gain, abs=0.11)


def test_page__errors_are_sorted(demo):
    figure = report.figures_of(report.open_runs([demo]), [])["errors-dgcl"]
    shares = [float(a.text.split("<br>")[1].split("%")[0]) for a in figure.drawing.layout.annotations]
    assert len(shares) == 2 and shares == sorted(shares, reverse=True)
    snap = load_snapshot(demo)
    wrong = (snap.target != snap.prediction)[snap.target != 255].mean()
    assert np.mean(shares) == pytest.approx(100 * wrong, abs=0.1)
    assert f"step {snap.step}" in figure.caption and "images of val that the snapshots" in figure.caption


def test_page__no_tool_of_a_figure_leaves_the_machine(demo):
    start = page_of(demo).rpartition("startPage(")[2]
    tools = json.loads(start.partition(");")[0])["tools"]
    assert tools["showSendToCloud"] is False and tools["plotlyServerURL"] == ""
    assert "toImage" not in tools["modeBarButtonsToRemove"]


@pytest.mark.parametrize(
    "said, words", [("auto", "background"), ("none", None), ("1", "0"), ("9999", "background")]
)
def test_background__follows_the_run(tmp_path, said, words):
    folder = make_demo_run(tmp_path / "a", **SMALL | dict(snapshots=1))
    config = json.loads((folder / "config.json").read_text())
    config["data"]["background"] = said
    (folder / "config.json").write_text(json.dumps(config))
    (run,) = report.open_runs([folder])
    assert scores.shared_background(run) == words
    page = page_of(folder)
    assert ("on val, without" in page) == (words is not None)
    number = dict(background=0).get(words, words and 1)
    assert f'"background": {"null" if number is None else number}' in page.replace('":', '": ').replace(
        ":  ", ": "
    )


def test_page__a_comparison_leaves_the_report_of_each_run_alone(command, demo, other):
    for folder in (demo, other):
        (folder / "report.html").write_text("a report of one run")
    status, said, _ = command(demo, other)
    assert status == 0
    assert [(f / "report.html").read_text() for f in (demo, other)] == ["a report of one run"] * 2
    assert Path(said.partition(": ")[0]).read_text().startswith("<!doctype html>")


def test_page__of_two_runs_goes_where_out_says(command, demo, other, tmp_path):
    status, said, _ = command(demo, other, "--out", tmp_path / "both.html")
    assert status == 0 and said.startswith(str(tmp_path / "both.html"))
    assert (tmp_path / "both.html").is_file()


def test_page__comparisons_with_folders_of_one_name_have_files_of_their_own(demo, tmp_path):
    names = []
    for place in ("x", "y z"):
        twin = make_demo_run(tmp_path / place / "dgcl", **SMALL | dict(steps=30))
        names.append(report.report_path(report.open_runs([demo, twin])).name)
    assert names == ["report-vs-x-dgcl.html", "report-vs-y-z-dgcl.html"]


def test_page__asks_for_nothing(demo, other):
    page = page_of(demo, other)
    page = re.sub(r'<script type="application/json">.*?</script>', "", page, flags=re.S)
    elements = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert not re.findall(r"""(?:src|href|action|srcset)\s*=\s*["']?(?!#|data:)[^"'>\s]+""", elements)
    calls = r"@import|url\((?!data:)|fetch\(|XMLHttpRequest|WebSocket|importScripts|sendBeacon"
    assert not re.findall(calls, page)


def test_page__every_text_is_escaped(tmp_path):
    folder = make_demo_run(tmp_path / "a<i>", **SMALL)
    names = ("</script><b>", *load_snapshot(folder).class_names[1:])
    change_all(folder, class_names=names)
    page = page_of(folder)
    assert "</script><b>" not in page and "&lt;/script&gt;&lt;b&gt;" in page
    assert "a<i>" not in re.sub(r"<script.*?</script>", "", page, flags=re.S)


def test_page__same_names_of_two_folders(demo, tmp_path):
    twin = make_demo_run(tmp_path / "x" / "dgcl", **SMALL | dict(steps=30))
    assert [r.name for r in report.open_runs([demo, twin])] == [str(demo), str(twin)]


# Runs that are unfinished or damaged: what is there is shown, what is missing is said


def test_unfinished__is_shown_and_says_so(command, tmp_path):
    folder = make_demo_run(tmp_path / "a", until=40, **SMALL)
    with open(folder / "metrics.jsonl", "a") as f:
        f.write('{"step": 41, "lo')
    status, _, errors = command(folder)
    page = (folder / "report.html").read_text()
    assert status == 0 and "features" in sections(page), errors
    assert any("not finished: step 36 of 60" in n for n in notes(page))


def test_young__has_settings_and_curves_only(command, tmp_path):
    folder = make_demo_run(tmp_path / "a", until=1, **SMALL)
    assert command(folder)[0] == 0
    page = (folder / "report.html").read_text()
    assert sections(page) == ["results", "curves", "settings"]
    for missing in ("no snapshot", "no evaluation"):
        assert any(missing in n for n in notes(page))


def test_damaged__snapshot_and_result_are_left_out_with_a_sentence(command, tmp_path):
    folder = make_demo_run(tmp_path / "a", **SMALL)
    first = list_snapshots(folder)[0]
    first.write_bytes(first.read_bytes()[:5000])
    (folder / "result.json").write_text("{")
    assert command(folder)[0] == 0
    page = (folder / "report.html").read_text()
    for said in ("step_0000020.npz cannot be read as a whole snapshot", "result.json is damaged"):
        assert any(said in n for n in notes(page))
    assert "features" in sections(page)


def test_nan_features__leave_the_other_views(tmp_path):
    folder = make_demo_run(tmp_path / "a", **SMALL | dict(snapshots=1))
    change_all(folder, feats=np.full_like(load_snapshot(folder).feats, np.nan))
    page = page_of(folder)
    assert "features" not in sections(page) and "images" in sections(page)
    said = [n for n in notes(page) if "The features of a left out: the features of" in n]
    assert said and "NaN or infinite" in said[0]


def test_one_class_and_few_cells__are_shown(tmp_path):
    folder = make_demo_run(tmp_path / "a", **SMALL | dict(snapshots=1))
    snap = load_snapshot(folder)
    one_class = dataclasses.replace(snap, pixel_class=np.zeros_like(snap.pixel_class))
    save_snapshot(folder, keep_pixels(one_class, 3))
    page = page_of(folder)
    assert "features" in sections(page) and "Only 3 sampled cells" in page


def test_unknown_density__is_said(tmp_path):
    folder = make_demo_run(tmp_path / "a", **SMALL | dict(snapshots=1))
    change_all(folder, pixel_density=np.full_like(load_snapshot(folder).pixel_density, np.nan))
    page = page_of(folder)
    assert "density" not in sections(page)
    assert any("No density is known of a" in n for n in notes(page))


def test_unknown_density__of_some_cells_is_counted(tmp_path):
    folder = make_demo_run(tmp_path / "a", **SMALL | dict(snapshots=1))
    density = load_snapshot(folder).pixel_density.copy()
    density[:], density[:5] = 0.5, np.nan
    change_all(folder, pixel_density=density)
    said = (
        f"Of the {len(density)} sampled cells 5 are left out: their density or their true class is unknown."
    )
    page = page_of(folder)
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert sum(said in c for c in captions) == 2  # of both figures of density
    sentences = re.findall(r"<p>(.*?)</p>", page.partition('<section id="density">')[2])
    assert said in sentences[1]  # the first one is the section's own


def test_two_data_sets__have_no_common_figures(demo, tmp_path):
    folder = make_demo_run(tmp_path / "b", **SMALL)
    change_all(folder, class_names=("sky", *load_snapshot(folder).class_names[1:]))
    page, figures = report.fitting_page(report.open_runs([demo, folder]))
    assert not {"clusters", "predictions"} & set(figures)
    assert any("the two runs name different classes" in n for n in notes(page))


# Errors: one sentence, exit status 2

ERRORS = [
    ([], "0 run folders are given; name one, or two"),
    (["a", "b", "c"], "3 run folders are given; name one, or two"),
    (["{tmp}/nowhere"], "nowhere does not exist; name"),
    (["{tmp}/empty"], "empty is empty; name"),
    (["{demo}", "{demo}"], "is given twice; name two different runs"),
    (["{demo}", "--out", "/proc/no/report.html"], "cannot write /proc/no/report.html"),
]


@pytest.mark.parametrize("args, message", ERRORS)
def test_main__errors(command, demo, tmp_path, args, message):
    (tmp_path / "empty").mkdir()
    status, said, errors = command(*(a.format(tmp=tmp_path, demo=demo) for a in args))
    assert status == 2 and not said
    assert errors.startswith("error: ") and message in errors and errors.count("\n") == 1


def test_main__another_version(command, tmp_path):
    folder = make_demo_run(tmp_path / "a", **SMALL | dict(snapshots=1))
    np.savez(list_snapshots(folder)[0], version=9)
    status, _, errors = command(folder)
    assert status == 2
    assert "has snapshot version 9, and this dgcl_nb reads versions 1 to 2; update dgcl_nb" in errors


def test_main__nothing_that_can_be_shown(command, tmp_path):
    (tmp_path / "config.json").write_text("{")
    status, _, errors = command(tmp_path)
    assert status == 2 and "holds nothing that can be shown; config.json is damaged" in errors


def test_main__without_the_extra(command, demo, monkeypatch):
    find = importlib.util.find_spec

    def hide(name, *args):
        return None if name in ("plotly", "anywidget") else find(name, *args)

    monkeypatch.setattr(importlib.util, "find_spec", hide)
    status, _, errors = command(demo)
    assert status == 2
    assert "a report needs plotly and anywidget, which this Python lacks" in errors
    assert "pip install 'dgcl_nb[looking]'" in errors


def test_main__in_a_process_of_its_own(tmp_path):
    command = [sys.executable, "-m", "dgcl_nb.report", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
    assert done.returncode == 2 and "is empty" in done.stderr and "Traceback" not in done.stderr


# Size


def test_budget__the_page_is_thinned_and_says_so(demo):
    runs, whole = report.open_runs([demo]), len(page_of(demo))
    page, _ = report.fitting_page(runs, max_bytes=whole - 1000)
    assert len(page) <= whole - 1000
    assert any("To keep this file small it shows of dgcl" in n for n in notes(page))
    with pytest.raises(InputError, match="with the least that it can show, and 0.1 are allowed"):
        report.fitting_page(runs, max_bytes=100_000)


def big_maps(rng, shape):
    "Maps that hardly compress, as those of a large image."
    maps = dict(kept=rng.random(shape) < 0.5, image=rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
    for name in ("target", "prediction", "pseudo_label"):
        maps[name] = rng.integers(0, 11, shape, dtype=np.uint8)
    for name in ("confidence", "entropy"):
        maps[name] = rng.random(shape).astype(np.float16)
    return maps


def test_budget__large_probes_of_many_snapshots_fit(tmp_path, monkeypatch):
    folder = make_demo_run(tmp_path / "a", **SMALL | dict(snapshots=20))
    rng = np.random.default_rng(0)
    sizes = dict.fromkeys(("image_size", "shown_size"), np.full((2, 2), 256, np.int32))
    for p in list_snapshots(folder):
        large = dataclasses.replace(load_snapshot(p), **big_maps(rng, (2, 256, 256)), **sizes)
        save_snapshot(folder, large)
    monkeypatch.setattr(report_page, "plotly_packed", lambda: "x" * 2_100_000)
    page = page_of(folder)
    assert len(page) <= report.MAX_PAGE and any("maps at" in n for n in notes(page))


def test_smaller__keeps_the_schema(demo):
    snap = load_snapshot(demo)
    for amount in AMOUNTS:
        less = smaller(snap, amount)
        assert isinstance(less, Snapshot)
        assert len(less.image_id) >= 1 and len(less.feats) <= len(snap.feats)


# After training


@pytest.fixture
def trained(tmp_path, monkeypatch, capsys):
    "Train a tiny run whose report is a child of our own: (exit status, lines printed, what the log said)."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(engine, "build_data", few_images)

    def run(child, *more):
        def pretend(folder):
            return [sys.executable, "-c", child, str(folder)]

        monkeypatch.setattr(train, "report_command", pretend)
        status = 0
        try:
            train.main([*tiny_args("supervised", steps=2, loop__report=True), *more])
        except SystemExit as e:
            status = e.code or 0
        said, errors = capsys.readouterr()
        return status, said.strip().splitlines(), errors

    return run


WRITES = "import sys; open(sys.argv[1] + '/report.html', 'w').write('a report')"


def test_train__ends_with_the_report(trained):
    status, said, errors = trained(WRITES, "--out", "a")
    assert status == 0, errors
    assert [line.split() for line in said[-2:]] == [["run", "folder", "a"], ["report", "a/report.html"]]
    assert json.loads(RunFolder("a").config.read_text())["loop"]["report"] is True
    again = trained("raise SystemExit('error: again?')", "--out", "a", "--resume")[1]
    assert again[-1] == said[-1], "a finished run keeps its report"


def test_train__a_failed_report_is_one_warning(trained, caplog):
    status, said, _ = trained("import sys; sys.exit('error: no plotly here')", "--out", "a")
    assert status == 0 and said[-1].split() == ["run", "folder", "a"] and RunFolder("a").result.is_file()
    records = [r for r in caplog.records if r.name == "dgcl_nb.train" and r.levelname == "WARNING"]
    later = "The run is complete; later: python -m dgcl_nb.report a"
    assert [r.getMessage() for r in records] == [f"no report: no plotly here. {later}"]


def test_train__without_a_report(trained):
    status, said, _ = trained(WRITES, "--out", "a", "--loop.report", "False")
    assert status == 0 and said[-1].split() == ["run", "folder", "a"]
    assert not RunFolder("a").report.exists()


def test_train__the_report_costs_the_result_nothing(trained):
    began = time.time()
    trained(f"import time; time.sleep(2); {WRITES}", "--out", "a")
    seconds = json.loads(RunFolder("a").result.read_text())["seconds"]
    assert seconds <= time.time() - train.process_started() - 2
    assert time.time() - began > 2


def test_train__other_processes_report_nothing(trained, monkeypatch):
    monkeypatch.setattr(train, "fit", lambda *a, **k: dict(folder="a"))
    monkeypatch.setenv("RANK", "1")
    status, said, _ = trained(WRITES, "--out", "a")
    assert status == 0 and not said
