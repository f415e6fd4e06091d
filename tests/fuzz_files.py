"""Damaged and hostile files of a run folder: each is a sentence, or it is left out; none is a traceback.

    python tests/fuzz_files.py --write         2000 mutations, all readers; their row of results/fuzz.md
    python tests/fuzz_files.py --num 60        as CI runs it
    python tests/fuzz_files.py --minutes 30    as many of them as that takes
    python tests/fuzz_files.py --seed 7 --num 1 --show   one mutation, with what was said

Trains a tiny run, changes one of its files at a time - bits, cuts, huge numbers, deep nesting, other types,
other content under a new checksum - and opens the folder as resuming, predicting, evaluating, the report and
the explorer do, in one process with a limit on memory and a clock. Its number plus --seed seeds a mutation.
"""

import argparse
import contextlib
import io
import json
import logging
import math
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from fuzz_table import KINDS, write_row
from helpers import few_images, tiny_run

from dgcl_nb import engine
from dgcl_nb.config import build_data
from dgcl_nb.core import InputError
from dgcl_nb.engine import fit, start_training
from dgcl_nb.checkpoints import go_back, load_together
from dgcl_nb.looking.curves import curves
from dgcl_nb.looking.scores import open_shown, scores_of, sentence_of, title_of
from dgcl_nb.processes import Control
from dgcl_nb.resuming import resumed_run
from dgcl_nb.run_folder import RunFolder, read_torch, write_torch
from dgcl_nb.trained import open_trained
from dgcl_nb.widgets.state import state_of

GIB = 2**30
MEMORY = 2 * GIB
"More than this may no reader take on top of what the process has (bytes)."
SECONDS = 20
"A reader that takes longer hangs."
HOSTILE = [
    *(None, True, -5, 0, 2**40, 10**30, 1e308, float("nan"), float("inf"), "", "x" * 5000, [], {}, [[]]),
    *({"a": {}}, "\x1b[2J<a href=http://a>", [None], [1e400], "\ud800", -1.5, [{}], {"": None}),
]
"Values that stand where others should."


class Hangs(Exception):
    "A reader took too long."


def deep(depth, leaf=0):
    "A list in a list in a list."
    for _ in range(depth):
        leaf = [leaf]
    return leaf


def change_value(value, rng):
    "Some JSON with one value, at any depth, replaced by a hostile one or taken out."
    if isinstance(value, dict) and value and rng.random() < 0.9:
        name = rng.choice(list(value))
        if rng.random() < 0.1:
            return {k: v for k, v in value.items() if k != name}
        return value | {name: change_value(value[name], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return [*value[:at], change_value(value[at], rng), *value[at + 1 :]]
    return deep(rng.choice([30, 800])) if rng.random() < 0.1 else rng.choice(HOSTILE)


def change_bytes(data, rng):
    "Flipped bits, a cut, a row of zeros, or something else in the middle."
    at = rng.randrange(len(data) + 1)
    kind = rng.randrange(6)
    if kind == 0:
        flipped = bytearray(data)
        for _ in range(rng.choice([1, 3, 50])):
            flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        return bytes(flipped)
    if kind == 1:
        return data[:at]
    middle = [bytes(400), b"[" * 100_000, b"\xff\xfe\n", b"9" * 5000][kind - 2]
    return data[:at] + middle + data[at + rng.choice([0, len(middle)]) :]


def mutate_json(path, rng):
    value = json.loads(path.read_text())
    for _ in range(rng.choice([1, 1, 3])):
        value = change_value(value, rng)
    path.write_text(json.dumps(value))


def mutate_lines(path, rng):
    lines = path.read_text().splitlines()
    at = rng.randrange(len(lines))
    lines[at] = json.dumps(change_value(json.loads(lines[at]), rng))
    path.write_text("\n".join(lines) + "\n")


def mutate_arrays(path, rng):
    "A snapshot with other values, another type, another shape, or a header that lies."
    with np.load(path) as file:
        arrays = dict(file)
    name = rng.choice(list(arrays))
    a = arrays[name]
    others = [
        lambda: np.full_like(a, 250) if a.dtype.kind in "iuf" else a[..., None],
        lambda: a.astype("float64") if a.dtype.kind in "iuf" else np.arange(3),
        lambda: a.reshape(-1)[:1],
        lambda: np.array(rng.choice(["x", -7, 1e30, 2**62])),
        lambda: np.array(["\x1b[2J<a href=http://a>x</a>"] * max(1, a.size))[: a.size],
        lambda: np.zeros((0, 3)),
        lambda: np.broadcast_to(np.uint8(0), (900, 2**20)),
    ]
    arrays[name] = rng.choice(others)()
    np.savez_compressed(path, **arrays)
    if rng.random() < 0.1:
        data = path.read_bytes()
        path.write_bytes(data.replace(b"(", b"9", 1))


def mutate_state(path, rng):
    "A sealed checkpoint of other content."

    def other(value):
        if isinstance(value, dict) and value and rng.random() < 0.85:
            name = rng.choice(list(value))
            if rng.random() < 0.15:
                return {k: v for k, v in value.items() if k != name}
            return {**value, name: other(value[name])}
        if isinstance(value, torch.Tensor) and rng.random() < 0.5:
            return rng.choice([value.flatten()[:1], value.double(), value.expand(3, *value.shape)])
        return rng.choice([*HOSTILE, torch.zeros(1).expand(10**9), torch.zeros(2, device="meta")])

    write_torch(path, other(read_torch(path)))


def mutate(folder, rng):
    "Change one file of a run folder; says which, and how."
    files = [
        p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix in (".json", ".jsonl", ".npz", ".pt")
    ]
    path = rng.choice(files)
    typed = {".json": mutate_json, ".jsonl": mutate_lines, ".npz": mutate_arrays, ".pt": mutate_state}
    if rng.random() < 0.35:
        path.write_bytes(change_bytes(path.read_bytes(), rng))
        return f"{path.name}, bytes"
    typed[path.suffix](path, rng)
    return f"{path.name}, content"


def resume(folder):
    "What `train --out FOLDER --resume` reads before its first step."
    args = ["--out", str(folder), "--resume", "True", "--device", "cpu"]
    run = resumed_run(args, tiny_run("self_training", out=str(folder), resume=True))
    files = RunFolder(folder)
    engine.finished_result(files, run.steps)
    t = start_training(run, files, Control())
    if path := go_back(files):
        load_together(t, path)
        engine.next_step(t, engine.batches_of(t)) if t.step < run.steps else None


def predict(folder):
    trained = open_trained(folder, "auto", "cpu")
    trained.network(torch.zeros(1, 3, 48, 48))
    open_trained(folder, "last", "cpu")


def evaluate(folder):
    build_data(open_trained(folder, "best", "cpu").run)


def report(folder):
    run = open_shown(folder)
    title_of(run), sentence_of(run), scores_of(run), repr(run)
    curves(run.records, class_names=run.class_names or None, steps=run.steps)


def explorer(folder):
    for snap in open_shown(folder).load_all():
        state_of(snap)


READERS = dict(predict=predict, evaluate=evaluate, report=report, explorer=explorer, resume=resume)
"As a person opens a run: name -> what is done with its folder; resuming comes last, as it changes that."


@contextlib.contextmanager
def limits():
    "A clock, and a limit on the memory of this process."

    def ring(*_):
        raise Hangs

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    handler = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def outcome(reader, folder):
    "What a reader makes of a folder, one of KINDS; and what it said."
    try:
        with limits(), contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            reader(folder)
        return "runs", ""
    except InputError as e:
        return ("InputErrors", str(e)) if len(str(e)) < 2000 else ("bare exceptions", "an endless sentence")
    except Hangs:
        return "hangs", traceback.format_exc()
    except MemoryError:
        return "memory over 2 GB", traceback.format_exc()
    except Exception:
        return "bare exceptions", traceback.format_exc()


def make_run(folder):
    "A tiny run that is finished."
    settings = dict(steps=4, loop__log_every=1, loop__checkpoints=2)
    fit(tiny_run("self_training", out=str(folder), **settings), callbacks=[])


def fuzz(num, seed=0, show=False, until=math.inf):
    "Try `num` mutations, or as many as begin before `until`; ({outcome: how often}, what must not be)."
    counts, faults = Counter(), []
    engine.build_data = few_images
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as d:
        whole = Path(d) / "whole"
        make_run(whole)
        for number in range(seed, seed + num):
            if time.time() > until:
                break
            rng = random.Random(number)
            changed = shutil.copytree(whole, Path(d) / "run")
            what = mutate(changed, rng)
            for name, reader in READERS.items():
                found, said = outcome(reader, changed)
                counts[found] += 1
                if show:
                    print(f"{number}: {name}, {what}: {found} {said}")
                if found not in ("runs", "InputErrors"):
                    faults.append(f"seed {number}: {name}, {what}: {found}\n{said}")
                    print(faults[-1], file=sys.stderr, flush=True)
            shutil.rmtree(changed)
    logging.disable(logging.NOTSET)
    return counts, faults


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--write", action="store_true", help="the row of results/fuzz.md")
    args = parser.parse_args()
    began = time.time()
    counts, faults = fuzz(args.num, args.seed, args.show, began + 60 * args.minutes)
    for fault in faults:
        print(fault)
    num = sum(counts.values()) // len(READERS)
    print(
        f"{num} mutations from seed {args.seed}, {len(READERS)} readers each: "
        + ", ".join(f"{k} {counts[k]}" for k in KINDS)
    )
    if args.write:
        command = f"python tests/fuzz_files.py --num {num} --seed {args.seed}"
        short = [f"{fault.splitlines()[0]} {fault.splitlines()[-1][:200]}" for fault in faults]
        seeds = f"{args.seed} to {args.seed + num - 1}"
        write_row("files", command, counts, short, seeds, began)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
