"""Multi-scale density: against the slow formula, wherever the search changes its way, within its memory."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import released_density, unit
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dgcl_nb.core import InputError, generator_for
from dgcl_nb.density import (
    CHUNK_ROWS as CHUNK_ROWS_OF,
    GROUP,
    density_per_scale,
    knn_similarities,
    multi_scale_density,
    padded_width,
    sorted_top,
    top_by_groups,
)

CHUNK_ROWS = CHUNK_ROWS_OF["cpu"]
SCALES = (8, 16, 32)


def rows(n, d, *seed):
    return torch.randn(n, d, generator=generator_for("rows", n, d, *seed))


def slow(feats, bank, scales=SCALES, exclude_self=False):
    "(N,) float64, by sorting the whole matrix."
    sims = unit(feats) @ unit(bank).T
    if exclude_self:
        sims = sims[~np.eye(len(sims), dtype=bool)].reshape(len(sims), -1)
    sims = -np.sort(-sims, axis=1)
    return np.mean([sims[:, :k].mean(1) for k in scales], axis=0)


def close(got, want):
    np.testing.assert_allclose(got.numpy(), want, atol=1e-5, rtol=0)


def test_density__released_formula_pixel_by_pixel():
    feats, bank = rows(40, 12).relu(), rows(300, 12).relu()
    close(multi_scale_density(feats, bank), released_density(feats, bank))


edges = [1, 2, 31, 32, 33, GROUP * 32 - 1, GROUP * 32, GROUP * 32 + 1, 1000, GROUP**2 * 32 + 1, 4099]


@pytest.mark.parametrize("num_entries", edges)
@pytest.mark.parametrize("scales", [SCALES, (1,), (32, 8), (5, 200)])
def test_density__bank_sizes(num_entries, scales):
    feats, bank = rows(50, 16), rows(num_entries, 16, 1)
    close(multi_scale_density(feats, bank, scales), slow(feats, bank, scales))


@pytest.mark.parametrize("num_queries", [1, CHUNK_ROWS - 1, CHUNK_ROWS, CHUNK_ROWS + 1, 2 * CHUNK_ROWS + 7])
def test_density__query_counts(num_queries):
    feats, bank = rows(num_queries, 8), rows(700, 8, 1)
    close(multi_scale_density(feats, bank), slow(feats, bank))


@pytest.mark.parametrize("num_entries", [2, 9, 33, 600, 1500])
def test_density__exclude_self(num_entries):
    bank = rows(num_entries, 8)
    want = slow(bank, bank, exclude_self=True)
    close(multi_scale_density(bank, bank, exclude_self=True), want)
    some = torch.randperm(num_entries, generator=generator_for(0))[:5]
    close(multi_scale_density(bank[some], bank, exclude_self=some), want[some.numpy()])
    assert not (
        knn_similarities(bank, bank, 3, exclude_self=True)[1] == torch.arange(num_entries)[:, None]
    ).any()


def test_density__exclude_self_with_one_entry_has_no_neighbour():
    assert multi_scale_density(torch.ones(1, 4), torch.ones(1, 4), exclude_self=True).tolist() == [0]
    assert knn_similarities(torch.ones(1, 4), torch.ones(1, 4), 5, exclude_self=True)[0].shape == (1, 0)


def test_density__empty():
    assert multi_scale_density(torch.empty(0, 4), torch.ones(3, 4)).shape == (0,)
    assert density_per_scale(torch.empty(0, 4), torch.ones(3, 4)).shape == (3, 0)
    assert multi_scale_density(torch.ones(2, 4), torch.empty(0, 4)).tolist() == [0, 0]
    assert multi_scale_density(torch.empty(0, 4), torch.empty(0, 4), exclude_self=True).shape == (0,)


def test_density__zero_rows():
    feats, bank = rows(6, 4), rows(40, 4, 1)
    feats[2] = 0
    bank[5] = 0
    density = multi_scale_density(feats, bank)
    assert density[2] == 0 and density.isfinite().all()
    close(density, slow(feats, bank))


def test_density__all_alike():
    assert torch.allclose(multi_scale_density(torch.ones(600, 3), torch.ones(5000, 3)), torch.ones(600))
    values, entries = knn_similarities(torch.ones(2, 3), torch.ones(5000, 3), 32)
    assert all(row.unique().numel() == 32 for row in entries) and entries.min() >= 0 and entries.max() < 5000


@pytest.mark.parametrize("step", [1, GROUP, 157, padded_width(10_000, 32) // GROUP])
def test_knn__all_neighbours_in_few_groups(step):
    "The nearest entries lie side by side, or all in one group of some level."
    bank = -torch.ones(10_000, 2)
    near = (torch.arange(32) * step) % 9_900 + torch.arange(32)
    bank[near] = torch.stack([torch.ones(32), torch.linspace(0, 0.5, 32)], 1)
    entries = knn_similarities(torch.tensor([[1.0, 0.0]]), bank, 32)[1]
    assert (
        sorted(entries[0].tolist()) == sorted(near.tolist())
        and near.unique().numel() == 32
        and entries[0, 0] == near[0]
    )


def test_knn__entries_belong_to_the_similarities():
    feats, bank = rows(300, 16), rows(3000, 16, 1)
    values, entries = knn_similarities(feats, bank, 20)
    picked = np.einsum("nd,nkd->nk", unit(feats), unit(bank)[entries.numpy()])
    np.testing.assert_allclose(values, picked, atol=1e-6)
    assert (values.diff(dim=1) <= 0).all()


@given(st.integers(1, 40), st.integers(1, 2000), st.integers(0, 10**6), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_top_by_groups__any(k, entries, seed, levels):
    "Few different values make many ties, negative ones and zeros of both signs included."
    g = generator_for(seed)
    k = min(k, entries)
    sims = (
        torch.randint(-levels, levels + 1, (7, padded_width(entries, k)), generator=g).float()
        * torch.tensor([1.0, -0.0, 1e-40, 1, 1, 1, 1e30])[:, None]
    )
    values, columns = map(torch.from_numpy, top_by_groups(sims.numpy(), k))
    assert torch.equal(values, sims.topk(k).values) and torch.equal(sims.gather(1, columns), values)
    assert all(row.unique().numel() == k for row in columns)


def test_sorted_top__as_topk():
    x = rows(500, 257)
    values, columns = sorted_top(x.numpy(), 257)
    assert np.array_equal(values, x.topk(257).values) and np.array_equal(columns, x.topk(257).indices)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_density__dtypes(dtype):
    feats, bank = rows(30, 8).to(dtype), rows(400, 8, 1).to(dtype)
    density = multi_scale_density(feats, bank)
    assert density.dtype == torch.float32
    close(density, slow(feats.double(), bank.double()))


def test_density__autocast_changes_nothing():
    feats, bank = rows(30, 64), rows(400, 64, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = multi_scale_density(feats, bank)
    assert torch.equal(low, multi_scale_density(feats, bank)) and low.dtype == torch.float32


def test_density__normalized_and_strided_input():
    feats, bank = rows(8, 30).T, rows(16, 900, 1).T[:, ::2]
    want = multi_scale_density(feats.contiguous(), bank.contiguous())
    assert torch.equal(multi_scale_density(feats, bank), want)
    directions = torch.nn.functional.normalize(bank, dim=1)
    assert torch.allclose(multi_scale_density(feats, directions, normalized=True), want, atol=1e-6)


def test_density__no_gradient_and_no_change_of_the_input():
    feats, bank = rows(30, 8).requires_grad_(), rows(400, 8, 1).requires_grad_()
    before = feats.detach().clone(), bank.detach().clone()
    assert not multi_scale_density(feats, bank).requires_grad
    assert torch.equal(feats, before[0]) and torch.equal(bank, before[1])


def test_density__nan_shows():
    feats = rows(3, 8)
    feats[1, 0] = torch.nan
    density = multi_scale_density(feats, rows(3000, 8, 1))
    assert density.isnan().tolist() == [False, True, False]


def test_density__scales():
    feats, bank = rows(30, 8), rows(400, 8, 1)
    per_scale = density_per_scale(feats, bank, (16, 8, 16))
    assert torch.equal(per_scale[0], per_scale[2]) and (per_scale[1] >= per_scale[0]).all()
    assert torch.allclose(per_scale.mean(0), multi_scale_density(feats, bank, (16, 8, 16)))
    assert torch.equal(multi_scale_density(feats, bank, [8, 16]), multi_scale_density(feats, bank, (8, 16)))


@pytest.mark.parametrize(
    "call, word",
    [
        (lambda: multi_scale_density(torch.ones(2, 3), torch.ones(4, 5)), "one D"),
        (lambda: multi_scale_density(torch.ones(2, 3, 4, 4), torch.ones(4, 3)), "permute"),
        (lambda: multi_scale_density(torch.ones(2, 3), torch.ones(4, 3), ()), "at least one k"),
        (lambda: multi_scale_density(torch.ones(2, 3), torch.ones(4, 3), (8, -1)), "at least 1"),
        (
            lambda: multi_scale_density(torch.ones(2, 3), torch.ones(4, 3), exclude_self=True),
            "exclude_self=rows",
        ),
        (
            lambda: multi_scale_density(torch.ones(2, 3), torch.ones(4, 3), exclude_self=torch.arange(3)),
            "one place for each",
        ),
    ],
)
def test_density__errors(call, word):
    with pytest.raises(InputError, match=word):
        call()


class LargestTensor(TorchDispatchMode):
    "Notes the largest storage that any operation makes."

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in tree_leaves(out):
            if isinstance(t, torch.Tensor):
                self.largest = max(self.largest, t.untyped_storage().nbytes())
        return out


def test_density__never_holds_the_matrix():
    "What a whole process needs is measured in bench/bench_density.py."
    feats, bank = rows(3000, 8), rows(10_000, 8, 1)  # 114 MiB of similarities
    with LargestTensor() as seen:
        multi_scale_density(feats, bank)
    assert 0 < seen.largest <= 24 * 2**20
