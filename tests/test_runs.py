"""Run folders as viewers see them: young, growing, cut by a resume, damaged, foreign, old."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import few_images, tiny_run

from dgcl_nb import engine
from dgcl_nb.core import InputError
from dgcl_nb.run_folder import RunFolder, append_line, cut_lines_after
from dgcl_nb.engine import fit
from dgcl_nb.looking.demo_run import make_demo_run
from dgcl_nb.looking.runs import (
    LogTail,
    RunView,
    describe_run,
    duration,
    idle_seconds,
    list_runs,
    open_run,
    seconds_left,
)
from dgcl_nb.result import miou_by_network
from dgcl_nb.snapshots import load_snapshot, save_snapshot


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return make_demo_run(tmp_path_factory.mktemp("runs") / "demo", steps=300, snapshots=3, num_images=2)


def young_run(folder, steps=300):
    folder = RunFolder(folder).create()
    folder.config.write_text(json.dumps(dict(method="dgcl", preset="digits", steps=steps)))
    return folder


def test_log__is_read_in_any_pieces(tmp_path):
    lines = b"".join(json.dumps(dict(step=i, text="\u00e4" * (i % 7))).encode() + b"\n" for i in range(8))
    whole = LogTail(tmp_path / "whole")
    whole.path.write_bytes(lines)
    whole.refresh()
    for size in (1, 7, 64):
        tail = LogTail(tmp_path / f"log{size}")
        for end in range(0, len(lines) + size, size):
            tail.path.write_bytes(lines[:end])
            tail.refresh()  # a line, and a letter of two bytes, may be cut anywhere
        assert tail.records == whole.records
        assert len(tail.records) == 8
        assert tail.problems == []


def test_log__reads_only_what_is_new(tmp_path, monkeypatch):
    tail = LogTail(tmp_path / "log")
    tail.path.write_bytes(b"".join(b'{"step": %d}\n' % i for i in range(1000)))
    tail.refresh()
    seen = []
    monkeypatch.setattr(tail, "_add", seen.append)
    append_line(tail.path, dict(step=1000))
    tail.refresh()
    assert seen == [b'{"step": 1000}\n']


@pytest.mark.parametrize("grown", [0, 1, 30])
def test_log__cut_by_a_resume(tmp_path, grown):
    tail = LogTail(tmp_path / "log")
    for i in range(1, 21):
        append_line(tail.path, dict(step=i, loss=1 / i))
    tail.refresh()
    cut_lines_after(tail.path, 10)
    for i in range(11, 11 + grown):
        append_line(tail.path, dict(step=i, loss=2 / i))
    tail.refresh()
    assert [r["step"] for r in tail.records] == list(range(1, 11 + grown))
    assert [r["loss"] for r in tail.records[10:]] == [2 / i for i in range(11, 11 + grown)]


def test_view__of_a_run_that_begins(tmp_path):
    run = RunView(tmp_path / "run")
    assert run.refresh() == set()
    assert run.step == 0
    assert run.latest() is None
    assert run.load_all() == []
    folder = young_run(tmp_path / "run")
    assert run.refresh() == {"config"}
    assert run.steps == 300
    assert not run.is_finished
    assert run.class_names == []
    with folder.metrics.open("w") as f:
        f.write('{"step": 25, "loss_s')
    assert run.refresh() == set()
    assert run.records == []
    assert run.problems == []
    with folder.metrics.open("a") as f:
        f.write('up": 1.5}\n')
    assert run.refresh() == {"metrics"}
    assert run.step == 25
    assert run.refresh() == set()
    assert describe_run(run) == repr(run) == "run · dgcl on digits · step 25 of 300"
    assert seconds_left(run) is None
    assert idle_seconds(run) < 30


def test_view__problems_are_sentences_and_go_away(tmp_path, demo):
    folder = young_run(tmp_path / "run")
    run = RunView(folder.path)
    good = load_snapshot(demo)
    save_snapshot(folder.path, good)
    path = folder.snapshots / "step_0000100.npz"
    path.write_bytes(b"PK\x03\x04 no zip")
    folder.config.write_text("{")
    folder.metrics.write_bytes(b"\xff\xfe\n{}\n")
    run.refresh()
    assert run.latest().step == 300
    assert [s.step for s in run.load_all()] == [300]
    assert run.records == []
    text = "\n".join(run.problems)
    assert "config.json is damaged" in text
    assert "metrics.jsonl: 2 damaged lines are left out" in text
    assert "step_0000100.npz cannot be read as a whole snapshot" in text
    path.unlink()
    young_run(tmp_path / "run")
    folder.metrics.unlink()
    run.refresh()
    assert run.problems == [] and run.steps == 300


def test_view__snapshot_of_another_version(tmp_path, demo):
    folder = young_run(tmp_path / "run")
    with np.load(demo / "snapshots" / "step_0000300.npz") as file:
        arrays = dict(file) | dict(version=np.int64(9))
    np.savez(folder.snapshots / "step_0000300.npz", **arrays)
    run = open_run(folder.path)
    assert run.latest() is None
    assert len(run.problems) == 1
    assert "has snapshot version 9" in run.problems[0]
    assert "update dgcl_nb" in run.problems[0]


def test_view__what_the_system_refuses(tmp_path, monkeypatch):
    run = RunView(young_run(tmp_path / "run").path)
    append_line(run.path / "metrics.jsonl", dict(step=1))
    run.refresh()

    def refuse():
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(run.parts["metrics"], "refresh", refuse)
    append_line(run.path / "timings.jsonl", dict(step=2))
    assert run.refresh() == {"timings"} and len(run.records) == 1
    said = f"metrics cannot be read (Permission denied); check the permissions of {run.path} and the disk"
    assert run.problems == [said]


def test_view__a_snapshot_written_again_is_read_again(tmp_path, demo):
    folder, snap = young_run(tmp_path / "run"), load_snapshot(demo)
    path = save_snapshot(folder.path, snap)
    run = open_run(folder.path)
    first = run.load(path)
    assert run.load(path) is first
    os.utime(path, (time.time() + 5,) * 2)
    assert run.refresh() == {"snapshots"} and run.load(path) is not first


def test_view__prolonged_run_is_not_finished(tmp_path):
    folder = young_run(tmp_path / "run")
    folder.result.write_text(json.dumps(dict(steps=300, seconds=10)))
    run = open_run(folder.path)
    assert run.is_finished
    young_run(tmp_path / "run", steps=600)
    run.refresh()
    assert not run.is_finished


def test_view__of_a_real_run(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "build_data", few_images)
    fit(tiny_run("dgcl", out=str(tmp_path / "run"), steps=8), callbacks=[])
    run = open_run(tmp_path / "run")
    assert run.is_finished
    assert run.step == 8
    assert run.problems == []
    assert len(run.class_names) == 11
    assert run.latest().step == 8
    assert not run.is_made_up
    assert "finished after 8 steps" in repr(run)
    assert {"loss_sup", "lr"} <= run.records[0].keys()


def test_view__networks_by_name_in_the_order_of_the_result(tmp_path):
    folder = young_run(tmp_path / "run")
    run = open_run(folder.path)
    assert run.miou == {}
    scored = dict(net_2=61.0, net_1=60.0, mean=None)
    folder.result.write_text(json.dumps(dict(steps=300, predictor="net_2", miou=scored, miou_student=None)))
    run.refresh()
    assert list(run.miou.items()) == list(scored.items())


def test_view__of_a_run_of_version_0_1():
    run = open_run(Path(__file__).parent / "older" / "run-0.1")
    assert run.is_finished and run.problems == []
    assert list(run.miou) == ["teacher", "student"]  # the predictor first
    assert run.miou["student"] == run.result["miou_student"]
    scored = [miou_by_network(r) for r in run.records if r.get("event") == "eval"]
    assert scored and all(set(s) == {"teacher", "student"} for s in scored)
    assert [s.step for s in run.load_all()] == [4, 8, 12]


def test_open__names_what_is_there(tmp_path):
    a = young_run(tmp_path / "a").path
    (tmp_path / "void").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.txt").touch()
    assert list_runs(tmp_path) == [a] and open_run(str(a / "config.json")).path == a
    for name, text in (("none", "does not exist"), ("void", "is empty"), ("other", "holds no run")):
        with pytest.raises(InputError, match=f"{name} {text}.*such as {a}"):
            open_run(tmp_path / name)


def test_duration__has_two_figures():
    spans = (3, 61, 3599, 3600, 90000)
    assert [duration(s) for s in spans] == ["3 s", "1 min 1 s", "59 min", "1 h", "25 h"]
