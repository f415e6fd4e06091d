"""U2PL: its contrast by hand, what gets gradients, and batches that lack something."""

import math
from dataclasses import replace

import pytest
import torch
from helpers import few_images, metrics_of, tiny_run
from sync_gate import ROOT

from dgcl_nb import engine
from dgcl_nb.bank import Rings
from dgcl_nb.batches import Batch, draw_mixes
from dgcl_nb.config import build_method, parse_run
from dgcl_nb.core import IGNORE_INDEX, InputError, generator_for
from dgcl_nb.engine import fit
from dgcl_nb.methods.protocol import Progress
from dgcl_nb.methods.u2pl import U2PL, U2PLConfig
from dgcl_nb.negatives import Choice, Pools, choose, choose_keys, contrast_of_choice, entropy_masks
from dgcl_nb.negatives import find_pools, members, one_hot, rank_range
from dgcl_nb.views import ViewConfig

SMALL = dict(
    u2pl__bank_size=40,
    u2pl__bank_size_background=60,
    u2pl__max_new_per_class=20,
    u2pl__conf_thresh=0.0,
    u2pl__negatives="paper",
    u2pl__queue_of="class",
)
"The paper's rules with queues for a tiny run; its teacher is untrained, so anchors need no confidence."
LATER = Progress(step=5, steps=10, sup_only_steps=2)


def method_of(num_classes=4, background=0, **more):
    return build_method(tiny_run("u2pl", **SMALL | more), num_classes, background).train()


def batch_of(labelled=2, unlabelled=3, num_classes=4, size=48, mixed=True):
    "Random images with patches of classes."
    gen = generator_for("u2pl", labelled, unlabelled)
    views = ViewConfig(crop=size, cutmix_prob=float(mixed))
    targets = torch.randint(0, num_classes, (labelled + unlabelled, size // 8, size // 8), generator=gen)
    targets = targets.repeat_interleave(8, 1).repeat_interleave(8, 2)
    images = torch.randn(labelled + unlabelled, 3, size, size, generator=gen)
    valid = torch.ones(unlabelled, size, size, dtype=torch.bool)
    mixes = draw_mixes(unlabelled, views, U2PL.views, seed=0, step=0)
    names = [str(i) for i in range(labelled + unlabelled)]
    parts = [x.split((labelled, unlabelled)) for x in (images, targets)]
    (images_l, images_u), (targets_l, truth_u) = parts
    return Batch(
        images_l, targets_l, names[:labelled], images_u, [images_u], valid, truth_u, names[labelled:], mixes
    )


def two_steps(method, batch, progress=LATER):
    "The losses of the second of two steps: the first fills the queues."
    method(batch, progress)
    method.after_step(batch, progress)
    losses = method(batch, progress)
    losses.total().backward()
    assert all(math.isfinite(value.item()) for value, _ in losses.terms.values())
    return losses


def test_contrast__three_cosines_by_hand():
    proj = torch.tensor([[0.0, 2.0], [1.0, 0.0]], requires_grad=True)
    keys = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    queues = torch.tensor([[[0.0, -1.0], [-5.0, 0.0]], [[1.0, 1.0], [9.0, 9.0]]])
    positives = torch.tensor([[True, False], [True, False]])  # their mean points half way up
    choice = Choice(
        torch.tensor([0]), torch.tensor([0]), torch.tensor([[0, 1]]), torch.tensor([[[0, 0], [1, 1]]])
    )
    loss = contrast_of_choice(proj, keys, positives, queues, choice, temperature=1.0)
    up, aside = 1 / math.sqrt(10), 3 / math.sqrt(10)  # cosines of the two anchors to the mean (3, 1)
    away = 2 * math.exp(-1)
    expected = [math.log(math.exp(cos) + away) - cos for cos in (up, aside)]
    assert loss.tolist() == pytest.approx([sum(expected) / 2])
    loss.sum().backward()
    assert proj.grad.abs().sum() > 0


def test_choose__draws_only_members_and_held_places():
    gen = generator_for("choose")
    pool = torch.rand(300, 3, generator=gen) < 0.1
    held = torch.tensor([7, 0, 2])
    pools = Pools(pool, pool, pool)
    choice = choose(pools, [(0, 0), (1, 2)], held, 500, 4, generator_for("draw"))
    assert pool[choice.anchors[0], 0].all() and pool[choice.anchors[1], 1].all()
    assert set(choice.anchors[0].tolist()) == set(pool[:, 0].nonzero()[:, 0].tolist())  # each can be drawn
    assert choice.negatives.shape == (2, 500, 4)
    assert [n.max().item() + 1 for n in choice.negatives] == [7, 2] and choice.negatives.min() == 0


def test_members__as_nonzero():
    pool = torch.rand(200, 5, generator=generator_for("members")) < torch.tensor([0, 0.1, 0.5, 0.9, 1])
    cells, classes = choose_keys(pool, pool.sum(0).tolist(), at_most=0)
    assert torch.equal(torch.stack([classes, cells], 1), pool.T.nonzero())
    few, of = choose_keys(pool, pool.sum(0).tolist(), at_most=7, start=0.9)
    assert pool[few, of].all() and of.bincount(minlength=5).tolist() == [0, 7, 7, 7, 7]
    assert len(set(zip(few.tolist(), of.tolist()))) == len(few)  # none twice
    assert members(pool, torch.tensor([4]), torch.tensor([199])).tolist() == [199]


@pytest.mark.parametrize("num_classes", [2, 3, 4, 11, 21])
def test_ranks__uncertain_cells_are_negatives_however_few_classes_there_are(num_classes):
    ranks = rank_range(num_classes, 3, 20)
    probs = torch.rand(50, num_classes, generator=generator_for(num_classes)).softmax(1)
    nobody, everyone = torch.zeros(50, dtype=torch.bool), torch.ones(50, dtype=torch.bool)
    of_class = one_hot(probs.argmax(1).view(1, 5, 10), num_classes)
    keys = find_pools(of_class, probs, nobody, everyone, nobody, ranks).keys
    assert (keys.sum(1) == ranks[1] - ranks[0]).all() and not (keys & of_class).any()


def test_masks__all_ignored_and_share_zero():
    entropy, valid = torch.rand(2, 4, 4), torch.zeros(2, 4, 4, dtype=torch.bool)
    for found in entropy_masks(entropy, valid, valid, 0.2):
        assert found.shape == (4, 4, 4) and not found.any()
    low, high = entropy_masks(entropy, ~valid, ~valid, 0.0)
    assert low[:2].all() and not low[2:].any() and not high[2:].any()


def test_gradient__contrast_moves_the_student_and_its_head_only():
    method, batch = method_of(), batch_of()
    method(batch, LATER)
    method.after_step(batch, LATER)
    method(batch, LATER).terms["loss_contrast"][0].backward()
    moved = {name for name, p in method.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any(name.startswith("student.projection") for name in moved)
    assert any(name.startswith("student.encoder") for name in moved)
    assert not any(name.startswith(("teacher", "student.classifier")) for name in moved)
    assert not method.bank.keys.requires_grad


def test_forward__leaves_the_queues_alone_until_the_step_is_done():
    method, batch = method_of(), batch_of()
    method(batch, LATER)
    assert method.bank.filled.sum() == 0
    method.after_step(batch, LATER)
    assert method.bank.filled.sum() > 0 and method.new_rows == []


@pytest.mark.parametrize(
    "sizes",
    [dict(labelled=1, unlabelled=1), dict(labelled=3, unlabelled=2), dict(labelled=1, unlabelled=5)],
)
def test_batches__of_any_size(sizes):
    assert two_steps(method_of(), batch_of(**sizes)).terms["loss_contrast"][0] > 0


def test_batches__a_class_absent_and_two_classes_only():
    batch = batch_of()
    absent = replace(batch, targets_l=batch.targets_l.masked_fill(batch.targets_l == 2, 1))
    assert two_steps(method_of(), absent).terms["loss_contrast"][0] > 0
    two = batch_of(num_classes=2)
    assert two_steps(method_of(num_classes=2, background=None), two).terms["loss_contrast"][0] > 0


def test_batches__nothing_known_at_all():
    batch = batch_of()
    nothing = replace(
        batch,
        targets_l=torch.full_like(batch.targets_l, IGNORE_INDEX),
        valid_u=torch.zeros_like(batch.valid_u),
        truth_u=torch.full_like(batch.truth_u, IGNORE_INDEX),
    )
    losses = two_steps(method_of(), nothing)
    assert losses.total().item() == 0
    assert losses.reasons().keys() == {"loss_sup", "loss_unsup", "loss_contrast"}


def test_supervised_start__labels_only():
    losses = method_of()(batch_of(), Progress(step=1, steps=10, sup_only_steps=2))
    assert list(losses.terms) == ["loss_sup"] and losses.reasons().keys() == {"loss_unsup", "loss_contrast"}


@pytest.mark.parametrize(
    "settings",
    [
        dict(negatives="released", queue_of="released", max_new_per_class=0),
        dict(negatives="onehot_fixed"),
        dict(filter_view="mixed", keys_mode="train", schedule_from="run", grid_labels="nearest"),
        dict(mix="classmix"),
        dict(mix="cutout"),
        dict(weight=0.0),
        dict(uncertain_only=False),
    ],
)
def test_settings__each_takes_its_steps(settings):
    method = method_of(**{f"u2pl__{name}": value for name, value in settings.items()})
    losses = two_steps(method, batch_of())
    assert ("loss_contrast" in losses.terms) == (settings.get("weight") != 0)


def test_queues__the_background_has_its_own_size_and_the_state_has_it_all():
    method, batch = method_of(), batch_of()
    two_steps(method, batch)
    assert method.bank.sizes.tolist() == [60, 40, 40, 40]
    assert {name for name in method.state_dict() if name.startswith("bank")} == {
        "bank.keys",
        "bank.filled",
        "bank.pointer",
    }
    other = method_of()
    other.load_state_dict(method.state_dict())
    totals = []
    for m in (other, method):
        torch.manual_seed(0)  # of dropout
        totals.append(m(batch, LATER).total())
    assert torch.equal(*totals)


def test_rings__of_unlike_sizes_each_come_round_by_themselves():
    rings, lists = Rings(3, (2, 5, 3), x=torch.tensor(0.0)), [[], [], []]
    for step in range(12):
        classes = torch.randint(0, 3, (step % 5 + 3,), generator=generator_for("rings", step))
        values = torch.arange(len(classes)) + 100.0 * step
        rings.write(classes, x=values)
        for c, value in zip(classes.tolist(), values.tolist()):
            lists[c] = [*lists[c], value][-int(rings.sizes[c]) :]
        assert [sorted(rings.entries(c)["x"].tolist()) for c in range(3)] == [sorted(x) for x in lists]
    assert rings.fill().tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "settings, word",
    [
        (dict(negatives="papr"), "did you mean paper"),
        (dict(low_rank=0), "low_rank is 0"),
        (dict(low_rank=20), "no rank between"),
        (dict(weight=-1), "weight is -1"),
        (dict(temperature=0.0), "above 0"),
        (dict(alpha_start=120.0), "between 0 and 100"),
        (dict(mix="boxes"), "mix"),
    ],
)
def test_config__errors(settings, word):
    with pytest.raises(InputError, match=word):
        U2PLConfig(**settings)


def test_variant__released():
    run = parse_run(["--method", "u2pl", "--variant", "released"], ROOT / "tests")
    semi, u2pl = run.semi, run.u2pl
    assert (semi.unsup_weight, semi.ema_decay, semi.ema_buffers) == (1, 0.99, "own")
    assert (semi.teacher_mode, semi.teacher_start, semi.schedule_by) == ("eval", "unsup", "epoch")
    assert (u2pl.negatives, u2pl.queue_of, u2pl.filter_view) == ("released", "released", "mixed")
    assert (u2pl.keys_mode, u2pl.bank_size, u2pl.bank_size_background) == ("train", 30_000, 50_000)


def test_run__ends_and_logs_its_contrast(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "build_data", few_images)
    fit(tiny_run("u2pl", out=tmp_path / "run", **SMALL), callbacks=[])
    last = [line for line in metrics_of(tmp_path / "run") if "loss_contrast" in line][-1]
    assert last["loss_contrast"] > 0 and len(last["bank_fill_per_class"]) == 11
