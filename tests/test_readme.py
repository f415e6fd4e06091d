"README.md shows the tables of results/ as they are."

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_readme__its_tables_are_those_of_results():
    check = [sys.executable, ROOT / "results" / "update_readme.py", "--check"]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
