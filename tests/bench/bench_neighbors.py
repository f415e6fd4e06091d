"""What approximate neighbours cost and save: IVF (faiss) and subsampling against the exact density.

    python tests/bench/bench_neighbors.py [--run runs/digits-dgcl-s0] [--rounds 3] [--quick] [--out results]

Two banks. `trained`: features of a trained network (the predictor of a run on digits, made by `make train`)
on training scenes, cells of digits only, M = 50 000, D = 64; without the run it is left out. `clusters`:
500 random clusters of uneven size behind a ReLU, D = 256, M = 10 000 (the published bank of a class) and
100 000. N = 2000 queries of the same kind each. One thread for all.

`exact` is `multi_scale_density`, k = 8, 16, 32. `IVF` sorts the bank into 4 sqrt(M) lists by k-means and
searches the `nprobe` nearest lists; its density is computed from the 32 it finds. `sample 1/s` searches a
random part of the bank, with the same k, or with k divided by s as well, so that the neighbourhood stays as
wide. `bf16` rounds queries and entries to bfloat16 and is exact otherwise, as a GPU's tensor cores would
compute it; its time on a CPU says nothing and is left out.

Columns: CPU milliseconds to build (k-means and sorting; an index must be built again as the features
change) and to search; the mean error of the density and its bias; Spearman's rank correlation; `recall`,
the share of the 32 neighbours that were found; how many of the 200 sparsest queries (anchors) and of the 50
densest (positives) are the right ones.

Needs faiss: pip install faiss-cpu."""

import json
import statistics
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from bench_density import SCALES, command_line, machine, save, table
from scipy.stats import spearmanr

from dgcl_nb.checkpoints import init_from_run
from dgcl_nb.config import build_data, build_method, run_from_dict
from dgcl_nb.core import IGNORE_INDEX
from dgcl_nb.density import knn_similarities, multi_scale_density, scale_weights, unit_rows
from dgcl_nb.views import normalize

QUERIES, ANCHORS, POSITIVES = 2000, 200, 50
LISTS, PROBES, PARTS = 4, (1, 4, 16, 64), (4, 16)  # LISTS x sqrt(M) lists
K = max(SCALES)


@torch.no_grad()
def trained_feats(folder, num, device="cpu"):
    "Features (num, D) of digit cells of training scenes, by the predictor of a run, in random order."
    run = run_from_dict(json.loads((Path(folder) / "config.json").read_text()))
    data = build_data(run)
    method = build_method(run, data.num_classes)
    init_from_run(method, folder)
    predictor = next(iter(method.scored().values())).eval()
    found = []
    for start in range(0, len(data.unlabelled), 64):
        samples = [data.unlabelled[i] for i in range(start, min(start + 64, len(data.unlabelled)))]
        images = torch.stack([s["image"] for s in samples])
        feats = predictor(normalize(images, run.views.mean, run.views.std)).feats
        targets = torch.stack([s["target"] for s in samples])[:, None].float()
        targets = torch.nn.functional.interpolate(targets, feats.shape[-2:], mode="nearest-exact")[:, 0]
        found.append(feats.permute(0, 2, 3, 1)[(targets > 0) & (targets < IGNORE_INDEX)])
    feats = torch.cat(found)
    return feats[torch.randperm(len(feats), generator=torch.Generator().manual_seed(0))[:num]]


def cluster_feats(num, dim=256, clusters=500):
    "Rows of uneven random clusters behind a ReLU (num, dim)."
    g = torch.Generator().manual_seed(0)
    centres, widths = torch.randn(clusters, dim, generator=g), 0.3 + torch.rand(clusters, 1, generator=g)
    which = (clusters * torch.rand(num, generator=g) ** 2).long()
    return (centres[which] + widths[which] * torch.randn(num, dim, generator=g)).relu()


def density_of(similarities):
    "The multi-scale density (N,) of sorted similarities (N, K)."
    return scale_weights(SCALES, similarities.shape[1]).mean(0) @ similarities.T


class IVF:
    "faiss's inverted lists over unit rows."

    def __init__(self, bank):
        import faiss

        self.lists, dim = int(LISTS * len(bank) ** 0.5), bank.shape[1]
        lists = faiss.IndexFlatIP(dim)
        self.index = faiss.IndexIVFFlat(lists, dim, self.lists, faiss.METRIC_INNER_PRODUCT)
        self.index.cp.seed = 0
        self.index.cp.max_points_per_centroid = 64
        self.index.train(bank)
        self.index.add(bank)

    def search(self, queries, probes):
        self.index.nprobe = probes
        found, entries = self.index.search(queries, K)
        # lists with fewer than K entries: the worst one found fills up
        worst = np.where(entries >= 0, found, np.inf).min(1, keepdims=True)
        return torch.from_numpy(np.where(entries >= 0, found, worst)), torch.from_numpy(entries)


def compare(name, what, density, exact, entries=None, exact_entries=None):
    "How far an approximate density is from the exact one."
    recall, difference = "-", density - exact
    if entries is not None:
        found = [common(a, b) / K for a, b in zip(entries.tolist(), exact_entries.tolist())]
        recall = f"{np.mean(found):.0%}"
    row = dict(bank=name, search=what, error=float(difference.abs().mean()), bias=float(difference.mean()))
    row |= dict(rank=float(spearmanr(density, exact)[0]), recall=recall)
    row |= dict(anchors=same_choice(density, exact, ANCHORS, largest=False))
    return row | dict(positives=same_choice(density, exact, POSITIVES, largest=True))


def common(a, b):
    "How many values two lists share."
    return len(set(a) & set(b))


def same_choice(density, exact, k, largest):
    "The share of the `k` extreme queries that are the right ones."
    a, b = (d.topk(k, largest=largest).indices.tolist() for d in (density, exact))
    return common(a, b) / k


def cpu_ms(run):
    "CPU milliseconds of one call; with one thread that is its time on an idle machine."
    start = time.process_time()
    run()
    return 1e3 * (time.process_time() - start)


def searches_of(queries, bank):
    "{search: (what runs it, (its density, the entries it finds or None))} of all approximations but IVF."
    import faiss

    flat = faiss.IndexFlatIP(bank.shape[1])
    flat.add(bank.numpy())

    def exact(some=bank, scales=SCALES):
        return multi_scale_density(queries, some, scales, normalized=True), None

    def search_all():
        found, entries = flat.search(queries.numpy(), K)
        return density_of(torch.from_numpy(found)), torch.from_numpy(entries)

    def rounded():
        return multi_scale_density(queries.bfloat16(), bank.bfloat16(), SCALES), None

    runs = {"faiss, all": search_all, "bf16": rounded}
    for part in PARTS:
        order = torch.randperm(len(bank), generator=torch.Generator().manual_seed(1))
        some, fewer = bank[order[: len(bank) // part]], [max(1, k // part) for k in SCALES]
        runs[f"sample 1/{part}, same k"] = partial(exact, some)
        runs[f"sample 1/{part}, k/{part}"] = partial(exact, some, fewer)
    return runs


def ivf_searches_of(queries, bank):
    "The same of IVF, and the milliseconds that its index took."
    start = time.process_time()
    ivf = IVF(bank.numpy())
    build = 1e3 * (time.process_time() - start)

    def search(probes):
        found, entries = ivf.search(queries.numpy(), probes)
        return density_of(found), entries

    return {f"IVF, nprobe {p} of {ivf.lists}": partial(search, p) for p in PROBES}, build


def measure(name, feats, rounds):
    "The rows of one bank."
    queries, bank = unit_rows(feats[:QUERIES]), unit_rows(feats[QUERIES:])
    exact = multi_scale_density(queries, bank, SCALES, normalized=True)
    entries = knn_similarities(queries, bank, K, normalized=True)[1]
    ivf, build = ivf_searches_of(queries, bank)
    searches = searches_of(queries, bank)
    runs = {"faiss, all": searches.pop("faiss, all")} | ivf | searches
    rows = [compare(name, "exact", exact, exact, entries, entries) | dict(build=0.0)]
    for what, run in runs.items():
        density, found = run()
        row = compare(name, what, density, exact, found, entries)
        rows.append(row | dict(build=build if what in ivf else 0.0))
    runs["exact"] = lambda: multi_scale_density(queries, bank, SCALES, normalized=True)
    taken = {what: [] for what in runs if what != "bf16"}  # whose time on a CPU says nothing
    for _ in range(rounds):
        for what, times in taken.items():
            times.append(cpu_ms(runs[what]))
    ms = {what: statistics.median(times) for what, times in taken.items()}
    for row in rows:
        own = ms.get(row["search"])
        row |= dict(ms=own, speed=None if own is None else ms["exact"] / own, M=len(bank), D=bank.shape[1])
    return rows


def main():
    parser = command_line(__doc__, quick="a small bank of clusters only")
    said = "run folder whose network makes the features (default runs/digits-dgcl-s0)"
    parser.add_argument("--run", default="runs/digits-dgcl-s0", help=said)
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds (default 3)")
    args = parser.parse_args()
    try:
        import faiss
    except ImportError:
        print("bench_neighbors needs faiss: pip install faiss-cpu; nothing was measured")
        return
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    torch.manual_seed(0)
    found = machine() | dict(faiss=faiss.__version__)
    banks = [("clusters", lambda: cluster_feats(QUERIES + 10_000))]
    if not args.quick:
        banks.append(("clusters", lambda: cluster_feats(QUERIES + 100_000)))
    if not args.quick and (Path(args.run) / "checkpoints" / "best.pt").is_file():
        banks.insert(0, ("trained", lambda: trained_feats(args.run, QUERIES + 50_000)))
    rows = [row for name, make in banks for row in measure(name, make(), args.rounds)]
    columns = dict(bank="<s", M="d", D="d", search="<s", build=".0f", ms=".0f", speed=".1f")
    columns |= dict(error=".4f", bias="+.4f", rank=".3f", recall="<s", anchors=".0%", positives=".0%")
    shown = [{c: "-" if r[c] is None else format(r[c], f) for c, f in columns.items()} for r in rows]
    text = f"N = {QUERIES} queries. `build` and `ms` in CPU milliseconds, `speed` = exact / this without "
    text += "`build`; the rest is explained at the top of the script.\n\n"
    text += table(shown, dict.fromkeys(columns, "s"))
    if args.quick:
        print(text)
        return
    data = dict(machine=found, rows=rows)
    save("bench_neighbors", args.out, "Approximate neighbours against the exact density", text, data)


if __name__ == "__main__":
    main()
