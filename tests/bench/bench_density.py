"""The density against the bare matrix product, for (N, M) in {1k, 10k} squared and D in {64, 256}.

    python tests/bench/bench_density.py [--repeats 7] [--quick] [--out results]

All variants of one size are timed in turn, in one process, and the median counts: what disturbs one
disturbs all. `product` allocates its output, as it must when the matrix is wanted; `prepared` writes into
memory that is there. `per scale` is the way of the released code: the full matrix and one `topk` for each
scale.

Goal: density at most 1.15 x product at N = M = 10 000, D = 256 on two cores, with at most 64 MB more
memory."""

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from dgcl_nb.density import multi_scale_density
from dgcl_nb.run_folder import write_atomic

SCALES = (8, 16, 32)
SIZES = [(n, m, d) for d in (64, 256) for n in (1000, 10_000) for m in (1000, 10_000)]
GOAL = 1.15


def interleaved(variants, repeats):
    "{name: seconds}, the median of `repeats` rounds in which each variant runs once, after one to warm up."
    taken = {name: [] for name in variants}
    for i in range(repeats + 1):
        for name, run in variants.items():
            start = time.perf_counter()
            run()
            seconds = time.perf_counter() - start
            if i > 0:
                taken[name].append(seconds)
    return {name: statistics.median(t) for name, t in taken.items()}


def machine():
    "What the timings depend on."
    lines = open("/proc/cpuinfo").readlines() if sys.platform == "linux" else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return dict(
        cpu=names[0] if names else platform.processor(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        load_at_start=round(os.getloadavg()[0], 1),
    )


def product(feats, bank):
    return F.normalize(feats, dim=1) @ F.normalize(bank, dim=1).T


def per_scale(feats, bank):
    sims = product(feats, bank)
    return torch.stack([sims.topk(k).values.mean(1) for k in SCALES]).mean(0)


def time_size(n, m, d, repeats):
    "A row of the table."
    feats, bank = torch.randn(n, d).relu(), torch.randn(m, d).relu()
    unit_feats, unit_bank, there = F.normalize(feats, dim=1), F.normalize(bank, dim=1).T, torch.empty(n, m)
    if min(n, m) <= 1000:
        found, expected = multi_scale_density(feats, bank, SCALES), per_scale(feats, bank)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    variants = {
        "product": lambda: product(feats, bank),
        "prepared": lambda: torch.mm(unit_feats, unit_bank, out=there),
        "density": lambda: multi_scale_density(feats, bank, SCALES),
        "per scale": lambda: per_scale(feats, bank),
    }
    t = interleaved(variants, repeats)
    row = dict(N=n, M=m, D=d) | {f"{name} ms": 1000 * seconds for name, seconds in t.items()}
    row |= dict(ratio=t["density"] / t["product"], ratio_prepared=t["density"] / t["prepared"])
    return row | dict(ratio_per_scale=t["per scale"] / t["product"])


MEMORY = """
import threading
import psutil
import torch
from dgcl_nb.density import multi_scale_density

def now():
    return psutil.Process().memory_info().rss / 2**20

def watch():
    while not over.wait(.002):
        seen.append(now())

feats, bank = torch.rand(10_000, 256), torch.rand(10_000, 256)
multi_scale_density(feats[:9], bank[:99])  # what the first calls take is not of the density
(feats[:99] @ bank[:999].T).sum()
before, seen, over = now(), [], threading.Event()
watcher = threading.Thread(target=watch)
watcher.start()
for _ in range(3):
    multi_scale_density(feats, bank)
over.set()
watcher.join()
print(max(seen) - before)
"""


def extra_memory():
    "MiB that the density of 10 000 queries among 10 000 entries of 256 channels adds, its result included."
    command = [sys.executable, "-c", MEMORY]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def table(rows, columns):
    "A Markdown table of some columns (name -> format) of the rows."
    rules = [
        "---" if form.endswith("s") else "---:" for form in columns.values()
    ]  # words left, numbers right
    lines = ["| " + " | ".join(columns) + " |", "|" + "|".join(rules) + "|"]
    for row in rows:
        cells = [format(row[name], form) for name, form in columns.items()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def command():
    "What was typed, without the folder of the tables."
    words = [f"tests/bench/{Path(sys.argv[0]).name}", *sys.argv[1:]]
    if "--out" in words:
        place = words.index("--out")
        del words[place : place + 2]
    return shlex.join(["python", *words])


def save(name, out, title, text, data):
    "Write results/NAME.json and .md, and print the latter."
    where = ", ".join(f"{k} {v}" for k, v in data["machine"].items())
    text = f"# {title}\n\n`{command()}`: {where}\n\n{text}\n"
    Path(out).mkdir(parents=True, exist_ok=True)
    write_atomic(Path(out, f"{name}.json"), json.dumps(data, indent=1) + "\n")
    write_atomic(Path(out, f"{name}.md"), text)
    print(text)


def command_line(doc, quick="", **options):
    "A parser with what timings share: --quick (what it does) and --out."
    parser = argparse.ArgumentParser(description=doc.splitlines()[0], **options)
    if quick:
        parser.add_argument("--quick", action="store_true", help=f"{quick}; does not write results")
    results = Path(__file__).parents[2] / "results"
    parser.add_argument("--out", default=results, help="folder of the tables (default: results)")
    return parser


NOTES = """
Extra memory at N = M = 10000, D = 256: {memory:.0f} MiB (the full matrix takes 381).

Goal there: ratio at most {goal}, 64 MB; measured: {ratio:.2f}.

`ratio` = density / product, which allocates its output; `ratio_prepared` = density / `torch.mm(out=)` of \
rows that were scaled before; `ratio_per_scale` = full matrix and one `topk` a scale / product."""


def main():
    parser = command_line(__doc__, quick="the smallest sizes only")
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds of each size (default 7)")
    args = parser.parse_args()
    torch.manual_seed(0)
    found = machine()
    rows = [time_size(*size, args.repeats) for size in (SIZES[:1] if args.quick else SIZES)]
    columns = dict.fromkeys(("N", "M", "D"), "d")
    columns |= dict.fromkeys(("product ms", "prepared ms", "density ms", "per scale ms"), ".1f")
    columns |= dict.fromkeys(("ratio", "ratio_prepared", "ratio_per_scale"), ".2f")
    text = table(rows, columns)
    if args.quick:
        print(text)
        return
    memory = extra_memory()
    text += "\n" + NOTES.format(memory=memory, goal=GOAL, ratio=rows[-1]["ratio"])
    data = dict(machine=found, rows=rows, extra_memory_mb=memory)
    save("bench_density", args.out, "Density against the matrix product", text, data)


if __name__ == "__main__":
    main()
