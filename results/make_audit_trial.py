"""Are wrong masks found? Masks damaged on purpose, a run trained on them, every score against the truth.

    python results/make_audit_trial.py                 all sets, 2 seeds; writes results/DATA/audit.md
    python results/make_audit_trial.py --only digits   one set
    python results/make_audit_trial.py --folds 2       beside them the same masks out of fold
    python results/make_audit_trial.py --unseen        trains nothing, see below; writes DATA/audit_unseen.md
    python results/make_audit_trial.py --tables        trains nothing: the tables of the trials that are done
    python results/make_audit_trial.py --measure       time and memory; writes results/bench_audit.md
    python results/make_audit_trial.py --try           whether it goes: one kind, 20 steps; writes to --place

For each set, kind of damage and seed: the masks of a preset are damaged (damage_masks.py), self_training is
trained on them, and two lists are audited: the labelled images, whose masks it was trained on, and of the
others as many, whose masks are damaged alike and were not trained on. Reported is the average precision of
images and of regions (room `suspects`). A run that is finished, and a trial that stands in audit.json, is not
done again. With --folds K the labelled images are audited a third way, as `dgcl_nb.audit --folds K` does:
by K networks, each trained without a Kth of the masks and asked about that: K trainings more. With cleanlab
installed (pip install 'dgcl_nb[audit]') its scores stand beside ours.

--unseen asks finished runs of self_training (--runs: where they are, PRESET-self_training-sSEED as
`dgcl_nb.bench` names them) about masks of val. Only the masks that are asked about are damaged: the network,
its last weights, was trained on clean ones and has seen no mask of val, and the banks are of its own, clean,
labelled images. That is the case of somebody who trusts a part of the masks, and an easier one than above,
where the network has learnt from wrong masks.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from damage_masks import damage_preset

from dgcl_nb.audited import OUT_OF_FOLD, Part, audit_hearings, audit_images, judge, masks_in
from dgcl_nb.core import InputError, mix_seed, peak_rss_mb
from dgcl_nb.data.damage import KINDS, MIXTURE, damage_some, pieces_of
from dgcl_nb.data.images import read_mask
from dgcl_nb.data.segdata import SomeImages
from dgcl_nb.data.sets import open_data
from dgcl_nb.density import unit_rows
from dgcl_nb.disagreement import SCORES, entry_weights
from dgcl_nb.folds import hearings_of, train_folds
from dgcl_nb.reference import ImageCells, build_banks, cells_of
from dgcl_nb.run_folder import write_atomic
from dgcl_nb.suspects import Finding, cleanlab_findings, image_precision, need_cleanlab, region_precision
from dgcl_nb.suspects import score_of_cells
from dgcl_nb.trained import open_trained, read_config
from dgcl_nb.whole_images import at_pixels

ROOT = Path(__file__).resolve().parent.parent
SEEDS = (0, 1)
# data set -> (preset, share of the images, kinds of damage)
TRIALS = dict(
    digits=("digits", 0.05, ("swap", "shift", "drop", "polygon")),
    neu_seg=("neu-308", 0.1, ("mixture",)),
    camvid=("camvid-92", 0.1, ("mixture",)),
)
# data set -> (preset of finished runs, share of val, kinds of damage)
UNSEEN = {
    name: (preset, 0.1, (*KINDS, MIXTURE))
    for name, preset in dict(digits="digits", neu_seg="neu-308", camvid="camvid-46").items()
}
SEEN = {"labelled": "trained on", OUT_OF_FOLD: OUT_OF_FOLD, "masks": "not trained on"}
FOR_TRYING = (
    "--steps 20 --loop.evaluations 1 --loop.snapshots 1 --loop.num_probes 2 --loop.report False".split()
)
OF_FOLDER = ["--data.name", "folder", "--data.lists", "", "--data.num_labelled", "250"]
"The damaged set has its own lists: what draws them in a preset must be at its default."


def some(images, num, seed):
    "Some images of a set, in its order."
    drawn = sorted(images.ids, key=lambda name: mix_seed(seed, "audited", name))[:num]
    return SomeImages(images, [name for name in images.ids if name in set(drawn)])


def damage_once(preset, kind, share, seed, place):
    "The damaged set, if it is not there; the part of one that was interrupted goes: truth.csv comes last."
    if (place / "truth.csv").is_file():
        return
    if place.exists():
        shutil.rmtree(place)
    damage_preset(preset, kind, share, seed, place)


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


CELLS = "worst cells"
"The row of images in the order of their worst cells; it has no regions."


def scores_of(found_by, of_cells, soft, damaged):
    """Score -> average precision of images and of regions.

    `of_cells` is the score of each image by its worst cells, `soft` that of cleanlab."""
    some_witness = next(iter(found_by.values()))
    by_cells = image_precision(some_witness, list(damaged), lambda f: of_cells[f.image])
    found = {CELLS: (by_cells, None)}
    for name, findings in found_by.items():
        order = findings
        if name == "cleanlab":  # its own score ranks images
            order = [Finding(f.image, [], f.judged, soft[f.image]) for f in findings]
        found[name] = (image_precision(order, list(damaged)), region_precision(findings, damaged))
    return found


def has_cleanlab():
    "Whether cleanlab is there; says so where it is not."
    try:
        need_cleanlab()
    except InputError as e:
        print(e)
        return False
    return True


def trial(name, kind, seed, place, more):
    "One set, one kind, one seed: rows of a table."
    preset, share, _ = TRIALS[name]
    masks, run = place / f"{name}-{kind}-s{seed}", place / f"run-{name}-{kind}-s{seed}"
    damage_once(preset, kind, share, seed, masks)
    train(preset, masks, run, seed, more)
    trained = open_trained(run)
    data = open_data(trained.run.data)
    labelled = Part("labelled", data.labelled, frozenset(data.labelled.ids))
    [others] = masks_in(masks / "more_masks", data)
    others = others._replace(images=some(others.images, len(data.labelled), seed))
    rows, with_cleanlab = [], has_cleanlab()
    for part in (labelled, others):
        result = audit_images(trained, data, [part], num=1, with_cleanlab=with_cleanlab)
        rows += rows_of(result, wrong_cells(masks, part, result.grids), kind, seed, part.name)
    return rows


def rows_of(result, damaged, kind, seed, part):
    "Rows of a table: what each score made of some masks."
    about = dict(kind=kind, seed=seed, masks=part, images=len(result.parts), damaged=len(damaged))
    found = scores_of(result.findings, result.of_cells, result.cleanlab, damaged)
    return [about | dict(score=name, image_ap=aps[0], region_ap=aps[1]) for name, aps in found.items()]


def trial_of_folds(name, kind, seed, place, num):
    "The labelled images of a trial that is done, out of fold: rows of a table."
    masks, folder = place / f"{name}-{kind}-s{seed}", place / f"run-{name}-{kind}-s{seed}"
    run = read_config(folder)
    data = open_data(run.data)
    folds = train_folds(run, data, num, folder / f"folds-{num}", say=print)
    options = dict(num=1, with_cleanlab=has_cleanlab())
    result = audit_hearings(hearings_of(folds, data), data.num_classes, **options)
    labelled = Part("labelled", data.labelled, frozenset())
    rows = rows_of(result, wrong_cells(masks, labelled, result.grids), kind, seed, OUT_OF_FOLD)
    return [row | dict(folds=num) for row in rows]


class Heard:
    "What the witnesses say of some masks, one kind of damage."

    def __init__(self):
        self.findings = {name: [] for name in SCORES}
        self.said = []  # id, labels (h, w) and probabilities (h, w, K), for cleanlab
        self.of_cells = {}  # id -> score of the image by its worst cells
        self.damaged = {}  # id -> (h, w) bool, the cells whose label is wrong

    def add(self, cells, judged, is_wrong):
        "Take in an image: its cells, what `judge` says of them, and which of them are wrong (N,)."
        findings, classes = judged
        for name, finding in findings.items():
            self.findings[name].append(finding)
        labels, probs = cells.labels.view(cells.grid).numpy(), classes["self_confidence"]
        self.said.append((cells.id, labels, probs))
        self.of_cells[cells.id] = score_of_cells(labels, probs)
        if is_wrong.any():
            self.damaged[cells.id] = is_wrong.view(cells.grid).numpy()

    def scores(self, with_cleanlab):
        "Score -> average precision of images and of regions."
        if not with_cleanlab:
            return scores_of(self.findings, self.of_cells, {}, self.damaged)
        soft, findings = cleanlab_findings(*zip(*self.said))
        return scores_of(self.findings | dict(cleanlab=findings), self.of_cells, soft, self.damaged)


def with_damage(cells, damage):
    "The same cells with the labels of a damaged mask, and which of them are wrong (N,)."
    clean, given = (at_pixels(torch.from_numpy(y).long(), cells.grid).flatten() for y in damage[1:])
    return replace(cells, labels=given), clean != given


def hear_unseen(trained, data, share, kinds, seed):
    "Kind of damage -> Heard, of val; a clean mask is judged once, as it is the same for every kind."
    banks = build_banks(cells_of(trained, data.labelled), data.num_classes)
    weights = entry_weights(banks)
    samples = (data.val[i] for i in range(len(data.val)))
    truth = {s["id"]: np.asarray(s["target"]).astype(np.uint8) for s in samples}
    about = data.num_classes, data.background, seed
    damages = {kind: damage_some(data.val.ids, truth.get, share, kind, *about) for kind in kinds}
    heard = {kind: Heard() for kind in kinds}
    for cells in cells_of(trained, data.val, with_probs=True):
        clean = judge(cells, banks, weights)
        for kind, done in damages.items():
            if cells.id not in done:
                heard[kind].add(cells, clean, torch.zeros(len(cells), dtype=torch.bool))
                continue
            given, is_wrong = with_damage(cells, done[cells.id])
            heard[kind].add(given, judge(given, banks, weights), is_wrong)
    return heard


def unseen_trial(run, share, kinds, seed):
    "One finished run on val, every kind of damage: rows of a table."
    if not (run / "result.json").is_file():
        sys.exit(f"{run} is no finished run; make it with dgcl_nb.bench, or name its folder with --runs")
    trained = open_trained(run, "last", "cpu")
    data, rows, with_cleanlab = open_data(trained.run.data), [], has_cleanlab()
    for kind, heard in hear_unseen(trained, data, share, kinds, seed).items():
        about = dict(kind=kind, seed=seed, images=len(data.val), damaged=len(heard.damaged), run=run.name)
        about |= dict(
            step=trained.step, pieces=sum(len(pieces_of(wrong)) for wrong in heard.damaged.values())
        )
        for score, (images, regions) in heard.scores(with_cleanlab).items():
            rows.append(about | dict(score=score, image_ap=images, region_ap=regions))
    return rows


def cells_of_table(rows):
    "Mean, and the value of each seed, of images and of regions."
    for key in ("image_ap", "region_ap"):
        values = [100 * r[key] for r in sorted(rows, key=lambda r: r["seed"]) if r[key] is not None]
        if not values:
            yield "-"
            continue
        yield f"{statistics.mean(values):.0f} ({', '.join(f'{v:.0f}' for v in values)})"


def unseen_table(name, rows):
    "All runs of a set that were asked, means over them."
    preset, share, _ = UNSEEN[name]
    seeds = sorted({r["seed"] for r in rows})
    text = [
        f"# {name}: are wrong masks found by a network that has not seen them?\n",
        f"`python results/make_audit_trial.py --unseen --only {name} --seeds {' '.join(map(str, seeds))}`:",
        f"{share:.0%} of the {rows[0]['images']} masks of val damaged, each kind for itself and all four in",
        "turn (*mixture*), in another way for each seed; asked are finished runs of self_training of preset",
        f"{preset}, their last weights, trained on clean masks and on none of val; banks of their own",
        "labelled images, clean too. Nothing was trained for this, so it does not say what an audit",
        "finds among masks that a network has learnt from: `make_audit_trial.py` without `--unseen`.\n",
        "AP: average precision in per cent, mean (one value a seed). *Chance*: the share of images with a",
        "damaged cell, about the AP of images in any order; *regions*: connected pieces of damaged cells.",
        f"Each score ranks images by their worst region, *{CELLS}* by their eight worst cells.\n",
        "| kind | chance | regions | score | AP images | AP regions |",
        "|---|---:|---:|---|---:|---:|",
    ]
    for kind, score in dict.fromkeys((r["kind"], r["score"]) for r in rows):
        own = [r for r in rows if (r["kind"], r["score"]) == (kind, score)]
        chance = statistics.mean(r["damaged"] / r["images"] for r in own)
        pieces = statistics.mean(r["pieces"] for r in own)
        images, regions = cells_of_table(own)
        text.append(f"| {kind} | {chance:.0%} | {pieces:.0f} | {score} | {images} | {regions} |")
    return "\n".join(text) + "\n"


def run_unseen(names, runs, seeds, out):
    "All runs that have not been asked; the table is written after each."
    for name in names:
        preset, share, kinds = UNSEEN[name]
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "audit_unseen.json"
        rows = json.loads(file.read_text()) if file.is_file() else []
        for seed in seeds:
            if any(r["seed"] == seed for r in rows):
                continue
            rows += unseen_trial(runs / f"{preset}-self_training-s{seed}", share, kinds, seed)
            write_atomic(file, json.dumps(rows, indent=1) + "\n")
            write_atomic(folder / "audit_unseen.md", unseen_table(name, rows))
        print((folder / "audit_unseen.md").read_text())


def folds_of(row):
    "By how many networks a row is out of fold; 0: it is not. Rows that do not say are of two."
    return row.get("folds", 2) if row["masks"] == OUT_OF_FOLD else 0


def words_on(nums):
    "What *out of fold* means, for the numbers of folds that were tried."
    flags = " and ".join(f"`--folds {num}`" for num in nums)
    if nums == [2]:
        who = "the one of two networks that was trained on the other half of the masks"
    else:
        who = "the one of so many networks that was trained without it"
    return f"*Out of fold* ({flags}): each mask by\n{who}."


def table_of(name, rows):
    "All trials of a set, means over seeds."
    preset, share, _ = TRIALS[name]
    seeds = sorted({r["seed"] for r in rows})
    nums = sorted({folds_of(r) for r in rows} - {0})
    planned = f" ({len(SEEDS)} are planned)" if len(seeds) < len(SEEDS) else ""
    words = f"python results/make_audit_trial.py --only {name} --seeds {' '.join(map(str, seeds))}"
    commands = " and ".join(f"`{words} --folds {num}`" for num in nums) or f"`{words}`"
    text = [
        f"# {name}: are wrong masks found?\n",
        f"{commands}:",
        f"{share:.0%} of the masks of preset {preset} damaged by `damage_masks.py`, self_training on them,",
        f"seeds {', '.join(map(str, seeds))}{planned}. AP: average",
        "precision in per cent, mean (one value a seed).",
        f"*Chance*: the share of images with a damaged cell. {words_on(nums) if nums else ''}".rstrip()
        + "\n",
        "| masks | kind | chance | score | AP images | AP regions |",
        "|---|---|---:|---|---:|---:|",
    ]
    order = [name for name in SEEN if any(r["masks"] == name for r in rows)]
    known = {}
    for r in rows:
        known.setdefault((r["masks"], folds_of(r), r["kind"], r["score"]), []).append(r)
    kinds = list(dict.fromkeys(kind for _, _, kind, _ in known))
    keys = sorted(known, key=lambda key: (kinds.index(key[2]), order.index(key[0]), key[1]))
    for key in keys:
        (masks, num, kind, score), own = key, known[key]
        seen = f"{SEEN[masks]}, {num} folds" if len(nums) > 1 and num else SEEN[masks]
        chance = statistics.mean(r["damaged"] / r["images"] for r in own)
        images, regions = cells_of_table(own)
        text.append(f"| {seen} | {kind} | {chance:.0%} | {score} | {images} | {regions} |")
    return "\n".join(text) + "\n"


def is_done(rows, kind, seed, masks, num=0):
    "Whether a trial stands in the file; one out of fold, with so many folds."
    return any((r["kind"], r["seed"], r["masks"], folds_of(r)) == (kind, seed, masks, num) for r in rows)


def write_tables(names):
    "The tables of the trials that are done; a set without any is passed over, and named."
    for name in names:
        file = ROOT / "results" / name / "audit.json"
        if not file.is_file():
            print(f"{name}: no trial is done; leave --tables out, and they are made")
            continue
        write_atomic(file.with_name("audit.md"), table_of(name, json.loads(file.read_text())))


def run_trials(names, seeds, place, more, is_try, num_folds=0):
    "All trials that are missing; the table is written after each."
    for name in names:
        folder = place if is_try else ROOT / "results" / name
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "audit.json"
        rows = json.loads(file.read_text()) if file.is_file() else []
        kinds = TRIALS[name][2][:1] if is_try else TRIALS[name][2]
        for kind in kinds:
            for seed in seeds[:1] if is_try else seeds:
                new = []
                if not is_done(rows, kind, seed, "labelled"):
                    new += trial(name, kind, seed, place, more)
                if num_folds and not is_done(rows, kind, seed, OUT_OF_FOLD, num_folds):
                    new += trial_of_folds(name, kind, seed, place, num_folds)
                rows += new
                if new:
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
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), help="which (default: 0 1)")
    parser.add_argument("--unseen", action="store_true", help="finished runs on masks of val; trains nothing")
    parser.add_argument(
        "--runs", type=Path, default=ROOT / "runs" / "bench", help="finished runs, for --unseen"
    )
    parser.add_argument("--folds", type=int, default=0, help="networks that ask out of fold (default: none)")
    parser.add_argument("--tables", action="store_true", help="the tables alone, of what is done")
    parser.add_argument("--measure", action="store_true", help="time and memory")
    parser.add_argument("--images", type=int, default=100, help="of --measure")
    asked, more = parser.parse_known_args()
    if asked.tables:
        return write_tables(asked.only)
    if asked.measure:
        text = measure(asked.images)
        write_atomic(ROOT / "results" / "bench_audit.md", text)
        return print(text)
    if asked.unseen:
        return run_unseen(asked.only, asked.runs, asked.seeds, ROOT / "results")
    asked.place.mkdir(parents=True, exist_ok=True)
    names = ["digits"] if asked.is_try else asked.only
    words = [*(FOR_TRYING if asked.is_try else []), *more]
    run_trials(names, asked.seeds, asked.place, words, asked.is_try, asked.folds)


if __name__ == "__main__":
    main()
