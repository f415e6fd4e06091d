"PCR: its four losses, how prototypes begin and follow, and batches of every shape."

import math

import pytest
import torch
import torch.nn.functional as F
from helpers import few_images, tiny_run
from released import assert_loss
from small import NOW, START, gradient_reaches, small_batch, small_method, without_pixels

from dgcl_nb import engine
from dgcl_nb.config import parse_run
from dgcl_nb.core import IGNORE_INDEX, InputError, generator_for
from dgcl_nb.engine import fit
from dgcl_nb.losses import supervised_loss
from dgcl_nb.methods.pcr import PCR, PCRConfig
from dgcl_nb.methods.protocol import Progress
from dgcl_nb.prototypes import (
    FAR,
    SMALLEST_NORM,
    Prototypes,
    draw_pixels,
    feats_at,
    few_of_each_class,
    proto_scores,
    rows_at,
    slot_sums,
    unit_along,
)

LOSSES = ["loss_sup", "loss_unsup", "loss_proto", "loss_proto_unsup"]
SHAPES = [(1, 1, 4), (1, 3, 4), (3, 2, 2), (2, 2, 4)]
"Labelled images, unlabelled images, classes."


def make(background=0, num_classes=4, **settings):
    cfg = PCRConfig(**dict(conf_thresh=0.3, min_rows=8) | settings)
    return small_method(PCR, num_classes, background, pcr=cfg)


def started(num_classes=4, steps=3, **settings):
    "A method whose prototypes have begun after some supervised steps."
    method = make(num_classes=num_classes, **settings)
    for step in range(steps):
        progress = Progress(step=step, steps=100, sup_only_steps=steps)
        batch = small_batch(PCR, num_classes=num_classes, step=step)
        method(batch, progress)
        method.after_step(batch, progress)
    return method


@pytest.mark.parametrize("num_l, num_u, num_classes", SHAPES)
def test_pcr__batches_of_every_shape(num_l, num_u, num_classes):
    method, batch = started(num_classes), small_batch(PCR, num_l, num_u, num_classes)
    assert method.prototypes.is_ready.all()
    losses = method(batch, NOW)
    losses.total().backward()
    assert list(losses.terms) == LOSSES and losses.total().isfinite()
    before = method.prototypes.rows.clone()
    method.after_step(batch, NOW)
    assert not torch.equal(before, method.prototypes.rows)
    torch.testing.assert_close(method.prototypes.rows.norm(dim=-1), torch.ones(num_classes, 4))


def test_pcr__nothing_counts():
    method, batch = started(), without_pixels(small_batch(PCR))
    before = method.prototypes.rows.clone()
    losses = method(batch, NOW)
    losses.total().backward()
    method.after_step(batch, NOW)
    assert losses.total() == 0 and torch.equal(before, method.prototypes.rows)


def test_pcr__a_class_that_was_never_seen_has_no_prototypes_and_no_part_in_the_loss():
    method = make()
    for step in range(3):
        batch, progress = small_batch(PCR, step=step), Progress(step=step, steps=9, sup_only_steps=3)
        batch.targets_l[batch.targets_l == 2] = IGNORE_INDEX
        method(batch, progress)
        method.after_step(batch, progress)
    assert method.prototypes.is_ready.tolist() == [True, True, False, True]
    losses = method(small_batch(PCR), NOW)
    assert losses.terms["loss_proto"][0] < 100  # `FAR` does not enter it
    batch = small_batch(PCR, step=4)
    method.new_sums, method.new_rows = [], []
    for step in (4, 5):  # it begins when it is seen
        method(batch, Progress(step=step, steps=9, sup_only_steps=3))
        method.after_step(batch, Progress(step=step, steps=9, sup_only_steps=3))
    assert method.prototypes.is_ready.all()


def test_pcr__gradients():
    method = started()
    losses = method(small_batch(PCR), NOW)
    (losses.terms["loss_proto"][0] + losses.terms["loss_proto_unsup"][0]).backward()
    assert gradient_reaches(method.student.encoder)
    assert not gradient_reaches(method.student.classifier) and not gradient_reaches(method.teacher)


def test_pcr__the_supervised_start_collects_rows():
    method, batch = make(), small_batch(PCR)
    losses = method(batch, START)
    assert list(losses.terms) == ["loss_sup"] and list(losses.reasons()) == LOSSES[1:]
    method.after_step(batch, START)
    assert method.prototypes.filled.min() > 0 and not method.prototypes.is_ready.any()


def test_pcr__two_passes_of_one_step_move_as_one():
    batches, method = [small_batch(PCR, step=s) for s in (7, 8)], started()
    twice = started()
    for batch in batches:
        method(batch, NOW)
    sums = [s.clone() for s in method.new_sums]
    method.after_step(batches[0], NOW)
    twice.prototypes.move(sum(sums), 0.99)
    torch.testing.assert_close(method.prototypes.rows, twice.prototypes.rows)
    assert not method.new_sums and not method.new_rows


def test_proto_scores__by_hand():
    angle = math.radians(60)
    feats = torch.tensor([math.cos(angle), 0.0, math.sin(angle)])[None, :, None, None]
    two = torch.tensor([[[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]]])
    logits = proto_scores(feats, two, 0.5).logits
    nobody = torch.zeros(1, 1, 1, dtype=torch.long)
    assert_loss(supervised_loss(logits, nobody), -math.log(math.e / (math.e + 1)))


def test_prototypes__the_ring_keeps_the_newest_rows():
    prototypes = Prototypes(num_classes=2, per_class=2, width=1, ring=4, unit=False)
    for value in range(1, 7):
        rows, labels = torch.full((3, 1), float(value)), torch.tensor([0, 0, IGNORE_INDEX])
        few = few_of_each_class(rows, labels, 2, few=1, generator=generator_for("ring", value))
        prototypes.remember(few)
    assert sorted(prototypes.ring[0, :, 0].tolist()) == [3, 4, 5, 6]
    assert prototypes.filled.tolist() == [4, 0] and prototypes.pointer.tolist() == [2, 0]
    too_many = torch.ones(2, 9, 2)
    prototypes.remember(too_many)
    assert prototypes.filled.tolist() == [4, 4]


def test_prototypes__clusters_are_the_same_each_time():
    first, second = started(), started()
    assert torch.equal(first.prototypes.rows, second.prototypes.rows)
    assert torch.equal(first.prototypes.ring, second.prototypes.ring)


def test_prototypes__without_any_all_classes_are_far():
    prototypes = Prototypes(num_classes=3, per_class=2, width=4)
    logits = prototypes.scores(torch.randn(1, 4, 2, 2), 0.1).logits
    assert (logits == FAR).all()
    targets = torch.tensor([[[0, 2, IGNORE_INDEX]]])
    assert (prototypes.known(targets) == IGNORE_INDEX).all()


def test_slot_sums__a_slow_reference():
    gen = generator_for("slots")
    rows, labels = torch.randn(50, 3, generator=gen), torch.randint(4, (50,), generator=gen)
    labels[::7] = IGNORE_INDEX
    counts = torch.rand(50, generator=gen) < 0.8
    nearest = torch.randint(2, (50, 4), generator=gen)
    expected = torch.zeros(8, 4)
    for row, label, count, near in zip(rows, labels.tolist(), counts, nearest):
        if count and label != IGNORE_INDEX:
            expected[2 * label + near[label]] += torch.cat([row, torch.ones(1)])
    torch.testing.assert_close(slot_sums(rows, labels, counts, nearest, 2), expected)


@pytest.mark.parametrize("height, width, granularity", [(9, 23, 4), (3, 5, 32), (1, 1, 1)])
def test_draw_pixels__inside_and_one_a_cell(height, width, granularity):
    pixels = draw_pixels(height, width, granularity, generator_for("cells"))
    down, across = min(granularity, height), min(granularity, width)
    assert len(pixels) == down * across
    cells = pixels // torch.tensor([height // down, width // across])
    assert len({tuple(cell) for cell in cells.tolist()}) == down * across
    assert (pixels < torch.tensor([height, width])).all()


def test_pcr__released_variant_and_errors():
    run = parse_run(["--method", "pcr", "--variant", "released"])
    assert (run.pcr.means, run.semi.ema_decay, run.semi.ema_buffers) == ("raw", 0.99, "own")
    wrong = [dict(conf_thresh=2), dict(momentum=-1), dict(temperature=0), dict(granularity=0)]
    for settings in [*wrong, dict(min_rows=3), dict(ring=8), dict(means="some"), dict(num_prototypes=0)]:
        with pytest.raises(InputError):
            PCRConfig(**settings)


def test_pcr__a_tiny_run(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "build_data", few_images)
    run = tiny_run("pcr", out=tmp_path / "run", pcr__min_rows=4)
    result = fit(run, callbacks=[])
    assert list(result["miou"]) == ["teacher", "student"]


@pytest.mark.parametrize(
    "shape", [(2, 5, 3, 4), (8, 64, 16, 16), (1, 16, 1, 2), (3, 48, 1, 100), (2, 256, 5, 7)]
)
def test_unit_along__is_torchs_own(shape):
    feats = torch.randn(shape, generator=generator_for("unit", *shape)).relu().requires_grad_()
    pull = torch.randn(shape, generator=generator_for("pull", *shape))
    ours, torchs = unit_along(feats, 1), F.normalize(feats, dim=1, eps=SMALLEST_NORM)
    torch.testing.assert_close(ours, torchs)
    gradients = [torch.autograd.grad(unit, feats, pull)[0] for unit in (ours, torchs)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("height, width", [(5, 8), (20, 30), (1, 1)])
def test_feats_at__is_bilinear_enlarging(height, width):
    gen = generator_for("feats", height)
    feats = torch.randn(2, 3, height, width, generator=gen)
    pixels = torch.cartesian_prod(torch.arange(20), torch.arange(30))  # borders and corners too
    enlarged = F.interpolate(feats, (20, 30), mode="bilinear", align_corners=False)
    found = feats_at(feats, pixels, (20, 30))
    torch.testing.assert_close(found[:, :, 0], enlarged.flatten(2))
    assert torch.equal(rows_at(found), found[:, :, 0].transpose(1, 2).flatten(0, 1))
