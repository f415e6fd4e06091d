"""The memory bank: against a list that forgets, through save and load, and under every batch size."""

import io
from collections import Counter, deque

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dgcl_nb.bank import NEVER, REFRESH, BankConfig, MemoryBank, refresh_density, take_per_class
from dgcl_nb.core import IGNORE_INDEX, InputError, generator_for
from dgcl_nb.density import multi_scale_density


def numbered(first, n, d=3):
    "Rows whose projection, density and confidence are their number."
    x = torch.arange(first, first + n, dtype=torch.float)
    return torch.randn(n, d, generator=generator_for(first, n)), x[:, None], x, x


def density_of(feats, entries, own):
    return multi_scale_density(feats, entries, exclude_self=own, normalized=True)


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
        assert torch.equal(value, resumed.state_dict()[name]), name


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


def test_bank__stalest_first_and_never_before_all():
    bank = MemoryBank(1, 6, 3, 1)
    for step in (5, 3):
        bank.add(0, *numbered(0, 2), step)
    feats, proj, _, confidence = numbered(0, 1)
    bank.add(0, feats, proj, None, confidence, 9)
    assert bank.stalest(0, 3).tolist() == [4, 2, 3] and bank.stalest(0, 99).tolist() == [4, 2, 3, 0, 1]
    assert bank.stamp[0].tolist() == [5, 5, 3, 3, NEVER, NEVER]
    bank.set_density(0, torch.tensor([4, 2]), torch.tensor([0.5, 0.25]), 10)
    assert bank.stalest(0, 2).tolist() == [3, 0] and bank.density[0, 4] == 0.5 and bank.density[0, 2] == 0.25
    assert bank.staleness(10)[0] == pytest.approx((0 + 0 + 7 + 5 + 5) / 5)


def test_bank__staleness_of_an_empty_class_is_nan():
    assert MemoryBank(2, 6, 3, 1).staleness(4).isnan().all()


def test_refresh__rolling_reaches_every_entry_and_equals_a_full_one():
    bank = MemoryBank(1, 50, 8, 1)
    feats = torch.randn(50, 8, generator=generator_for(0))
    bank.add(0, feats, torch.zeros(50, 1), None, torch.ones(50), 0)
    for step in range(1, 6):
        assert refresh_density(bank, 0, 10, step, density_of) == 10
    assert sorted(bank.stamp[0].tolist()) == sorted([1, 2, 3, 4, 5] * 10)
    assert torch.allclose(bank.density[0], multi_scale_density(feats, feats, exclude_self=True), atol=1e-6)


def test_due__the_class_that_waits_longest_and_none_of_one_entry():
    bank = MemoryBank(4, 8, 3, 2)
    for c, n, step in ((0, 8, 0), (1, 8, 5), (2, 4, 3), (3, 1, 0)):
        bank.add(c, torch.randn(n, 3), torch.randn(n, 2), torch.rand(n), torch.rand(n), step)
    assert bank.due(BankConfig(size=8, min_fill=4), 9) == [0] and bank.due(
        BankConfig(size=8, min_fill=4), 9, first=1
    ) == [2]
    bank.set_density(2, torch.arange(4), torch.rand(4), 9)
    assert bank.due(BankConfig(size=8, min_fill=4), 9, first=1) == [1]
    assert bank.due(BankConfig(size=8, min_fill=4, refresh="all"), 9) == [0, 1, 2]
    assert bank.due(BankConfig(size=8, min_fill=4, refresh="none"), 9) == []


def test_refresh__nothing_to_do():
    bank = MemoryBank(1, 50, 8, 1)
    assert refresh_density(bank, 0, 10, 0, density_of) == 0
    bank.add(0, *numbered(0, 5, 8), 0)
    before = bank.density.clone()
    assert refresh_density(bank, 0, 0, 1, density_of) == 0 and torch.equal(bank.density, before)


labels_and_max = st.tuples(
    st.lists(st.sampled_from([0, 1, 5, 20, IGNORE_INDEX]), max_size=60),
    st.integers(1, 20),
    st.integers(0, 1000),
)


@given(labels_and_max)
@settings(max_examples=100, deadline=None)
def test_take_per_class__any(drawn):
    labels, most, seed = drawn
    taken = take_per_class(torch.tensor(labels, dtype=torch.long), most, generator_for(seed))
    counts = Counter(x for x in labels if x != IGNORE_INDEX)
    assert {c: len(rows) for c, rows in taken.items()} == {c: min(n, most) for c, n in counts.items()}
    assert list(taken) == sorted(taken)
    for c, rows in taken.items():
        assert rows.unique().numel() == len(rows) and all(labels[i] == c for i in rows)


def test_take_per_class__same_generator_same_pixels():
    labels = torch.randint(0, 5, (1000,), generator=generator_for(0))
    a, b, c = (take_per_class(labels, 20, generator_for(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a[k], b[k]) for k in a) and any(not torch.equal(a[k], c[k]) for k in a)
    torch.manual_seed(0)
    assert set(take_per_class(labels, 20)) == set(a)


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
