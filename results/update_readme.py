"""Put the tables of results/ into README.md, between `<!-- results/NAME -->` and `<!-- end -->`.

python results/update_readme.py          # write
python results/update_readme.py --check  # exit 1 if README.md would change

A place named after a table (`results/NAME.md`) gets the table as it is; one named after the data of a
comparison (`results/NAME.json`) gets a short table: the predictor's mIoU and silhouette of each method. Once
there is the whole comparison beside it (`results/NAME-all.json`), the place shows all of its rows. A place
that says ` in words` (`<!-- results/NAME.json in words -->`) gets one sentence instead: what DGCL gains
there.
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = re.compile(r"(<!-- (results/[\w./-]+\.(?:md|json))( in words)? -->\n).*?(<!-- end -->)", re.S)


def whole_table(path: Path) -> str:
    "A table as it is, without its heading."
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return "\n".join(line for line in lines if not line.startswith("# ")).strip()


def spread(column: dict, digits: int, sign: str = "") -> str:
    "Mean and standard deviation over seeds, as text; of one seed the figure alone, a dash if none is known."
    if column["mean"] is None:
        return "–"
    text = f"{column['mean']:{sign}.{digits}f}"
    return text if column["std"] is None else f"{text} ± {column['std']:.{digits}f}"


def short_table(path: Path) -> str:
    "The few figures of a comparison that a first page shows; of the whole one, where there is one."
    whole = path.with_name(f"{path.stem}-all.json")
    found = json.loads((whole if whole.exists() else path).read_text(encoding="utf-8"))
    lines = all_lines(found) if whole.exists() else few_lines(found)
    return "\n".join([f"`{found['command']}`", "", *lines])


def few_lines(found: dict) -> list[str]:
    "A table of rows that all have the same seeds."
    num_seeds = len(found["seeds"].split(","))
    lines = [
        f"| {found['data']}, {found['labelled']} labelled, {num_seeds} seeds | mIoU, last, % | silhouette |",
        "|---|---:|---:|",
    ]
    for row in found["rows"]:
        columns = spread(row["miou"], 1), spread(row["silhouette"], 3)
        lines.append(f"| {row['label']} | {' | '.join(columns)} |")
    return lines


def all_lines(found: dict) -> list[str]:
    "A table of every method: how many seeds, what it gains over the baseline, what a step costs."
    base = found["differences"][0]["baseline"]
    gains = {gain["label"]: gain["miou"] for gain in found["differences"]}
    heads = ["n", "mIoU, last, %", f"minus {base}, paired", "silhouette", "images a step"]
    lines = [
        f"| {found['data']}, {found['labelled']} labelled | {' | '.join(heads)} |",
        f"|---|{'---:|' * len(heads)}",
    ]
    for row in found["rows"]:
        gain = gains.get(row["label"])
        columns = (
            str(row["miou"]["n"]),
            spread(row["miou"], 1),
            spread(gain, 1, "+") if gain else "",
            spread(row["silhouette"], 3),
            row["forwards"],
        )
        lines.append(f"| {row['label']} | {' | '.join(columns)} |")
    return lines


def in_words(path: Path, method: str = "dgcl") -> str:
    "One sentence: each row's mIoU, and what a method gains over the baseline in the same seeds."
    found = json.loads(path.read_text(encoding="utf-8"))
    gain = next(gain for gain in found["differences"] if gain["label"] == method)
    rows = ", ".join(f"{row['label']} {spread(row['miou'], 1)}" for row in found["rows"])
    num_seeds = gain["miou"]["n"]

    def paired(score: str, digits: int) -> str:
        column = gain[score]
        return f"{spread(column, digits, '+')} (the same sign in {column['agree']} of {num_seeds} seeds)"

    return (
        f"{found['data']}, {found['labelled']} labelled, {num_seeds} seeds: mIoU of {rows} %. "
        f"{method} minus {gain['baseline']}, paired: mIoU {paired('miou', 1)}, "
        f"silhouette {paired('silhouette', 3)}.{longer(path)}"
    )


def longer(path: Path) -> str:
    "One more sentence where the baseline was trained for longer, too (`NAME-longer.json` beside the table)."
    beside = path.with_name(f"{path.stem}-longer.json")
    if not beside.exists():
        return ""
    found = json.loads(beside.read_text(encoding="utf-8"))
    row, num_seeds = found["rows"][0], len(found["seeds"].split(","))
    scores = f"mIoU {spread(row['miou'], 1)} %, silhouette {spread(row['silhouette'], 3)}"
    return f" {row['label']} for {found['steps']} steps ({num_seeds} seeds): {scores}."


def filled(text: str) -> str:
    "README.md with every place filled from its file."

    def content(name: str, words: str | None) -> str:
        if words:
            return in_words(ROOT / name)
        return short_table(ROOT / name) if name.endswith(".json") else whole_table(ROOT / name)

    return PLACE.sub(lambda m: f"{m[1]}{content(m[2], m[3])}\n{m[4]}", text)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    old = readme.read_text(encoding="utf-8")
    new = filled(old)
    if "--check" in sys.argv:
        sys.exit("README.md differs from results/: run python results/update_readme.py" if new != old else 0)
    readme.write_text(new, encoding="utf-8")
