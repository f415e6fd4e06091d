"""Put the tables of results/ into README.md, between `<!-- results/NAME -->` and `<!-- end -->`.

python results/update_readme.py          # write
python results/update_readme.py --check  # exit 1 if README.md would change

A place named after a table (`results/NAME.md`) gets the table as it is; one named after the data of a
comparison (`results/NAME.json`) gets a short table: the predictor's mIoU and silhouette of each method.
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = re.compile(r"(<!-- (results/[\w.-]+\.(?:md|json)) -->\n).*?(<!-- end -->)", re.S)


def whole_table(path: Path) -> str:
    "A table as it is, without its heading."
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return "\n".join(line for line in lines if not line.startswith("# ")).strip()


def spread(column: dict, digits: int) -> str:
    "Mean and standard deviation over seeds, as text."
    return f"{column['mean']:.{digits}f} ± {column['std']:.{digits}f}"


def short_table(path: Path) -> str:
    "The few figures of a comparison that a first page shows."
    found = json.loads(path.read_text(encoding="utf-8"))
    num_seeds = len(found["seeds"].split(","))
    lines = [
        f"`{found['command']}`",
        "",
        f"| {found['data']}, {found['labelled']} labelled, {num_seeds} seeds | mIoU, last, % | silhouette |",
        "|---|---:|---:|",
    ]
    for row in found["rows"]:
        columns = spread(row["miou"], 1), spread(row["silhouette"], 3)
        lines.append(f"| {row['label']} | {' | '.join(columns)} |")
    return "\n".join(lines)


def filled(text: str) -> str:
    "README.md with every place filled from its file."

    def table(name: str) -> str:
        return short_table(ROOT / name) if name.endswith(".json") else whole_table(ROOT / name)

    return PLACE.sub(lambda m: f"{m[1]}{table(m[2])}\n{m[3]}", text)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    old = readme.read_text(encoding="utf-8")
    new = filled(old)
    if "--check" in sys.argv:
        sys.exit("README.md differs from results/: run python results/update_readme.py" if new != old else 0)
    readme.write_text(new, encoding="utf-8")
