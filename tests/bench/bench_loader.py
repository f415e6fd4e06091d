"""Images a second of the loader against the bare decode of the same JPEGs.

    python tests/bench/bench_loader.py [--images 96] [--rounds 5] [--quick] [--out results]

Photographs of VOC's size (500 x 375, about 110 KB) and masks are written to a temporary folder. Then,
with 0, 1 and 2 worker processes and in turn:

- `decode` opens each JPEG and converts it to RGB, nothing else;
- `read` is the data set, which also turns it upright, decodes the mask and checks both;
- `voc` is `make_loader` with the views of the preset voc-732 (crop 513, scale 0.5-2, flip, a strong view
  without colours), up to the bytes that go to a GPU;
- `colours` has the strong view's colours too, as the presets with DINOv2 have;
- `colours, numbers` also makes the float batch on the CPU, for training there.

4 labelled and 4 unlabelled images a batch; unlabelled ones have masks here, which are decoded too. Two
measures: images a second by the clock, worker start included, and CPU milliseconds an image (of all
processes), which other work on the machine disturbs less. Goal: `voc` at least 80 % of `decode` with
workers."""

import argparse
import os
import resource
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from bench_density import machine, save, table
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as VF

from dgcl_nb import views as views_room
from dgcl_nb.batches import BatchConfig, make_loader, one_thread
from dgcl_nb.data.folder import open_folder
from dgcl_nb.views import ViewConfig, Views, normalize, strong_view, weak_view

SIZE, QUALITY, CLASSES = (500, 375), 96, 21
COLOURS = ViewConfig(crop=513, flip=True)
VOC = replace(COLOURS, jitter_prob=0, grey_prob=0, blur_prob=0)
LABELLED, UNLABELLED, WORKERS, GOAL = 4, 4, (0, 1, 2), 80.0
BATCH = LABELLED + UNLABELLED


def noisy_piece(photo, g):
    "A piece of a photograph, of any size, brought to the size of VOC's, with a little noise."
    share = g.uniform(0.6, 1)
    w, h = (int(n * share) for n in SIZE)
    y, x = g.integers(photo.shape[0] - h), g.integers(photo.shape[1] - w)
    piece = Image.fromarray(photo[y : y + h, x : x + w]).resize(SIZE)
    image = np.asarray(piece) + g.normal(0, 3, (*SIZE[::-1], 3))
    return Image.fromarray(image.clip(0, 255).astype(np.uint8))


def boxes(g):
    "A mask of four boxes."
    mask = np.zeros(SIZE[::-1], np.uint8)
    for c in g.integers(1, CLASSES, 4):
        y, x = g.integers(300), g.integers(400)
        mask[y : y + g.integers(30, 200), x : x + g.integers(30, 300)] = c
    return Image.fromarray(mask)


def write_photos(root, num, seed=0):
    "Pieces of scikit-learn's two photographs as JPEG, masks as palette PNG; the mean size of a JPEG in KB."
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    (root / "classes.txt").write_text("\n".join(f"class {i}" for i in range(CLASSES)))
    photos, g = load_sample_images().images, np.random.default_rng(seed)
    for i in range(num):
        noisy_piece(photos[i % 2], g).save(root / "images" / f"{i:04}.jpg", quality=QUALITY)
        boxes(g).save(root / "masks" / f"{i:04}.png")
    return statistics.fmean(p.stat().st_size for p in (root / "images").iterdir()) / 1e3


class Decode(Dataset):
    "Item i decodes the JPEGs of step i, as many as a batch has."

    def __init__(self, paths):
        self.paths = paths

    def __getitem__(self, step):
        for i in range(step * BATCH, (step + 1) * BATCH):
            Image.open(self.paths[i % len(self.paths)]).convert("RGB")
        return step


class Read(Dataset):
    "Item i reads the samples of step i, images and masks."

    def __init__(self, data):
        self.sets = ((data.labelled, LABELLED), (data.unlabelled, UNLABELLED))

    def __getitem__(self, step):
        for images, num in self.sets:
            for i in range(num):
                images[(step * num + i) % len(images)]
        return step


class Bytes:
    "A loader up to where its batches leave for the GPU."

    def __init__(self, loader):
        self.loader = loader

    def __iter__(self):
        return DataLoader.__iter__(self.loader)


def cpu_seconds():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def timed(loader, steps):
    "Images a second and CPU milliseconds an image of one pass over a loader."
    wall, cpu, images = time.perf_counter(), cpu_seconds(), steps * BATCH
    assert sum(1 for _ in loader) == steps
    return images / (time.perf_counter() - wall), 1e3 * (cpu_seconds() - cpu) / images


def loaders(data, paths, workers, steps):
    "The loaders that are compared."
    cfg = BatchConfig(labelled=LABELLED, unlabelled=UNLABELLED, workers=workers)

    def bare(dataset):
        return DataLoader(dataset, batch_size=None, sampler=range(steps), num_workers=workers)

    def ours(views):
        return make_loader(data, views, Views(strong=1), cfg, 0, 0, steps)

    return {
        "decode": bare(Decode(paths)),
        "read": bare(Read(data)),
        "voc": Bytes(ours(VOC)),
        "colours": Bytes(ours(COLOURS)),
        "colours, numbers": ours(COLOURS),
    }


def time_loaders(data, paths, rounds, steps):
    "A row for each number of workers: medians over the rounds."
    rows = []
    for workers in WORKERS:
        found = {}
        for i in range(rounds + 1):
            for name, loader in loaders(data, paths, workers, steps).items():
                result = timed(loader, steps)
                if i > 0:  # the first round warms up
                    found.setdefault(name, []).append(result)
        medians = {name: tuple(map(statistics.median, zip(*results))) for name, results in found.items()}
        rows.append(dict(workers=workers) | medians)
    return rows


def torchvision_hue_and_blur(image, cfg):
    "A strong view as it was before hue and blur were rewritten, for the table of parts."
    kept = views_room.turn_hue, views_room.blur_by

    def old_blur(x, sigma):
        reach = int(np.ceil(views_room.BLUR_REACH * sigma))
        return VF.gaussian_blur_image(x, [2 * reach + 1] * 2, [sigma] * 2)

    views_room.turn_hue, views_room.blur_by = VF.adjust_hue_image, old_blur
    try:
        return strong_view(image, cfg)
    finally:
        views_room.turn_hue, views_room.blur_by = kept


def time_parts(data, rounds):
    "{part: CPU milliseconds an image}, in this process, one thread: where the loader's time goes."
    samples = [data.labelled[i] for i in range(min(16, len(data.labelled)))]
    weak = [weak_view(s["image"], s["target"], COLOURS)[0] for s in samples]
    parts = {
        "weak view, image and mask": lambda i: weak_view(samples[i]["image"], samples[i]["target"], COLOURS),
        "strong view": lambda i: strong_view(weak[i], COLOURS),
        "strong view, torchvision's hue and blur": lambda i: torchvision_hue_and_blur(weak[i], COLOURS),
        "of it: jitter, when drawn": lambda i: strong_view(weak[i], replace(VOC, jitter_prob=1)),
        "of it: blur, when drawn": lambda i: strong_view(weak[i], replace(VOC, blur_prob=1)),
        "normalise": lambda i: normalize(weak[i], COLOURS.mean, COLOURS.std),
    }
    taken = {name: [] for name in parts}
    with one_thread():
        for r in range(rounds):
            for name, run in parts.items():
                torch.manual_seed(r)
                start = time.process_time()
                for i in range(len(samples)):
                    run(i)
                taken[name].append(1e3 * (time.process_time() - start) / len(samples))
    return {name: statistics.median(t) for name, t in taken.items()}


NAMES = ("decode", "read", "voc", "colours", "colours, numbers")


def ratios(rows, place):
    "The rows of one measure (0: images a second, 1: CPU milliseconds), with the share of the decode's speed."

    def share(row, name):
        mine, decode = row[name][place], row["decode"][place]
        return 100 * (mine / decode if place == 0 else decode / mine)

    found = []
    for row in rows:
        measured = {name: row[name][place] for name in NAMES}
        shares = {f"{name} %": share(row, name) for name in ("voc", "colours")}
        found.append({"workers": row["workers"]} | measured | shares)
    return found


TEXT = """JPEGs of {width} x {height}, {kilobytes:.0f} KB on average. \
Images a second (median), and the share of `decode`:

{speeds}

CPU milliseconds an image (median), and the ratio of speeds that follows:

{cpu}

Where they go, CPU milliseconds an image, one thread:

{parts}

Goal: `voc` at least {goal:.0f} % of `decode` with as many workers: **{reached:.0f} %, {met}**.
It costs {voc:.1f} x the CPU time of `decode`, with colours {colours:.1f} x, \
so as many images as *one* decoding process gives take as many workers on free cores \
(computed from the CPU times, not run)."""


def report(rows, parts, kilobytes):
    "The tables and what they say."
    columns = {"workers": "d"} | {n: ".1f" for n in NAMES} | {f"{n} %": ".0f" for n in ("voc", "colours")}
    speeds, cpu = ratios(rows, 0), ratios(rows, 1)
    reached = max(r["voc %"] for r in speeds if r["workers"])
    factors = {n: rows[-1][n][1] / rows[-1]["decode"][1] for n in ("voc", "colours")}
    of_parts = [{"part": name, "ms": ms} for name, ms in parts.items()]
    text = TEXT.format(
        width=SIZE[0],
        height=SIZE[1],
        kilobytes=kilobytes,
        speeds=table(speeds, columns),
        cpu=table(cpu, columns),
        parts=table(of_parts, {"part": "<s", "ms": ".1f"}),
        goal=GOAL,
        reached=reached,
        met="met" if reached >= GOAL else "not met",
        **factors,
    )
    numbers = dict(rows=rows, parts=parts, kilobytes=kilobytes)
    return text, numbers | dict(reached_percent=reached, cpu_factors=factors)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=96, help="JPEGs to write (default 96)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds of each loader (default 5)")
    few = "one round of few images; does not write results"
    parser.add_argument("--quick", action="store_true", help=few)
    results = Path(__file__).parents[2] / "results"
    parser.add_argument("--out", default=results, help="folder of the tables (default: results)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = machine()
    rounds, images = (1, 24) if args.quick else (args.rounds, args.images)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        kilobytes = write_photos(root, images)
        paths = sorted((root / "images").iterdir())
        data = open_folder(root, labelled=[p.stem for p in paths[: images // 2]], val=[paths[-1].stem])
        rows = time_loaders(data, paths, rounds, 2 * images // BATCH)
        text, numbers = report(rows, time_parts(data, rounds), kilobytes)
    if args.quick:
        print(text)
        return
    found |= dict(load_at_end=round(os.getloadavg()[0], 1))
    save("bench_loader", args.out, "The loader against the bare decode", text, dict(machine=found) | numbers)


if __name__ == "__main__":
    main()
