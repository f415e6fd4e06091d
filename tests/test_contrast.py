"""The contrast of all classes at once: as one class after the other, and as the released code has it."""

import math

import pytest
import torch
from fakecuda import fake_cuda, on_cuda
from reference import IGNORE, released_contrast_term, released_contrastive_loss
from small import small_batch, small_method, without_pixels

from dgcl_nb.bank import BankConfig, MemoryBank
from dgcl_nb.cells import Cells, measure_density, sort_by_class
from dgcl_nb.contrast import ContrastConfig, choose, contrast_of_classes, contrastive_loss, prototypes
from dgcl_nb.core import generator_for
from dgcl_nb.methods.dgcl import DGCL
from dgcl_nb.methods.protocol import Progress
from dgcl_nb.pseudo_labels import FilterConfig
from dgcl_nb.sampling import RELEASED, SamplingConfig

K = 4


def labelled_cells(counts, dim, proj_dim, seed):
    "So many cells of each class, in random order."
    gen = generator_for("step", seed)
    labels = torch.cat([torch.full((n,), c) for c, n in counts.items()])
    labels = labels[torch.randperm(len(labels), generator=gen)]
    n = len(labels)
    feats = torch.rand(n, dim, generator=gen)
    proj = torch.randn(n, proj_dim, generator=gen) * (0.5 + torch.rand(n, 1, generator=gen))
    proj.requires_grad_()
    return Cells(feats, proj.detach(), proj, labels, torch.rand(n, generator=gen), labels)


def full_bank(dim=12, proj_dim=8, size=70, seed="banks"):
    gen = generator_for(seed)
    bank = MemoryBank(K, size, dim, proj_dim)
    for c in range(K):
        rows = [torch.rand(size, dim, generator=gen), torch.randn(size, proj_dim, generator=gen)]
        bank.add(c, *rows, torch.rand(size, generator=gen), torch.rand(size, generator=gen), 0)
    return bank


def contrast_of(cells, bank, cfg, ranked=(1, 2, 3)):
    "Everything that a step does with cells: (losses (G,), choice), or None without a class."
    draw = generator_for("draws")
    by_class = sort_by_class(cells.labels, bank, draw, cfg.max_pixels)
    density = measure_density(cells.feats, by_class, by_class.with_bank(ranked, 1), bank, (8, 16, 32))
    active = by_class.taking_part(ranked, 1, cfg).active
    if not active:
        return None
    choice = choose(cells, density, by_class, active, bank, cfg, draw)
    return contrast_of_classes(cells, choice, bank, 0.5), choice


@pytest.mark.parametrize(
    "counts",
    [
        {0: 60, 1: 120, 2: 40, 3: 90, IGNORE: 50},  # above 32 cells: density decides; overlap below 250
        {0: 10, 1: 20, 2: 1, IGNORE: 5},  # at most 32 cells: density 1 for all
        {0: 10, 1: 300, 2: 150},  # more cells than anchors and positives together
        {0: 30, IGNORE: 4},  # background alone: no term
        {2: 45},  # a single class: no negatives
    ],
)
def test_released__contrast_term_of_a_step(counts):
    cells, bank = labelled_cells(counts, 12, 8, seed=len(counts)), full_bank()
    stored = {c: tuple(x.numpy() for x in (bank.feats[c], bank.proj[c], bank.density[c])) for c in range(K)}
    theirs = released_contrast_term(cells.feats.numpy(), cells.keys.numpy(), cells.labels.numpy(), stored)
    found = contrast_of(cells, bank, SamplingConfig(**RELEASED))
    if found is None:
        assert theirs == 0
        return
    ours = found[0].mean()
    assert ours.item() == pytest.approx(theirs, abs=1e-5)
    ours.backward()
    assert torch.isfinite(cells.proj.grad).all() and not math.isnan(theirs)


@pytest.mark.parametrize("negatives", ["batch", "bank", "both"])
@pytest.mark.parametrize("strategy", ["density", "confidence", "random"])
def test_all_classes_at_once__value_and_gradient_of_one_class_after_the_other(strategy, negatives):
    cells, bank = labelled_cells({0: 60, 1: 120, 2: 9, 3: 3, IGNORE: 50}, 12, 8, seed=0), full_bank()
    cfg = SamplingConfig(strategy=strategy, negatives=negatives, num_negatives=64, num_anchors=20)
    fast, choice = contrast_of(cells, bank, cfg)
    fast.mean().backward()
    gradient = cells.proj.grad.clone()
    cells.proj.grad = None
    slow = []
    everything = bank.proj.flatten(0, 1)
    positives = choice.positives.split(choice.num_positives)
    entries = choice.entries.split(choice.num_entries)
    for g in range(len(fast)):
        anchors = cells.proj[choice.anchors[g][choice.anchors_valid[g]]]
        targets = torch.cat([cells.keys[positives[g]], everything[entries[g]]])
        slow.append(contrastive_loss(anchors, targets, choice.negatives[g][choice.negatives_valid[g]]))
    slow = torch.stack(slow)
    slow.mean().backward()
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=0)
    largest = cells.proj.grad.abs().max()
    assert (gradient - cells.proj.grad).abs().max() <= 1e-4 * largest


def test_choice__anchors_and_positives_of_the_class_negatives_of_others():
    cells, bank = labelled_cells({0: 60, 1: 120, 2: 40, 3: 90, IGNORE: 50}, 12, 8, seed=1), full_bank()
    marked = cells._replace(keys=cells.labels[:, None].float().expand(-1, 8).contiguous())
    bank.proj.copy_(torch.arange(K).float()[:, None, None].expand(K, 70, 8))
    _, choice = contrast_of(marked, bank, SamplingConfig(negatives="both", num_negatives=30))
    for g, c in enumerate((1, 2, 3)):
        assert set(cells.labels[choice.anchors[g]].tolist()) == {c}
        assert choice.negatives_valid[g].sum() == 30
        assert (
            c not in choice.negatives[g, :, 0].tolist() and IGNORE not in choice.negatives[g, :, 0].tolist()
        )
        assert len({tuple(row) for row in choice.negatives[g, :15].tolist()}) <= 4
    assert cells.labels[choice.positives].tolist() == [
        c for c, n in zip((1, 2, 3), choice.num_positives) for _ in range(n)
    ]
    assert (choice.entries // bank.size).tolist() == [1] * 50 + [2] * 50 + [3] * 50


def test_choice__same_generator_same_choice():
    bank = full_bank()
    cells = labelled_cells({0: 60, 1: 120, 2: 40}, 12, 8, seed=1)
    (a, _), (b, _) = (contrast_of(cells, bank, SamplingConfig()) for _ in range(2))
    assert torch.equal(a, b)


def rows(counts, dim=8, seed=0):
    gen = generator_for("rows", seed)
    return [torch.randn(n, dim, generator=gen, dtype=torch.float32) for n in counts]


@pytest.mark.parametrize("eps", [0, 1e-6])
@pytest.mark.parametrize("counts", [(1, 1, 1), (20, 10, 50), (3, 1, 0), (200, 100, 512)])
def test_contrastive__reference(counts, eps):
    anchors, positives, negatives = rows(counts)
    ours = contrastive_loss(anchors, positives, negatives, eps=eps).item()
    theirs = released_contrastive_loss(anchors, positives, negatives, eps=eps)
    assert ours == pytest.approx(theirs, abs=1e-5)


def test_contrastive__of_rows_on_a_device():
    there = rows((3, 4, 5))
    with fake_cuda() as seen:
        loss = contrastive_loss(*map(on_cuda, there))
    assert not seen.waits, seen.table()
    assert loss.item() == contrastive_loss(*there).item()


def test_contrastive__gradient_is_the_reference_slope():
    anchors, positives, negatives = rows((3, 4, 5))
    anchors.requires_grad_()
    contrastive_loss(anchors, positives, negatives).backward()
    h, slope = 1e-4, torch.zeros_like(anchors)
    for i in range(anchors.numel()):
        up, down = anchors.detach().double().clone(), anchors.detach().double().clone()
        up.view(-1)[i] += h
        down.view(-1)[i] -= h
        above = released_contrastive_loss(up, positives, negatives)
        below = released_contrastive_loss(down, positives, negatives)
        slope.view(-1)[i] = (above - below) / (2 * h)
    torch.testing.assert_close(anchors.grad, slope, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("counts", [(0, 4, 5), (3, 0, 5)])
def test_contrastive__nothing_to_pull(counts):
    anchors, positives, negatives = rows(counts)
    anchors.requires_grad_()
    loss = contrastive_loss(anchors, positives, negatives)
    loss.backward()
    assert loss.item() == 0 and torch.equal(anchors.grad, torch.zeros_like(anchors))


def test_contrastive__gradient_stops_at_positives_and_negatives():
    anchors, positives, negatives = (x.requires_grad_() for x in rows((3, 4, 5)))
    contrastive_loss(anchors, positives, negatives).backward()
    assert anchors.grad.abs().sum() > 0 and positives.grad is None and negatives.grad is None


def test_contrastive__length_of_rows_does_not_matter_but_of_positives():
    anchors, positives, negatives = rows((3, 4, 5))
    loss = contrastive_loss(anchors, positives, negatives)
    torch.testing.assert_close(contrastive_loss(anchors * 7, positives * 3, negatives * 9), loss)
    scale = torch.tensor([[1.0], [5.0], [1.0], [1.0]])
    assert abs(contrastive_loss(anchors, positives * scale, negatives) - loss) > 1e-3


def test_contrastive__one_row_is_its_own_prototype():
    anchors, positives, negatives = rows((3, 4, 5))
    target = prototypes(positives, torch.zeros(4, dtype=torch.long), 1)
    alone = contrastive_loss(anchors, target, negatives)
    torch.testing.assert_close(contrastive_loss(anchors, positives, negatives), alone)


def test_contrastive__sharp_temperature_stays_finite():
    anchors, positives, negatives = rows((3, 4, 5))
    anchors.requires_grad_()
    loss = contrastive_loss(anchors, positives, negatives, temperature=1e-3)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(anchors.grad).all()


def test_contrastive__autocast_changes_nothing():
    anchors, positives, negatives = rows((3, 4, 5))
    plain = contrastive_loss(anchors, positives, negatives)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = contrastive_loss(anchors, positives, negatives)
    assert torch.equal(plain, mixed)


# Why nothing is compared


def reasons_of(batch=None, **dgcl):
    "What DGCL says is inactive after three steps on the same images, of which class 3 has no pixel."
    usual = dict(bank=BankConfig(size=20, min_fill=4, max_new_per_class=20), num_neighbors=(4,))
    by_labels = FilterConfig(kind="confidence", conf_thresh=1.0)  # of unlabelled cells none
    method = small_method(DGCL, dgcl=ContrastConfig(contrast_filter=by_labels, **usual, **dgcl))
    shown = small_batch(DGCL, num_classes=3)
    for step in range(30, 33):
        progress = Progress(step=step, steps=100, sup_only_steps=20)
        losses = method(shown, progress)
        method.after_step(shown, progress)
    return (method(batch, progress) if batch else losses).reasons()


def test_why_inactive__waiting_for_a_class_that_never_comes():
    assert "loss_contrast" not in reasons_of()
    said = reasons_of(sampling=SamplingConfig(wait_for_all=True))["loss_contrast"]
    assert said == "it waits for all banks, and those of classes 3 hold under 4 entries"


def test_why_inactive__no_label_in_the_batch_though_the_banks_are_full():
    said = reasons_of(without_pixels(small_batch(DGCL)))["loss_contrast"]
    assert said == "no cell of the batch has the label of a class that takes part"


def test_why_inactive__a_weight_of_nothing():
    assert reasons_of(contrast_weight=0.0)["loss_contrast"] == "its weight is 0"
    assert reasons_of(contrast_start=0.5)["loss_contrast"] == "its weight is 0 until 50% of self-training"
