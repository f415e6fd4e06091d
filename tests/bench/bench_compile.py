"""Is `loop.compile` worth it? A step with compiled networks against the same step without, on the CPU.

    python tests/bench/bench_compile.py [--preset digits] [--method self_training] [--warmup 12] [--settle 2]
                                        [--repeats 30] [--out results]

Two runs of one seed in one process on one thread, one of them compiled, take their steps in turn; medians of
the process's clock count, on which others' work does not. Compiling happens in the first steps of either
phase, so the warm-up is timed, too: what the compiled run takes longer there is the price, by real time, as
compilers are processes of their own. What a run saves is the gain of its steps less that price.

Goal: a run of the preset's length is shorter with the setting than without."""

import statistics
import time

import torch
from bench_density import command_line, machine, save, table
from bench_step import open_run, step_of

from dgcl_nb.config import environment, parse_run

GOAL = 0.0


def clocked(work):
    "Seconds of a piece of work: of the process, and real ones."
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def measure(args):
    "Seconds of the warm-up and of each timed step, with and without."
    runs = {
        c: open_run(args.method, args, ["--device", "cpu", "--loop.compile", str(c)]) for c in (False, True)
    }

    def warm(t, loader):
        for _ in range(args.warmup + args.settle):
            step_of(t, loader)

    start = {c: clocked(lambda run=run: warm(*run))[1] for c, run in runs.items()}
    steps = {c: [] for c in runs}
    for _ in range(args.repeats):
        for c, run in runs.items():
            steps[c].append(clocked(lambda run=run: step_of(*run))[0])
    return start, steps


def report(args, start, steps):
    "The table and its values."
    step = {c: statistics.median(seconds) for c, seconds in steps.items()}
    gain, price = step[False] - step[True], max(0.0, start[True] - start[False])
    planned = parse_run(["--preset", args.preset, "--method", args.method]).steps
    saved = gain * planned - price
    row = {"preset": args.preset, "method": args.method, "eager, ms": 1e3 * step[False]}
    row |= {"compiled, ms": 1e3 * step[True], "price, s": price, "steps": planned, "saved, s": saved}
    columns = {"preset": "s", "method": "s", "eager, ms": ".1f", "compiled, ms": ".1f", "price, s": ".0f"}
    text = table([row], columns | {"steps": "d", "saved, s": ".0f"})
    verdict = "worth it" if saved > GOAL else "not worth it"
    text += (
        "\nMilliseconds of a step by the process's clock; *price*: by how many seconds the first steps are"
    )
    text += "\nlonger; *saved*: of a whole run, negative where it loses.\n"
    return f"{text}\nHere the setting is **{verdict}**.", dict(rows=[row], worth_it=saved > GOAL)


def main():
    parser = command_line(__doc__)
    parser.add_argument("--preset", default="digits", help="preset of the runs (default: digits)")
    parser.add_argument(
        "--method", default="self_training", help="method of the runs (default: self_training)"
    )
    parser.add_argument("--warmup", type=int, default=12, help="supervised steps before (default 12)")
    parser.add_argument("--settle", type=int, default=2, help="later steps before (default 2)")
    parser.add_argument("--repeats", type=int, default=30, help="timed steps (default 30)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    here = machine() | environment()
    text, data = report(args, *measure(args))
    print(text, flush=True)
    save("bench_compile", args.out, "Compiled networks against others", text, data | dict(machine=here))


if __name__ == "__main__":
    main()
