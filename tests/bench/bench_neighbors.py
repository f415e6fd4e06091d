"""What approximate neighbours cost and save: IVF (faiss) and subsampling against the exact multi-scale density.

    python tests/bench/bench_neighbors.py [--run runs/digits-dgcl-s0] [--rounds 3] [--quick] [--out results]

Two banks. `trained`: features of a trained network (the predictor of a run on digits, made by `make train`) on training scenes, cells of digits only, M = 50 000, D = 64;
without the run it is left out. `clusters`: 500 random clusters of uneven size behind a ReLU, D = 256, M = 10 000 (the published bank of a class) and 100 000.
N = 2000 queries of the same kind each. One thread for all.
`exact` is `multi_scale_density`, k = 8, 16, 32. `IVF` sorts the bank into 4 sqrt(M) lists by k-means and searches the `nprobe` nearest lists; its density is computed from
the 32 it finds. `sample 1/s` searches a random part of the bank, with the same k, or with k divided by s as well, so that the neighbourhood
stays as wide. `bf16` rounds queries and entries to bfloat16 and is exact otherwise, as a GPU's tensor cores would compute it; its time on a CPU says nothing and is left out.
Columns: CPU milliseconds to build (k-means and sorting; an index must be built again as the features change) and to search; the mean error of the density and its bias;
Spearman's rank correlation; `recall`, the share of the 32 neighbours that were found;
how many of the 200 sparsest queries (anchors) and of the 50 densest (positives) are the right ones.
Needs faiss: pip install faiss-cpu."""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from bench_density import SCALES, machine, save, table
from scipy.stats import spearmanr

from dgcl_nb.config import build_data, build_method, run_from_dict
from dgcl_nb.core import IGNORE_INDEX
from dgcl_nb.density import knn_similarities, multi_scale_density, scale_weights, unit_rows
from dgcl_nb.checkpoints import init_from_run
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
    network = method.predictor().eval()
    found, total = [], 0
    for start in range(0, len(data.unlabelled), 64):
        samples = [data.unlabelled[i] for i in range(start, min(start + 64, len(data.unlabelled)))]
        feats = network(
            normalize(torch.stack([s["image"] for s in samples]), run.views.mean, run.views.std)
        ).feats
        targets = torch.stack([s["target"] for s in samples])[:, None].float()
        targets = torch.nn.functional.interpolate(targets, feats.shape[-2:], mode="nearest-exact")[:, 0]
        found.append(feats.permute(0, 2, 3, 1)[(targets > 0) & (targets < IGNORE_INDEX)])
        total += len(found[-1])
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

    def __init__(self, bank, probes):
        import faiss

        self.lists = int(LISTS * len(bank) ** 0.5)
        self.index = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(bank.shape[1]), bank.shape[1], self.lists, faiss.METRIC_INNER_PRODUCT
        )
        self.index.cp.seed = 0
        self.index.cp.max_points_per_centroid = 64
        self.index.train(bank)
        self.index.add(bank)
        self.index.nprobe = probes

    def search(self, queries):
        found, entries = self.index.search(queries, K)
        worst = np.where(entries >= 0, found, np.inf).min(
            1, keepdims=True
        )  # lists with fewer than K entries: the worst one found fills up
        return torch.from_numpy(np.where(entries >= 0, found, worst)), torch.from_numpy(entries)


def compare(name, what, density, exact, entries=None, exact_entries=None):
    "How far an approximate density is from the exact one."
    overlap = lambda k, largest: (
        len(
            set(density.topk(k, largest=largest).indices.tolist())
            & set(exact.topk(k, largest=largest).indices.tolist())
        )
        / k
    )
    recall = (
        "-"
        if entries is None
        else f"{np.mean([len(set(a) & set(b)) / K for a, b in zip(entries.tolist(), exact_entries.tolist())]):.0%}"
    )
    return dict(
        bank=name,
        search=what,
        error=float((density - exact).abs().mean()),
        bias=float((density - exact).mean()),
        rank=float(spearmanr(density, exact)[0]),
        recall=recall,
        anchors=overlap(ANCHORS, False),
        positives=overlap(POSITIVES, True),
    )


def cpu_ms(run):
    "CPU milliseconds of one call; with one thread that is its time on an idle machine."
    start = time.process_time()
    run()
    return 1e3 * (time.process_time() - start)


def measure(name, feats, rounds):
    "The rows of one bank."
    import faiss

    queries, bank = unit_rows(feats[:QUERIES]), unit_rows(feats[QUERIES:])
    q, b = queries.numpy(), bank.numpy()
    exact, exact_entries = (
        multi_scale_density(queries, bank, SCALES, normalized=True),
        knn_similarities(queries, bank, K, normalized=True)[1],
    )
    runs, rows = (
        {"exact": lambda: multi_scale_density(queries, bank, SCALES, normalized=True)},
        [compare(name, "exact", exact, exact, exact_entries, exact_entries)],
    )
    flat = faiss.IndexFlatIP(bank.shape[1])
    flat.add(b)
    runs["faiss, all"] = lambda: flat.search(q, K)
    found, entries = flat.search(q, K)
    rows.append(
        compare(name, "faiss, all", density_of(torch.from_numpy(found)), exact, entries, exact_entries)
    )
    start = time.process_time()
    ivf = IVF(b, 1)
    build = 1e3 * (time.process_time() - start)
    for probes in PROBES:

        def search(p=probes):
            ivf.index.nprobe = p
            return ivf.search(q)

        found, entries = search()
        what = f"IVF, nprobe {probes} of {ivf.lists}"
        rows.append(compare(name, what, density_of(found), exact, entries, exact_entries) | dict(build=build))
        runs[what] = search
    rows.append(
        compare(name, "bf16", multi_scale_density(queries.bfloat16(), bank.bfloat16(), SCALES), exact)
    )
    for part in PARTS:
        some = bank[
            torch.randperm(len(bank), generator=torch.Generator().manual_seed(1))[: len(bank) // part]
        ]
        for what, scales in (
            (f"sample 1/{part}, same k", SCALES),
            (f"sample 1/{part}, k/{part}", [max(1, k // part) for k in SCALES]),
        ):
            run = lambda some=some, scales=scales: multi_scale_density(queries, some, scales, normalized=True)
            rows.append(compare(name, what, run(), exact))
            runs[what] = run
    taken = {what: [] for what in runs}
    for _ in range(rounds):
        for what, run in runs.items():
            taken[what].append(cpu_ms(run))
    ms = {what: statistics.median(t) for what, t in taken.items()}
    time_of = lambda what: dict(
        build=0.0, ms=ms.get(what), speed=ms["exact"] / ms[what] if what in ms else None
    )
    return [time_of(r["search"]) | r | dict(M=len(bank), D=bank.shape[1]) for r in rows]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--run",
        default="runs/digits-dgcl-s0",
        help="run folder whose network makes the features (default runs/digits-dgcl-s0)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds (default 3)")
    parser.add_argument(
        "--quick", action="store_true", help="a small bank of clusters only; does not write results"
    )
    parser.add_argument(
        "--out", default=Path(__file__).parents[2] / "results", help="folder of the tables (default: results)"
    )
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
    columns = {
        "bank": "<s",
        "M": "d",
        "D": "d",
        "search": "<s",
        "build": ".0f",
        "ms": ".0f",
        "speed": ".1f",
        "error": ".4f",
        "bias": "+.4f",
        "rank": ".3f",
    }
    columns |= {"recall": "<s", "anchors": ".0%", "positives": ".0%"}
    shown = [{c: "-" if r[c] is None else format(r[c], f) for c, f in columns.items()} for r in rows]
    text = f"N = {QUERIES} queries. `build` and `ms` in CPU milliseconds, `speed` = exact / this without `build`; "
    text += "the rest is explained at the top of the script.\n\n" + table(shown, dict.fromkeys(columns, "s"))
    if args.quick:
        print(text)
        return
    save(
        "bench_neighbors",
        args.out,
        "Approximate neighbours against the exact density",
        text,
        dict(machine=found, rows=rows),
    )


if __name__ == "__main__":
    main()
