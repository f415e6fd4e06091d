"""Does density say more of a pixel than confidence does, and what became of sparse pixels under the contrast?

    python results/make_density_guides.py --preset neu-77 [--seeds 5] [--first 0] [--runs runs/bench]

Reads pairs of finished runs of one seed, `PRESET-self_training-sSEED` and `PRESET-dgcl-sSEED` (--before and
--after name other rows), trains nothing, and writes results/DATA/density_guides.json and .md. The cells of
val, the same ones for both networks, are measured against banks made of the labelled images alone:

- *halves*: the share of wrong predictions in the sparser and the denser half at equal confidence and equal
  predicted class (dgcl_nb.looking.density_claim), with intervals over images, in all and by class;
- *ranking*: how well wrong predictions are told from right ones by confidence, by density and by both, as
  the area under the ROC curve; density: its place among the cells of one predicted class, as classes lie
  differently dense; both: a logistic regression fitted on other images (5 folds of images);
- *deciles*: wrong predictions by density, a tenth of each predicted class at a time, beside what confidence
  alone expects there (the regression without density);
- *moved*: wrong predictions before and after the contrast, of cells that were sparse before (the
  sparsest fifth of their predicted class) and of all others, in all and by true class; beside it the same
  with the row *before* of the next seed in the place of *after*: a cell that is sparse or wrong in one run
  is partly so by chance, so what another seed changes too is not the contrast's doing (two seeds or more);
- *tight*: density of a cell in the bank of its true class, less that in the nearest other one.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dgcl_nb.config import build_data
from dgcl_nb.core import IGNORE_INDEX, generator_for
from dgcl_nb.data.segdata import SegData
from dgcl_nb.looking.density_claim import matched_halves
from dgcl_nb.reference import ImageCells, build_banks, cells_of, class_density
from dgcl_nb.run_folder import write_atomic
from dgcl_nb.trained import open_trained

ROOT = Path(__file__).resolve().parent.parent
CELLS = 100
"Cells of a val image that are asked, drawn at random: neighbours in an image say the same."
SPARSE = 0.2
"The share of a predicted class's cells that counts as sparse."
FOLDS = 5
"Parts of val for the regression, each image in one."
CELLS_CALLED = dict(sparse="sparse cells", others="other cells")
ROWS_CALLED = dict(moved="after", control="before, next seed")
"Headings of the table of changes."


@dataclass
class Asked:
    "What one network says of n cells of val."

    image: np.ndarray  # (n,) int, place of the image
    truth: np.ndarray  # (n,) int
    prediction: np.ndarray  # (n,) int
    confidence: np.ndarray  # (n,) float
    density: np.ndarray  # (n, K) float, in the bank of each class

    @property
    def wrong(self) -> np.ndarray:  # (n,) bool
        return self.prediction != self.truth

    @property
    def own(self) -> np.ndarray:  # (n,) float
        "Density in the bank of the predicted class."
        return self.density[np.arange(len(self.truth)), self.prediction]

    @property
    def margin(self) -> np.ndarray:  # (n,) float
        "Density in the bank of the true class, less the largest of the others."
        every = np.arange(len(self.truth))
        others = self.density.copy()
        others[every, self.truth] = -np.inf
        return self.density[every, self.truth] - np.nanmax(others, axis=1)


def some_cells(cells: ImageCells) -> torch.Tensor:
    "Rows of the cells that are asked: a function of the image's name, so that all networks get the same."
    known = (cells.labels != IGNORE_INDEX).nonzero()[:, 0]
    order = torch.randperm(len(known), generator=generator_for(0, "asked", cells.id))
    return known[order[:CELLS].to(known.device)]


def ask(folder: Path, data: SegData) -> Asked:
    "The last network of a run on the cells of val."
    trained = open_trained(folder, "last")
    banks = build_banks(cells_of(trained, data.labelled), data.num_classes)

    def parts() -> Iterator[tuple]:
        for place, cells in enumerate(cells_of(trained, data.val)):
            rows = some_cells(cells)
            image = torch.full_like(rows, place)
            density = class_density(cells.feats[rows], banks)
            yield image, cells.labels[rows], cells.prediction[rows], cells.confidence[rows], density

    columns = [torch.cat(column).cpu().numpy() for column in zip(*parts())]
    return Asked(*columns)


def halves_of(asked: Asked, rows: np.ndarray) -> dict:
    "Sparse against dense at equal confidence, of some cells."
    found = matched_halves(
        asked.confidence[rows],
        asked.own[rows],
        asked.wrong[rows],
        groups=asked.prediction[rows],
        images=asked.image[rows],
    )
    gap = [100 * x for x in (found.sparse - found.dense, *found.gap_range)]
    shares = dict(sparse=100 * found.sparse, dense=100 * found.dense)
    return shares | dict(gap=gap[0], low=gap[1], high=gap[2], cells=2 * found.count, verdict=found.verdict)


def sureness(asked: Asked) -> np.ndarray:  # (n,) float
    "The logit of the confidence, which spreads out what lies near one, where most cells are."
    sure = np.clip(asked.confidence, 1e-6, 1 - 1e-6)
    return np.log(sure / (1 - sure))


def expected(asked: Asked, *columns: np.ndarray) -> np.ndarray:  # (n,) float in [0, 1]
    "How probably each cell is wrong by some columns (n,): a logistic regression fitted on other images."
    model = make_pipeline(StandardScaler(), LogisticRegression())
    how = dict(groups=asked.image, cv=GroupKFold(FOLDS), method="predict_proba")
    return cross_val_predict(model, np.stack(columns, axis=1), asked.wrong, **how)[:, 1]


def rank_in_class(asked: Asked) -> np.ndarray:  # (n,) float in [0, 1)
    "The place of each cell's density among those of its predicted class, the sparsest at 0."
    rank = np.zeros(len(asked.truth))
    for c in np.unique(asked.prediction):
        rows = np.flatnonzero(asked.prediction == c)
        rank[rows[np.argsort(asked.own[rows], kind="stable")]] = np.arange(len(rows)) / len(rows)
    return rank


def ranking_of(asked: Asked) -> dict:
    "Areas under the ROC curve of wrong against right predictions."
    sure, rank = sureness(asked), rank_in_class(asked)
    scores = dict(confidence=-sure, density=-rank, both=expected(asked, sure, rank))
    return {name: float(roc_auc_score(asked.wrong, score)) for name, score in scores.items()}


def deciles_of(asked: Asked) -> dict:
    "Wrong predictions by tenths of density, per cent, and what confidence alone expects."
    tenth = (10 * rank_in_class(asked)).astype(int)
    by_confidence = expected(asked, sureness(asked))
    each = [tenth == t for t in range(10)]
    wrong = [100 * float(asked.wrong[rows].mean()) for rows in each]
    return dict(wrong=wrong, expected=[100 * float(by_confidence[rows].mean()) for rows in each])


def moved(before: Asked, after: Asked, rows: np.ndarray) -> dict:
    "Wrong predictions before and after, per cent, of sparse cells and of the others."
    sparse = rank_in_class(before) < SPARSE
    found = {}
    for name, which in (("sparse", rows & sparse), ("others", rows & ~sparse)):
        shares = [100 * float(a.wrong[which].mean()) if which.any() else None for a in (before, after)]
        found[name] = dict(before=shares[0], after=shares[1], cells=int(which.sum()))
    return found


def compare(before: Asked, after: Asked, control: Asked | None, names: list[str]) -> dict:
    "All that one pair of runs says; `control` is another run of the row before."
    others = dict(moved=after) if control is None else dict(moved=after, control=control)
    for other in others.values():
        if not np.array_equal(before.image, other.image) or not np.array_equal(before.truth, other.truth):
            raise SystemExit("the runs saw different cells; are they of one preset?")
    every = np.ones(len(before.truth), bool)
    by_class = {}
    for c, name in enumerate(names):
        said, true = before.prediction == c, before.truth == c
        by_class[name] = dict(
            share=100 * float(true.mean()),
            halves=halves_of(before, np.flatnonzero(said)) if said.any() else None,
            **{key: moved(before, other, true) for key, other in others.items()},
        )
    networks = {}
    for name, asked in (("before", before), ("after", after)):
        networks[name] = dict(
            wrong=100 * float(asked.wrong.mean()),
            halves=halves_of(asked, np.flatnonzero(every)),
            ranking=ranking_of(asked),
            deciles=deciles_of(asked),
            margin=float(np.nanmean(asked.margin)),
            beside_another=100 * float(np.mean(asked.margin < 0)),
        )
    in_all = {key: moved(before, other, every) for key, other in others.items()}
    return dict(cells=len(before.truth), **networks, **in_all, classes=by_class)


def spread(values: list[float], digits: int = 1, sign: bool = False) -> str:
    "Mean and standard deviation over seeds."
    known = np.array([v for v in values if v is not None], float)
    if not len(known):
        return "-"
    plus = "+" if sign else ""
    mean = f"{known.mean():{plus}.{digits}f}"
    return mean if len(known) < 2 else f"{mean} ± {known.std(ddof=1):.{digits}f}"


def change(pairs: list[dict]) -> str:
    "Mean change of wrong predictions, points."
    gaps = [p["after"] - p["before"] for p in pairs if p["before"] is not None]
    return spread(gaps, sign=True)


def page(preset: str, rows: tuple[str, str], first_seed: int, pairs: list[dict]) -> str:
    "The findings as Markdown."
    lines = [
        f"# Does density guide? {preset}",
        "",
        f"`python results/make_density_guides.py --preset {preset} --seeds {len(pairs)} "
        f"{f'--first {first_seed} ' if first_seed else ''}--before {rows[0]} --after {rows[1]}`",
        "",
        f"{len(pairs)} pair(s) of runs of one seed each, last weights, {pairs[0]['cells']} cells of val;",
        "mean ± standard deviation over seeds.",
        "",
        "| | before | after |",
        "|---|---:|---:|",
    ]
    table = [
        ("wrong predictions, %", lambda n: n["wrong"], 1),
        ("wrong in the sparser half, %", lambda n: n["halves"]["sparse"], 1),
        ("wrong in the denser half, at equal confidence, %", lambda n: n["halves"]["dense"], 1),
        ("ROC area of wrong predictions by confidence", lambda n: n["ranking"]["confidence"], 3),
        ("by density, within each predicted class", lambda n: n["ranking"]["density"], 3),
        ("by both", lambda n: n["ranking"]["both"], 3),
        ("density in the true class less the nearest other", lambda n: n["margin"], 3),
        ("cells nearer to another class than to their own, %", lambda n: n["beside_another"], 1),
    ]
    for name, value, digits in table:
        both = (spread([value(p[which]) for p in pairs], digits) for which in ("before", "after"))
        lines.append(f"| {name} | {' | '.join(both)} |")
    verdicts = ", ".join(p["before"]["halves"]["verdict"] for p in pairs)
    lines += ["", f"Sparse cells are more often wrong at equal confidence, by seed: {verdicts}.", ""]
    compared = [key for key in ("moved", "control") if key in pairs[0]]
    columns = [(kind, key) for kind in ("sparse", "others") for key in compared]
    titles = [f"{CELLS_CALLED[kind]}, {ROWS_CALLED[key]}" for kind, key in columns]
    lines += ["Change of wrong predictions, points:", ""]
    lines += [f"| true class | share of pixels, % | {' | '.join(titles)} |"]
    lines += ["|---|---:" + "|---:" * len(columns) + "|"]
    named = [("all", pairs, 100.0)]
    for name, first in pairs[0]["classes"].items():
        named.append((name, [p["classes"][name] for p in pairs], first["share"]))
    for name, found, share in named:
        changes = [change([f[key][kind] for f in found]) for kind, key in columns]
        lines.append(f"| {name} | {share:.1f} | {' | '.join(changes)} |")
    return "\n".join(lines) + "\n"


def folder_of(asked: argparse.Namespace, row: str, seed: int) -> Path:
    "The run folder that a bench made for one row and seed."
    return Path(asked.runs) / f"{asked.preset}-{row}-s{seed}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="neu-77")
    parser.add_argument("--seeds", type=int, default=5, help="pairs of runs, one a seed")
    parser.add_argument("--first", type=int, default=0, help="the first of these seeds")
    parser.add_argument("--runs", default="runs/bench", help="folder of the run folders")
    parser.add_argument("--before", default="self_training", help="row without the contrast")
    parser.add_argument("--after", default="dgcl", help="row with it")
    parser.add_argument("--out", default="", help="folder; by default results/DATA")
    asked = parser.parse_args()
    rows, seeds = (asked.before, asked.after), range(asked.first, asked.first + asked.seeds)
    run = open_trained(folder_of(asked, rows[0], asked.first), "last").run
    data = build_data(run)  # one split for all seeds
    before, after = ([ask(folder_of(asked, row, seed), data) for seed in seeds] for row in rows)
    pairs = []
    for i, seed in enumerate(seeds):
        control = before[(i + 1) % len(before)] if len(before) > 1 else None
        pairs.append(compare(before[i], after[i], control, data.class_names))
        print(f"seed {seed}: {json.dumps(pairs[-1]['moved'])}", flush=True)
    out = Path(asked.out) if asked.out else ROOT / "results" / run.data.name
    out.mkdir(parents=True, exist_ok=True)
    found = dict(preset=asked.preset, rows=rows, seeds=asked.seeds, first=asked.first, pairs=pairs)
    write_atomic(out / "density_guides.json", json.dumps(found, indent=1) + "\n")
    write_atomic(out / "density_guides.md", page(asked.preset, rows, asked.first, pairs))


if __name__ == "__main__":
    main()
