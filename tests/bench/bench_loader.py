"""The loader's CPU time against what the libraries need for the same pixels.

    python tests/bench/bench_loader.py [--rounds 9] [--quick] [--out results] [--before earlier.json]

Noisy photographs and masks in the sizes of VOC (JPEG), Cityscapes and CamVid (PNG) are written to a
temporary folder. In turn, in one process and thread:

- `limit`: Pillow decodes the image and the mask; torchvision resizes the image, its crop becomes a tensor
  with the channels outermost; Pillow resizes the crop of the mask. No padding, no check, no batch;
- `views`: `make_batch` up to the bytes that go to a GPU, with a strong view without colours;
- `colours`: the same with the strong view's colours.

Both crop as the presets do (scale 0.5-2, flip). 4 labelled and 4 unlabelled images a batch; unlabelled
ones have masks here, which are decoded too. The measure is CPU time; each round gives a ratio, and the
median of the ratios counts, since other work on the machine disturbs both sides alike. Then the same views
of VOC's files with 0, 1 and 2 worker processes, what the parts cost, and what was not chosen.
`--before` names an earlier bench_loader.json, whose ratios are set beside these."""

import argparse
import json
import math
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from bench_density import machine, save, table
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision.io import decode_image, read_file
from torchvision.transforms.v2 import functional as VF

from dgcl_nb.batches import BatchConfig, make_batch, make_loader, one_thread
from dgcl_nb.colours import BLUR_REACH, blur_by, turn_hue
from dgcl_nb.data.folder import open_folder
from dgcl_nb.views import ViewConfig, Views, draw_crop, normalize, strong_view, weak_view
from dgcl_nb.workers import Loader

QUALITY, NOISE, NUM_BOXES, DATA_SEED = 96, 3, 12, 0
HUE, SIGMA = 0.1, 1.0
LABELLED, UNLABELLED, WORKERS, STEPS = 4, 4, (0, 1, 2), 24
BATCH = LABELLED + UNLABELLED
GOALS = dict(views=1.25, colours=1.5)


@dataclass(frozen=True)
class Kind:
    "Files like those of a data set."

    name: str
    size: tuple[int, int]  # width and height
    suffix: str  # of the images; masks are PNG
    classes: int
    crop: int
    images: int  # for training, a multiple of a batch; one more is written, to be scored

    def cfg(self, colours):
        cfg = ViewConfig(crop=self.crop, flip=True)
        return cfg if colours else replace(cfg, jitter_prob=0, grey_prob=0, blur_prob=0)


KINDS = (
    Kind("VOC", (500, 375), ".jpg", 21, 513, 16),
    Kind("Cityscapes", (2048, 1024), ".png", 19, 769, 8),
    Kind("CamVid", (480, 360), ".png", 11, 360, 16),
)


def noisy_piece(photo, size, g):
    "A piece of a photograph, brought to a size, with a little noise."
    share = g.uniform(0.6, 1)
    w, h = (int(n * share) for n in (480, 360))
    y, x = g.integers(photo.shape[0] - h), g.integers(photo.shape[1] - w)
    piece = Image.fromarray(photo[y : y + h, x : x + w]).resize(size)
    image = np.asarray(piece) + g.normal(0, NOISE, (*size[::-1], 3))
    return Image.fromarray(image.clip(0, 255).astype(np.uint8))


def boxes(size, classes, g):
    "A mask of boxes."
    width, height = size
    mask = np.zeros((height, width), np.uint8)
    for c in g.integers(1, classes, NUM_BOXES):
        y, x = g.integers(height), g.integers(width)
        mask[y : y + g.integers(10, height // 2), x : x + g.integers(10, width // 2)] = c
    return Image.fromarray(mask)


def write_files(root, kind):
    "Images and masks of one kind; the data set of them."
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    (root / "classes.txt").write_text("\n".join(f"class {i}" for i in range(kind.classes)))
    photos, g = load_sample_images().images, np.random.default_rng(DATA_SEED)
    names = [f"{i:04}" for i in range(kind.images + 1)]
    for i, name in enumerate(names):
        image = noisy_piece(photos[i % 2], kind.size, g)
        image.save(root / "images" / f"{name}{kind.suffix}", quality=QUALITY)
        boxes(kind.size, kind.classes, g).save(root / "masks" / f"{name}.png")
    return open_folder(root, labelled=names[: kind.images // 2], val=names[-1:])


def files_of(data):
    "(image, mask) of each training image."
    sets = (data.labelled, data.unlabelled)
    return [(s.image_of[name], s.mask_of[name]) for s in sets for name in s.ids]


def shown(crop, side):
    "Rows and columns of the resized image that a view shows."
    rows = slice(max(0, crop.top), min(crop.height, crop.top + side))
    return rows, slice(max(0, crop.left), min(crop.width, crop.left + side))


def box_of(image, crop, side):
    "What a view shows as Pillow's `size` and `box`."
    rows, columns = shown(crop, side)
    y, x = image.height / crop.height, image.width / crop.width
    box = (columns.start * x, rows.start * y, columns.stop * x, rows.stop * y)
    return (columns.stop - columns.start, rows.stop - rows.start), box


def resized_crop(pixels, crop, side):
    "The part of a (3, H, W) image that a view shows, by torchvision."
    rows, columns = shown(crop, side)
    return VF.resize_image(pixels, [crop.height, crop.width])[:, rows, columns].contiguous()


def pillow_crop(image, crop, side):
    "The same in one call of Pillow."
    size, box = box_of(image, crop, side)
    cut = np.array(image.resize(size, Image.BILINEAR, box=box))
    return torch.from_numpy(cut).permute(2, 0, 1).contiguous()


def pixels_of(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def bare(paths, cfg):
    "What the libraries need for a view of an image and its mask."
    image, mask = Image.open(paths[0]), Image.open(paths[1])
    crop = draw_crop(image.height, image.width, cfg)
    size, box = box_of(mask, crop, cfg.crop)
    target = np.array(mask.resize(size, Image.NEAREST, box=box))
    return resized_crop(pixels_of(image), crop, cfg.crop), target


def cpu_ms(run: Callable, calls: list[tuple], images: int):
    "CPU milliseconds of this process an image, of some calls of `run`."
    start = time.process_time()
    for args in calls:
        run(*args)
    return 1e3 * (time.process_time() - start) / images


def time_kind(kind, data, rounds):
    "A row: CPU milliseconds an image of the limit and of ours, and the medians of the rounds' ratios."
    cfg, files = BatchConfig(labelled=LABELLED, unlabelled=UNLABELLED), files_of(data)
    assert len(files) == kind.images

    # made once, as a run does: checking settings is no part of a view
    plain, coloured = kind.cfg(colours=False), kind.cfg(colours=True)

    def limit():
        for paths in files:
            bare(paths, plain)

    def ours(view_cfg):
        for step in range(kind.images // BATCH):
            make_batch(data, view_cfg, Views(strong=1), cfg, 0, step, as_bytes=True)

    runs = dict(limit=(limit, ()), views=(ours, (plain,)), colours=(ours, (coloured,)))
    taken = {name: [] for name in runs}
    with one_thread():
        for i in range(rounds + 1):
            torch.manual_seed(i)
            for name, (run, args) in runs.items():
                ms = cpu_ms(run, [args], kind.images)
                if i > 0:  # the first round warms up
                    taken[name].append(ms)
    factors = {n: [a / b for a, b in zip(taken[n], taken["limit"])] for n in GOALS}
    sizes = [image.stat().st_size for image, _ in files]
    row = dict(files=f"{kind.name}, {kind.suffix[1:]}", kilobytes=statistics.fmean(sizes) / 1e3)
    row |= {name: statistics.median(ms) for name, ms in taken.items()}
    return row | {f"{name} x": statistics.median(ratios) for name, ratios in factors.items()}


class Bytes:
    "A loader up to where its batches leave for the GPU."

    def __init__(self, loader):
        self.loader = loader

    def __iter__(self):
        return Loader.__iter__(self.loader)


def cpu_seconds():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def timed(loader, steps):
    "Images a second and CPU milliseconds an image of one pass over a loader."
    wall, cpu, images = time.perf_counter(), cpu_seconds(), steps * BATCH
    assert sum(1 for _ in loader) == steps
    return images / (time.perf_counter() - wall), 1e3 * (cpu_seconds() - cpu) / images


def loaders(kind, data, workers, steps):
    "The loaders that are compared."
    cfg = BatchConfig(labelled=LABELLED, unlabelled=UNLABELLED, workers=workers)

    def ours(colours):
        return make_loader(data, kind.cfg(colours), Views(strong=1), cfg, 0, 0, steps)

    return {
        "voc": Bytes(ours(False)),
        "colours": Bytes(ours(True)),
        "colours, numbers": ours(True),
    }


def time_loaders(kind, data, rounds):
    "A row for each number of workers: medians over the rounds."
    rows, steps = [], STEPS
    for workers in WORKERS:
        found = {}
        for i in range(rounds + 1):
            for name, loader in loaders(kind, data, workers, steps).items():
                result = timed(loader, steps)
                if i > 0:  # the first round warms up
                    found.setdefault(name, []).append(result)
        medians = {name: tuple(map(statistics.median, zip(*results))) for name, results in found.items()}
        rows.append(dict(workers=workers) | medians)
    return rows


def time_all(parts, num, rounds):
    "{part: CPU milliseconds an image}, one thread, the parts in turn; each is called with 0 to num - 1."
    taken = {name: [] for name in parts}
    with one_thread():
        for r in range(rounds):
            for name, run in parts.items():
                torch.manual_seed(r)
                taken[name].append(cpu_ms(run, [(i,) for i in range(num)], num))
    return {name: statistics.median(t) for name, t in taken.items()}


def time_parts(kind, data, rounds):
    "Where the loader's time goes."
    samples = [data.labelled[i] for i in range(len(data.labelled))]
    colours, plain = kind.cfg(True), kind.cfg(False)
    weak = [weak_view(s["image"], s["target"], plain)[0] for s in samples]
    parts = {
        "image and mask, read and checked": lambda i: data.labelled[i],
        "weak view, image and mask": lambda i: weak_view(samples[i]["image"], samples[i]["target"], plain),
        "strong view": lambda i: strong_view(weak[i], colours),
        "of it: jitter, when drawn": lambda i: strong_view(weak[i], replace(plain, jitter_prob=1)),
        "of it: blur, when drawn": lambda i: strong_view(weak[i], replace(plain, blur_prob=1)),
        "normalise": lambda i: normalize(weak[i], colours.mean, colours.std),
    }
    return time_all(parts, len(samples), rounds)


def time_choices(kind, data, rounds):
    "What was chosen and what was not, for the same pixels up to rounding."
    files, cfg = [image for image, _ in files_of(data)], kind.cfg(False)
    images = [Image.open(path).convert("RGB") for path in files]
    pixels = [pixels_of(image) for image in images]
    width, height = kind.size
    torch.manual_seed(DATA_SEED)
    crops = [draw_crop(height, width, cfg) for _ in files]
    views = [resized_crop(*each, cfg.crop) for each in zip(pixels, crops)]
    reach = math.ceil(BLUR_REACH * SIGMA)
    parts = {
        "decode: Pillow (chosen)": lambda i: pixels_of(Image.open(files[i])),
        "decode: torchvision.io": lambda i: decode_image(read_file(str(files[i]))),
        "resized crop: torchvision, all of it, then cut (chosen)": lambda i: resized_crop(
            pixels[i], crops[i], cfg.crop
        ),
        "resized crop: Pillow with a box": lambda i: pillow_crop(images[i], crops[i], cfg.crop),
        "hue: our own (chosen)": lambda i: turn_hue(views[i], HUE),
        "hue: torchvision": lambda i: VF.adjust_hue_image(views[i], HUE),
        "blur: our own (chosen)": lambda i: blur_by(views[i], SIGMA),
        "blur: torchvision": lambda i: VF.gaussian_blur_image(views[i], [2 * reach + 1] * 2, [SIGMA] * 2),
    }
    return time_all(parts, len(files), rounds)


TEXT = """CPU milliseconds an image (medians), and the medians of the ratios to the limit:

{limits}

Goal: `views` at most {views} x the limit for VOC's files, `colours` at most {colours} x: **{verdict}**.

With worker processes, VOC's files: images a second by the clock, and CPU milliseconds an image:

{workers}

Where they go (VOC's files, one thread):

{parts}

What was chosen, and what else there is (one thread):

{choices}"""


def columns_of(rows):
    forms = {"files": "<s", "kilobytes": ".0f", "limit": ".2f", "views": ".2f", "views x": ".2f"}
    forms |= {"colours": ".2f", "colours x": ".2f", "views x before": ".2f", "colours x before": ".2f"}
    return {name: form for name, form in forms.items() if name in rows[0]}


def verdict(row):
    "What was reached of the goals."
    said = [
        f"{row[f'{n} x']:.2f}, {'met' if row[f'{n} x'] <= goal else 'not met'}" for n, goal in GOALS.items()
    ]
    return "; ".join(said)


def worker_rows(rows):
    found = []
    for row in rows:
        both = {k: v for k, v in row.items() if k != "workers"}
        speeds = {f"{name}, images/s": v[0] for name, v in both.items()}
        found.append(
            dict(workers=row["workers"]) | speeds | {f"{name}, ms": v[1] for name, v in both.items()}
        )
    return found


def report(limits, rows, parts, choices):
    "The tables."
    workers = worker_rows(rows)
    kinds = {name: list(each) for name, each in choices.items()}
    first = next(iter(choices.values()))
    of_choices = [dict(what=what) | {name: choices[name][what] for name in kinds} for what in first]
    return TEXT.format(
        limits=table(limits, columns_of(limits)),
        verdict=verdict(limits[0]),
        workers=table(workers, {n: "d" if n == "workers" else ".1f" for n in workers[0]}),
        parts=table([{"part": n, "ms": ms} for n, ms in parts.items()], {"part": "<s", "ms": ".2f"}),
        choices=table(of_choices, {"what": "<s"} | dict.fromkeys(kinds, ".2f")),
        **GOALS,
    )


def with_before(limits, path):
    "The rows with the ratios of an earlier bench_loader.json."
    earlier = {row["files"]: row for row in json.loads(Path(path).read_text())["limits"]}
    names = [f"{n} x" for n in GOALS]
    return [row | {f"{n} before": earlier[row["files"]][n] for n in names} for row in limits]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds (default 9)")
    parser.add_argument("--before", help="an earlier bench_loader.json, to be set beside")
    few = "one round; does not write results"
    parser.add_argument("--quick", action="store_true", help=few)
    results = Path(__file__).parents[2] / "results"
    parser.add_argument("--out", default=results, help="folder of the tables (default: results)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found, rounds = machine(), 1 if args.quick else args.rounds
    with tempfile.TemporaryDirectory() as place:
        data = {kind.name: write_files(Path(place, kind.name), kind) for kind in KINDS}
        limits = [time_kind(kind, data[kind.name], rounds) for kind in KINDS]
        choices = {kind.name: time_choices(kind, data[kind.name], rounds) for kind in KINDS}
        voc = KINDS[0]
        rows = time_loaders(voc, data[voc.name], rounds)
        parts = time_parts(voc, data[voc.name], rounds)
    if args.before:
        limits = with_before(limits, args.before)
    text = report(limits, rows, parts, choices)
    if args.quick:
        print(text)
        return
    found |= dict(load_at_end=round(os.getloadavg()[0], 1))
    numbers = dict(limits=limits, rows=rows, parts=parts, choices=choices)
    save("bench_loader", args.out, "The loader against its limit", text, dict(machine=found) | numbers)


if __name__ == "__main__":
    main()
