"""Runs that are killed: at random moments and at every point of saving. Each time resumed, they end as the run that nobody touched.

Nothing in the package helps: SIGKILL comes from outside, after a delay, or at once when an unfinished file is seen."""

import itertools
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from helpers import equal_states, metrics_of, start_child, state_of, tiny_run, wait_for

from dgcl_nb import config, run_folder
from dgcl_nb.run_folder import PART, RunFolder, read_lines, read_torch
from dgcl_nb.checkpoints import checkpoints_of, go_back, save_checkpoint
from dgcl_nb.engine import fit, start_training
from dgcl_nb.processes import Control
from dgcl_nb.snapshots import list_snapshots, load_snapshot

OFTEN = dict(loop__log_every=1, loop__checkpoints=12, loop__evaluations=3, loop__snapshots=3)
"A run that looks up often, so that many a kill finds it at something."


def train(method, out, steps):
    fit(tiny_run(method, out=out, resume=True, steps=steps, **OFTEN), callbacks=[])


def steps_of(out):
    return len({r["step"] for r in metrics_of(out)})


def unfinished(out):
    return {
        p
        for d in (out, out / "checkpoints", out / "snapshots")
        if d.is_dir()
        for p in d.iterdir()
        if p.name.endswith(PART)
    }


def identity(path):
    return path.stat().st_ino if path.exists() else None


def kill_one(rng, kind, target, method, out, steps):
    """Start or resume a run and kill it: `early`, while it is still being built or gone back; at a `step` at or after the target; or `saving`, at the sight of an unfinished file.
    Returns (steps in its log, whether it left an unfinished file), or None if it had come to its end."""
    before, log = unfinished(out), identity(out / "metrics.jsonl")
    child = start_child(train, method, out, steps)
    on = lambda: child.exitcode is None
    if kind == "early":
        time.sleep(rng.uniform(0, 0.6))
    else:
        while on() and identity(out / "metrics.jsonl") == log:
            time.sleep(0.001)  # going back writes the log anew, cut at the checkpoint
        while on() and steps_of(out) < target:
            time.sleep(0.001)
        if kind == "step":
            time.sleep(rng.uniform(0, 0.05))
        while kind == "saving" and on() and steps_of(out) < target + steps / 6 and unfinished(out) <= before:
            pass
    child.kill()
    child.join()
    return (steps_of(out), not unfinished(out) <= before) if child.exitcode == -signal.SIGKILL else None


def kill_and_resume(method, out, steps, kills, seed=0):
    "Start a run, kill it, start it again ..., and let it end. Returns what each kill found."
    rng = random.Random(seed)
    targets, kinds = (
        sorted(rng.uniform(0, 0.8 * steps) for _ in range(kills)),
        itertools.cycle(["step", "saving", "early", "saving"]),
    )
    found = [kill_one(rng, kind, target, method, out, steps) for kind, target in zip(kinds, targets)]
    assert wait_for([start_child(train, method, out, steps)]) == [0]
    return [f for f in found if f]


def check_same(whole, parts):
    "The run that nobody touched, and the one that was killed: the same to the bit, nothing twice and nothing missing."
    assert (whole / "metrics.jsonl").read_text() == (parts / "metrics.jsonl").read_text()
    assert equal_states(state_of(whole), state_of(parts)), (
        "weights, teacher, bank, optimisers, best score, open log window"
    )
    assert equal_states(*(read_torch(out / "checkpoints" / "best.pt") for out in (whole, parts)))
    assert [r["step"] for r in read_lines(whole / "timings.jsonl")] == [
        r["step"] for r in read_lines(parts / "timings.jsonl")
    ]
    for a, b in zip(list_snapshots(whole), list_snapshots(parts), strict=True):
        assert a.name == b.name and all(
            (x == y).all() if hasattr(x, "all") else x == y
            for x, y in zip(vars(load_snapshot(a)).values(), vars(load_snapshot(b)).values())
        )
    results = [json.loads((out / "result.json").read_text()) for out in (whole, parts)]
    claims = (
        "miou_student",
        "miou_teacher",
        "best_miou",
        "best_step",
        "iou_per_class",
        "silhouette",
        "calinski_harabasz",
        "davies_bouldin",
    )
    assert results[0]["steps"] == results[1]["steps"] and all(results[0][k] == results[1][k] for k in claims)
    assert {p.relative_to(whole) for p in whole.rglob("*")} == {
        p.relative_to(parts) for p in parts.rglob("*")
    }, "no unfinished file, two checkpoints"


def check_kills(method, tmp_path, steps, kills, seed=0):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    untouched = start_child(train, method, whole, steps)
    found = kill_and_resume(method, parts, steps, kills, seed)
    assert wait_for([untouched]) == [0]
    check_same(whole, parts)
    assert steps_of(whole) == steps
    return found


def test_kills__dgcl(tmp_path):
    assert len(check_kills("dgcl", tmp_path, 60, 3)) > 0


@pytest.mark.parametrize("method", [m for m in [*config.METHODS, "toy"] if m != "dgcl"])
def test_kills__other_methods(method, tmp_path):
    assert len(check_kills(method, tmp_path, 16, 1)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("method", [*config.METHODS, "toy"])
def test_kills__twenty(method, tmp_path):
    found = check_kills(method, tmp_path, 60, 20)
    print(
        f"\n{method}: {len(found)} kills, {sum(s for _, s in found)} of them left an unfinished file; lines of steps in the log {[n for n, _ in found]}"
    )
    assert len(found) == 20


# Every point of saving


def test_write_atomic__never_writes_in_place(tmp_path):
    run_folder.write_atomic(tmp_path / "a", "one")
    os.link(tmp_path / "a", tmp_path / "b")
    run_folder.write_atomic(tmp_path / "a", "two")
    assert (tmp_path / "b").read_text() == "one" and (tmp_path / "a").read_text() == "two"


def count_calls(stop):
    "Let `stop(n)` hear of every call on the file system that saving makes, before and after it; a write is heard of when half of it is done."
    number = itertools.count()

    def heard(call):
        def wrapped(*args, **kwargs):
            stop(next(number))
            out = call(*args, **kwargs)
            stop(next(number))
            return out

        return wrapped

    for place, name in (
        (run_folder.tempfile, "mkstemp"),
        (run_folder.os, "fsync"),
        (run_folder.os, "chmod"),
        (run_folder.os, "replace"),
        (Path, "unlink"),
    ):
        setattr(place, name, heard(getattr(place, name)))
    fdopen = os.fdopen

    def half(fd, mode):
        file = fdopen(fd, mode)
        write = file.write

        class Halved:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

            def write(self, data):
                write(data[: len(data) // 2])
                file.flush()
                stop(next(number))
                write(data[len(data) // 2 :])

            def flush(self):
                file.flush()

            def fileno(self):
                return file.fileno()

        return Halved()

    run_folder.os.fdopen = half


def die_at_every_point(out, answer):
    "Save one checkpoint again and again, each time killed one call later; `answer` gets what the next start finds."
    t = start_training(tiny_run("toy", out=out), RunFolder(out).create(), Control())
    for t.step in (1, 2):
        save_checkpoint(t)
    before, found, exit_code = {p: p.read_bytes() for p in checkpoints_of(t.folder)}, [], None
    for point in itertools.count():
        if not (pid := os.fork()):
            count_calls(lambda n, point=point: os.kill(os.getpid(), signal.SIGKILL) if n == point else None)
            t.step = 3
            save_checkpoint(t)
            os._exit(0)
        exit_code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if exit_code != -signal.SIGKILL:
            break
        parts, names = (
            sum(1 for _ in t.folder.checkpoints.glob(f".*{PART}")),
            sorted(p.name for p in checkpoints_of(t.folder)),
        )
        path = go_back(t.folder)
        found.append(
            dict(
                parts=parts,
                names=names,
                step=read_torch(path)["step"],
                method=equal_states(read_torch(path)["method"], t.method.state_dict()),
                left=sum(1 for _ in t.folder.checkpoints.glob(".*")),
            )
        )
        shutil.rmtree(t.folder.checkpoints)
        t.folder.checkpoints.mkdir()
        for p, data in before.items():
            p.write_bytes(data)
    Path(answer).write_text(json.dumps(dict(found=found, exit_code=exit_code)))


def test_save_checkpoint__killed_at_every_point(tmp_path):
    assert wait_for([start_child(die_at_every_point, tmp_path / "run", tmp_path / "answer.json")]) == [0]
    answer = json.loads((tmp_path / "answer.json").read_text())
    found = answer["found"]
    assert answer["exit_code"] == 0 and len(found) > 10, "the last one met no further call: all were tried"
    steps = [f["step"] for f in found]
    assert steps == sorted(steps) and set(steps) == {2, 3}, (
        "the old checkpoint until the new one stands, then the new one"
    )
    assert all(f["method"] and len(f["names"]) >= 2 and f["left"] == 0 for f in found)
    assert sum(f["parts"] for f in found) > 3 and max(len(f["names"]) for f in found) == 3, (
        "it was killed with a file half written, and before the oldest was removed"
    )
