"""Whether two commits compute the same: all loss terms of short seeded runs, step by step.

    python tests/compare_commits.py BASE [HEAD] [--steps 60] [--only NAME ...] [--out FILE.md]

Each commit is checked out into a folder of its own and trains the same tiny runs on the embedded digits,
on the CPU with one thread. A pure move of code must be equal to the bit; what differs is shown with its first
step and its size. BASE and HEAD are anything that git understands; without HEAD the work tree as it stands.
Settings have the names of today; for a commit that had a group a method they are translated. Every method is
there, as it is and as released; a row takes about 25 seconds on an idle machine, all of them a quarter of
an hour.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TINY = {
    "device": "cpu",
    "data.num_labelled": 125,
    "batch.labelled": 4,
    "batch.unlabelled": 4,
    "views.crop": 48,
    "views.cutmix_prob": 1.0,
    "model.encoder": "test_resnet",
    "model.pretrained": "none",
    "model.output_stride": 16,
    "model.last_stage": 2,
    "model.decoder_channels": 16,
    "model.low_level_channels": 8,
    "model.proj_dim": 8,
    "model.aspp_rates": 2,
    "model.dropout": 0.1,
    "loop.log_every": 1,
    "loop.evaluations": 0,
    "loop.snapshots": 0,
    "loop.checkpoints": 0,
    "loop.num_probes": 2,
    "loop.report": False,
    "loop.threads": 1,
    "dgcl.bank.size": 64,
    "dgcl.bank.min_fill": 8,
    "dgcl.num_neighbors": "4 8",
    "dgcl.contrast_start": 0.2,
    "dgcl.contrast_weight": 0.3,
    "dgcl.sampling.negatives": "batch",
}
CLEAN = {"dgcl.contrast_view": "clean"}
# Nothing is drawn but the order of images and their views: no boxes, no dropout.
NO_DRAWS = {"views.cutmix_prob": 0, "model.dropout": 0}
# Every cell takes part in everything, so that nothing depends on who was drawn.
ALL_CELLS = NO_DRAWS | {
    "dgcl.sampling.overlap": True,
    "dgcl.sampling.num_anchors": 5000,
    "dgcl.sampling.num_positives": 5000,
    "dgcl.sampling.num_bank_positives": 20000,
    "dgcl.sampling.num_negatives": 5000,
    "dgcl.bank.size": 20000,
    "dgcl.bank.max_new_per_class": 2000,
}
# name of a comparison -> (method, processes, settings on top of TINY)
RUNS = {
    "supervised": ("supervised", 1, {}),
    "supervised, OHEM": ("supervised", 1, {"sup.ohem": True, "sup.ohem_min_kept": 500}),
    "self_training": ("self_training", 1, {}),
    "self_training, released": ("self_training", 1, {"variant": "released"}),
    "self_training, no draws": ("self_training", 1, NO_DRAWS),
    "dgcl, all cells": ("dgcl", 1, ALL_CELLS),
    "dgcl, all cells, clean view": ("dgcl", 1, ALL_CELLS | CLEAN),
    "dgcl, mixed view": ("dgcl", 1, {}),
    "dgcl, clean view": ("dgcl", 1, CLEAN),
    "dgcl, negatives bank": ("dgcl", 1, {"dgcl.sampling.negatives": "bank"}),
    "dgcl, negatives both": ("dgcl", 1, {"dgcl.sampling.negatives": "both"}),
    "dgcl, strategy confidence": ("dgcl", 1, {"dgcl.sampling.strategy": "confidence"}),
    "dgcl, strategy random": ("dgcl", 1, {"dgcl.sampling.strategy": "random"}),
    "dgcl, teacher bank": ("dgcl", 1, CLEAN | {"dgcl.bank_source": "teacher"}),
    "dgcl, OHEM": ("dgcl", 1, {"sup.ohem": True, "sup.ohem_min_kept": 500}),
    "dgcl, released": ("dgcl", 1, {"variant": "released", "dgcl.bank.size": 64, "dgcl.bank.min_fill": 64}),
    "dgcl, 2 processes": ("dgcl", 2, {}),
}
OTHERS = (
    "mean_teacher",
    "cutmix",
    "cct",
    "gct",
    "cps",
    "u2pl",
    "ps_mt",
    "pcr",
    "gta_seg",
    "fixmatch",
    "unimatch",
)
# What does not fit a crop of 48 pixels and 60 steps otherwise.
SMALLER = {
    "gct": {"gct.depth": 3, "gct.ndf": 8},
    "u2pl": {"u2pl.bank_size": 256, "u2pl.bank_size_background": 256},
    "pcr": {"pcr.granularity": 12},
}
for method in OTHERS:
    RUNS[method] = method, 1, SMALLER.get(method, {})
    RUNS[f"{method}, released"] = method, 1, SMALLER.get(method, {}) | {"variant": "released"}
RUNS["cps, CutMix"] = "cps", 1, {"cps.cutmix": True}


def translated(settings, method):
    "Settings as a commit with one group a method had them."
    groups = ("sup.", "semi.")
    return {
        f"{method}.{name.split('.', 1)[1]}" if name.startswith(groups) else name: value
        for name, value in settings.items()
    }


class Commit:
    "A checked-out commit that can train."

    def __init__(self, folder):
        self.folder = Path(folder)
        protocol = self.folder / "dgcl_nb" / "methods" / "protocol.py"
        self.has_groups = protocol.exists() and "class SemiConfig" in protocol.read_text(encoding="utf-8")

    def flags(self, name, steps, out):
        method, _, more = RUNS[name]
        settings = TINY | more
        if not self.has_groups:
            settings = translated(settings, method)
        if method != "dgcl":
            settings = {k: v for k, v in settings.items() if not k.startswith("dgcl.")}
        settings |= dict(method=method, steps=steps, out=out) | {"data.root": ROOT / "data"}
        return [word for key, value in settings.items() for word in (f"--{key}", *str(value).split())]

    def train(self, name, steps, out):
        "The log lines of a run: [{name of a term: value}], one a step."
        flags = self.flags(name, steps, out)
        num = RUNS[name][1]
        launcher = (
            ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={num}"] if num > 1 else []
        )
        environment = os.environ | dict(PYTHONPATH=str(self.folder), OMP_NUM_THREADS="1")
        command = [sys.executable, *launcher, "-m", "dgcl_nb.train", *flags]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{name} failed in {self.folder}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        lines = (Path(out) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        return [
            {key: value for key, value in record.items() if key.startswith("loss_")}
            for record in records
            if "event" not in record
        ]


def difference(base, head):
    "What differs between two logs, in words; empty if nothing does."
    if [sorted(step) for step in base] != [sorted(step) for step in head]:
        return "other terms"
    found = {}
    for number, (a, b) in enumerate(zip(base, head), 1):
        for term in a:
            gap = abs(a[term] - b[term])
            if gap:
                first, largest = found.get(term, (number, 0.0))
                found[term] = first, max(largest, gap)
    return "; ".join(f"{term} from step {first}, at most {gap:.1e}" for term, (first, gap) in found.items())


def check_out(commit, folder):
    "The work tree, or a commit in a folder of its own."
    if commit is None:
        return Commit(ROOT)
    subprocess.run(["git", "worktree", "add", "--detach", "-q", folder, commit], cwd=ROOT, check=True)
    return Commit(folder)


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base")
    parser.add_argument("head", nargs="?")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--only", nargs="*", choices=list(RUNS), default=list(RUNS), help="names of runs")
    parser.add_argument("--out", help="a file for the table")
    args = parser.parse_args(argv)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        try:
            base = check_out(args.base, str(place / "base"))
            head = check_out(args.head, str(place / "head"))
            for number, name in enumerate(args.only):
                logs = [
                    commit.train(name, args.steps, place / f"{side}-{number}")
                    for side, commit in (("run-a", base), ("run-b", head))
                ]
                rows.append((name, len(logs[0]), difference(*logs) or "equal to the bit"))
                print(*rows[-1], sep=" | ", flush=True)
        finally:
            for side in ("base", "head"):
                remove = ["git", "worktree", "remove", "--force", str(place / side)]
                subprocess.run(remove, cwd=ROOT, capture_output=True)
    if args.out:
        lines = ["| run | steps | difference |", "|---|---:|---|"]
        lines += [f"| {name} | {steps} | {what} |" for name, steps, what in rows]
        Path(args.out).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(any(what != "equal to the bit" for _, _, what in rows))


if __name__ == "__main__":
    sys.exit(main())
