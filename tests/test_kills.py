"""Runs that are killed, at random moments and at every point of saving, end as one that nobody touched.

Nothing in the package helps: SIGKILL comes from outside, after a delay, or at once when an unfinished file is
seen."""

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
from dgcl_nb.checkpoints import checkpoints_of, go_back, save_checkpoint
from dgcl_nb.engine import fit, start_training
from dgcl_nb.processes import Control
from dgcl_nb.run_folder import PART, RunFolder, read_lines, read_torch
from dgcl_nb.snapshots import list_snapshots, load_snapshot

OFTEN = dict(loop__log_every=1, loop__checkpoints=12, loop__evaluations=3, loop__snapshots=3)
"A run that looks up often, so that many a kill finds it at something."


def train(method, out, steps):
    fit(tiny_run(method, out=out, resume=True, steps=steps, **OFTEN), callbacks=[])


def steps_of(out):
    return len({r["step"] for r in metrics_of(out)})


def unfinished(out):
    folders = [d for d in (out, out / "checkpoints", out / "snapshots") if d.is_dir()]
    return {p for d in folders for p in d.iterdir() if p.name.endswith(PART)}


def identity(path):
    return path.stat().st_ino if path.exists() else None


def kill_one(rng, kind, target, method, out, steps):
    """Start or resume a run and kill it: `early`, while it is still being built or gone back; at a `step` at
    or after the target; or `saving`, at the sight of an unfinished file.
    Returns (steps in its log, whether it left an unfinished file), or None if it had come to its end."""
    before, log = unfinished(out), identity(out / "metrics.jsonl")
    child = start_child(train, method, out, steps)

    def wait_while(condition, pause=0.001):
        while child.exitcode is None and condition():
            time.sleep(pause)

    def nothing_begun():
        return steps_of(out) < target + steps / 6 and unfinished(out) <= before

    if kind == "early":
        time.sleep(rng.uniform(0, 0.6))
    else:
        # going back writes the log anew, cut at the checkpoint
        wait_while(lambda: identity(out / "metrics.jsonl") == log)
        wait_while(lambda: steps_of(out) < target)
        if kind == "step":
            time.sleep(rng.uniform(0, 0.05))
        else:
            wait_while(nothing_begun, pause=0)
    child.kill()
    child.join()
    if child.exitcode != -signal.SIGKILL:
        return None
    return steps_of(out), not unfinished(out) <= before


def kill_and_resume(method, out, steps, kills, seed=0):
    "Start a run, kill it, start it again ..., and let it end. Returns what each kill found."
    rng = random.Random(seed)
    targets = sorted(rng.uniform(0, 0.8 * steps) for _ in range(kills))
    kinds = itertools.cycle(["step", "saving", "early", "saving"])
    found = [kill_one(rng, kind, target, method, out, steps) for kind, target in zip(kinds, targets)]
    assert wait_for([start_child(train, method, out, steps)]) == [0]
    return [f for f in found if f]


CLAIMS = ("miou_student", "miou_teacher", "best_miou", "best_step", "iou_per_class")
CLUSTERS = ("silhouette", "calinski_harabasz", "davies_bouldin")
"What result.json says of a run that does not depend on the machine."


def same_values(a, b):
    "Whether two snapshots hold the same; unknown densities (NaN) are equal to each other."

    def same(x, y):
        return ((x == y) | (x != x) & (y != y)).all() if hasattr(x, "all") else x == y

    return all(same(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))


def check_same(whole, parts):
    "The run that nobody touched, and the one that was killed: the same to the bit, nothing twice or missing."
    assert (whole / "metrics.jsonl").read_text() == (parts / "metrics.jsonl").read_text()
    assert equal_states(state_of(whole), state_of(parts)), (
        "weights, teacher, bank, optimisers, best score, open log window"
    )
    assert equal_states(*(read_torch(out / "checkpoints" / "best.pt") for out in (whole, parts)))
    timed = [[r["step"] for r in read_lines(out / "timings.jsonl")] for out in (whole, parts)]
    assert timed[0] == timed[1]
    for a, b in zip(list_snapshots(whole), list_snapshots(parts), strict=True):
        assert a.name == b.name and same_values(load_snapshot(a), load_snapshot(b))
    one, other = (json.loads((out / "result.json").read_text()) for out in (whole, parts))
    assert all(one[k] == other[k] for k in ("steps", *CLAIMS, *CLUSTERS))
    assert all(one.get(k) == other.get(k) for k in ("miou", "predictor"))
    files = [{p.relative_to(out) for p in out.rglob("*")} for out in (whole, parts)]
    assert files[0] == files[1], "no unfinished file, two checkpoints"


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


KILLED_IN_CI = ("gct", "u2pl", "toy")
"Two phases, a bank, and much of everything; the others are killed in the slow test."


@pytest.mark.parametrize("method", [m for m in [*config.METHODS, "toy"] if m in KILLED_IN_CI])
def test_kills__other_methods(method, tmp_path):
    assert len(check_kills(method, tmp_path, 16, 1)) == 1


NUM_KILLS = int(os.environ.get("DGCL_NB_KILLS", 20))
"Kills of each method in the slow test; fewer for a quick look."


@pytest.mark.slow
@pytest.mark.parametrize("method", [*config.METHODS, "toy"])
def test_kills__twenty(method, tmp_path):
    found = check_kills(method, tmp_path, 60, NUM_KILLS)
    unfinished_files = sum(is_left for _, is_left in found)
    print(f"\n{method}: {len(found)} kills, {unfinished_files} of them left an unfinished file")
    print(f"lines of steps in the log {[n for n, _ in found]}")
    assert len(found) == NUM_KILLS


# Every point of saving


def test_write_atomic__never_writes_in_place(tmp_path):
    run_folder.write_atomic(tmp_path / "a", "one")
    os.link(tmp_path / "a", tmp_path / "b")
    run_folder.write_atomic(tmp_path / "a", "two")
    assert (tmp_path / "b").read_text() == "one" and (tmp_path / "a").read_text() == "two"


class Halved:
    "A file that is written in two halves, and that tells when the first one is."

    def __init__(self, file, tell):
        self.file, self.tell = file, tell

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, data):
        half = len(data) // 2
        self.file.write(data[:half])
        self.file.flush()
        self.tell()
        self.file.write(data[half:])

    def flush(self):
        self.file.flush()

    def fileno(self):
        return self.file.fileno()


def count_calls(stop):
    """Let `stop(n)` hear of every call on the file system that saving makes, before and after it; a write is
    heard of when half of it is done."""
    number = itertools.count()

    def tell():
        stop(next(number))

    def heard(call):
        def wrapped(*args, **kwargs):
            tell()
            out = call(*args, **kwargs)
            tell()
            return out

        return wrapped

    for place, name in [(run_folder.os, "fsync"), (run_folder.os, "replace"), (Path, "unlink")]:
        setattr(place, name, heard(getattr(place, name)))
    open_heard = heard(open)
    run_folder.open = lambda *args: Halved(open_heard(*args), tell) if args[1:] == ("xb",) else open(*args)


def save_in_child(t, stop):
    "In a child: save a checkpoint, `stop(n)` hearing of each call on the file system. Returns its exit code."
    child = os.fork()
    if not child:
        count_calls(stop)
        t.step = 3
        save_checkpoint(t)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def save_and_die(t, point):
    "Save a checkpoint and be killed at a call of the file system. Returns the child's exit code."
    return save_in_child(t, lambda n: os.kill(os.getpid(), signal.SIGKILL) if n == point else None)


def points_to_try(t, num=24, edge=24):
    "The first and the last calls of a save, where files begin, end and change places, and some between."
    told, heard = os.pipe()
    assert save_in_child(t, lambda n: os.write(heard, b".")) == 0
    os.close(heard)
    with os.fdopen(told, "rb") as calls:
        total = len(calls.read())
    between = range(edge, total - edge, max(1, (total - 2 * edge) // num))
    return sorted({*range(min(edge, total)), *between, *range(max(0, total - edge), total + 1)})


def what_is_found(t):
    "What the next start finds after a kill, and what it makes of it."
    folder = t.folder.checkpoints
    parts = len(list(folder.glob(f".*{PART}")))
    names = sorted(p.name for p in checkpoints_of(t.folder))
    state = read_torch(go_back(t.folder))
    same = equal_states(state["method"], t.method.state_dict())
    left = len(list(folder.glob(".*")))
    return dict(parts=parts, names=names, step=state["step"], method=same, left=left)


def put_back(t, before):
    "The checkpoints as they were."
    shutil.rmtree(t.folder.checkpoints)
    t.folder.checkpoints.mkdir()
    for p, data in before.items():
        p.write_bytes(data)


def die_at_every_point(out, answer):
    "Save one checkpoint again and again, killed one call later each time; `answer` gets what is found."
    t = start_training(tiny_run("toy", out=out), RunFolder(out).create(), Control())
    for t.step in (1, 2):
        save_checkpoint(t)
    before = {p: p.read_bytes() for p in checkpoints_of(t.folder)}
    points, found, exit_code = points_to_try(t), [], None
    put_back(t, before)
    for point in points:
        exit_code = save_and_die(t, point)
        if exit_code != -signal.SIGKILL:
            break
        found.append(what_is_found(t))
        put_back(t, before)
    Path(answer).write_text(json.dumps(dict(found=found, exit_code=exit_code)))


def test_save_checkpoint__killed_at_every_point(tmp_path):
    assert wait_for([start_child(die_at_every_point, tmp_path / "run", tmp_path / "answer.json")]) == [0]
    answer = json.loads((tmp_path / "answer.json").read_text())
    found = answer["found"]
    assert answer["exit_code"] == 0 and len(found) > 10, "the last one met no further call: all were tried"
    steps = [f["step"] for f in found]
    # the old checkpoint until the new one stands, then the new one
    assert steps == sorted(steps) and set(steps) == {2, 3}
    assert all(f["method"] and len(f["names"]) >= 2 and f["left"] == 0 for f in found)
    assert sum(f["parts"] for f in found) > 3, "it was killed with a file half written"
    assert max(len(f["names"]) for f in found) == 3, "and before the oldest was removed"
