"""Densities are measured once for the sampler and the bank, and are the same as if each had measured them."""
import dataclasses

import pytest
import torch

from dgcl_nb.bank import BankConfig, MemoryBank
from dgcl_nb.core import IGNORE_INDEX
from dgcl_nb.density import multi_scale_density
from dgcl_nb.methods.protocol import Losses
from dgcl_nb.methods.dgcl import ClassPlan, DGCLConfig, Pixels, few_of_each, measure_density, note_truth, plan_classes, remember, rows_to_rank
from dgcl_nb.sampling import SamplingConfig

K, D, P = 4, 6, 5
CFG = DGCLConfig(num_neighbors=(4, 8), new_density_at=10, sampling=SamplingConfig(num_anchors=5, num_positives=3, num_bank_positives=3, num_negatives=7),
                 bank=BankConfig(size=50, min_fill=10, max_new_per_class=20, refresh="none"))


def make_bank(counts=(50, 50, 12, 9)):
    bank = MemoryBank(K, 50, D, P)
    for c, n in enumerate(counts): bank.add(c, torch.rand(n, D), torch.randn(n, P), torch.rand(n), torch.rand(n), 0)
    return bank


def make_pixels(n=160):
    labels = torch.arange(n) % K; labels[::7] = IGNORE_INDEX
    x = torch.rand(n, D)
    return Pixels(x, torch.randn(n, P), torch.randn(n, P, requires_grad=True), labels, torch.rand(n), labels.clone())


def measured(bank, cfg=CFG, n=160):
    return measure_density(make_pixels(n), bank, cfg)


def test_measure_density__classes_that_are_ranked_and_ready():
    bank = make_bank(); pixels = measured(bank)
    for c in range(K):
        rows = pixels.labels == c
        if c in (1, 2): torch.testing.assert_close(pixels.density[rows], multi_scale_density(pixels.feats[rows], bank.queue(c).feats, CFG.num_neighbors))
        else: assert pixels.density[rows].isnan().all()                       # background is not ranked, the bank of class 3 too small
    assert pixels.density[pixels.labels == IGNORE_INDEX].isnan().all()


def test_measure_density__at_most_max_pixels_of_a_class_and_only_these_are_ranked():
    cfg = dataclasses.replace(CFG, sampling=dataclasses.replace(CFG.sampling, max_pixels=9))
    bank = make_bank(); pixels = measured(bank, cfg)
    assert [int((~pixels.density[pixels.labels == c].isnan()).sum()) for c in range(K)] == [0, 9, 9, 0]
    assert len(rows_to_rank(pixels, 1, cfg.sampling)) == 9
    assert set(plan_classes(pixels, [1], bank, cfg)[0].anchors.tolist()) <= set((~pixels.density.isnan()).nonzero()[:, 0].tolist())
    by_chance = dataclasses.replace(cfg.sampling, strategy="random")
    assert len(rows_to_rank(pixels._replace(density=None), 1, by_chance)) == 9


@pytest.mark.parametrize("max_pixels", [10_000, 4])
def test_remember__keeps_the_density_that_each_entry_has_in_the_bank_before_it(max_pixels):
    cfg = dataclasses.replace(CFG, sampling=dataclasses.replace(CFG.sampling, max_pixels=max_pixels))
    bank = make_bank(); pixels = measured(bank, cfg); before = [bank.queue(c).feats.clone() for c in range(K)]
    few = few_of_each(pixels, 20)
    remember(bank, few, cfg, 1, torch.Generator().manual_seed(0))
    for c in (1, 2):
        new = bank.stamp[c] == 1
        assert new.sum() == min(20, int((pixels.labels == c).sum()))
        torch.testing.assert_close(bank.density[c][new], multi_scale_density(bank.feats[c][new], before[c], cfg.num_neighbors))
    assert bank.filled[3] > 9 and (bank.density[3][9:int(bank.filled[3])] == 0).all()             # its bank held too few when they came


def test_note_truth__says_nothing_where_the_truth_is_unknown():
    pixels = make_pixels(); losses = Losses()
    plan = ClassPlan(torch.tensor([1, 2]), torch.tensor([3]), torch.rand(2, P), torch.rand(2, P))
    note_truth(losses, pixels._replace(truth=torch.full_like(pixels.labels, IGNORE_INDEX)), [plan])
    assert not losses.notes
    note_truth(losses, pixels._replace(truth=torch.where(torch.arange(160) == 1, 0, pixels.labels)), [plan])
    assert {k: float(v) for k, v in losses.notes.items()} == {"anchor_accuracy": .5, "positive_accuracy": 1.}
