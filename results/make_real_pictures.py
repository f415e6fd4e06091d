"""Pictures of the proof on real data; none shows an image of the sets.

    python results/make_real_pictures.py --preset neu-77 [--before ROW] [--after ROW] [--runs runs/bench]

Into results/DATA/: per_class.svg, IoU of each class by method (from the records in that folder) above the
class's share of pixels; density.svg, wrong predictions by tenths of density beside what confidence expects
(from density_guides.json, see make_density_guides.py); and, where the run folders of seed 0 are there,
clusters.png, the features of both networks side by side: the same cells of val in both, from every image
a few of each class, as many of each class in all, in one UMAP layout, coloured by true class.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from plotly.graph_objects import Figure

from dgcl_nb.config import build_data, parse_run
from dgcl_nb.core import generator_for
from dgcl_nb.data.segdata import SegData
from dgcl_nb.looking.clusters import clusters_side_by_side
from dgcl_nb.looking.figures import save_figure
from dgcl_nb.looking.layout_time import joint_layout
from dgcl_nb.looking.report_figures import cluster_scores_of
from dgcl_nb.plots import new_figure, svg_of
from dgcl_nb.reference import cells_of
from dgcl_nb.report import open_runs
from dgcl_nb.run_folder import write_atomic
from dgcl_nb.store import Store
from dgcl_nb.trained import open_trained

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
SHOWN = ("supervised", "self_training", "dgcl")
MAX_SEEDS = 10
CELLS = 5
"Cells of one class that an image may give: neighbours in an image resemble each other."
CELLS_IN_ALL = 400
"Cells of one class in the picture: with their true shares it would show background alone."
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


def some_of_each_class(
    places: dict[int, list[tuple[int, int]]],  # class -> (image, cell) of all candidates
) -> list[tuple[int, int]]:
    "CELLS_IN_ALL candidates of every class, drawn at random."
    chosen = []
    for c, found in sorted(places.items()):
        order = torch.randperm(len(found), generator=generator_for(0, "clusters", str(c)))
        chosen += [found[i] for i in order[:CELLS_IN_ALL].tolist()]
    return chosen


def features_at(folder: Path, data: SegData, chosen: list[tuple[int, int]]) -> np.ndarray:  # (n, D) float32
    "Features of a run's last network at some cells of val."
    by_image = defaultdict(list)
    for row, (image, cell) in enumerate(chosen):
        by_image[image].append((row, cell))
    feats = {}
    for image, cells in enumerate(cells_of(open_trained(folder, "last"), data.val)):
        for row, cell in by_image[image]:
            feats[row] = cells.feats[cell].cpu().numpy()
    return np.stack([feats[row] for row in range(len(chosen))])


def candidates(folder: Path, data: SegData) -> dict[int, list[tuple[int, int]]]:
    "class -> (image, cell) of up to CELLS random cells of that class in each image of val."
    places = defaultdict(list)
    for image, cells in enumerate(cells_of(open_trained(folder, "last"), data.val)):
        order = torch.randperm(len(cells), generator=generator_for(0, "cells", cells.id))
        labels = cells.labels.cpu()[order]
        for c in range(data.num_classes):
            places[c] += [(image, cell) for cell in order[labels == c][:CELLS].tolist()]
    return places


def clusters(folders: list[Path], rows: tuple[str, str]) -> Figure:
    "Both networks' features of the same cells of val, side by side, with the scores of their tables."
    data = build_data(open_trained(folders[0], "last").run)
    places = candidates(folders[0], data)
    chosen = some_of_each_class(places)
    labels = np.repeat(sorted(places), [min(len(places[c]), CELLS_IN_ALL) for c in sorted(places)])
    xys = joint_layout([features_at(folder, data, chosen) for folder in folders], kind="umap")
    scores = [cluster_scores_of(run) for run in open_runs(folders)]
    return clusters_side_by_side(xys, [labels, labels], rows, scores, data.palette, data.class_names)


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
        save_figure(clusters(folders, (asked.before, asked.after)), place / "clusters.png")


if __name__ == "__main__":
    main()
