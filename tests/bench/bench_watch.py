"""What being watched costs a training: seconds per step of a preset with and without a monitor that looks.

    python tests/bench/bench_watch.py [--preset digits] [--pairs 8] [--rows kernel page umap] [--quick]
                                      [--out results] [-- further train flags]

One run of DGCL trains by fit_async in a real kernel while one monitor is shown; blocks of steps in which
the monitor looks (twice a second, its default) alternate with blocks in which it is halted, so what
disturbs the machine disturbs both. A block's time is wall time from its first step's start to its last
one's end, log lines and snapshots included; the supervised start, whose steps are cheaper, is left out,
evaluations are off. Each block holds four log lines and one snapshot, about as many as the preset writes (8
in 1000 steps). The cost is the median of the pairs' ratios; beside it the same median between one halted
block and the next, which is what the machine's noise alone gives.

On a busy machine wall time says little; `CPU` is then the better figure: what the process spends outside
the training thread, in per cent of what the training thread spends. Python's lock lets one thread compute
at a time, so training cannot lose more than this to the monitor while cores are free.

Rows: `kernel` PCA, nobody looks at the page; `page` PCA, shown in JupyterLab in a browser on the same
machine; `umap` as `page`, with UMAP in its child process from the start. A snapshot's milliseconds are
those that the training thread stands still for it (write_snapshot), and happen whether or not somebody
watches.

Goal: at most 3 % slower with PCA."""

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench_density import command_line, machine, save, table

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "browser")]
from helpers import clean_environment, flags  # noqa: E402
from lab import FLAGS, Lab, find_browser, run_notebook, watch_context  # noqa: E402

GOAL, BLOCK, START = 3.0, 100, 125
ROWS = dict(
    kernel=("PCA, kernel alone", "pca", False),
    page=("PCA, shown in a browser", "pca", True),
    umap=("UMAP, shown in a browser", "umap", True),
)

SETUP = """
import json
import os
import time

import psutil

from dgcl_nb.background import fit_async
from dgcl_nb.config import parse_run
from dgcl_nb.run_folder import write_atomic
from dgcl_nb.training import Callback
from dgcl_nb.widgets.monitor import watch


def clocks():
    return time.perf_counter(), time.thread_time(), time.process_time()


def layout_children():
    "What the processes that lay out have used so far."
    found = [c for c in psutil.Process().children() if "serve_layouts" in " ".join(c.cmdline())]
    return [dict(cpu=sum(c.cpu_times()[:2]), rss=c.memory_info().rss / 2**20) for c in found]


class Clock(Callback):
    "Times blocks of steps; the monitor looks in every second one."

    monitor = None

    def __init__(self, start, block):
        self.start, self.block = start, block
        self.blocks, self.snapshots, self.last, self.began = [], [], 0.0, None

    def on_step(self, t, losses):
        self.last = time.perf_counter()
        if self.monitor is None or t.step < self.start or (t.step - self.start) % self.block:
            return
        if self.began is not None:
            wall, own, everyone = (b - a for a, b in zip(self.began, clocks()))
            took = dict(seconds=wall, own=own, beside=everyone - own)
            self.blocks.append(dict(watched=self.monitor.is_live) | took)
        change = self.monitor.start if len(self.blocks) % 2 else self.monitor.halt
        change()
        self.began = clocks()

    def on_log(self, t, record):
        self.last = time.perf_counter()

    def on_snapshot(self, t, path):
        self.snapshots.append(time.perf_counter() - self.last)

    def on_end(self, t, result):
        answer = dict(blocks=self.blocks, snapshots=self.snapshots, children=layout_children())
        write_atomic(ANSWER, json.dumps(answer | dict(steps=t.run.steps, seconds=sum(t.seconds))))


os.chdir(HERE)
"""
WATCH = """
clock = Clock(START, BLOCK)
going = fit_async(parse_run(FLAGS), [clock])
m = watch(going, layout=LAYOUT)
clock.monitor = m
m
"""


def cells_of(layout, folder, args, further):
    "The two cells that train and watch."
    steps = START + BLOCK * (2 * args.pairs + 1)
    settings = dict(preset=args.preset, method="dgcl", steps=steps, out=folder / "run", device="cpu") | {
        "loop.evaluations": 0,
        "loop.checkpoints": 1,
        "loop.log_every": BLOCK // 4,
        "loop.threads": 1,
        "loop.snapshots": round(steps / BLOCK),
        "loop.sup_only_fraction": 0.8 * START / steps,
    }
    words = flags(settings) + further
    names = dict(ANSWER=str(folder / "answer.json"), HERE=os.getcwd(), LAYOUT=layout, FLAGS=words)
    names |= dict(BLOCK=BLOCK, START=START - 10)  # no block ends at a snapshot
    return "".join(f"{name} = {value!r}\n" for name, value in names.items()) + SETUP, WATCH


def wait_for(path, alive):
    while not path.exists():
        if not alive():
            raise RuntimeError("the kernel has ended before the run")
        time.sleep(1)
    return json.loads(path.read_text())


def in_kernel(cells, folder):
    "Train and watch in a kernel that nobody looks at."
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3", env=clean_environment())
    try:
        for cell in cells:
            reply = client.execute_interactive(cell, timeout=300, output_hook=lambda message: None)["content"]
            if reply["status"] == "error":
                raise RuntimeError("\n".join(reply["traceback"]))
        return wait_for(folder / "answer.json", manager.is_alive)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def in_page(cells, folder):
    "Train and watch in JupyterLab, shown in a browser."
    from playwright.sync_api import sync_playwright

    server = Lab(folder)
    try:
        with sync_playwright() as p:
            browser = p.chromium.launch(executable_path=find_browser()[0], args=FLAGS)
            context = browser.new_context(viewport=dict(width=1280, height=1700))
            page = context.new_page()
            run_notebook(watch_context(context, page), server, "bench", *cells, seconds=300)
            while not (folder / "answer.json").exists():
                page.wait_for_timeout(1000)  # the page must be served while it waits
            browser.close()
        return json.loads((folder / "answer.json").read_text())
    finally:
        server.close()


def beside(found, watched):
    "Per cent of the training thread's CPU that the process spends outside it."
    return 100 * statistics.median(b["beside"] / b["own"] for b in found["blocks"] if b["watched"] == watched)


def ratio(a, b):
    return 100 * (a / b - 1)


def row_of(name, found):
    "One line of the table."
    off, on = ([b["seconds"] / BLOCK for b in found["blocks"] if b["watched"] == w] for w in (False, True))
    neighbours = [*zip(off, on), *zip(off[1:], on)]  # each watched block and both the halted ones beside it
    pairs = [ratio(b, a) for a, b in neighbours]
    snapshot = statistics.median(found["snapshots"])
    child = found["children"][0] if found["children"] else dict(cpu=0.0, rss=0.0)
    low, _, high = statistics.quantiles(pairs, n=4)
    return {
        "watched": name,
        "ms/step without": 1000 * statistics.median(off),
        "ms/step with": 1000 * statistics.median(on),
        "steps/s without": 1 / statistics.median(off),
        "steps/s with": 1 / statistics.median(on),
        "slower %": statistics.median(pairs),
        "quarter": low,
        "three quarters": high,
        "noise %": statistics.median(abs(ratio(a, b)) for a, b in zip(off, off[1:])),
        "CPU without %": beside(found, False),
        "CPU with %": beside(found, True),
        "snapshot ms": 1000 * snapshot,
        "child CPU s": child["cpu"],
        "child MB": child["rss"],
        "pairs": len(on),
    }


NOTES = """
A snapshot takes the training thread {ms:.0f} ms, as long as {steps:.1f} steps; ten in a run of 1000 steps are
{share:.1%} of its time. They are written whether or not somebody watches.

Preset {preset}, method dgcl, one thread. `slower` is the median over watched blocks of {block} steps, each
against the halted blocks before and after it; `quarter` and `three quarters` are the quartiles of these;
`noise` is the median difference between one halted block and the next. `CPU` is what the process spends
outside the training thread, in per cent of the training thread's. `child` is the process that computes UMAP:
its CPU seconds over the whole run, at a low priority, and the memory that it holds.

Load average at the end of each row: {load}; the training alone makes about 1, what is more is other work on
the machine."""


def words(rows, load, preset):
    "The table, and how to read it."
    columns = {"watched": "s", "steps/s without": ".2f", "steps/s with": ".2f"}
    columns |= dict.fromkeys(("slower %", "quarter", "three quarters", "noise %"), ".1f")
    columns |= {"CPU without %": ".1f", "CPU with %": ".1f", "snapshot ms": ".0f"}
    columns |= {"child CPU s": ".0f", "child MB": ".0f", "pairs": "d"}
    ms = statistics.median(r["snapshot ms"] for r in rows)
    step = statistics.median(r["ms/step without"] for r in rows)
    noise = max(r["noise %"] for r in rows)
    measured = ", ".join(f"{r['slower %']:.1f} % ({r['watched']})" for r in rows if "PCA" in r["watched"])
    text = f"{table(rows, columns)}\n\nGoal with PCA: at most {GOAL:.0f} % slower; measured: {measured}."
    if noise > GOAL:
        text += " The machine was too busy for these wall times to decide: a halted block differs from the "
        text += f"next by up to {noise:.0f} %; `CPU` is what can be read from this table."
    share = 10 * ms / (10 * ms + 1000 * step)
    load = ", ".join(map(str, load))
    shown = dict(ms=ms, steps=ms / step, share=share, preset=preset, block=BLOCK, load=load)
    return f"{text}\n{NOTES.format(**shown)}"


def measure(key, args, further):
    "A row of the table and the load at its end; None where there is no browser to show it."
    name, layout, is_shown = ROWS[key]
    why = find_browser()[1] if is_shown else ""
    if why:
        print(f"{name}: left out, {why}")
        return None
    folder = Path(tempfile.mkdtemp())
    measured = in_page if is_shown else in_kernel
    row = row_of(name, measured(cells_of(layout, folder, args, further), folder))
    load = round(os.getloadavg()[0], 1)
    shutil.rmtree(folder, ignore_errors=True)
    figures = {k: round(v, 2) for k, v in row.items() if k != "watched"}
    print(name, figures, f"load {load}", flush=True)
    return row, load


def main():
    parser = command_line(__doc__, quick="two pairs in the kernel alone")
    parser.add_argument("--preset", default="digits", help="preset of the run (default digits)")
    parser.add_argument("--pairs", type=int, default=8, help="pairs of blocks of each row (default 8)")
    said = "which rows (default: all)"
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=list(ROWS), help=said)
    args, further = parser.parse_known_args()
    further = [word for word in further if word != "--"]
    if args.quick:
        args.pairs, args.rows = 2, ["kernel"]
    found = machine()
    measured = [m for m in (measure(key, args, further) for key in args.rows) if m]
    rows, load = [row for row, _ in measured], [load for _, load in measured]
    text = words(rows, load, args.preset)
    if args.quick:
        print(text)
        return
    save("bench_watch", args.out, "What being watched costs", text, dict(machine=found, load=load, rows=rows))


if __name__ == "__main__":
    main()
