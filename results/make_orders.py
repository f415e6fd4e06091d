"""Does a small set of digits put the methods in the order in which real images, or the papers, put them?

    python results/make_orders.py

Reads the tables of all rows that there are (digits, steel, streets), trains nothing, and writes
results/orders.md, .json and .svg. An order is that of the rows' mean last mIoU; two orders are compared by
Spearman's rank correlation over the rows that both have. The order of one seed against that of another seed
of the same set says how much of an order is chance.
"""

import itertools
import json
import random
import statistics
from pathlib import Path

from dgcl_nb.plots import new_figure, svg_of
from dgcl_nb.run_folder import write_atomic
from dgcl_nb.tables import markdown_table
from dgcl_nb.targets import TARGETS, rank_correlations, spearman

ROOT = Path(__file__).resolve().parent.parent
TABLES = dict(
    digits="bench-digits-all", steel="neu_seg/bench-neu-77-all", streets="camvid/bench-camvid-46-all"
)
"A set, and the table of its rows."
PROPOSED = "dgcl"
"The row that stands out in the picture."
DRAWS = 20_000
"Random orders that a correlation is held against."


def read_rows() -> dict[str, dict[str, dict[int, float]]]:
    "Of every set that has a table: row -> seed -> last mIoU in per cent."
    found = {}
    for name, table in TABLES.items():
        path = ROOT / "results" / f"{table}.json"
        if path.is_file():
            rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
            found[name] = {r["label"]: dict(zip(r["seeds"], r["miou"]["values"])) for r in rows}
    return found


def means(rows: dict[str, dict[int, float]]) -> dict[str, float]:
    "The mean mIoU of each row."
    return {label: statistics.fmean(scores.values()) for label, scores in rows.items()}


def by_chance(x: list[float], y: list[float]) -> float:
    "The share of random orders that are as far from 0 as that of two figures, or farther."
    draw, found = random.Random(0), abs(spearman(x, y))
    shuffled = list(y)
    hits = 0
    for _ in range(DRAWS):
        draw.shuffle(shuffled)
        hits += abs(spearman(x, shuffled)) >= found - 1e-9  # as far, but for rounding
    return (hits + 1) / (DRAWS + 1)


def between_seeds(rows: dict[str, dict[int, float]]) -> dict:
    "How alike the orders of two seeds are, mean over all pairs of those seeds that every row has."
    seeds = sorted(set.intersection(*(set(scores) for scores in rows.values())))
    orders = {seed: [scores[seed] for scores in rows.values()] for seed in seeds}
    found = [spearman(orders[one], orders[other]) for one, other in itertools.combinations(seeds, 2)]
    known = [rho for rho in found if rho is not None]
    return dict(seeds=seeds, pairs=len(known), rho=statistics.fmean(known) if known else None)


def between_sets(toy: dict[str, float], real: dict[str, float]) -> dict:
    "How alike two orders are, and what the winner of the first one gives up on the second set."
    shared = sorted(toy.keys() & real.keys())
    x, y = [toy[label] for label in shared], [real[label] for label in shared]
    winner, best = max(shared, key=toy.get), max(shared, key=real.get)
    found = dict(rows=shared, rho=spearman(x, y), winner=winner, best=best, lost=real[best] - real[winner])
    return found | dict(by_chance=None if found["rho"] is None else by_chance(x, y))


def measure(sets: dict[str, dict[str, dict[int, float]]]) -> dict:
    "All that the page says."
    orders = {name: means(rows) for name, rows in sets.items()}
    pairs = [
        dict(first=first, second=second) | between_sets(orders[first], orders[second])
        for first, second in itertools.permutations(orders, 2)
    ]
    published = {name: [c._asdict() for c in rank_correlations(order)] for name, order in orders.items()}
    seeds = {name: between_seeds(rows) for name, rows in sets.items()}
    return dict(tables=TABLES, scores=sets, seeds=seeds, pairs=pairs, published=published)


def shown(rho: float | None) -> str:
    "A correlation in words."
    return "-" if rho is None else f"{rho:+.2f}"


def pair_lines(pairs: list[dict]) -> list[list[str]]:
    "One line a direction."
    return [
        [
            f"{p['first']} → {p['second']}",
            str(len(p["rows"])),
            shown(p["rho"]),
            "-" if p["by_chance"] is None else f"{p['by_chance']:.3f}",
            p["winner"],
            p["best"],
            f"{p['lost']:.1f}",
        ]
        for p in pairs
    ]


def page(found: dict) -> str:
    "The tables."
    labels = sorted({label for rows in found["scores"].values() for label in rows})
    orders = {name: means(rows) for name, rows in found["scores"].items()}
    scores = []
    for label in labels:
        cells = [
            f"{order[label]:.1f} ({len(found['scores'][name][label])})" if label in order else "-"
            for name, order in orders.items()
        ]
        scores.append([label, *cells])
    chance = [[name, str(seen["pairs"]), shown(seen["rho"])] for name, seen in found["seeds"].items()]
    head = [
        "order of → order on",
        "rows",
        "rank correlation",
        "by chance",
        "winner",
        "best there",
        "points lost",
    ]
    columns = [f"{table.data}, {column}" for table in TARGETS for column in table.columns]
    published = [
        [
            column,
            *(
                f"{shown(found['published'][name][i]['rho'])} ({found['published'][name][i]['n']})"
                for name in orders
            ),
        ]
        for i, column in enumerate(columns)
    ]
    return f"""# Does one set foretell the order of the methods on another?

`python results/make_orders.py`: mean mIoU in per cent at the last step, on val; in brackets how many seeds.

{markdown_table(["row", *orders], scores)}

How much of an order is chance: one seed's order against another's, mean over pairs of seeds that all rows
have.

{markdown_table(["set", "pairs of seeds", "rank correlation"], chance)}

Sets against each other. *By chance*: the share of {DRAWS} random orders that are as far from 0. *Points
lost*: mIoU that is given up on the second set by whoever trains there the winner of the first.

{markdown_table(head, pair_lines(found["pairs"]))}

Against the published figures (CVPR 2023 poster of DGCL); in brackets how many methods both have.

{markdown_table(["published", *orders], published)}
"""


def ranks(scores: dict[str, float]) -> dict[str, int]:
    "The place of each row, 1 the best."
    return {label: i for i, label in enumerate(sorted(scores, key=scores.get, reverse=True), 1)}


def draw(sets: dict[str, dict[str, dict[int, float]]]) -> str:
    "The order on one set beside that on the next, a line a row, as SVG."
    orders = {name: means(rows) for name, rows in sets.items()}
    pairs = list(itertools.pairwise(orders))
    figure, panels = new_figure(3.6 * len(pairs), nrows=len(pairs), squeeze=False)
    for panel, (first, second) in zip(panels[:, 0], pairs):
        shared = sorted(orders[first].keys() & orders[second].keys())
        x, y = ({label: orders[name][label] for label in shared} for name in (first, second))
        left, right = ranks(x), ranks(y)
        for label in shared:
            colour = "black" if label == PROPOSED else "#4477aa"
            panel.plot([0, 1], [left[label], right[label]], "o-", color=colour, ms=3, lw=1)
            look = dict(va="center", fontsize=8, color=colour)
            panel.text(-0.02, left[label], f"{label}  {x[label]:.1f}", ha="right", **look)
            panel.text(1.02, right[label], f"{y[label]:.1f}  {label}", ha="left", **look)
        correlation = shown(spearman(list(x.values()), list(y.values())))
        panel.set_title(f"mIoU on {first}, and on {second}: rank correlation {correlation}", fontsize=9)
        panel.set_xlim(-0.6, 1.6)  # room for the names
        panel.invert_yaxis()
        panel.set_axis_off()
    return svg_of(figure)


def main() -> None:
    sets = read_rows()
    found = measure(sets)
    write_atomic(ROOT / "results" / "orders.json", json.dumps(found, indent=1) + "\n")
    write_atomic(ROOT / "results" / "orders.md", page(found))
    if len(sets) > 1:
        write_atomic(ROOT / "results" / "orders.svg", draw(sets))


if __name__ == "__main__":
    main()
