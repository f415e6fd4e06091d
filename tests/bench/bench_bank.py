"""What the memory bank and the choice of pixels cost, at the size of the official code and at ours.

    python tests/bench/bench_bank.py [--repeats 7] [--quick] [--out results]

One step at the official size: 16 000 pixels of 8 classes, a full bank of 10 000 x 256 per class, at most 1000
new pixels per class whose densities are handed in.
`released` is the way of the released code: the full matrix with one `topk` a scale, and a bank that is copied
at every step.
Goals: density + sampling at most 1.5 x the bare matrix products of the densities; update of the bank at most
0.1 s."""

import torch
import torch.nn.functional as F
from bench_density import SCALES, command_line, interleaved, machine, per_scale, save, table

from dgcl_nb.bank import BankConfig, MemoryBank, due_class, refresh_density
from dgcl_nb.cells import Cells, density_of_entries, few_of_each, measure_density, remember, sort_by_class
from dgcl_nb.contrast import choose
from dgcl_nb.core import generator_for
from dgcl_nb.sampling import SamplingConfig

OFFICIAL = dict(num_classes=8, pixels=16_000, size=10_000, new=1000, dim=256)
DEFAULT = dict(num_classes=11, pixels=4096, size=1000, new=100, dim=256)
GOAL_SAMPLING, GOAL_UPDATE_MS = 1.5, 100


class Work:
    "The tensors of one step, and the parts of it that are timed."

    def __init__(self, num_classes, pixels, size, new, dim):
        self.classes = range(num_classes)
        self.bank, self.cfg = MemoryBank(num_classes, size, dim, dim), SamplingConfig()
        self.new, self.bank_cfg = new, BankConfig(size=size, max_new_per_class=new, refresh="none")
        labels = torch.arange(pixels) % num_classes
        feats, proj = torch.randn(pixels, dim).relu(), torch.randn(pixels, dim)
        self.density, confidence = torch.rand(pixels), torch.rand(pixels)
        self.cells = Cells(feats, proj, proj, labels, confidence, labels)
        for c in self.classes:
            feats, proj = torch.randn(size, dim).relu(), torch.randn(size, dim)
            self.bank.add(c, feats, proj, torch.rand(size), torch.rand(size), step=0)
        self.by_class = sort_by_class(labels, self.bank)
        self.rows = [(labels == c).nonzero()[:, 0] for c in self.classes]
        self.unit = [F.normalize(self.cells.feats[r], dim=1) for r in self.rows]
        self.there = [torch.empty(len(r), size) for r in self.rows]
        self.lists = [[q.feats, q.proj, q.density] for q in map(self.bank.queue, self.classes)]
        self.step = 0

    def products(self):
        for c, x in enumerate(self.unit):
            x @ self.bank.feats[c].T

    def products_prepared(self):
        for c, x in enumerate(self.unit):
            torch.mm(x, self.bank.feats[c].T, out=self.there[c])

    def densities(self):
        measure_density(self.cells.feats, self.by_class, self.classes, self.bank, SCALES)

    def sampling(self):
        "What a step does before its loss."
        draw = generator_for(0, self.step)
        by_class = sort_by_class(self.cells.labels, self.bank, draw)
        density = measure_density(self.cells.feats, by_class, self.classes, self.bank, SCALES)
        choose(self.cells, density, by_class, self.classes, self.bank, self.cfg, draw)

    def released_sampling(self):
        labels, num = self.cells.labels, self.cfg.num_negatives
        for c in self.classes:
            rows = (labels == c).nonzero()[:, 0]
            per_scale(self.cells.feats[rows], self.bank.feats[c]).sort()
            self.bank.density[c].sort()
            others = (labels != c).nonzero()[:, 0]
            others[torch.randint(0, len(others), (num,))]

    def update(self):
        self.step += 1
        rows = few_of_each(self.cells, self.density, self.by_class, self.bank_cfg)
        draw = generator_for(1, self.step)
        remember(self.bank, [rows], self.bank_cfg, self.classes, SCALES, self.step, draw)

    def released_update(self):
        "Newest first, by copying; then all classes in one tensor, as each step uses them."
        columns = self.cells.feats, self.cells.proj, self.density
        for c in self.classes:
            rows = (self.cells.labels == c).nonzero()[:, 0]
            rows = rows[torch.randperm(len(rows))[: self.new]]
            joined = [torch.cat([x[rows], old]) for x, old in zip(columns, self.lists[c])]
            self.lists[c] = [x[: self.bank.size] for x in joined]
        for kind in zip(*self.lists):
            torch.stack(kind)

    def refresh(self, policy):
        "What a policy computes again in one step."
        cfg = BankConfig(size=self.bank.size, refresh=policy)
        everyone = torch.ones(len(self.classes), dtype=torch.bool)
        due = self.classes if policy == "all" else [due_class(self.bank, self.step, everyone)]
        for c in due:
            refresh_density(self.bank, c, cfg.num_refresh, self.step, density_among)


def density_among(feats, entries, places, held):
    return density_of_entries(feats, entries, places, held, SCALES)


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
        "refresh, rolling": lambda: work.refresh("rolling"),
    }
    if refresh_all:
        parts["refresh, all"] = lambda: work.refresh("all")
    return {name: 1000 * seconds for name, seconds in interleaved(parts, repeats).items()}


def main():
    parser = command_line(__doc__, quick="the default settings' size only")
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds (default 7)")
    args = parser.parse_args()
    torch.manual_seed(0)
    found = machine()
    default = time_work(DEFAULT, args.repeats, refresh_all=True)
    official = {} if args.quick else time_work(OFFICIAL, args.repeats, refresh_all=False)
    unknown = float("nan")
    rows = [dict(part=k, official=official.get(k, unknown), default=ms) for k, ms in default.items()]
    text = "Milliseconds a step (median).\n\n"
    text += table(rows, dict(part="<s", official=".1f", default=".1f")) + "\n\n"
    for name, sizes in dict(official=OFFICIAL, default=DEFAULT).items():
        text += f"{name}: " + ", ".join(f"{k} {v}" for k, v in sizes.items()) + "\n\n"
    if args.quick:
        print(text)
        return
    ours, products, prepared, update = (
        official[name] for name in ("density + sampling", "products", "products, prepared", "bank update")
    )
    text += f"Goals: density + sampling at most {GOAL_SAMPLING} x products: {ours / products:.2f} "
    text += f"({ours / prepared:.2f} x those into prepared memory); "
    text += f"bank update at most {GOAL_UPDATE_MS} ms: {update:.1f}."
    data = dict(machine=found, official=official, default=default)
    data |= dict(sizes=dict(official=OFFICIAL, default=DEFAULT))
    save("bench_bank", args.out, "Memory bank and sampling", text, data)


if __name__ == "__main__":
    main()
