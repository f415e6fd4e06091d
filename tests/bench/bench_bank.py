"""What the memory bank and the choice of pixels cost, on the work of the official code and on that of the default settings.

    python tests/bench/bench_bank.py [--repeats 7] [--quick] [--out results]

One step at the official size: 16 000 pixels of 8 classes, a full bank of 10 000 x 256 per class, at most 1000 new pixels per class whose densities are
handed in. Goals: density + sampling at most 1.5 x the bare matrix products of the densities; update of the bank at most 0.1 s.
`released` is the way of the released code: the full matrix with one `topk` a scale, and a bank that is copied at every step."""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from bench_density import SCALES, interleaved, machine, per_scale, save, table

from dgcl_nb.bank import BankConfig, MemoryBank, refresh_density, take_per_class
from dgcl_nb.core import generator_for
from dgcl_nb.density import multi_scale_density
from dgcl_nb.sampling import SamplingConfig, sample_class, sample_negatives

OFFICIAL = dict(num_classes=8, pixels=16_000, size=10_000, new=1000, dim=256)
DEFAULT = dict(num_classes=11, pixels=4096, size=1000, new=100, dim=256)
GOAL_SAMPLING, GOAL_UPDATE_MS = 1.5, 100


class Work:
    "The tensors of one step, and the parts of it that are timed."

    def __init__(self, num_classes, pixels, size, new, dim):
        self.bank, self.new, self.cfg = MemoryBank(num_classes, size, dim, dim), new, SamplingConfig()
        self.labels = torch.arange(pixels) % num_classes
        self.feats, self.proj, self.density, self.confidence = (
            torch.randn(pixels, dim).relu(),
            torch.randn(pixels, dim),
            torch.rand(pixels),
            torch.rand(pixels),
        )
        for c in range(num_classes):
            self.bank.add(
                c,
                torch.randn(size, dim).relu(),
                torch.randn(size, dim),
                torch.rand(size),
                torch.rand(size),
                0,
            )
        self.rows = [(self.labels == c).nonzero()[:, 0] for c in range(num_classes)]
        self.unit = [F.normalize(self.feats[r], dim=1) for r in self.rows]
        self.there = [torch.empty(len(r), size) for r in self.rows]
        self.lists = [[q.feats, q.proj, q.density] for q in map(self.bank.queue, range(num_classes))]
        self.step = 0

    def products(self):
        for c, x in enumerate(self.unit):
            x @ self.bank.feats[c].T

    def products_prepared(self):
        for c, x in enumerate(self.unit):
            torch.mm(x, self.bank.feats[c].T, out=self.there[c])

    def densities(self):
        for c, rows in enumerate(self.rows):
            multi_scale_density(
                self.feats.index_select(0, rows), self.bank.queue(c).feats, SCALES, normalized=True
            )

    def sampling(self):
        "What a step does for each class before its loss."
        g = generator_for(0, self.step)
        for c in range(self.bank.num_classes):
            rows, queue = (self.labels == c).nonzero()[:, 0], self.bank.queue(c)
            density = multi_scale_density(
                self.feats.index_select(0, rows), queue.feats, SCALES, normalized=True
            )
            sample_class(
                density, self.confidence.index_select(0, rows), queue.density, queue.confidence, self.cfg, g
            )
            sample_negatives(self.labels, c, self.cfg.num_negatives, g)

    def released_sampling(self):
        for c in range(self.bank.num_classes):
            rows = (self.labels == c).nonzero()[:, 0]
            per_scale(self.feats[rows], self.bank.feats[c]).sort()
            self.bank.density[c].sort()
            ((self.labels != c).nonzero()[:, 0])[
                torch.randint(0, len(self.labels) - len(rows), (self.cfg.num_negatives,))
            ]

    def update(self):
        self.step += 1
        for c, rows in take_per_class(self.labels, self.new, generator_for(1, self.step)).items():
            feats, proj, density, confidence = (
                x.index_select(0, rows) for x in (self.feats, self.proj, self.density, self.confidence)
            )
            self.bank.add(c, feats, proj, density, confidence, self.step)

    def released_update(self):
        "Newest first, by copying; then all classes in one tensor, as each step uses them."
        for c in range(self.bank.num_classes):
            rows = (self.labels == c).nonzero()[:, 0]
            rows = rows[torch.randperm(len(rows))[: self.new]]
            self.lists[c] = [
                torch.cat([x[rows], old])[: self.bank.size]
                for x, old in zip((self.feats, self.proj, self.density), self.lists[c])
            ]
        for kind in zip(*self.lists):
            torch.stack(kind)

    def refresh(self, cfg):
        "What a policy computes again in one step."
        density_of = lambda x, entries, own: multi_scale_density(
            x, entries, SCALES, exclude_self=own, normalized=True
        )
        for c in self.bank.due(cfg, self.step):
            refresh_density(self.bank, c, cfg.num_refresh, self.step, density_of)


def time_work(sizes, repeats, refresh_all):
    "{part: milliseconds} of one step."
    work = Work(**sizes)
    parts = {
        "products": work.products,
        "products, prepared": work.products_prepared,
        "density": work.densities,
        "density + sampling": work.sampling,
        "released density + sampling": work.released_sampling,
        "bank update": work.update,
        "released bank update": work.released_update,
        "refresh, rolling": lambda: work.refresh(BankConfig(size=work.bank.size)),
    }
    if refresh_all:
        parts["refresh, all"] = lambda: work.refresh(BankConfig(size=work.bank.size, refresh="all"))
    return {name: 1000 * seconds for name, seconds in interleaved(parts, repeats).items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds (default 7)")
    parser.add_argument(
        "--quick", action="store_true", help="the default settings' size only; does not write results"
    )
    parser.add_argument(
        "--out", default=Path(__file__).parents[2] / "results", help="folder of the tables (default: results)"
    )
    args = parser.parse_args()
    torch.manual_seed(0)
    found = machine()
    default = time_work(DEFAULT, args.repeats, refresh_all=True)
    official = {} if args.quick else time_work(OFFICIAL, args.repeats, refresh_all=False)
    rows = [
        dict(part=name, official=official.get(name, float("nan")), default=ms) for name, ms in default.items()
    ]
    text = (
        "Milliseconds a step (median).\n\n"
        + table(rows, dict(part="<s", official=".1f", default=".1f"))
        + "\n\n"
    )
    for name, sizes in dict(official=OFFICIAL, default=DEFAULT).items():
        text += f"{name}: " + ", ".join(f"{k} {v}" for k, v in sizes.items()) + "\n\n"
    if args.quick:
        print(text)
        return
    ratio, ratio_prepared = (
        official["density + sampling"] / official[name] for name in ("products", "products, prepared")
    )
    text += f"Goals: density + sampling at most {GOAL_SAMPLING} x products: {ratio:.2f} ({ratio_prepared:.2f} x those into prepared memory); "
    text += f"bank update at most {GOAL_UPDATE_MS} ms: {official['bank update']:.1f}."
    data = dict(
        machine=found, official=official, default=default, sizes=dict(official=OFFICIAL, default=DEFAULT)
    )
    save("bench_bank", args.out, "Memory bank and sampling", text, data)


if __name__ == "__main__":
    main()
