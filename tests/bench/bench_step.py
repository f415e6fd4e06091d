"""The time of one DGCL step, part by part, and of a step of self-training on the same batches.

    python tests/bench/bench_step.py [--preset digits] [--warmup 100] [--settle 10] [--repeats 40] [--out results] [-- further train flags]

The contrast acts from the beginning of self-training. A run is warmed up by `warmup` supervised and `settle` self-training steps, so that pseudo-labels
are what they are in a run, then the bank is filled to its last entry (copies of what it holds, a little disturbed), and `repeats` steps are timed:
dgcl and self_training in turn, in one process, each on its own network; the median counts. Parts nest in the code - "forward, all" holds teacher,
student forward, density and a part of the bank - so only the innermost are listed;
"losses, mixing, rest" is what remains of the step: cross-entropies, CutMix, logs of the labels, the engine.
Goal: density + sampling + loss + bank at most 10 % of the step."""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from bench_density import machine, save, table

from dgcl_nb.batches import make_loader
from dgcl_nb.config import environment, parse_run
from dgcl_nb.run_folder import RunFolder
from dgcl_nb.engine import start_training
from dgcl_nb.processes import Control
from dgcl_nb.training import training_step
from dgcl_nb.timing import collect_sections, section

PARTS = (
    "data",
    "teacher",
    "student forward",
    "density + sampling + loss",
    "backward",
    "optimiser",
    "bank",
    "EMA",
)
REST, GOAL = "losses, mixing, rest", 10.0


def open_run(method, args, flags):
    "A run of `warmup` supervised steps and three times as many of self-training, with its loader."
    share, steps = 0.25, 4 * args.warmup
    assert steps - args.warmup > args.settle + args.repeats, "more repeats than steps: raise --warmup"
    at_once = (
        ["--dgcl.contrast_start", "0"] if method == "dgcl" else []
    )  # the contrast acts in every step that is timed
    run = parse_run(
        [
            "--preset",
            args.preset,
            "--method",
            method,
            "--steps",
            str(steps),
            "--loop.sup_only_fraction",
            str(share),
            *at_once,
            *flags,
        ]
    )
    t = start_training(run, RunFolder(tempfile.mkdtemp()).create(), Control())
    return t, iter(
        make_loader(
            t.data,
            run.views,
            t.method.views,
            run.batch,
            run.seed,
            0,
            steps,
            pin_memory=t.accelerator.device.type == "cuda",
        )
    )


def step_of(t, loader):
    "One step as the loop of the engine takes it: fetch, train; the losses for their notes."
    with section("data"):
        batches = [next(loader).to(t.accelerator.device, t.run.model.channels_last)]
    return training_step(t, batches)


def disturbed(rows, like, num, spread=0.1):
    "`num` disturbed copies of some rows; random rows if there are none to copy."
    base = rows[torch.randint(len(rows), (num,))] if len(rows) else like.new_zeros(num, like.shape[-1])
    return base + spread * torch.randn_like(base)


@torch.no_grad()
def fill_bank(bank):
    "Fill every class to the last entry with disturbed copies of its own entries."
    for c in range(bank.num_classes):
        queue, missing = bank.queue(c), bank.feats.shape[1] - int(bank.filled[c])
        if not missing:
            continue
        feats, proj = (
            F.normalize(disturbed(queue.feats, bank.feats, missing), dim=1),
            disturbed(queue.proj, bank.proj, missing),
        )
        bank.add(c, feats, proj, feats.new_full((missing,), 0.5), feats.new_full((missing,), 0.9), 0)
    assert bank.fill().min() == 1


def timed_step(t, loader):
    "Seconds of one step: in all, part by part, and what remains; and its losses."
    wait = lambda: torch.cuda.synchronize() if t.accelerator.device.type == "cuda" else None
    with collect_sections() as seconds:
        wait()
        start = time.perf_counter()
        losses = step_of(t, loader)
        wait()
        total = time.perf_counter() - start
    parts = {name: seconds.get(name, 0.0) for name in PARTS}
    return dict(
        total=total, forward=seconds["forward, all"], **parts, **{REST: total - sum(parts.values())}
    ), losses


def measure(args, flags):
    "Medians in seconds of dgcl's parts and of the self-training step, and what a DGCL step consisted of."
    runs = {method: open_run(method, args, flags) for method in ("dgcl", "self_training")}
    for t, loader in runs.values():
        for _ in range(args.warmup + args.settle):
            step_of(t, loader)
    fill_bank(runs["dgcl"][0].method.bank)
    rows, notes = {method: [] for method in runs}, []
    for _ in range(args.repeats):
        for method, (t, loader) in runs.items():
            row, losses = timed_step(t, loader)
            rows[method].append(row)
            if method == "dgcl":
                notes.append({k: float(v) for k, v in losses.notes.items()})
    median = lambda method: {k: statistics.median(r[k] for r in rows[method]) for k in rows[method][0]}
    notes = {
        k: statistics.fmean(n[k] for n in notes if k in n) for k in sorted({k for n in notes for k in n})
    }
    return median("dgcl"), median("self_training"), notes, runs["dgcl"][0]


def report(found, plain, notes):
    "The table and what to read off it, as text and as values."
    names, total = (*PARTS, REST), found["total"]
    rows = [
        {"part": n, "ms": 1e3 * found[n], "%": 100 * found[n] / total, "ms, self_training": 1e3 * plain[n]}
        for n in names
    ]
    rows.append(
        {"part": "the step", "ms": 1e3 * total, "%": 100.0, "ms, self_training": 1e3 * plain["total"]}
    )
    ours = found["density + sampling + loss"] + found["bank"]
    text = table(rows, {"part": "", "ms": ".1f", "%": ".1f", "ms, self_training": ".1f"})
    share, ratio, seen = 100 * ours / total, total / plain["total"], lambda name: notes.get(name, 0)
    text += f"""

Medians of single parts, so they do not add up exactly. The whole forward pass (teacher, student, density, a part of the bank, losses):
{1e3 * found['forward']:.1f} ms.

Goal: density + sampling + loss + bank at most {GOAL:.0f} % of the step: **{share:.1f} %** ({1e3 * ours:.1f} ms).

What else the contrast costs lies in the other rows: a DGCL step takes {ratio:.2f} x a step of self_training.

The steps: {seen('contrast_classes'):.1f} classes in the contrast, bank {seen('bank_fill'):.0%} full, {seen('contrast_kept'):.0%} of unlabelled cells kept."""
    return text, dict(
        rows=rows,
        forward_ms=1e3 * found["forward"],
        ours_percent=share,
        ratio_to_self_training=ratio,
        notes=notes,
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="Flags of dgcl_nb.train may follow after --."
    )
    parser.add_argument("--preset", default="digits", help="preset of the run (default: digits)")
    parser.add_argument("--warmup", type=int, default=100, help="supervised steps before (default 100)")
    parser.add_argument("--settle", type=int, default=10, help="self-training steps before (default 10)")
    parser.add_argument("--repeats", type=int, default=40, help="timed steps (default 40)")
    parser.add_argument(
        "--out", default=Path(__file__).parents[2] / "results", help="folder of the table (default: results)"
    )
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args, flags = parser.parse_args(sys.argv[1:cut]), sys.argv[cut + 1 :]
    here = machine()
    found, plain, notes, t = measure(args, flags)
    text, data = report(found, plain, notes)
    where = here | dict(threads=torch.get_num_threads(), device=str(t.accelerator.device)) | environment()
    batch, side = t.run.batch, t.run.views.crop
    text += f"\n\nPreset {' '.join([args.preset, *flags])}: {batch.labelled} + {batch.unlabelled} images of {side} x {side}, {args.repeats} steps timed."
    save(
        "bench_step",
        args.out,
        "One DGCL step, part by part",
        text,
        dict(machine=where, preset=args.preset, flags=flags, repeats=args.repeats, **data),
    )


if __name__ == "__main__":
    main()
