"""The memory that a dry run promises beside the largest that a run takes.

    python tests/bench/bench_memory.py [--presets digits neu-77 camvid-46] [--steps 8] [--out results]

Each figure comes from a process of its own, on the CPU: the dry run's promise for its whole batch, and the
largest resident memory of a run of a few steps (`VmHWM`, so on Linux alone): supervised start, self-training,
an evaluation of all of val with cluster scores, a snapshot and a checkpoint. That a few steps stand for many
is seen from longer runs: their log has `peak_rss_mb` at each line. Memory does not mind a busy machine, so
the figures count wherever they were made.

Goal: the dry run's figure within 10 % of the run's."""

import re
import subprocess
import sys
import tempfile

from bench_density import command_line, machine, save, table

from dgcl_nb.config import environment

GOAL = 10.0
MIB_OF_GIB = 1024
PRESETS, METHODS = ["digits", "neu-77", "camvid-46"], ["dgcl", "self_training"]
SHORT = "--loop.sup_only_fraction 0.25 --loop.evaluations 1 --loop.snapshots 1 --loop.checkpoints 1".split()
RUN = """
import sys
from dgcl_nb.core import peak_rss_mb
from dgcl_nb.train import main
main(sys.argv[1:])
print(f"largest: {peak_rss_mb()} MiB")
"""
"The training command, and at its end what its process took; no other program starts it over."


def train(*words):
    "What a training command prints."
    command = [sys.executable, "-c", RUN, "--device", "cpu", "--loop.threads", "1", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def number_in(text, words):
    "The number that stands where `words` have a group."
    found = re.search(words, text)
    assert found, f"no '{words}' in: {text}"
    return float(found[1])


def promised_mib(words):
    "Of a dry run."
    return MIB_OF_GIB * number_in(train(*words, "--dry_run", "1"), r"memory of each process: ([\d.]+) GiB")


def taken_mib(words):
    "Of a run, from beginning to end."
    with tempfile.TemporaryDirectory() as place:
        said = train(*words, "--loop.report", "False", "--out", f"{place}/run")
    return number_in(said, r"largest: ([\d.]+) MiB")


def deviation(promised, taken):
    "Of the promise, in per cent of what was taken."
    return 100 * (promised - taken) / taken


def row_of(preset, method, steps):
    "A row of the table."
    words = ["--preset", preset, "--method", method, "--steps", str(steps), *SHORT]
    promised, taken = promised_mib(words), taken_mib(words)
    off = deviation(promised, taken)
    print(f"{preset}, {method}: {promised:.0f} of {taken:.0f} MiB, {off:+.1f} %", flush=True)
    return dict(preset=preset, method=method, promised=promised, taken=taken, off=off)


COLUMNS = {"preset": "s", "method": "s", "promised": ".0f", "taken": ".0f", "off": "+.1f"}
NOTES = """
MiB of one process on the CPU, one thread, {steps} steps. `promised`: by `--dry-run`. `taken`: the largest of
a run with an evaluation, a snapshot and a checkpoint. `off`: promised against taken, in per cent.

Goal: within {goal:.0f} %; the largest deviation: **{worst:.1f} %**."""


def report(rows, steps):
    "The table as text."
    worst = max(abs(row["off"]) for row in rows)
    return table(rows, COLUMNS) + "\n" + NOTES.format(goal=GOAL, steps=steps, worst=worst)


def main():
    parser = command_line(__doc__)
    parser.add_argument("--presets", nargs="+", default=PRESETS)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--steps", type=int, default=8, help="steps of a run (default 8)")
    args = parser.parse_args()
    here = machine()
    rows = [row_of(preset, method, args.steps) for preset in args.presets for method in args.methods]
    data = dict(rows=rows, steps=args.steps, machine=here | environment())
    save("bench_memory", args.out, "Memory: promised and taken", report(rows, args.steps), data)


if __name__ == "__main__":
    main()
