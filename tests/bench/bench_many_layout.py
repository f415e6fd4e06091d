"""Layouts of hundreds of thousands of cells: seconds, memory, and whether like stays beside like.

    python tests/bench/bench_many_layout.py [--quick] [--out results]

Made-up features of 64 channels in 60 clusters, 200 000 and 500 000 cells, as `explore RUN --cells N` lays
them out: by PCA, or by UMAP of 20 000 cells with each of the others amid its exact neighbours among these.
Each row is a fresh process on one thread: `seconds` from features to places, UMAP's import and compiling
included; `cpu`, what of it was computed, which other work on the machine does not lengthen much; `memory`,
how far the process grew beyond what it held before, features included; `beside`: of 2000 cells drawn by
chance, the share whose nearest cell in the layout is of their own cluster (in one of chance it is 2 %).

Goal: 500 000 cells are laid out by PCA within 10 seconds."""

import json
import os
import subprocess
import sys

from bench_density import command_line, machine, save, table

SIZES, DIM, CLUSTERS, SAMPLE = (200_000, 500_000), 64, 60, 20_000
QUICK = dict(n=6000, most=1000)
GOAL_CELLS, GOAL = 500_000, 10
COLUMNS = dict(cells="d", layout="s", umap="d", seconds=".1f", cpu=".1f", memory=".0f", beside=".0%")

ONE_PROCESS = """
import json
import sys
import time

import numpy as np
from scipy.spatial import cKDTree

from dgcl_nb.core import peak_rss_mb
from dgcl_nb.looking.layout import pca_layout
from dgcl_nb.looking.layout_time import many_layout

layout, n, most, dim, clusters = sys.argv[1], *map(int, sys.argv[2:])
rng = np.random.default_rng(0)
cluster = rng.integers(0, clusters, n)
feats = rng.normal(0, 1, (clusters, dim)).astype(np.float32)[cluster]
feats += rng.normal(0, 0.6, (n, dim)).astype(np.float32)
before, began, computed = peak_rss_mb(), time.perf_counter(), time.process_time()
xy = pca_layout(feats) if layout == "PCA" else many_layout(feats, most)
took = dict(seconds=time.perf_counter() - began, cpu=time.process_time() - computed)
took |= dict(memory=peak_rss_mb() - before)
asked = rng.choice(n, min(n, 2000), replace=False)
nearest = cKDTree(xy).query(xy[asked], 2)[1][:, 1]
print(json.dumps(took | dict(beside=float((cluster[nearest] == cluster[asked]).mean()))))
"""

NOTES = """

One thread. `umap`: cells that UMAP moves; the others lie amid their exact neighbours among these. `seconds` \
from features to places; `cpu`, what of it was computed; `memory`: MB beyond what the process held before; \
`beside`: of 2000 cells the share whose nearest in the layout is of their own cluster, of {clusters}.

Goal: {cells} cells by PCA within {goal} s; measured {measured:.1f}. Load at the end {load:.1f}."""


def time_layout(layout, n, most):
    "A row of the table, from a fresh process."
    command = [sys.executable, "-c", ONE_PROCESS, layout, *map(str, (n, most, DIM, CLUSTERS))]
    env = os.environ | dict(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1")
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        sys.exit(f"{layout} of {n} cells ended with status {done.returncode}:\n{done.stderr}")
    return dict(cells=n, layout=layout, umap=most if layout == "UMAP" else 0) | json.loads(done.stdout)


def main():
    parser = command_line(__doc__, quick="a few thousand cells, of which UMAP moves 1000")
    args = parser.parse_args()
    if args.quick:
        print(table([time_layout(layout, **QUICK) for layout in ("PCA", "UMAP")], COLUMNS))
        return
    found = machine()
    rows = [time_layout(layout, n, SAMPLE) for n in SIZES for layout in ("PCA", "UMAP")]
    [measured] = [r["seconds"] for r in rows if (r["cells"], r["layout"]) == (GOAL_CELLS, "PCA")]
    about = dict(clusters=CLUSTERS, cells=GOAL_CELLS, goal=GOAL, measured=measured, load=os.getloadavg()[0])
    text = table(rows, COLUMNS) + NOTES.format(**about)
    save("bench_many_layout", args.out, "Layouts of many cells", text, dict(machine=found, rows=rows))


if __name__ == "__main__":
    main()
