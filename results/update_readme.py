"""Put the tables of results/ into README.md, between `<!-- results/NAME.md -->` and `<!-- end -->`.

python results/update_readme.py          # write
python results/update_readme.py --check  # exit 1 if README.md would change
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = re.compile(r"(<!-- (results/[\w.-]+\.md) -->\n).*?(<!-- end -->)", re.S)


def filled(text: str) -> str:
    "README.md with every place filled from its file."

    def table(name: str) -> str:
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines() if (ROOT / name).exists() else []
        return "\n".join(line for line in lines if not line.startswith("# ")).strip()

    return PLACE.sub(lambda m: f"{m[1]}{table(m[2])}\n{m[3]}", text)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    old = readme.read_text(encoding="utf-8")
    new = filled(old)
    if "--check" in sys.argv:
        sys.exit("README.md differs from results/: run python results/update_readme.py" if new != old else 0)
    readme.write_text(new, encoding="utf-8")
