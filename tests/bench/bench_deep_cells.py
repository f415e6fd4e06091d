"""Deep cells: seconds and memory of `explore --cells`, from feature maps to a page.

    python tests/bench/bench_deep_cells.py [RUN] [--quick] [--out results]

Made-up maps as 545 photographs of steel give them (50 x 50 cells of 64 channels, four classes of which one
has 88 % of all cells) become a sample with densities, and the sample becomes a page with the layout of PCA.
A smaller set and fewer cells stand beside: time grows with the cells that are drawn, not with those there
are. With the folder of a finished RUN, its network and the val images of its data follow, from the
checkpoint on. Each row is a fresh process on one thread:

- `sample`, `page`: what was computed, in seconds of the processor, which other work on the machine does
  not lengthen much; of a RUN `sample` is from opening it on, its network included;
- `peak`: MB of the whole process, with PyTorch's own 700 or so;
- `MB`: the page.

Goal: 200 000 cells of such a set in 120 s and 2000 MB, a page of at most 30 MB."""

import json
import os
import subprocess
import sys

from bench_density import command_line, machine, save, table

SIZES = ((545, 200_000), (545, 50_000), (55, 50_000))
QUICK = ((20, 4000),)
DEEP = 200_000
GOALS = dict(seconds=120, peak=2000, page=30)
COLUMNS = dict(source="s", images="d", cells="d", drawn="d", sample=".1f", page=".1f", peak=".0f", MB=".1f")

ONE_PROCESS = """
import json
import sys
import time

import numpy as np
import torch

from dgcl_nb.core import peak_rss_mb
from dgcl_nb.deep_cells import deep_features
from dgcl_nb.explore import features_view
from dgcl_nb.looking.features import Maps, sample_features

SIDE, CHANNELS, PIXELS = 50, 64, 200
SHARES = (.88, .02, .08, .02)


def made_up(num_images):
    draw = np.random.default_rng(0)
    middles = draw.normal(size=(len(SHARES), CHANNELS)).astype(np.float32)
    for i in range(num_images):
        target = draw.choice(len(SHARES), (1, SIDE, SIDE), p=SHARES)
        noise = draw.normal(0, .6, (*target.shape, CHANNELS)).astype(np.float32)
        classes = torch.from_numpy(target)
        feats = torch.from_numpy(middles[target] + noise)
        image = draw.integers(0, 256, (1, PIXELS, PIXELS, 3), np.uint8)
        yield Maps(feats, classes, classes, torch.ones(target.shape), image, (PIXELS, PIXELS))


run, num_images, num_cells = sys.argv[1], *map(int, sys.argv[2:])
maps = [] if run else list(made_up(num_images))
names = tuple(map(str, range(len(SHARES))))
palette = np.zeros((len(SHARES), 3), np.uint8)
began = time.process_time()
if run:
    found = deep_features(run, num_cells, device="cpu")
else:
    ids = tuple(map(str, range(num_images)))
    found = sample_features(maps, names, palette, ids, "made-up", num_cells)
    del maps
sample = time.process_time() - began
view, _ = features_view(found)
page = time.process_time() - began - sample
images, cells = len(found.image_id), len(found.image_id) * int(found.grid.prod())
row = dict(images=images, cells=cells, drawn=len(found.feats), sample=sample, page=page)
print(json.dumps(row | dict(peak=peak_rss_mb(), MB=len(view) / 1e6)))
"""

NOTES = """

One thread. `cells`: there are; `drawn`: of these; `sample`: seconds of the processor from feature maps (of \
a run: from its folder, the network included) to drawn cells with densities; `page`: from these to the page, \
laid out by PCA; `peak`: MB of the whole process; `MB`: the page.

Goal: 200 000 cells within {seconds} s, {peak} MB and a page of {page} MB. Load at the end {load:.1f}."""


def time_sample(run, num_images, num_cells):
    "A row of the table, from a fresh process."
    command = [sys.executable, "-c", ONE_PROCESS, run, *map(str, (num_images, num_cells))]
    env = os.environ | dict(OMP_NUM_THREADS="1")
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        sys.exit(f"{num_cells} cells ended with status {done.returncode}:\n{done.stderr}")
    return dict(source="run" if run else "made-up") | json.loads(done.stdout)


def main():
    parser = command_line(__doc__, quick="4000 cells of 20 made-up images")
    parser.add_argument("run", nargs="?", default="", help="folder of a finished run, whose data is here")
    args = parser.parse_args()
    if args.quick:
        print(table([time_sample("", *size) for size in QUICK], COLUMNS))
        return
    found = machine()
    rows = [time_sample("", *size) for size in SIZES]
    rows += [time_sample(args.run, 0, DEEP)] if args.run else []
    text = table(rows, COLUMNS) + NOTES.format(**GOALS, load=os.getloadavg()[0])
    save("bench_deep_cells", args.out, "Deep cells", text, dict(machine=found, rows=rows))


if __name__ == "__main__":
    main()
