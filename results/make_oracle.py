"""How much do wrong labels cost the contrast? DGCL whose contrast is told the truth, beside DGCL as it is.

    python results/make_oracle.py --preset neu-77 --seeds 3 [--kinds given truth] [--runs runs/oracle]

Trains what is missing with `whose_labels.py`, which says what the kinds are; the loss on pseudo-labels stays
as it is in every run. Compares the runs with those of the same seeds in results/DATA/bench-PRESET.json and
writes results/DATA/oracle.json and .md. Nobody has such labels: the rows are upper bounds, no methods.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

from dgcl_nb.core import InputError
from dgcl_nb.jobs import Row
from dgcl_nb.result import RESULT
from dgcl_nb.run_folder import write_atomic
from dgcl_nb.tables import RowResult, Spread, markdown_table, table_figures
from dgcl_nb.typed_files import read_json

ROOT = Path(__file__).resolve().parent.parent
CALLED = dict(
    given="dgcl, contrast told every label",
    truth="dgcl, contrast without wrong labels",
)
"What a kind of `whose_labels.py` is called in the table."
COMPARED = ("self_training", "dgcl")
"Rows of the bench's table that the oracles stand beside."
DIGITS = dict(miou=1, silhouette=3, calinski_harabasz=0, davies_bouldin=2)
"The scores, and how many digits of them are printed."


def run_of(kind: str, preset: str, seed: int, runs: Path, flags: list[str]) -> dict:
    "The result of one oracle run, which is trained if it is not there."
    folder = runs / f"{preset}-{kind}-s{seed}"
    if not (folder / "result.json").exists():
        words = [kind, "--preset", preset, "--seed", str(seed), "--out", str(folder), "--resume", "True"]
        subprocess.run(
            [sys.executable, str(ROOT / "results" / "whose_labels.py"), *words, *flags], check=True
        )
    result = read_json(folder / "result.json", {}, RESULT)
    asked = dict(method="dgcl", preset=preset, seed=seed)
    for name, value in asked.items():
        if result[name] != value:
            raise InputError(f"{folder} is of {name} {result[name]}, not {value}; name another --runs")
    return result


def row_of(label: str, results: list[dict]) -> dict:
    "Runs of one kind in the form of a row of the bench's table."
    found = {result["seed"]: table_figures(result) for result in results}
    return RowResult(Row(label, "dgcl"), found).plain()


def cut(row: dict, seeds: list[int]) -> dict:
    "A row of the bench's table, of these seeds alone."
    lacking = sorted(set(seeds) - set(row["seeds"]))
    if lacking:
        raise InputError(
            f"the bench's table has no {row['label']} of seeds {lacking}; make it with more seeds"
        )
    places = [row["seeds"].index(seed) for seed in seeds]

    def chosen(column):
        return dict(values=[column["values"][place] for place in places])

    classes = {name: chosen(column) for name, column in row["iou_per_class"].items()}
    scores = {name: chosen(row[name]) for name in DIGITS}
    return dict(label=row["label"], seeds=seeds, **scores, iou_per_class=classes)


def shown(column: dict, digits: int) -> str:
    "Mean and standard deviation over seeds."
    return Spread(tuple(column["values"])).show(digits)


def page(asked: str, rows: list[dict]) -> str:
    "The table."
    [ours] = [row for row in rows if row["label"] == "dgcl"]
    lines = []
    for row in rows:
        pairs = zip(row["miou"]["values"], ours["miou"]["values"])
        gap = Spread(tuple(mine - theirs for mine, theirs in pairs)).show(1, sign="+")
        scores = [shown(row[name], digits) for name, digits in DIGITS.items()]
        lines.append([row["label"], *scores, "" if row is ours else gap])
    head = ["row", "mIoU, %", "silhouette", "CH", "DB", "mIoU less dgcl, paired"]
    classes = [
        [name, *(shown(row["iou_per_class"][name], 1) for row in rows)] for name in ours["iou_per_class"]
    ]
    seeds = ", ".join(map(str, ours["seeds"]))
    return f"""# What wrong labels cost the contrast

`python results/make_oracle.py {asked}`:
seeds {seeds}, mean ± standard deviation; the last step, on val.
Rows whose contrast is told the truth of unlabelled images are upper bounds.

{markdown_table(head, lines)}

{markdown_table(["IoU of a class, %", *(row["label"] for row in rows)], classes)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="neu-77")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", choices=CALLED, default=list(CALLED))
    parser.add_argument(
        "--runs", type=Path, default=Path("runs") / "oracle", help="folder of the run folders"
    )
    parser.add_argument("flags", nargs="*", help="after --, as for dgcl_nb.train")
    asked = parser.parse_args()
    seeds = list(range(asked.seeds))
    [path] = (ROOT / "results").glob(f"*/bench-{asked.preset}.json")
    bench = {row["label"]: row for row in json.loads(path.read_text(encoding="utf-8"))["rows"]}
    rows = [cut(bench[label], seeds) for label in COMPARED]
    for kind in asked.kinds:
        results = [run_of(kind, asked.preset, seed, asked.runs, asked.flags) for seed in seeds]
        rows.append(row_of(CALLED[kind], results))
    words = ["--preset", asked.preset, "--seeds", str(asked.seeds), "--kinds", *asked.kinds]
    words += ["--", *asked.flags] if asked.flags else []
    found = dict(preset=asked.preset, kinds=asked.kinds, flags=asked.flags, rows=rows)
    write_atomic(path.parent / "oracle.json", json.dumps(found, indent=1) + "\n")
    write_atomic(path.parent / "oracle.md", page(shlex.join(words), rows))


if __name__ == "__main__":
    main()
