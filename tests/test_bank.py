"""The memory bank: against a list that forgets, through save and load, and under every batch size."""

import io
from collections import deque

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dgcl_nb.bank import NEVER, REFRESH, BankConfig, MemoryBank, due_class, refresh_density
from dgcl_nb.core import InputError, generator_for
from dgcl_nb.density import multi_scale_density


def numbered(first, n, d=3):
    "Rows whose projection, density and confidence are their number."
    x = torch.arange(first, first + n, dtype=torch.float)
    return torch.randn(n, d, generator=generator_for(first, n)), x[:, None], x, x


def density_of(feats, entries, own, held):
    found = multi_scale_density(feats, entries[: int(held)], exclude_self=own.clamp(max=int(held) - 1))
    return found


def equal(a, b):
    "Equal to the bit, unknown densities included."
    return torch.equal(a.nan_to_num(-9.0), b.nan_to_num(-9.0))


@given(st.integers(1, 12), st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), max_size=25))
@settings(max_examples=60, deadline=None)
def test_bank__forgets_the_oldest_only(size, batches):
    bank, lists, total = MemoryBank(3, size, 3, 1), [deque(maxlen=size) for _ in range(3)], 0
    for step, (c, n) in enumerate(batches):
        bank.add(c, *numbered(total, n), step)
        lists[c].extend((i, step) for i in range(total, total + n))
        total += n
    for c, kept in enumerate(lists):
        q = bank.queue(c)
        assert sorted(zip(q.density.int().tolist(), q.stamp.tolist())) == sorted(kept)
        assert torch.equal(q.density, q.confidence) and torch.equal(q.density, q.proj[:, 0])
        assert bank.filled[c] == len(kept) and bank.fill()[c] == len(kept) / size


def test_bank__feats_are_unit_and_stay_with_their_rows():
    bank, (feats, proj, density, confidence) = MemoryBank(1, 7, 3, 1), numbered(0, 11)
    bank.add(0, feats * 5, proj, density, confidence, 0)
    q = bank.queue(0)
    want = torch.nn.functional.normalize(feats[q.density.long()], dim=1)
    assert torch.allclose(q.feats, want) and q.feats.is_contiguous()


@pytest.mark.parametrize("at", [0, 3, 10, 11, 25])
def test_bank__save_and_load_anywhere(at):
    def fill(bank, steps):
        for step in steps:
            bank.add(step % 2, *numbered(step * 10, 3 + step % 5), step)
        return bank

    through = fill(MemoryBank(2, 10, 3, 1), range(30))
    file = io.BytesIO()
    torch.save(fill(MemoryBank(2, 10, 3, 1), range(at)).state_dict(), file)
    file.seek(0)
    resumed = MemoryBank(2, 10, 3, 1)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    fill(resumed, range(at, 30))
    for name, value in through.state_dict().items():
        assert equal(value, resumed.state_dict()[name]), name


def test_bank__everything_is_a_buffer():
    bank = MemoryBank(2, 10, 3, 1)
    tensors = {k for k, v in vars(bank).items() if isinstance(v, torch.Tensor)}
    assert not tensors and set(bank.state_dict()) == {
        "feats",
        "proj",
        "density",
        "confidence",
        "stamp",
        "filled",
        "pointer",
    }
    assert not list(bank.parameters())


def test_bank__other_size_is_refused():
    with pytest.raises(RuntimeError, match="size mismatch"):
        MemoryBank(2, 10, 3, 1).load_state_dict(MemoryBank(2, 11, 3, 1).state_dict())


def test_bank__no_gradient_and_no_graph_is_kept():
    bank, feats = MemoryBank(1, 4, 3, 1), torch.randn(2, 3, requires_grad=True)
    proj = feats.sum(1, keepdim=True)
    bank.add(0, feats * 2, proj, proj[:, 0], proj[:, 0], 0)
    assert not any(b.requires_grad for b in bank.buffers())
    assert all(not x.requires_grad for x in bank.queue(0))


def test_bank__low_precision_rows():
    bank = MemoryBank(1, 4, 3, 1)
    feats, proj, density, confidence = numbered(0, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        bank.add(0, feats.bfloat16(), proj.bfloat16(), density.half(), confidence, 0)
    assert bank.feats.dtype == torch.float32 and torch.allclose(
        bank.queue(0).feats.norm(dim=1), torch.ones(4), atol=1e-6
    )


def test_bank__ready_is_per_class():
    bank = MemoryBank(3, 10, 3, 1)
    bank.add(0, *numbered(0, 10), 0)
    bank.add(1, *numbered(0, 4), 0)
    assert bank.ready(4).tolist() == [True, True, False] and bank.ready(5).tolist() == [True, False, False]
    assert bank.ready(999).tolist() == [True, False, False]  # a ring smaller than what is asked must be full


def test_bank__a_density_that_nobody_knows_is_nan():
    bank = MemoryBank(2, 6, 3, 1)
    assert bank.density.isnan().all() and (bank.stamp == NEVER).all()
    feats, proj, density, confidence = numbered(0, 3)
    density[1] = torch.nan
    bank.add(0, feats, proj, density, confidence, 9)
    assert bank.density[0].isnan().tolist() == [False, True, False, True, True, True]
    assert bank.stamp[0].tolist() == [9, NEVER, 9, NEVER, NEVER, NEVER]
    assert bank.staleness(10)[0] == pytest.approx((1 + 10 + 1) / 3)


def test_bank__holds_says_which_places_are_filled():
    bank = MemoryBank(2, 4, 3, 1)
    bank.add(1, *numbered(0, 3), 0)
    assert bank.holds().tolist() == [[False] * 4, [True, True, True, False]]


def test_bank__staleness_of_an_empty_class_is_nan():
    assert MemoryBank(2, 6, 3, 1).staleness(4).isnan().all()


def test_refresh__rolling_reaches_every_entry_and_equals_a_full_one():
    bank = MemoryBank(1, 50, 8, 1)
    feats = torch.randn(50, 8, generator=generator_for(0))
    bank.add(0, feats, torch.zeros(50, 1), None, torch.ones(50), 0)
    for step in range(1, 6):
        refresh_density(bank, 0, 10, step, density_of)
    assert sorted(bank.stamp[0].tolist()) == sorted([1, 2, 3, 4, 5] * 10)
    assert torch.allclose(bank.density[0], multi_scale_density(feats, feats, exclude_self=True), atol=1e-6)


def test_refresh__those_never_computed_come_first_then_the_oldest():
    bank = MemoryBank(1, 6, 3, 1)
    for step in (5, 3):
        bank.add(0, *numbered(0, 2), step)
    feats, proj, _, confidence = numbered(0, 1)
    bank.add(0, feats, proj, None, confidence, 9)
    refresh_density(bank, 0, 2, 20, density_of)  # the unknown one, and one of step 3
    assert bank.stamp[0].tolist() == [5, 5, 20, 3, 20, NEVER]
    refresh_density(
        bank, torch.tensor(0), 6, 21, density_of
    )  # more than there are: the empty place stays empty
    assert bank.stamp[0].tolist() == [21] * 5 + [NEVER]
    assert bank.density[0].isnan().tolist() == [False] * 5 + [True]


def test_refresh__touches_no_other_class():
    bank = MemoryBank(3, 6, 3, 1)
    for c in range(3):
        bank.add(c, *numbered(c, 4), 0)
    before = bank.density.clone()
    refresh_density(bank, 1, 4, 5, density_of)
    assert equal(bank.density[0], before[0]) and equal(bank.density[2], before[2])
    assert bank.stamp[:, 0].tolist() == [0, 5, 0]


def test_refresh__nothing_to_do():
    bank = MemoryBank(1, 50, 8, 1)
    refresh_density(bank, 0, 10, 0, lambda feats, *_: torch.zeros(len(feats)))  # an empty class
    bank.add(0, *numbered(0, 1, 8), 0)
    before = bank.density.clone()
    refresh_density(bank, 0, 10, 1, lambda feats, *_: torch.ones(len(feats)))  # one entry has no neighbour
    refresh_density(bank, 0, 0, 1, density_of)
    assert equal(bank.density, before)


def test_due__the_ranked_class_that_waits_longest_and_none_of_one_entry():
    bank = MemoryBank(4, 8, 3, 2)
    for c, n, step in ((0, 8, 0), (1, 8, 5), (2, 4, 3), (3, 1, 0)):
        bank.add(c, torch.randn(n, 3), torch.randn(n, 2), torch.rand(n), torch.rand(n), step)
    everything = torch.ones(4, dtype=torch.bool)
    no_background = torch.tensor([False, True, True, True])
    assert due_class(bank, 9, everything) == 0
    assert due_class(bank, 9, no_background) == 2
    refresh_density(bank, 2, 4, 9, density_of)
    assert due_class(bank, 9, no_background) == 1


def test_config__refresh_counts():
    assert [BankConfig(refresh=r, refresh_count=7, size=99).num_refresh for r in REFRESH] == [0, 7, 99]


@pytest.mark.parametrize(
    "settings, word",
    [
        (dict(refresh="always"), "bank.refresh"),
        (dict(refresh="rollin"), "did you mean rolling"),
        (dict(size=0), "bank.size is 0"),
        (dict(max_new_per_class=0), "bank.max_new_per_class"),
        (dict(size=10), "lower the one"),
        (dict(min_fill=-1), "bank.min_fill"),
    ],
)
def test_config__errors(settings, word):
    with pytest.raises(InputError, match=word):
        BankConfig(**settings)
