"""Pictures of the proof on real data; none shows an image of the sets.

    python results/make_real_pictures.py --preset neu-77 [--before ROW] [--after ROW] [--runs runs/bench]

Into results/DATA/: per_class.svg, IoU of each class by method (from the records in that folder) above the
class's share of pixels; density.svg, wrong predictions by tenths of density beside what confidence expects
(from density_guides.json, see make_density_guides.py); and, where the run folders of seed 0 are there,
clusters.png, the features of both networks side by side (from their last snapshots).
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from dgcl_nb.config import parse_run
from dgcl_nb.looking.figures import save_figure
from dgcl_nb.looking.report_figures import cluster_figure
from dgcl_nb.plots import new_figure, svg_of
from dgcl_nb.report import open_runs
from dgcl_nb.run_folder import write_atomic
from dgcl_nb.store import Store

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
SHOWN = ("supervised", "self_training", "dgcl")
MAX_SEEDS = 10
COLOURS = dict(zip(SHOWN, ("#b9c0c8", "#4477aa", "#cc3311")))


def classes_by_method(preset: str, store: Store) -> dict[str, dict[str, list[float]]]:
    "method -> class -> IoU by seed, of the preset's runs that have a record."
    found: dict = {method: defaultdict(list) for method in SHOWN}
    for method in SHOWN:
        for seed in range(MAX_SEEDS):
            run = parse_run(["--preset", preset, "--method", method, "--seed", str(seed)])
            record = store.find(run)
            scores = record["result"]["iou_per_class"] if record else {}
            for name, value in scores.items():
                found[method][name].append(value)
    return {method: scores for method, scores in found.items() if scores}


def per_class(found: dict[str, dict[str, list[float]]], shares: dict[str, float]) -> str:
    "Bars of IoU by class, rarest class last, with the spread over seeds."
    names = sorted(shares, key=shares.get, reverse=True)
    fig, (upper, lower) = new_figure(4.2, nrows=2, sharex=True, height_ratios=(4, 1))
    width = 0.8 / len(found)
    for i, (method, scores) in enumerate(found.items()):
        places = np.arange(len(names)) + (i - 1) * width
        means = [np.mean(scores[name]) for name in names]
        stds = [np.std(scores[name], ddof=1) if len(scores[name]) > 1 else 0 for name in names]
        upper.bar(places, means, width, yerr=stds, label=method, color=COLOURS[method], error_kw=dict(lw=0.7))
    upper.set_ylabel("IoU, %")
    upper.legend(fontsize=8)
    lower.bar(names, [shares[name] for name in names], 0.8, color="#888888")
    lower.set_yscale("log")
    lower.yaxis.set_major_formatter(lambda share, _: f"{share:g}")
    lower.set_ylabel("share of\npixels, %")
    lower.tick_params(axis="x", rotation=35)
    return svg_of(fig)


def density(pairs: list[dict]) -> str:
    "Wrong predictions by density, and what confidence expects, before and after the contrast."
    fig, panels = new_figure(3.0, ncols=2, sharey=True)
    tenths = np.arange(1, 11)
    for panel, which in zip(panels, ("before", "after")):
        looks = dict(
            wrong=dict(color="#cc3311", label="observed"),
            expected=dict(color="#4477aa", ls="--", label="expected from confidence"),
        )
        for key, look in looks.items():
            lines = np.array([pair[which]["deciles"][key] for pair in pairs])
            panel.plot(tenths, lines.mean(0), marker="o", ms=3, **look)
            panel.fill_between(tenths, lines.min(0), lines.max(0), color=look["color"], alpha=0.15, lw=0)
        panel.set_title(f"{which} the contrast", fontsize=9)
        panel.set_xlabel("tenth of its class by density, 1 = sparsest")
        panel.grid(lw=0.3)
    panels[0].set_ylabel("wrong predictions, %")
    panels[0].legend(fontsize=8)
    return svg_of(fig)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="neu-77")
    parser.add_argument("--data", default="neu_seg", help="folder in results/")
    parser.add_argument("--runs", default="runs/bench", help="folder of the run folders")
    parser.add_argument("--before", default="self_training")
    parser.add_argument("--after", default="dgcl")
    asked = parser.parse_args()
    place = RESULTS / asked.data
    guides = json.loads((place / "density_guides.json").read_text())
    shares = {name: found["share"] for name, found in guides["pairs"][0]["classes"].items()}
    found = classes_by_method(asked.preset, Store(place))
    if found:
        write_atomic(place / "per_class.svg", per_class(found, shares))
    write_atomic(place / "density.svg", density(guides["pairs"]))
    folders = [Path(asked.runs) / f"{asked.preset}-{row}-s0" for row in (asked.before, asked.after)]
    if all(folder.is_dir() for folder in folders):
        figure = cluster_figure(*open_runs(folders), layout="umap")
        save_figure(figure.drawing, place / "clusters.png")


if __name__ == "__main__":
    main()
