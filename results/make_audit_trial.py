"""Are wrong masks found? Masks damaged on purpose, a run trained on them, every score against the truth.

    python results/make_audit_trial.py                 all sets, 2 seeds; writes results/DATA/audit.md
    python results/make_audit_trial.py --only digits   one set
    python results/make_audit_trial.py --measure       time and memory; writes results/bench_audit.md
    python results/make_audit_trial.py --try           whether it goes: one kind, 20 steps; writes to --place

For each set, kind of damage and seed: the masks of a preset are damaged (damage_masks.py), self_training is
trained on them, and two lists are audited: the labelled images, whose masks it was trained on, and of the
others as many, whose masks are damaged alike and were not trained on. Reported is the average precision of
images and of regions (room `suspects`). A run that is finished, and a trial that stands in audit.json, is not
done again. With cleanlab installed (pip install 'dgcl_nb[audit]') its scores stand beside ours.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from damage_masks import damage_preset

from dgcl_nb.audited import Part, audit_images, judge, masks_in
from dgcl_nb.core import InputError, mix_seed, peak_rss_mb
from dgcl_nb.data.images import read_mask
from dgcl_nb.data.sets import open_data
from dgcl_nb.density import unit_rows
from dgcl_nb.disagreement import entry_weights
from dgcl_nb.reference import ImageCells, build_banks
from dgcl_nb.run_folder import write_atomic
from dgcl_nb.suspects import Finding, cleanlab_findings, image_precision, need_cleanlab, region_precision
from dgcl_nb.trained import open_trained
from dgcl_nb.whole_images import at_pixels

ROOT = Path(__file__).resolve().parent.parent
SEEDS = (0, 1)
# data set -> (preset, share of the images, kinds of damage)
TRIALS = dict(
    digits=("digits", 0.05, ("swap", "shift", "drop", "polygon")),
    neu_seg=("neu-308", 0.1, ("mixture",)),
    camvid=("camvid-92", 0.1, ("mixture",)),
)
SEEN = dict(labelled="trained on", masks="not trained on")
FOR_TRYING = (
    "--steps 20 --loop.evaluations 1 --loop.snapshots 1 --loop.num_probes 2 --loop.report False".split()
)
OF_FOLDER = ["--data.name", "folder", "--data.lists", "", "--data.num_labelled", "250"]
"The damaged set has its own lists: what draws them in a preset must be at its default."


class Some:
    "Some images of a set."

    def __init__(self, images, num, seed):
        order = sorted(range(len(images)), key=lambda i: mix_seed(seed, "audited", images.ids[i]))
        self.images, self.places = images, sorted(order[:num])
        self.ids = [images.ids[i] for i in self.places]

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        return self.images[self.places[i]]


def train(preset, place, run, seed, more):
    "self_training on damaged masks; a run that is finished is left alone, one that was stopped goes on."
    if (run / "result.json").is_file():
        return
    words = ["--preset", preset, "--method", "self_training", "--seed", str(seed), *OF_FOLDER]
    words += ["--data.root", str(place), *more]
    if (run / "config.json").is_file():
        words = ["--resume"]
    command = [sys.executable, "-m", "dgcl_nb.train", "--out", str(run), *words]
    print("$", *command[1:], flush=True)
    done = subprocess.run(command, cwd=ROOT, env=os.environ | dict(PYTHONPATH=str(ROOT)))
    if done.returncode:
        sys.exit(f"training ended with status {done.returncode}; the same command goes on from what is there")


def wrong_cells(place, part, grids):
    "Image -> (h, w) bool: cells whose middle was damaged; without images of which no cell was."
    folder = "masks" if part.name == "labelled" else "more_masks"
    found = {}
    for name in part.images.ids:
        clean = place / "clean" / f"{name}.png"
        if clean.is_file():
            masks = (torch.from_numpy(read_mask(p)) for p in (clean, place / folder / f"{name}.png"))
            before, after = (at_pixels(mask, grids[name]) for mask in masks)
            found[name] = (before != after).numpy()
    return {name: cells for name, cells in found.items() if cells.any()}


def scores_of(result, damaged):
    "Score -> average precision of images and of regions."
    found = {}
    for name, findings in result.findings.items():
        order = findings
        if name == "cleanlab":  # its own score ranks images
            order = [Finding(f.image, [], f.judged, result.cleanlab[f.image]) for f in findings]
        found[name] = (image_precision(order, list(damaged)), region_precision(findings, damaged))
    return found


def trial(name, kind, seed, place, more):
    "One set, one kind, one seed: rows of a table."
    preset, share, _ = TRIALS[name]
    masks, run = place / f"{name}-{kind}-s{seed}", place / f"run-{name}-{kind}-s{seed}"
    if not (masks / "truth.csv").is_file():
        damage_preset(preset, kind, share, seed, masks)
    train(preset, masks, run, seed, more)
    trained = open_trained(run)
    data = open_data(trained.run.data)
    labelled = Part("labelled", data.labelled, frozenset(data.labelled.ids))
    [others] = masks_in(masks / "more_masks", data)
    others = others._replace(images=Some(others.images, len(data.labelled), seed))
    has_cleanlab = True
    try:
        need_cleanlab()
    except InputError as e:
        print(e)
        has_cleanlab = False
    rows = []
    for part in (labelled, others):
        result = audit_images(trained, data, [part], num=1, with_cleanlab=has_cleanlab)
        damaged = wrong_cells(masks, part, result.grids)
        about = dict(kind=kind, seed=seed, masks=part.name, images=len(part.images), damaged=len(damaged))
        for score, (images, regions) in scores_of(result, damaged).items():
            rows.append(about | dict(score=score, image_ap=images, region_ap=regions))
    return rows


def table_of(name, rows):
    "All trials of a set, means over seeds."
    preset, share, _ = TRIALS[name]
    seeds = sorted({r["seed"] for r in rows})
    text = [
        f"# {name}: are wrong masks found?\n",
        f"`python results/make_audit_trial.py --only {name}`:",
        f"{share:.0%} of the masks of preset {preset} damaged by `damage_masks.py`, self_training on them,",
        f"seeds {', '.join(map(str, seeds))}. AP: average",
        "precision in per cent, mean (one value a seed).",
        "*Chance*: the share of images with a damaged cell.\n",
        "| masks | kind | chance | score | AP images | AP regions |",
        "|---|---|---:|---|---:|---:|",
    ]
    keys = dict.fromkeys((r["masks"], r["kind"], r["score"]) for r in rows)
    for masks, kind, score in keys:
        own = [r for r in rows if (r["masks"], r["kind"], r["score"]) == (masks, kind, score)]
        chance = statistics.mean(r["damaged"] / r["images"] for r in own)
        cells = []
        for key in ("image_ap", "region_ap"):
            values = [100 * r[key] for r in sorted(own, key=lambda r: r["seed"])]
            each = ", ".join(f"{v:.0f}" for v in values)
            cells.append(f"{statistics.mean(values):.0f} ({each})")
        text.append(f"| {SEEN[masks]} | {kind} | {chance:.0%} | {score} | {cells[0]} | {cells[1]} |")
    return "\n".join(text) + "\n"


def run_trials(names, place, more, is_try):
    "All trials that are missing; the table is written after each."
    for name in names:
        folder = place if is_try else ROOT / "results" / name
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "audit.json"
        rows = json.loads(file.read_text()) if file.is_file() else []
        kinds = TRIALS[name][2][:1] if is_try else TRIALS[name][2]
        for kind in kinds:
            for seed in SEEDS[:1] if is_try else SEEDS:
                if any((r["kind"], r["seed"]) == (kind, seed) for r in rows):
                    continue
                rows += trial(name, kind, seed, place, more)
                write_atomic(file, json.dumps(rows, indent=1) + "\n")
                write_atomic(folder / "audit.md", table_of(name, rows))
        print((folder / "audit.md").read_text())


SIDE, NUM_CLASSES, DIM = 250, 11, 64
"Made-up images of cleanlab's own measurement; features as those of the presets."


def made_up(i):
    "Cells of an image of 250² pixels, at a quarter of its size."
    draw, side = torch.Generator().manual_seed(i), -(-SIDE // 4)
    labels = torch.randint(NUM_CLASSES, (side * side,), generator=draw)
    feats = torch.randn(len(labels), DIM, generator=draw) + 4 * torch.eye(NUM_CLASSES, DIM)[labels]
    probs = (feats[:, :NUM_CLASSES]).softmax(1)
    image = torch.zeros(3, SIDE, SIDE, dtype=torch.uint8)
    said = dict(prediction=labels, confidence=probs[:, 0], entropy=probs[:, 0], margin=probs[:, 0])
    return ImageCells(f"image-{i}", image, (side, side), unit_rows(feats), labels, **said, probs=probs)


def measure(num):
    "Time and memory of the scores alone, a thousand images, without the network that all need."
    torch.set_num_threads(1)
    banks = build_banks(map(made_up, range(100)), NUM_CLASSES)
    weights, before = entry_weights(banks), peak_rss_mb()
    seconds, kept = 0.0, []
    for i in range(num):
        cells = made_up(i)
        start = time.process_time()
        judge(cells, banks, weights)
        seconds += time.process_time() - start
    ours = (1000 * seconds / num, peak_rss_mb() - before)
    text = [
        "# What an audit costs\n",
        f"`python results/make_audit_trial.py --measure`: made-up images of {SIDE}² pixels,",
        f"{NUM_CLASSES} classes, {DIM} features; seconds of one processor core for 1000 images (measured",
        f"on {num}), without the network that both need;",
        "memory beyond what the process had before. cleanlab's figures are those of",
        "its own pull request 1069 (1000 images of 250²), on another machine.\n",
        "| | seconds | memory |",
        "|---|---:|---:|",
        f"| all five scores, cell by cell, one image at a time | {ours[0]:.0f} | {ours[1]:.0f} MB |",
        "| cleanlab, as its PR 1069 says | 71 | 8.0 GB |",
    ]
    try:
        need_cleanlab()
    except InputError as e:
        print(e)
    else:
        kept = [made_up(i) for i in range(num)]
        maps = [(c.labels.view(c.grid).numpy(), c.probs.view(*c.grid, -1).numpy()) for c in kept]
        start = time.process_time()
        cleanlab_findings([c.id for c in kept], *zip(*maps))
        spent = 1000 * (time.process_time() - start) / num
        text.append(f"| cleanlab on the same cells, here | {spent:.0f} | all probabilities at once |")
    return "\n".join(text) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=TRIALS, default=list(TRIALS))
    parser.add_argument("--place", type=Path, default=ROOT / "runs" / "audit", help="damaged sets and runs")
    parser.add_argument("--try", dest="is_try", action="store_true", help="whether it goes")
    parser.add_argument("--measure", action="store_true", help="time and memory")
    parser.add_argument("--images", type=int, default=100, help="of --measure")
    asked, more = parser.parse_known_args()
    if asked.measure:
        text = measure(asked.images)
        write_atomic(ROOT / "results" / "bench_audit.md", text)
        return print(text)
    asked.place.mkdir(parents=True, exist_ok=True)
    names = ["digits"] if asked.is_try else asked.only
    run_trials(names, asked.place, [*(FOR_TRYING if asked.is_try else []), *more], asked.is_try)


if __name__ == "__main__":
    main()
