"""What a hostile file, a second process or an absurd number does: each case of a table, as a command.

    python tests/hostile_cases.py                       the package that PYTHONPATH names
    python tests/hostile_cases.py --write now           and its column of results/hostile_cases.md
    PYTHONPATH=OLDER python tests/hostile_cases.py --write before

Trains a tiny run on ten images, copies its folder for each case, spoils the copy, and gives the command in a
process of its own (a fork, so that torch is imported once) with a limit on time. Seen must be one sentence
(status 2, or 1 where a run has begun, and no traceback) or a run (status 0).
"""

import argparse
import contextlib
import fcntl
import importlib
import io
import json
import os
import re
import resource
import shutil
import signal
import stat
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from dgcl_nb.run_folder import read_torch, write_torch

CPU_SECONDS, SECONDS = 25, 400
"A case that computes or waits longer hangs."
BOX = str.maketrans("", "", "│╭╮╰╯─")
COMMANDS = ("train", "predict", "report")
TINY = (
    "--preset digits --method supervised --steps 4 --device cpu --data.name folder --data.root data "
    "--batch.labelled 2 --views.crop 48 "
    "--model.encoder test_resnet --model.pretrained none --model.output_stride 16 "
    "--model.last_stage 2 --model.decoder_channels 16 --model.low_level_channels 8 --model.proj_dim 8 "
    "--model.aspp_rates 2 --loop.log_every 1 --loop.evaluations 1 --loop.snapshots 2 --loop.checkpoints 2 "
    "--loop.num_probes 2 --loop.report False --batch.workers 0 --eval.workers 0 --loop.threads 1"
).split()
RESULTS = Path(__file__).parents[1] / "results"


class Case(NamedTuple):
    "A spoiled folder, a command, and what must be seen."

    name: str
    spoil: Callable[[], object]  # called in a folder with `data` and the finished run `run`
    command: str
    wants: str = "sentence"  # or run
    words: str = ""  # a pattern in what is printed


def nothing():
    "The folder stays as it is."


def write(path, data):
    return lambda: Path(path).write_bytes(data if isinstance(data, bytes) else data.encode())


def unfinished():
    "The run as a kill after step 2 leaves it."
    Path("run/result.json").unlink()
    sorted(Path("run/checkpoints").glob("step*"))[-1].unlink()


def log_line(line):
    def spoil():
        unfinished()
        log = Path("run/metrics.jsonl")
        log.write_bytes(line + b"\n" + log.read_bytes())

    return spoil


def state(path, change):
    "Change what a sealed file holds, and seal it again."

    def spoil():
        unfinished() if path != "best.pt" else None
        file = sorted(Path("run/checkpoints").glob(path))[-1]
        write_torch(file, change(read_torch(file)))

    return spoil


def no_numbers(content):
    content["predictor"] = {k: v.float() * float("nan") for k, v in content["predictor"].items()}
    return content


def lying_snapshot():
    "The header of an array speaks of eight terabytes."
    path = sorted(Path("run/snapshots").glob("*.npz"))[-1]
    with np.load(path) as file:
        np.savez(path, **{name: file[name] for name in file.files if name != "density"})
    lie = io.BytesIO()
    np.lib.format.write_array_header_1_0(lie, dict(descr="<f8", fortran_order=False, shape=(2**40,)))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("density.npy", lie.getvalue() + bytes(8))


def locked():
    "Another process trains in the folder."
    unfinished()
    holds, is_held = os.pipe()
    if not os.fork():
        lock = open("run/.lock", "a+")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(is_held, b"1")
        time.sleep(SECONDS)
    os.read(holds, 1)


def long_log():
    losses = [f"loss_{letter}" for letter in "abcdefgh"]
    lines = [json.dumps(dict(step=i, lr=0.1) | dict.fromkeys(losses, 1 / i)) for i in range(1, 60_001)]
    Path("run/metrics.jsonl").write_text("\n".join(lines) + "\n")


def closed_pipe():
    "Nobody reads what the command prints."
    reading, writing = os.pipe()
    os.dup2(writing, 1)
    os.close(reading)


def forgotten():
    unfinished()
    Path("run/config.json").unlink()


def setting(flag, **more):
    return Case(f"--{flag}", nothing, f"train --out new --{flag}", **more)


RESUME = "train --resume --out run"
PREDICT = "predict run data/images/1.png --out there --device cpu"
CASES = [
    Case("zeros in metrics.jsonl", log_line(bytes(40)), RESUME, "run"),
    Case("[] in metrics.jsonl", log_line(b"[]"), RESUME, "run"),
    Case("half a line in metrics.jsonl", log_line(b'{"step": 1, "lo'), RESUME, "run"),
    Case("no snapshot", lambda: shutil.rmtree("run/snapshots"), PREDICT, "run"),
    Case("a snapshot that lies", lying_snapshot, "report run --out page.html", "run"),
    Case("config.json 800 deep", write("run/config.json", "[" * 800 + "]" * 800), PREDICT),
    Case("result.json with NaN", write("run/result.json", '{"steps": NaN}'), RESUME),
    Case("result.json is a list", write("run/result.json", "[]"), RESUME),
    Case("a checkpoint is {}", state("step*", lambda c: {}), RESUME),
    Case("a checkpoint at step -5", state("step*", lambda c: c | dict(step=-5)), RESUME),
    Case("no optimiser in a checkpoint", state("step*", lambda c: c | dict(optimizers={})), RESUME),
    Case("predictor: 5", state("best.pt", lambda c: c | dict(predictor=5)), PREDICT),
    Case("weights that are NaN", state("best.pt", no_numbers), PREDICT),
    setting("optim.lr inf"),
    setting("optim.lr 1e30"),
    setting("optim.clip_norm -1"),
    setting("optim.weight_decay -1"),
    setting("eval.scales nan"),
    setting("views.scale nan nan"),
    setting("loop.num_probes -1"),
    setting("batch.workers 100000"),
    Case("settings.ini that is no text", write("settings.ini", b"\xff\xfe[\0x"), "train --out new"),
    Case("settings.ini with half a quote", write("settings.ini", '[x]\na = "'), "train --out new --preset x"),
    Case("a list of 240 KB", write("data/labelled.txt", "a.png" + " " * 240_000 + "x"), "train --out new"),
    Case("a second process", locked, RESUME, words="another|in use|trains"),
    Case("other settings, no config.json", forgotten, f"{RESUME} {' '.join(TINY)} --optim.lr 0.5"),
    Case("--out that is a pipe", lambda: os.mkfifo("pipe"), "report run --out pipe"),
    Case("--out of 300 letters", nothing, f"train --out {'x' * 300}"),
    Case("a reader that has left", closed_pipe, "train --out new", "run"),
    Case("a log of 60 000 lines", long_log, "report run --out page.html", "run"),
    Case("more --steps when finished", nothing, f"{RESUME} --steps 9", words="--init.from"),
    Case("another rate on --resume", unfinished, f"{RESUME} --optim.lr 0.5"),
]


def arguments(case):
    "(module, words): a training gets the tiny settings, but where it goes on with those of its folder."
    name, *words = case.command.split()
    return name, [*(TINY if name == "train" and "--resume" not in words else ()), *words]


def act(case, said):
    "What the child does; leaves with the command's status."
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    status = 0
    try:
        case.spoil()
        name, words = arguments(case)
        importlib.import_module(f"dgcl_nb.{name}").main(words)
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else 1
        if isinstance(e.code, str):
            os.write(2, e.code.encode())
    except BaseException:
        os.write(2, traceback.format_exc().encode())
        status = 1
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status or 0)


def give(case, folder):
    "(exit status or None for a hang, what was printed) of a case's command in a folder."
    path = folder / "said"
    with open(path, "wb") as said:
        child = os.fork()
        if not child:
            os.chdir(folder)
            act(case, said.fileno())
    until, ended = time.monotonic() + SECONDS, (0, 0)
    while not ended[0] and time.monotonic() < until:
        time.sleep(0.05)
        ended = os.waitpid(child, os.WNOHANG)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if not ended[0]:
        os.waitpid(child, 0)
    hangs = not ended[0] or os.WIFSIGNALED(ended[1])
    return None if hangs else os.WEXITSTATUS(ended[1]), path.read_text(errors="replace")


def seen(case, folder):
    "What a case comes to, in a few words that begin with sentence, run, traceback, hang or status."
    status, said = give(case, folder)
    if status is None:
        return "hang: it was ended"
    # the parser of the command line puts its sentence into a box
    lines = [line for line in said.translate(BOX).splitlines() if re.search(r"\w", line)] or [""]
    if "Traceback (most recent call last)" in said:
        return f"traceback: {lines[-1]}"
    if (folder / "pipe").exists() and not stat.S_ISFIFO(os.stat(folder / "pipe").st_mode):
        return "run: the pipe was replaced by a file"
    if case.words and status and not re.search(case.words, said):
        return f"status {status}, in other words: {lines[-1]}"
    if status:
        sentence = lines[-1] if "─" not in said else re.sub(r"\s+", " ", " ".join(lines)).strip()
        return f"sentence: {sentence}" if status in (1, 2) else f"status {status}: {sentence}"
    return "run"


def make_data(folder):
    "Ten images of two classes."
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for i in range(10):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(folder / "images" / f"{i}.png")
        Image.fromarray(rng.integers(0, 2, (64, 64), np.uint8)).save(folder / "masks" / f"{i}.png")
    (folder / "classes.txt").write_text("ground\nthing\n")
    for name, ids in dict(labelled="0123", unlabelled="4567", val="89").items():
        (folder / f"{name}.txt").write_text("\n".join(ids) + "\n")


def try_all(cases):
    "What each case comes to: name -> words."
    torch.set_num_threads(1)
    for name in COMMANDS:
        importlib.import_module(f"dgcl_nb.{name}")
    found = {}
    with tempfile.TemporaryDirectory() as d:
        whole = Path(d) / "whole"
        make_data(whole / "data")
        first = seen(Case("", nothing, "train --out run"), whole)
        if first != "run":
            raise SystemExit(f"the tiny run itself failed: {first}\n{(whole / 'said').read_text()[-3000:]}")
        for number, case in enumerate(cases):
            folder = shutil.copytree(whole, Path(d) / str(number))
            found[case.name] = seen(case, folder).replace(str(folder) + "/", "")
            print(f"{case.name}: wants a {case.wants}; {found[case.name][:160]}", flush=True)
    return found


def write_column(column, found):
    "A column of results/hostile_cases.md."
    data = RESULTS / "hostile_cases.json"
    columns = json.loads(data.read_text()) if data.is_file() else {}
    told = {name: "".join(c if c.isprintable() else "?" for c in words) for name, words in found.items()}
    columns[column] = columns.get(column, {}) | told
    data.write_text(json.dumps(columns, indent=1) + "\n")
    page = io.StringIO()
    names = [name for name in ("before", "now") if name in columns]
    print("# Hostile cases, as commands\n\n`python tests/hostile_cases.py`; *before* is e74cb68^", file=page)
    print("(`PYTHONPATH` names that checkout). Not every case failed there.\n", file=page)
    print("| case | wanted |", " | ".join(names), "|\n|---|---|" + "---|" * len(names), file=page)
    for case in CASES:
        told = [re.sub(r"\s+", " ", columns[name].get(case.name, "")) for name in names]
        cells = [words[:220].replace("|", "\\|") for words in told]
        print(f"| {case.name} | {case.wants} |", " | ".join(cells), "|", file=page)
    (RESULTS / "hostile_cases.md").write_text(page.getvalue())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write", choices=("before", "now"))
    parser.add_argument("--only", nargs="*", default=[""], help="cases whose name has one of these")
    args = parser.parse_args()
    cases = [case for case in CASES if any(part in case.name for part in args.only)]
    found = try_all(cases)
    wrong = [case.name for case in cases if not found[case.name].startswith(case.wants)]
    print(f"{len(cases) - len(wrong)} of {len(cases)} cases as wanted; not: {', '.join(wrong) or 'none'}")
    if args.write:
        write_column(args.write, found)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
