"""The time of one DGCL step, part by part, and of a step of self-training on the same batches.

    python tests/bench/bench_step.py [--preset digits] [--warmup 100] [--settle 10] [--repeats 40]
                                     [--out results] [-- further train flags]

The contrast acts from the beginning of self-training. A run is warmed up by `warmup` supervised and
`settle` self-training steps, so that pseudo-labels are what they are in a run, then the bank is filled to
its last entry (copies of what it holds, a little disturbed), and `repeats` steps are timed: dgcl and
self_training in turn, in one process, each on its own network; the median counts. Parts nest in the code -
"forward, all" holds teacher, student forward, density and a part of the bank - so only the innermost are
listed; "losses, mixing, rest" is what remains of the step: cross-entropies, CutMix, logs of the labels, the
engine.

Goal: density + sampling + loss + bank at most 10 % of the step."""

import statistics
import sys
import tempfile
import time

import torch
import torch.nn.functional as F
from bench_density import command_line, machine, save, table

from dgcl_nb.batches import make_loader
from dgcl_nb.config import environment, parse_run
from dgcl_nb.engine import start_training
from dgcl_nb.processes import Control
from dgcl_nb.run_folder import RunFolder
from dgcl_nb.timing import collect_sections, section
from dgcl_nb.training import training_step

CONTRAST = "density + sampling + loss"
PARTS = ("data", "teacher", "student forward", CONTRAST, "backward", "optimiser", "bank", "EMA")
REST, GOAL = "losses, mixing, rest", 10.0


def open_run(method, args, flags):
    "A run of `warmup` supervised steps and three times as many of self-training, with its loader."
    share, steps = 0.25, 4 * args.warmup
    assert steps - args.warmup > args.settle + args.repeats, "more repeats than steps: raise --warmup"
    words = ["--preset", args.preset, "--method", method, "--steps", str(steps)]
    words += ["--loop.sup_only_fraction", str(share)]
    if method == "dgcl":
        words += ["--dgcl.contrast_start", "0"]  # the contrast acts in every step that is timed
    run = parse_run([*words, *flags])
    t = start_training(run, RunFolder(tempfile.mkdtemp()).create(), Control())
    pin = t.accelerator.device.type == "cuda"
    views = run.views, t.method.views
    return t, iter(make_loader(t.data, *views, run.batch, run.seed, 0, steps, pin_memory=pin))


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
        feats = F.normalize(disturbed(queue.feats, bank.feats, missing), dim=1)
        proj = disturbed(queue.proj, bank.proj, missing)
        density, confidence = feats.new_full((missing,), 0.5), feats.new_full((missing,), 0.9)
        bank.add(c, feats, proj, density, confidence, 0)
    assert bank.fill().min() == 1


def timed_step(t, loader):
    "Seconds of one step: in all, part by part, and what remains; and its losses."
    with collect_sections() as seconds:
        wait_for(t.accelerator.device)
        start = time.perf_counter()
        losses = step_of(t, loader)
        wait_for(t.accelerator.device)
        total = time.perf_counter() - start
    parts = {name: seconds.get(name, 0.0) for name in PARTS}
    parts[REST] = total - sum(parts.values())
    return dict(total=total, forward=seconds["forward, all"]) | parts, losses


def wait_for(device):
    "Until a GPU has done what it was told."
    if device.type == "cuda":
        torch.cuda.synchronize()


def medians(rows):
    "The median of each figure."
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def means(notes):
    "The mean of each note, over the steps that have it."
    names = sorted({name for note in notes for name in note})
    return {name: statistics.fmean(note[name] for note in notes if name in note) for name in names}


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
                notes.append({k: float(note.total / note.count) for k, note in losses.notes.items()})
    return medians(rows["dgcl"]), medians(rows["self_training"]), means(notes), runs["dgcl"][0]


NOTES = """

Medians of single parts, so they do not add up exactly. The whole forward pass (teacher, student,
density, a part of the bank, losses): {forward:.1f} ms.

Goal: density + sampling + loss + bank at most {goal:.0f} % of the step: **{share:.1f} %** ({ours:.1f} ms).

What else the contrast costs lies in the other rows: a DGCL step takes {ratio:.2f} x a step of self_training.

The steps: {classes:.1f} classes in the contrast, bank {fill:.0%} full, \
{kept:.0%} of unlabelled cells kept."""


def report(found, plain, notes):
    "The table and what to read off it, as text and as values."
    total, rows = found["total"], []
    keys = {name: name for name in (*PARTS, REST)} | {"the step": "total"}
    for name, key in keys.items():
        row = {"part": name, "ms": 1e3 * found[key], "%": 100 * found[key] / total}
        rows.append(row | {"ms, self_training": 1e3 * plain[key]})
    ours = found[CONTRAST] + found["bank"]
    share, ratio = 100 * ours / total, total / plain["total"]
    text = table(rows, {"part": "", "ms": ".1f", "%": ".1f", "ms, self_training": ".1f"})
    text += NOTES.format(
        forward=1e3 * found["forward"],
        goal=GOAL,
        share=share,
        ours=1e3 * ours,
        ratio=ratio,
        classes=notes.get("contrast_classes", 0),
        fill=notes.get("bank_fill", 0),
        kept=notes.get("contrast_kept", 0),
    )
    data = dict(rows=rows, forward_ms=1e3 * found["forward"], ours_percent=share)
    return text, data | dict(ratio_to_self_training=ratio, notes=notes)


def main():
    parser = command_line(__doc__, epilog="Flags of dgcl_nb.train may follow after --.")
    parser.add_argument("--preset", default="digits", help="preset of the run (default: digits)")
    parser.add_argument("--warmup", type=int, default=100, help="supervised steps before (default 100)")
    parser.add_argument("--settle", type=int, default=10, help="self-training steps before (default 10)")
    parser.add_argument("--repeats", type=int, default=40, help="timed steps (default 40)")
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args, flags = parser.parse_args(sys.argv[1:cut]), sys.argv[cut + 1 :]
    here = machine()
    found, plain, notes, t = measure(args, flags)
    text, data = report(found, plain, notes)
    where = here | dict(threads=torch.get_num_threads(), device=str(t.accelerator.device)) | environment()
    batch, side = t.run.batch, t.run.views.crop
    images = f"{batch.labelled} + {batch.unlabelled} images of {side} x {side}"
    text += f"\n\nPreset {' '.join([args.preset, *flags])}: {images}, {args.repeats} steps timed."
    data |= dict(machine=where, preset=args.preset, flags=flags, repeats=args.repeats)
    save("bench_step", args.out, "One DGCL step, part by part", text, data)


if __name__ == "__main__":
    main()
