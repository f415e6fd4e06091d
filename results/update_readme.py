"""Put tables of results/ into README.md, between `<!-- results/NAME.md -->` and `<!-- end -->`.

    python results/update_readme.py          # write
    python results/update_readme.py --check  # exit 1 if README.md would change

Only the places that README.md has are filled; a table without a place stays in results/.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = re.compile(r"(<!-- (results/[\w.-]+\.md) -->\n).*?(<!-- end -->)", re.S)


def table(path: Path) -> str:
    "A file of results/ without its heading; nothing where it is missing."
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return "\n".join(line for line in lines if not line.startswith("# ")).strip()


def filled(text: str) -> str:
    "A text with every place filled from its file."
    return PLACE.sub(lambda place: f"{place[1]}{table(ROOT / place[2])}\n{place[3]}", text)


def main(is_check: bool) -> None:
    "Write README.md, or say whether it would change."
    readme = ROOT / "README.md"
    old = readme.read_text(encoding="utf-8")
    new = filled(old)
    if is_check and new != old:
        sys.exit("README.md differs from results/: run python results/update_readme.py")
    if not is_check:
        readme.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main("--check" in sys.argv)
