"""The table of hostile cases, as commands."""

import subprocess
import sys

from helpers import ROOT


def test_cases__each_ends_in_a_sentence_or_a_run():
    "What an older package makes of them stands in results/hostile_cases.md."
    command = [sys.executable, ROOT / "tests" / "hostile_cases.py"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout.splitlines()[-1:] + ended.stderr.splitlines()[-5:]
