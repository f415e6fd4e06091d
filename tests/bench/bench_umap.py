"""Seconds of a UMAP layout, cold and warm, and how far points move from one snapshot of a run to the next.

    python tests/bench/bench_umap.py [--run runs/NAME ...] [--quick] [--out results]

Seconds: 2000, 5000 and 10 000 points of 64 channels, each in a fresh process: importing umap, the exact
neighbours, the first layout (which compiles) and the second one. A fourth process does the same with UMAP's
own neighbour search, for comparison.

Movement: the median way of a point from one snapshot to the next, in units of the layout's spread, for the
snapshots of a run (without --run: of a demo run that is made for it), and the trustworthiness of the layouts
(the share of neighbours on paper that are neighbours in feature space, in scikit-learn's measure).

Goals: live layout at most 0.25, joint layout at most 0.06 (median over the steps)."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from bench_density import command_line, machine, save, table
from sklearn.manifold import trustworthiness

from dgcl_nb.looking.layout import pca_layout, umap_layout
from dgcl_nb.looking.layout_time import follow_layout, joint_layout, movement
from dgcl_nb.snapshots import list_snapshots, load_snapshot

SIZES, DIM, CLASSES = (2000, 5000, 10_000), 64, 11
LIVE_GOAL, JOINT_GOAL = 0.25, 0.06

ONE_PROCESS = """
import json
import sys
import time
import numpy as np
from dgcl_nb.looking.layout import FIRST_EPOCHS, knn_graph, umap_layout

def timed(name, run):
    before = time.perf_counter()
    run()
    took[name] = time.perf_counter() - before

def lay_out():
    if not own_search:
        return umap_layout(feats)
    from umap import UMAP
    return UMAP(n_epochs=FIRST_EPOCHS, metric="cosine", random_state=0, n_jobs=1).fit_transform(feats)

n, dim, classes, own_search = map(int, sys.argv[1:])
rng = np.random.default_rng(0)
centres = rng.normal(0, 1, (classes, dim))[rng.integers(0, classes, n)]
feats = (centres + rng.normal(0, .6, (n, dim))).astype(np.float32)
took = {}
timed("import", lambda: __import__("umap"))
timed("neighbours", lambda: knn_graph(feats))
timed("first", lay_out)
timed("second", lay_out)
print(json.dumps(took))
"""


def time_size(n, own_search=False):
    "Seconds of one fresh process; `cold` is what a person waits for the first layout, `warm` for another."
    command = [sys.executable, "-c", ONE_PROCESS, *map(str, (n, DIM, CLASSES, int(own_search)))]
    took = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    row = dict(neighbours="UMAP's own" if own_search else "exact, given", N=n, D=DIM)
    row |= dict(import_s=took["import"], search_s=took["neighbours"], first_s=took["first"])
    return row | dict(cold_s=took["import"] + took["first"], warm_s=took["second"])


def layouts_of(feats, keys):
    "{kind: (layouts of all snapshots, seconds for each)}, after one layout that compiles."
    umap_layout(feats[0][:100])

    def followed(first, follow, **settings):
        xys = [first(feats[0])]
        for f in feats[1:]:
            xys.append(follow(f, xys[-1], **settings))
        return xys

    kinds = {
        "PCA": lambda: followed(pca_layout, pca_layout),
        "UMAP, each alone": lambda: [umap_layout(f) for f in feats],
        "UMAP, live": lambda: followed(umap_layout, follow_layout),
        "UMAP, live at rate 0.3": lambda: followed(umap_layout, follow_layout, learning_rate=0.3),
        "joint PCA": lambda: joint_layout(feats, "pca"),
        "joint UMAP, no links": lambda: joint_layout(feats),
        "joint UMAP": lambda: joint_layout(feats, keys=keys),
    }
    found = {}
    for kind, run in kinds.items():
        start = time.perf_counter()
        xys = run()
        found[kind] = xys, (time.perf_counter() - start) / len(feats)
    return found


def trust_of(feats, xys):
    "The mean trustworthiness of some layouts."
    k = min(15, len(feats[0]) // 2 - 1)
    pairs = [(f.astype(np.float32), xy) for f, xy in zip(feats, xys)]
    return float(np.mean([trustworthiness(f, xy, n_neighbors=k, metric="cosine") for f, xy in pairs]))


def measure_run(folder):
    "A row for each kind of layout of a run's snapshots."
    snaps = [load_snapshot(p) for p in list_snapshots(folder)]
    feats = [s.feats for s in snaps]
    keys = [np.stack([s.pixel_image, s.pixel_row, s.pixel_col], 1) for s in snaps]
    rows = []
    for kind, (xys, seconds) in layouts_of(feats, keys).items():
        moved = movement(xys, keys)
        row = dict(run=Path(folder).name, layout=kind, points=len(feats[-1]), snapshots=len(snaps))
        row |= dict(median=float(np.median(moved)), largest=float(moved.max()))
        row |= dict(trust=trust_of(feats, xys), seconds=seconds)
        row |= dict(moved=[round(float(m), 3) for m in moved], steps=[s.step for s in snaps])
        rows.append(row)
    return rows


def demo_run(folder):
    "A run folder without training, to measure where no run is given."
    from dgcl_nb.looking.demo_run import make_demo_run

    make_demo_run(folder)
    return folder


SECONDS = """
Seconds, each row a fresh process. `import` of umap; `search`: the exact neighbours alone; `first`: the first
layout, compiling included; `cold` = import + first; `warm`: the same layout again. `warm_umap()` pays `cold`
less `warm` in the background.
"""
MOVEMENT = """
Movement: median way of a point from one snapshot to the next / spread; `median` and `largest` over the steps.
`trust`: mean trustworthiness of the layouts. `seconds` for each snapshot, warm.
"""


def movement_text(rows):
    "The table of movements, how to read it, and what the goals say of it."
    columns = dict(run="s", layout="s", points="d", snapshots="d", median=".3f", largest=".3f")
    columns |= dict(trust=".3f", seconds=".2f")
    live = [r for r in rows if r["layout"] == "UMAP, live"]
    each = "; ".join(f"{r['run']} {' '.join(map(str, r['moved']))}" for r in live)
    worst = max(r["median"] for r in live)
    joint = max(r["median"] for r in rows if r["layout"] == "joint UMAP")
    text = f"{table(rows, columns)}\n{MOVEMENT}\nOf the live layout at each step: {each}.\n\n"
    text += f"Goals: live at most {LIVE_GOAL}, joint at most {JOINT_GOAL}; measured (median over the steps, "
    return text + f"the worse run): live {worst:.2f}, joint {joint:.2f}."


def main():
    parser = command_line(__doc__, quick="300 points in place of all sizes")
    said = "run folders whose snapshots are laid out (default: a demo run)"
    parser.add_argument("--run", nargs="+", default=[], help=said)
    args = parser.parse_args()
    found = machine()
    seconds = [time_size(n) for n in ((300,) if args.quick else SIZES)]
    if not args.quick:
        seconds.append(time_size(SIZES[1], own_search=True))
    with tempfile.TemporaryDirectory() as folder:
        runs = args.run or [demo_run(Path(folder, "demo"))]
        rows = [row for run in runs for row in measure_run(run)]
    columns = dict(neighbours="s", N="d", D="d")
    columns |= dict.fromkeys(("import_s", "search_s", "first_s", "cold_s", "warm_s"), ".1f")
    text = f"{table(seconds, columns)}\n{SECONDS}\n{movement_text(rows)}"
    if args.quick:
        print(text)
        return
    data = dict(machine=found, seconds=seconds, movement=rows)
    save("bench_umap", args.out, "UMAP layouts: seconds and movement", text, data)


if __name__ == "__main__":
    main()
