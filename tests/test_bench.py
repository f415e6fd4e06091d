"""The bench: runs as children, nothing twice, failures by name, one table."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import pytest
from helpers import DGCL, TINY, flags
from sync_gate import ROOT

from dgcl_nb import store
from dgcl_nb.bench import Bench, bench_all, check_different, compare, main, make_tables, parse_rows
from dgcl_nb.bench import plan_jobs, write_page
from dgcl_nb.config import METHODS, config_record, numbers_version, run_class
from dgcl_nb.core import InputError
from dgcl_nb.run_folder import RunFolder, append_line, read_lines
from dgcl_nb.jobs import Job, Row, check_folder, child_env, run_jobs
from dgcl_nb.rows import ABLATION, ALL, PROPOSED, read_tries
from dgcl_nb.tables import RowResult, best_baseline, collect, difference_table, main_table, table_figures
from dgcl_nb.targets import TARGETS, rank_correlations

SETTINGS = flags({k: v for k, v in (TINY | DGCL).items() if k != "steps"})  # of real runs, behind the --


@pytest.fixture(scope="module")
def planned():
    "Parsing takes half a second a row, so it is done once."
    return plan_jobs(Bench(seeds=2, steps=4, runs="runs/none"), parse_rows(Bench()))


def jobs_in(folder, planned):
    return [replace(j, folder=RunFolder(folder / j.name)) for j in planned]


def result(job: Job, **more):
    "A result as version 0.1.0 wrote it."
    alone = job.row.method == "supervised"
    miou = dict(supervised=50.0, self_training=54.0, dgcl=55.0)[job.row.method] + job.seed
    written = dict(
        method=job.row.method,
        seed=job.seed,
        steps=4,
        seconds_per_step=0.1,
        peak_rss_mb=900.0,
        predictor="student" if alone else "teacher",
        miou_student=miou,
        miou_teacher=None if alone else miou + 0.5,
        best_miou=miou + 1,
        iou_per_class=dict(background=97.0, zero=None),
        silhouette=0.2,
        calinski_harabasz=300.0,
        davies_bouldin=None,
        protocol="whole",
        device="cpu",
        processes=1,
        threads=1,
        environment=dict(torch="2", commit="abc"),
        numbers_version=numbers_version(job.row.method),
    )
    return written | more


def finish(job, **more):
    job.folder.create().config.write_text(json.dumps(config_record(job.asked)))
    job.folder.result.write_text(json.dumps(result(job, **more)))


def python(code):
    "What runs some lines of Python in place of a training."

    def command(job):
        return [sys.executable, "-S", "-c", code.replace("FOLDER", str(job.folder.path))]

    return command


def silent(line):
    pass


def cells_of(text):
    "The cells of all Markdown tables in a text."
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def test_jobs__seed_by_seed_and_named_after_rows(planned):
    methods = ("supervised", "self_training", "dgcl")
    assert [j.name for j in planned] == [f"digits-{m}-s{s}" for s in (0, 1) for m in methods]
    assert {(j.asked.seed, j.asked.steps, j.asked.data.split_seed) for j in planned} == {(0, 4, 0), (1, 4, 0)}


def test_ablation__density_row_is_the_plain_run(planned):
    jobs = plan_jobs(Bench(table="ablation", seeds=1, steps=4, runs="runs/none"), ABLATION)
    assert jobs[2].name == planned[2].name and jobs[2].asked == planned[2].asked
    assert [j.asked.dgcl.sampling.strategy for j in jobs] == ["random", "confidence", "density"]


WRITE_OR_FAIL = """
import sys, pathlib
folder = pathlib.Path("FOLDER")
print("reading")
if not folder.is_dir():
    sys.exit("fire")
(folder / "result.json").write_text("{}")
"""


def test_run_jobs__failure_is_named_and_others_go_on(tmp_path, planned):
    jobs, said = jobs_in(tmp_path, planned)[:3], []
    for j in jobs[1:]:
        j.folder.create()
    failed = run_jobs(jobs, 2, command=python(WRITE_OR_FAIL), say=said.append)
    assert list(failed) == ["digits-supervised-s0"]
    why = failed["digits-supervised-s0"]
    assert why.endswith("reading\nfire") and "exit status 1" in why
    assert any(line.startswith("[3/3]") for line in said)
    assert sum("FAILED" in line for line in said) == 1
    starts = read_lines(tmp_path / "starts.jsonl")
    assert [(r["run"], r["jobs"]) for r in starts] == [(j.name, 2) for j in jobs]


NOTE_TIMES = """
import os, time
def note(change):
    with open(os.path.dirname("FOLDER") + "/times", "a") as f:
        f.write(f"{time.time()} {change}\\n")
note(1)
time.sleep(.3)
note(-1)
"""


def test_run_jobs__at_most_so_many_at_a_time(tmp_path, planned):
    run_jobs(jobs_in(tmp_path, planned), 2, command=python(NOTE_TIMES), say=silent)
    going = most = 0
    for line in sorted((tmp_path / "times").read_text().splitlines()):
        going += int(line.split()[1])
        most = max(most, going)
    assert going == 0 and most == 2


HANG_UP = """
import os, pathlib, signal, time
saved = pathlib.Path("FOLDER.saved")
def save(*_):
    saved.touch()
    os._exit(0)
signal.signal(signal.SIGTERM, save)
os.kill(os.getppid(), signal.SIGHUP)
time.sleep(20)
"""


def test_run_jobs__a_closed_terminal_lets_the_children_save(tmp_path, planned):
    job, heard = jobs_in(tmp_path, planned)[0], []
    old = signal.signal(signal.SIGHUP, lambda *_: heard.append("the bench went on"))
    try:
        with pytest.raises(KeyboardInterrupt):
            run_jobs([job], command=python(HANG_UP), say=silent)
        os.kill(os.getpid(), signal.SIGHUP)
        assert heard == ["the bench went on"], "afterwards the handler is the one of before"
    finally:
        signal.signal(signal.SIGHUP, old)
    assert job.folder.path.with_name(f"{job.name}.saved").is_file()


@pytest.mark.parametrize("name", ["environment", "iou_per_class", "predictor"])
def test_check_folder__a_result_without_what_tables_need(tmp_path, planned, name):
    job = jobs_in(tmp_path, planned)[0]
    finish(job)
    assert check_folder(job) == "finished"
    found = json.loads(job.folder.result.read_text())
    del found[name]
    job.folder.result.write_text(json.dumps(found))
    said = rf"result.json cannot be read \('{name}' is missing\); remove the folder"
    with pytest.raises(InputError, match=said):
        check_folder(job)


def test_check_folder__other_settings(tmp_path, planned):
    job = jobs_in(tmp_path, planned)[2]
    finish(job)
    assert check_folder(job) == "finished"
    assert check_folder(replace(job, asked=replace(job.asked, device="cpu"))) == "finished"
    said = "digits-dgcl-s0 holds a run with other settings: steps is 4 there, 8 is asked for. .*--runs"
    with pytest.raises(InputError, match=said):
        check_folder(replace(job, asked=replace(job.asked, steps=8)))
    job.folder.result.unlink()
    assert check_folder(job) == "interrupted"


def test_table__means_pairs_and_gaps(tmp_path, planned):
    jobs = jobs_in(tmp_path, planned)
    for j in jobs[:-1]:
        finish(j)
    assert best_baseline(collect(jobs), proposed=PROPOSED).row.label == "self_training"
    text, content = make_tables(jobs, Bench(runs=str(tmp_path)), "the command")
    cells = cells_of(text)
    assert cells[0][:6] == ["", "n", "predictor", "mIoU", "mIoU student", "best"]
    assert ["supervised", "2", "student", "50.5 ± 0.7", "50.5 ± 0.7", "51.5 ± 0.7"] in [c[:6] for c in cells]
    assert ["dgcl", "1", "teacher", "55.5", "55.0", "56.0"] in [c[:6] for c in cells]  # one seed: no spread
    assert ["supervised", "-4.5 ± 0.0 (2/2)"] in [c[:2] for c in cells]
    assert ["dgcl", "+1.0 (1/1)"] in [c[:2] for c in cells]
    assert "Missing, as they failed or were not run: digits-dgcl-s1." in text
    assert str(tmp_path) not in text
    facts = [content[key] for key in ("split_seed", "labelled", "jobs", "commit")]
    assert facts == ["0", "250", "unknown", "abc"]
    first = content["rows"][0]
    assert first["iou_per_class"]["background"]["mean"] == 97
    assert first["davies_bouldin"]["mean"] is None
    assert first["networks"] == dict(student=first["miou"])
    assert content["differences"][1]["miou"]["values"] == [1.0]


def test_table__networks_by_any_name(tmp_path, planned):
    jobs = jobs_in(tmp_path, planned)
    scored = dict(
        supervised={"student": 50.0},
        self_training={"net 1": 61.0, "net 2": 60.0},
        dgcl={"mean": 62.0, "net 1": 61.0, "student": None},
    )
    for j in jobs:
        miou = scored[j.row.method]
        finish(j, miou=miou, predictor=next(iter(miou)), miou_student=None, miou_teacher=None)
    cells = cells_of(main_table(collect(jobs)))
    # three networks beside the predictors, of which no row has two: one column for all, not three of gaps
    assert cells[0][2:6] == ["predictor", "mIoU", "mIoU of others", "best"]
    assert [c[2:5] for c in cells[2:]] == [
        ["student", "50.0 ± 0.0", "–"],
        ["net 1", "61.0 ± 0.0", "net 2 60.0"],
        ["mean", "62.0 ± 0.0", "net 1 61.0"],
    ]


def result_from(row, i):
    "The figures of a row's run `i`: its JSON holds every single value."
    figures = {
        key: value["values"][i] for key, value in row.items() if isinstance(value, dict) and "values" in value
    }
    if "networks" in row:  # else of version 0.1.0, which has `miou_student` and `miou_teacher`
        figures["miou"] = {name: spread["values"][i] for name, spread in row["networks"].items()}
    result = table_figures(figures | dict(predictor=row["predictor"]))
    assert result["miou"] == row["miou"]["values"][i]
    return result


def rows_from(content):
    "The rows of a table from its JSON."
    rows = []
    for row in content["rows"]:
        results = {seed: result_from(row, i) for i, seed in enumerate(row["seeds"])}
        more = row.get("forwards", ""), row.get("seconds_alone")
        rows.append(RowResult(Row(row["label"], row["method"]), results, *more))
    return rows


@pytest.mark.parametrize("name", ["bench-digits", "bench-digits-ablation"])
def test_table__the_committed_ones_follow_from_their_json(name):
    content = json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8"))
    text = (ROOT / "results" / f"{name}.md").read_text(encoding="utf-8")
    rows = rows_from(content)
    base = best_baseline(rows, proposed=PROPOSED)
    assert difference_table(rows, base) in text
    assert [d["label"] for d in content["differences"]] == [r.row.label for r in rows if r is not base]
    if "networks" in content["rows"][0]:
        assert main_table(rows, content["crowded"]) in text
        return
    # a table of version 0.1.0 has the student and the teacher where a new one has the predictor first
    for row, old in zip(rows, cells_of(text)[2:]):
        new = cells_of(main_table([row]))[2]
        assert new[:3] == old[:3] and new[-6:] == old[-6:]
        assert new[3] == old[3 if row.predictor == "student" else 4]


def test_bench__command_writes_the_table_and_repeats_nothing(tmp_path, planned, capsys):
    for j in jobs_in(tmp_path / "runs", planned):
        finish(j)
    options = dict(methods="supervised", seeds=2, steps=4, name="mine")
    args = flags(options | dict(runs=tmp_path / "runs", out=tmp_path / "out"))
    assert bench_all(args, command=None) == {}  # nothing is started
    assert "2 finished, 0 interrupted, 0 new" in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"mine.md", "mine.json", "digits"}
    with pytest.raises(InputError, match="steps is 4 there, 5 is asked for"):
        bench_all([*args, "--steps", "5"], command=None)


WRITE_RUN = """
import pathlib
folder = pathlib.Path("FOLDER")
folder.mkdir(parents=True)
(folder / "config.json").write_text(CONFIG)
(folder / "result.json").write_text(RESULT)
"""


def test_bench__a_preset_that_was_edited_meanwhile_makes_no_record(tmp_path, capsys):
    "A child reads settings.ini when it starts, which may be hours after the plan was made."

    def command(job):
        read_later = config_record(replace(job.asked, steps=5))
        code = WRITE_RUN.replace("CONFIG", repr(json.dumps(read_later)))
        return python(code.replace("RESULT", repr(json.dumps(result(job)))))(job)

    options = dict(methods="supervised", seeds=1, steps=4, runs=tmp_path / "runs", out=tmp_path / "out")
    with pytest.raises(InputError, match="holds a run with other settings: steps is 5 there, 4 is asked for"):
        bench_all(flags(options), command)
    assert "digits-supervised-s0 is not kept" in capsys.readouterr().out
    assert not (tmp_path / "out").exists(), "neither a record nor a table"


def test_store__another_machine_repeats_nothing(tmp_path, planned, capsys):
    "What one machine has made and committed is a row of the table of another, whose folders are empty."
    for j in jobs_in(tmp_path / "runs", planned):
        finish(j)
    options = dict(seeds=2, steps=4, out=tmp_path / "out")
    assert bench_all(flags(options | dict(runs=tmp_path / "runs")), command=None) == {}
    records = sorted((tmp_path / "out" / "digits").iterdir())
    assert len(records) == 6 and all(p.stat().st_size < 8000 for p in records)
    first = json.loads((tmp_path / "out" / "bench-digits-4-steps.json").read_text())
    assert bench_all(flags(options | dict(runs=tmp_path / "elsewhere")), command=None) == {}
    assert "6 runs in" in (said := capsys.readouterr().out) and "6 stored, 0 finished" in said
    second = json.loads((tmp_path / "out" / "bench-digits-4-steps.json").read_text())
    assert second["rows"] == first["rows"] and second["numbers_version"] == str(numbers_version("supervised"))
    for j in jobs_in(tmp_path / "runs", planned):
        j.folder.result.unlink()  # nothing is asked of a folder whose run is in the store
    assert bench_all(flags(options | dict(runs=tmp_path / "runs")), command=None) == {}


def test_store__a_record_that_is_not_believed(tmp_path, planned):
    jobs = jobs_in(tmp_path / "runs", planned)[:1]
    finish(jobs[0])
    args = flags(dict(methods="supervised", seeds=1, steps=4, out=tmp_path / "out", runs=tmp_path / "runs"))
    bench_all(args, command=None)
    (path,) = (tmp_path / "out" / "digits").iterdir()
    record = json.loads(path.read_text())
    record["result"]["miou"]["student"] = "</td>"
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match="is no record of that run: 'miou' is .*git checkout"):
        bench_all(args, command=None)


def test_store__a_setting_that_came_later(tmp_path, planned, monkeypatch):
    "Records of a package that did not know a setting are found by one that does, where it is off."
    (job,) = jobs_in(tmp_path / "runs", planned)[:1]
    finish(job)
    args = flags(dict(methods="supervised", seeds=1, steps=4, out=tmp_path / "out", runs=tmp_path / "runs"))
    with monkeypatch.context() as before:
        before.setattr(store, "ELSEWHERE", (*store.ELSEWHERE, "data.split_seed"))
        bench_all(args, command=None)
    kept = store.Store(tmp_path / "out" / "digits")
    assert kept.find(job.asked) is None  # a new setting makes another key,
    monkeypatch.setitem(store.ADDED, "data.split_seed", 0)  # unless its off value is told
    assert kept.find(job.asked)["result"]["seed"] == 0
    on = replace(job.asked, data=replace(job.asked.data, split_seed=1))
    assert kept.find(on) is None


def test_store__none_and_other_numbers(tmp_path, planned):
    (job,) = jobs_in(tmp_path / "runs", planned)[:1]
    finish(job)
    options = dict(methods="supervised", seeds=1, steps=4, out=tmp_path / "out", runs=tmp_path / "runs")
    bench_all(flags(options | dict(store="none")), command=None)
    assert not (tmp_path / "out" / "digits").exists()
    other = numbers_version("supervised") + 1
    finish(job, numbers_version=other)
    with pytest.raises(InputError, match=f"numbers of version {other}"):
        bench_all(flags(options), command=None)


def test_numbers__of_one_method_alone(monkeypatch):
    "Raised for one method, its records have to be made again, and no others."
    runs = {name: run_class(name)(method=name) for name in METHODS}
    before = {name: store.key_of(run) for name, run in runs.items()}
    monkeypatch.setattr(METHODS["pcr"], "renumbered", METHODS["pcr"].renumbered + 1)
    assert {name for name, run in runs.items() if store.key_of(run) != before[name]} == {"pcr"}


def test_all__rows_seeds_and_page(tmp_path, capsys):
    bench = Bench(methods=("all",), steps=4, runs=str(tmp_path / "runs"), out=str(tmp_path / "out"))
    rows = [r for r in parse_rows(bench) if r.method in ("supervised", "self_training", "dgcl")]
    jobs = [j for j in plan_jobs(bench, rows)]
    assert [sum(j.row is r for j in jobs) for r in rows] == [5, 5, 5]
    scores = dict(step=2, epoch=0, event="eval", miou_student=40.0, miou_teacher=41.0)
    for j in jobs:
        finish(j)
        append_line(j.folder.metrics, scores)
    c = compare(jobs, bench)
    assert c.base.row.label == "self_training"
    assert [way.miou for way in c.ways] == [[40.0], [41.0], [41.0]]
    assert [r.forwards for r in c.rows] == ["8 / 0", "16 / 8", "16 / 8"]
    (tmp_path / "out").mkdir()
    files = write_page(c, tmp_path / "out" / "all")
    assert [p.name for p in files] == ["all-miou.svg", "all-compute.svg", "all-clusters.svg", "all.html"]
    assert all(p.stat().st_size < 200_000 for p in files)


def test_all__order_against_the_published(tmp_path):
    assert {name for table in TARGETS for name in table.rows} <= {r.name for r in ALL}
    ours = {name: figures[1] for name, figures in TARGETS[0].rows.items()}
    assert [o.n for o in rank_correlations(ours)] == [9, 9, 9, 9, 8, 9, 9, 9]


def test_timings__of_an_idle_machine(tmp_path, planned):
    jobs = jobs_in(tmp_path / "runs", planned)
    for j in jobs:
        finish(j)
    bench = Bench(runs=str(tmp_path / "runs"), out=str(tmp_path))
    rows = [dict(row="dgcl", seconds_step=0.25)]
    path = tmp_path / "bench_methods.json"
    path.write_text(json.dumps(dict(preset="digits", device="cpu", rows=rows)))
    text, content = make_tables(jobs, bench)
    assert content["rows"][2]["seconds_alone"] == 0.25
    assert [c[-3] for c in cells_of(text)[2:5]] == ["100 ± 0", "100 ± 0", "250"]


def test_search__tries_and_chosen(tmp_path, capsys):
    folder = tmp_path / "tries"
    folder.mkdir()
    for method in ("supervised", "self_training"):
        lines = [f"{method}: {method}"]
        lines += [f"{method}, rate {i}: {method} --optim.lr 0.00{i}" for i in range(4, 9)]
        (folder / f"{method}.txt").write_text("\n".join(lines))
    options = dict(preset="digits-tune", steps=4, runs=tmp_path / "runs", out=tmp_path / "out")
    bench = Bench(tries=str(folder), **{k: str(v) if k in ("runs", "out") else v for k, v in options.items()})
    jobs = plan_jobs(bench, parse_rows(bench))
    assert len(jobs) == 12
    for i, j in enumerate(jobs):
        finish(j, miou_student=50.0 + i % 5, miou_teacher=None, predictor="student")
    assert bench_all(flags(options | dict(tries=folder)), command=None) == {}
    content = json.loads((tmp_path / "out/digits-tune/tries.json").read_text())
    assert content["chosen"] == dict(supervised="supervised, rate 7", self_training="self_training, rate 6")
    text = (tmp_path / "out/digits-tune/tries.md").read_text()
    assert text.count("| chosen") == 2
    assert len(list((tmp_path / "out/digits-tune").iterdir())) == 12 + 2  # records beside their table
    with pytest.raises(SystemExit):
        bench_all(flags(dict(tries=folder, methods="dgcl")), command=None)
    assert "brings its own rows" in capsys.readouterr().err


@pytest.mark.parametrize(
    "folder, preset, each",
    [
        ("", "digits-tune", 6),
        ("real-labels", "neu-tune", 8),
        ("real-labels", "camvid-tune", 8),
        ("real-contrast", "neu-tune", 8),
        ("real-contrast", "camvid-tune", 8),
        ("real-start", "camvid-tune", 6),
        ("real-others", "neu-tune", 2),
    ],
)
def test_search__the_committed_tries_can_be_read(folder, preset, each):
    rows = read_tries(ROOT / "results" / "tries" / folder)
    jobs = plan_jobs(Bench(seeds=1, preset=preset, steps=500), rows)
    check_different(jobs)
    assert set(Counter(row.method for row in rows).values()) == {each}


@pytest.mark.parametrize(
    "args, message",
    [
        (["--methods", "dgcll"], "did you mean dgcl"),
        (["--seeds", "-1"], "--seeds is -1"),
        (["--rows", "dgcl"], "LABEL: METHOD FLAGS"),
        (["--methods", "dgcl", "--", "--seed", "3"], "--seed is set for each run by the bench"),
        (["--methods", "dgcl", "--", "--cps.weight", "3"], "--cps.* is for cps, and no row trains it"),
    ],
)
def test_bench__errors_of_the_input(capsys, args, message):
    with pytest.raises(SystemExit) as e:
        main(args)
    assert e.value.code == 2
    assert message in capsys.readouterr().err


def test_parse_rows__an_unknown_baseline_is_told_before_anything_is_trained():
    with pytest.raises(InputError, match="unknown --baseline 'self-training'; did you mean self_training"):
        parse_rows(Bench(baseline="self-training"))


def test_bench__real_runs_are_trained_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    args = flags(dict(methods="supervised dgcl", seeds=1, steps=4, threads=1, jobs=2))
    args += ["--", *SETTINGS]
    assert bench_all(args) == {}, capsys.readouterr().out
    content = json.loads((tmp_path / "results/bench-digits-4-steps.json").read_text())
    assert [(r["label"], r["miou"]["n"]) for r in content["rows"]] == [("supervised", 1), ("dgcl", 1)]
    assert content["threads"] == "1" and content["crowded"] == ["supervised", "dgcl"]
    assert "step/s" not in (tmp_path / "runs/bench/digits-dgcl-s0.log").read_text()  # no bars
    result = tmp_path / "runs/bench/digits-dgcl-s0/result.json"
    before = result.stat().st_mtime_ns
    assert bench_all(args, command=None) == {}
    assert result.stat().st_mtime_ns == before


@pytest.mark.slow
def test_bench__stopped_and_gone_on(tmp_path):
    args = [*flags(dict(methods="supervised", seeds=1, steps=4000, threads=1)), "--", *SETTINGS]
    folder = RunFolder(tmp_path / "runs/bench/digits-supervised-s0")
    log = folder.path.with_name("digits-supervised-s0.log")

    def start():
        command = [sys.executable, "-m", "dgcl_nb.bench", *args]
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return subprocess.Popen(command, cwd=tmp_path, env=child_env(1), **pipes)

    def wait_for(happened):
        until = time.time() + 120
        while not happened():
            assert time.time() < until, log.read_text()
            time.sleep(0.1)

    going = start()
    wait_for(folder.metrics.exists)
    going.terminate()
    assert "the same command goes on" in going.communicate(timeout=120)[0]
    assert going.returncode == 130
    step = int(re.search(r"stopped after step (\d+) of 4000", log.read_text())[1])
    assert (folder.checkpoints / f"step_{step:07d}.pt").is_file()  # the child saved before it went
    going = start()
    wait_for(lambda: f"going on from step {step}" in log.read_text())
    going.terminate()
    assert "1 interrupted" in going.communicate(timeout=120)[0]
