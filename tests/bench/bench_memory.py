"""The memory that a dry run promises beside the largest that a run takes.

    python tests/bench/bench_memory.py [--presets digits neu-77 camvid-46] [--steps 8] [--out results]

Each figure comes from a process of its own, on the CPU: the dry run's for its whole batch, and what the
process of a run of a few steps takes at most: supervised start, self-training, an evaluation of val and a
checkpoint. Memory does not mind a busy machine, so the figures count wherever they were made.

Goal: the dry run's figure within 10 % of the run's."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from bench_density import command_line, machine, save, table

from dgcl_nb.config import environment
from dgcl_nb.run_folder import read_lines

GOAL = 10.0
MIB_OF_GIB = 1024
SHORT = "--loop.sup_only_fraction 0.25 --loop.evaluations 1 --loop.snapshots 1 --loop.checkpoints 1".split()


def train(*words):
    "What a training command prints."
    command = [sys.executable, "-m", "dgcl_nb.train", "--device", "cpu", "--loop.threads", "1", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


def promised_mib(preset, steps):
    "Of a dry run."
    said = train("--preset", preset, "--steps", str(steps), *SHORT, "--dry_run", "1")
    return MIB_OF_GIB * float(re.search(r"memory of each process: ([\d.]+) GiB", said)[1])


def taken_mib(preset, steps):
    "Of a run: after its last step, and at its end."
    with tempfile.TemporaryDirectory() as place:
        out = Path(place, "run")
        train("--preset", preset, "--steps", str(steps), *SHORT, "--loop.report", "False", "--out", str(out))
        result = json.loads((out / "result.json").read_text())
        return read_lines(out / "timings.jsonl")[-1]["peak_rss_mb"], result["peak_rss_mb"]


def row_of(preset, steps):
    "A row of the table."
    promised, (after_steps, at_end) = promised_mib(preset, steps), taken_mib(preset, steps)
    off = 100 * (promised - after_steps) / after_steps
    return dict(preset=preset, promised=promised, steps=after_steps, end=at_end, off=off)


COLUMNS = {"preset": "s", "promised": ".0f", "steps": ".0f", "end": ".0f", "off": "+.1f"}
NOTES = """
MiB of one process on the CPU, one thread. `promised`: by `--dry-run`. `steps`: the largest until the last
step. `end`: with evaluation, snapshot and checkpoint. `off`: promised against steps, in per cent; within
{goal:.0f} is the goal.

Largest deviation: **{worst:.1f} %**."""


def main():
    parser = command_line(__doc__)
    parser.add_argument("--presets", nargs="+", default=["digits", "neu-77", "camvid-46"])
    parser.add_argument("--steps", type=int, default=8, help="steps of a run (default 8)")
    args = parser.parse_args()
    here = machine()
    rows = [row_of(preset, args.steps) for preset in args.presets]
    text = table(rows, COLUMNS) + "\n" + NOTES.format(goal=GOAL, worst=max(abs(row["off"]) for row in rows))
    save(
        "bench_memory",
        args.out,
        "Memory: promised and taken",
        text,
        dict(rows=rows, machine=here | environment()),
    )


if __name__ == "__main__":
    main()
