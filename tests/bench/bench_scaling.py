"""What a second process is worth on this machine: a step of one process beside a step of two.

    python tests/bench/bench_scaling.py [--methods self_training dgcl] [--steps 200] [--rounds 3]

Strong scaling: the batch stays as it is and is shared out. Four ways to train, in turn, `--rounds` times,
each a training command of its own with one thread a process, on the CPU:

- `one`: one process with the whole batch;
- `two`: two processes under `torchrun`, each with half of it;
- `half`: one process with half of it, alone on the machine, whose second core is idle;
- `apart`: two such processes at once that exchange nothing: what the machine's cores take from each other.

The time of `two` is then that of `half`, what the cores share (`apart` less `half`), and what the exchange of
two processes costs: gathering, reducing, and waiting for the slower one (`two` less `apart`). Timings are
medians over the rounds and count on an idle machine."""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench_density import command_line, machine, save, table

from dgcl_nb.config import environment

METHODS = ["self_training", "dgcl"]
SHORT = ["--loop.sup_only_fraction", "0.05", "--loop.evaluations", "1", "--loop.snapshots", "0"]
ALONE = ["--loop.checkpoints", "1", "--loop.report", "False", "--loop.threads", "1", "--device", "cpu"]
HALF = ["--batch.labelled", "4", "--batch.unlabelled", "4"]
"A process's share of the default batch, eight labelled and eight unlabelled images."
WAYS = ["one", "two", "half", "apart"]
TORCHRUN = ["torchrun", "--standalone", "--nproc-per-node", "2", "-m"]


def command_of(way, method, steps, folder):
    "The training command of a way."
    start = TORCHRUN if way == "two" else [sys.executable, "-m"]
    share = [] if way == "one" else HALF
    flags = ["--method", method, "--steps", str(steps), *SHORT, *ALONE, *share]
    return [*start, "dgcl_nb.train", *flags, "--out", str(folder)]


def step_seconds(folder):
    "As the finished run says it."
    return json.loads(Path(folder, "result.json").read_text())["seconds_per_step"]


def time_way(way, method, steps):
    "Milliseconds a step; of two runs at once their mean."
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place, name) for name in (["a", "b"] if way == "apart" else ["a"])]
        commands = [command_of(way, method, steps, folder) for folder in folders]
        runs = [subprocess.Popen(c, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for c in commands]
        ends = [(run.communicate()[1], run.returncode) for run in runs]
        for said, code in ends:
            assert code == 0, said.decode()[-2000:]
        return 1000 * statistics.mean(step_seconds(folder) for folder in folders)


def row_of(method, args):
    "A row of the table: medians over the rounds, whose ways take turns."
    times = {way: [] for way in WAYS}
    for _ in range(args.rounds):
        for way in WAYS:
            times[way].append(time_way(way, method, args.steps))
            print(f"{method}, {way}: {times[way][-1]:.1f} ms", flush=True)
    row = {way: statistics.median(times[way]) for way in WAYS}
    row |= dict(method=method, speed=row["one"] / row["two"], could=row["one"] / row["apart"])
    row |= dict(cores=row["apart"] - row["half"], exchange=row["two"] - row["apart"], times=times)
    return row


COLUMNS = {"method": "s"} | dict.fromkeys(WAYS, ".1f")
COLUMNS |= {"cores": "+.1f", "exchange": "+.1f", "speed": ".2f", "could": ".2f"}
NOTES = """
Milliseconds a step. `one`: one process, the whole batch. `two`: two processes, half of it each. `half`: one
process with half of it, alone. `apart`: two of these at once that exchange nothing. `cores`: `apart` less
`half`. `exchange`: `two` less `apart`. `speed`: `one` / `two`, 2 if a second process were worth a second
machine. `could`: `one` / `apart`, what two processes reach here without any exchange.

What is exchanged, byte by byte, is counted in `tests/test_traffic.py` and reckoned up for other machines in
`nbs/commands/30_cost.ipynb`."""


def main():
    parser = command_line(__doc__, quick="dgcl alone, ten steps, one round")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--steps", type=int, default=200, help="steps of a run (default 200)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each way (default 3)")
    args = parser.parse_args()
    if args.quick:
        args.methods, args.steps, args.rounds = ["dgcl"], 10, 1
    here = machine()
    rows = [row_of(method, args) for method in args.methods]
    text = table(rows, COLUMNS) + "\n" + NOTES
    if args.quick:
        print(text)
        return
    data = dict(rows=rows, steps=args.steps, rounds=args.rounds, machine=here | environment())
    save("bench_scaling", args.out, "Two processes on one machine", text, data)


if __name__ == "__main__":
    main()
