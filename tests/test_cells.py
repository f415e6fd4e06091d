"""Densities are measured once for the sampler and the bank, and are the same as if each had measured them."""

import pytest
import torch

from dgcl_nb.bank import BankConfig, MemoryBank
from dgcl_nb.cells import (
    Cells,
    density_of_entries,
    few_of_each,
    measure_density,
    remember,
    sort_by_class,
    draw_few,
)
from dgcl_nb.contrast import choose, right_choices
from dgcl_nb.core import IGNORE_INDEX, generator_for
from dgcl_nb.density import multi_scale_density
from dgcl_nb.sampling import SamplingConfig

K, D, P = 4, 6, 5
SCALES, RANKED = (4, 8), [1, 2, 3]
SAMPLING = SamplingConfig(num_anchors=5, num_positives=3, num_bank_positives=3, num_negatives=7)
BANK = BankConfig(size=50, min_fill=10, max_new_per_class=20, refresh="none")


def make_bank(counts=(50, 50, 12, 9)):
    bank = MemoryBank(K, 50, D, P)
    for c, n in enumerate(counts):
        bank.add(c, torch.rand(n, D), torch.randn(n, P), torch.rand(n), torch.rand(n), 0)
    return bank


def make_cells(n=160):
    labels = torch.arange(n) % K
    labels[::7] = IGNORE_INDEX
    feats, proj = torch.rand(n, D), torch.randn(n, P, requires_grad=True)
    return Cells(feats, torch.randn(n, P), proj, labels, torch.rand(n), labels.clone())


def measured(bank, cells, at_most=10_000):
    by_class = sort_by_class(cells.labels, bank, generator_for("order"), at_most)
    ready = by_class.with_bank(RANKED, BANK.min_fill)
    return by_class, measure_density(cells.feats, by_class, ready, bank, SCALES)


def known_of(cells, density):
    "How many cells of each class have a density."
    return [int((~density[cells.labels == c].isnan()).sum()) for c in range(K)]


def test_sort__every_labelled_row_once_and_ignored_rows_last():
    cells, bank = make_cells(), make_bank()
    by_class = sort_by_class(cells.labels, bank, generator_for(0))
    assert sorted(by_class.order.tolist()) == list(range(160))
    in_turn = cells.labels[by_class.order]
    assert in_turn.tolist() == sorted(cells.labels.tolist())
    assert by_class.counts == [int((cells.labels == c).sum()) for c in range(K)]
    assert by_class.held == [50, 50, 12, 9]
    again = sort_by_class(cells.labels, bank, generator_for(0))
    other = sort_by_class(cells.labels, bank, generator_for(1))
    assert torch.equal(by_class.order, again.order) and not torch.equal(by_class.order, other.order)


def test_sort__a_batch_without_labels():
    nothing = torch.full((9,), IGNORE_INDEX)
    by_class = sort_by_class(nothing, make_bank())
    assert by_class.counts == [0] * K and by_class.num_labelled() == 0 and len(by_class.rows(range(K))) == 0


def test_measure_density__classes_that_are_ranked_and_ready():
    bank, cells = make_bank(), make_cells()
    _, density = measured(bank, cells)
    for c in (1, 2):
        rows = cells.labels == c
        want = multi_scale_density(cells.feats[rows], bank.queue(c).feats, SCALES)
        torch.testing.assert_close(density[rows], want)
    unknown = (
        density.isnan()
    )  # background is not ranked, the bank of class 3 too small, the rest has no class
    assert torch.equal(unknown, ~((cells.labels == 1) | (cells.labels == 2)))


def test_measure_density__at_most_so_many_of_a_class_and_only_these_are_ranked():
    bank, cells = make_bank(), make_cells()
    by_class, density = measured(bank, cells, at_most=9)
    assert known_of(cells, density) == [0, 9, 9, 0]
    choice = choose(cells, density, by_class, [1], bank, SAMPLING)
    looked_at = (~density.isnan()).nonzero()[:, 0].tolist()
    assert set(choice.anchors.flatten().tolist()) <= set(looked_at)
    by_chance = SamplingConfig(strategy="random", num_anchors=5)
    choice = choose(cells, density, by_class, [1], bank, by_chance)
    assert choice.num_positives == [9]


def test_remember__keeps_the_density_that_each_entry_has_in_the_bank_before_it():
    bank, cells = make_bank(), make_cells()
    before = [bank.queue(c).feats.clone() for c in range(K)]
    by_class, density = measured(bank, cells)
    few = few_of_each(cells, density, by_class, BANK)
    remember(bank, [few], BANK, RANKED, SCALES, 1, generator_for(0))
    for c in (1, 2):
        new = bank.stamp[c] == 1
        assert new.sum() == min(20, int((cells.labels == c).sum()))
        want = multi_scale_density(bank.feats[c][new], before[c], SCALES)
        torch.testing.assert_close(bank.density[c][new], want)
    held = int(bank.filled[3])  # its bank held too few when they came
    assert held > 9 and bank.density[3][9:held].isnan().all()


def test_few_of_each__no_density_against_a_bank_that_is_too_young():
    bank, cells = make_bank(), make_cells()
    by_class, density = measured(bank, cells)
    few = few_of_each(cells, density, by_class, BANK, min_held=20)
    labels, stored = few[:, -3].long(), few[:, -1]
    assert not stored[labels == 1].isnan().any()  # 50 entries
    assert stored[labels == 2].isnan().all()  # 12


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_remember__of_several_passes_no_more_than_the_limit_stays(parts):
    bank = MemoryBank(K, 50, D, P)
    rows = []
    for _ in range(parts):
        cells = make_cells()
        by_class = sort_by_class(cells.labels, bank)
        rows.append(few_of_each(cells, torch.full((160,), torch.nan), by_class, BANK))
    remember(bank, rows, BANK, RANKED, SCALES, 1, generator_for(0))
    assert bank.filled.tolist() == [20] * K


def test_draw_few__each_row_has_the_same_chance():
    times = torch.zeros(12)
    labels = torch.arange(12) % 2
    for i in range(1000):
        times[draw_few(labels, 2, generator_for(i))] += 1
    assert (times - 1000 / 3).abs().max() < 80


@pytest.mark.parametrize("refresh, refreshed", [("none", 0), ("rolling", 5), ("all", 50 + 12 + 9)])
def test_remember__refreshes_as_it_is_told(refresh, refreshed):
    bank = make_bank()
    cfg = BankConfig(size=50, min_fill=10, refresh=refresh, refresh_count=5)
    nothing = torch.zeros(0, D + P + 3)
    remember(bank, [nothing], cfg, RANKED, SCALES, 7, generator_for(0))
    assert int((bank.stamp == 7).sum()) == refreshed
    for c in RANKED:
        new = (bank.stamp[c] == 7).nonzero()[:, 0]
        entries = bank.queue(c).feats
        want = multi_scale_density(entries, entries, SCALES, exclude_self=True)[new]
        torch.testing.assert_close(bank.density[c][new], want)
    assert (bank.stamp[0] != 7).all()  # background keeps no densities


@pytest.mark.parametrize("held", [2, 3, 8, 9, 30])
def test_density_of_entries__as_the_search_finds_it(held):
    ring = torch.nn.functional.normalize(torch.randn(30, D), dim=1)
    places = torch.randperm(held)
    got = density_of_entries(ring[places], ring, places, torch.tensor([held]), SCALES)
    want = multi_scale_density(ring[:held], ring[:held], SCALES, exclude_self=True)[places]
    torch.testing.assert_close(got, want)


def test_right_choices__count_only_where_the_truth_is_known():
    bank, cells = make_bank(), make_cells()
    by_class, density = measured(bank, cells)
    choice = choose(cells, density, by_class, [1, 2], bank, SAMPLING, generator_for(0))
    nobody_knows = cells._replace(truth=torch.full_like(cells.labels, IGNORE_INDEX))
    assert all(int(known) == 0 for _, known in right_choices(nobody_knows, choice).values())
    truth = cells.labels.clone()
    truth[choice.anchors[0, 0]] = 0
    found = right_choices(cells._replace(truth=truth), choice)
    assert {name: (int(right), int(known)) for name, (right, known) in found.items()} == {
        "anchor_accuracy": (9, 10),
        "positive_accuracy": (6, 6),
    }
