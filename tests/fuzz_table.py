"""The figures of the fuzz scripts, in results/fuzz.md: each script writes its own row."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from sync_gate import ROOT

KINDS = ("runs", "InputErrors", "bare exceptions", "hangs", "memory over 2 GB")
"What a case can come to; the last three must be 0."
FILES = Path(ROOT, "results", "fuzz.json"), Path(ROOT, "results", "fuzz.md")
"The rows, and the page made of them."


MEANS = (
    "A *run* is a case that was read, parsed or trained, an *InputError* one sentence that refuses it. "
    "Full size is 2000 mutations with five readers each, and each of 245 settings with 20 values."
)
"What stands above the table."


def machine():
    "What the rows were made on."
    git = ["git", "rev-parse", "--short=10", "HEAD"]
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    return f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, commit {commit}"


def page_of(rows):
    "The page: a table, and below it every case that should not have been."
    head = ["command", "tried", *KINDS, "seeds", "minutes", "made on"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows.values():
        cells = [f"`{row['command']}`", row["cases"], *(row["counts"].get(k, 0) for k in KINDS)]
        cells += [row["seeds"], f"{row['seconds'] / 60:.0f}", row["machine"]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    faults = [f"- `{name}`: {fault}" for name, row in rows.items() for fault in row["faults"]]
    page = ["# Hostile files and settings: what was tried", "", MEANS, "", *lines]
    if faults:
        page += ["", "What failed, at the commit of its row:", "", *faults]
    return "\n".join(page) + "\n"


def write_row(
    script: str,  # what was tried
    command: str,  # as it was typed
    counts: Mapping[str, int],  # of KINDS
    faults: list[str],  # one line each
    seeds: str,  # first and last
    began: float,  # time.time() then
):
    "Add the row of a script, or replace the one of the same seeds."
    data, page = FILES
    rows = json.loads(data.read_text()) if data.is_file() else {}
    row = dict(command=command, cases=sum(counts.values()), counts=dict(counts), faults=faults)
    rows[f"{script}, seeds {seeds}"] = row | dict(seeds=seeds, seconds=time.time() - began, machine=machine())
    data.write_text(json.dumps(dict(sorted(rows.items())), indent=1) + "\n")
    page.write_text(page_of(dict(sorted(rows.items()))))
