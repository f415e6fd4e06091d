"""Losses against the slow reference, their gradients, and the cases where nothing counts."""

import pytest
import torch
import torch.nn.functional as F
from fakecuda import fake_cuda, on_cuda
from reference import (
    IGNORE,
    released_ohem_loss,
    released_supervised_loss,
    released_unsupervised_loss,
)

from dgcl_nb.core import generator_for
from dgcl_nb.losses import (
    logits_at,
    ohem_loss,
    supervised_loss,
    unsupervised_loss,
)

K = 5
PIXEL_LOSSES = [supervised_loss, ohem_loss, unsupervised_loss]


def scene(seed, ignored=0.3, size=(2, 9, 7)):
    gen = generator_for("losses", seed)
    logits = (3 * torch.randn(size[0], K, *size[1:], generator=gen)).requires_grad_()
    targets = torch.randint(0, K, size, generator=gen)
    return logits, targets.masked_fill(torch.rand(size, generator=gen) < ignored, IGNORE)


def rows(seed, *counts, dim=16):
    gen = generator_for("rows", seed)
    return [torch.randn(n, dim, generator=gen) * torch.rand(n, 1, generator=gen) for n in counts]


def close(ours, reference):
    torch.testing.assert_close(ours.item(), float(reference), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_supervised__reference(seed):
    logits, targets = scene(seed)
    theirs = released_supervised_loss(logits.detach().numpy(), targets.numpy())
    close(supervised_loss(logits, targets), theirs)


@pytest.mark.parametrize("thresh,min_kept", [(0.7, 100_000), (0.7, 20), (0.05, 20), (0.7, 1), (1.0, 1)])
def test_ohem__reference(thresh, min_kept):
    logits, targets = scene(1)
    theirs = released_ohem_loss(logits.detach().numpy(), targets.numpy(), thresh, min_kept)
    close(ohem_loss(logits, targets, thresh, min_kept), theirs)


def picked_ohem_loss(logits, targets, thresh, min_kept):
    "OHEM with the labelled pixels picked out first."
    losses = F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="none")[targets != IGNORE]
    probs = (-losses.detach()).exp()
    if min_kept > 0:
        thresh = probs.sort().values[min(min_kept, len(probs)) - 1].clamp(min=thresh)
    hard = probs <= thresh
    return (losses * hard).sum() / hard.sum().clamp(min=1)


@pytest.mark.parametrize("ignored", [0.0, 0.3, 0.98])
@pytest.mark.parametrize("thresh", [0.05, 0.7, 1.0])
@pytest.mark.parametrize("min_kept", [0, 1, 20, 126, 100_000])
def test_ohem__is_that_of_the_picked_pixels(ignored, thresh, min_kept):
    logits, targets = scene(6, ignored)
    assert 0 < (targets != IGNORE).sum() and targets.numel() == 126
    ours, theirs = (f(logits, targets, thresh, min_kept) for f in (ohem_loss, picked_ohem_loss))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-6)


def test_ohem__of_no_image_is_zero():
    logits = torch.zeros(0, K, 4, 4, requires_grad=True)
    loss = ohem_loss(logits, torch.zeros(0, 4, 4, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0 and logits.grad.shape == logits.shape


def test_ohem__fewer_than_must_be_kept_are_all_kept():
    logits, targets = scene(7, ignored=0.9)
    torch.testing.assert_close(ohem_loss(logits, targets, 0.0, 60), supervised_loss(logits, targets))


def test_ohem__nothing_is_hard():
    logits = torch.zeros(1, K, 2, 2)
    logits[:, 0] = 20
    logits.requires_grad_()
    loss = ohem_loss(logits, torch.zeros(1, 2, 2, dtype=torch.long), min_kept=0)
    assert loss.item() == 0
    loss.backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("ignored", [0.0, 0.3, 0.9])
def test_unsupervised__reference(ignored):
    logits, targets = scene(2, ignored)
    arrays = logits.detach().numpy(), targets.numpy()
    close(unsupervised_loss(logits, targets), released_unsupervised_loss(*arrays))
    close(unsupervised_loss(logits, targets, rescale=False), released_supervised_loss(*arrays))


def test_unsupervised__weight():
    logits, targets = scene(3)
    ones = torch.ones(targets.shape)
    plain = unsupervised_loss(logits, targets)
    torch.testing.assert_close(unsupervised_loss(logits, targets, weight=ones), plain)
    torch.testing.assert_close(unsupervised_loss(logits, targets, weight=ones / 2), plain / 2)


@pytest.mark.parametrize("loss", PIXEL_LOSSES)
def test_pixel_losses__nothing_counts(loss):
    logits, targets = scene(0, ignored=1.1)
    value = loss(logits, targets)
    assert value.item() == 0 and value.requires_grad
    value.backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("loss", PIXEL_LOSSES)
def test_pixel_losses__ignored_pixels_get_no_gradient(loss):
    logits, targets = scene(4)
    loss(logits, targets).backward()
    ignored = (targets == IGNORE)[:, None].expand_as(logits)
    assert torch.equal(logits.grad[ignored], torch.zeros(int(ignored.sum())))
    assert (logits.grad[~ignored] != 0).all()


@pytest.mark.parametrize("loss", PIXEL_LOSSES)
@pytest.mark.parametrize("size", [(1, 4, 4), (2, 3, 8), (2, 8, 3), (2, 8)])
def test_pixel_losses__images_must_agree_and_logits_not_be_finer(loss, size):
    with pytest.raises(AssertionError, match="against targets"):
        loss(torch.zeros(2, K, 4, 4), torch.zeros(size, dtype=torch.long))


@pytest.mark.parametrize("loss", PIXEL_LOSSES)
@pytest.mark.parametrize("size", [(4, 4), (3, 5), (16, 1), (13, 16)])
def test_pixel_losses__enlarge_logits_as_if_done_before(loss, size):
    gen = generator_for("coarse", *size)
    coarse = (3 * torch.randn(2, K, *size, generator=gen)).requires_grad_()
    targets = torch.randint(0, K, (2, 16, 16), generator=gen).masked_fill(torch.rand(2, 16, 16) < 0.2, IGNORE)
    before = F.interpolate(coarse, size=(16, 16), mode="bilinear", align_corners=False)
    ours, theirs = loss(coarse, targets), loss(before, targets)
    assert torch.equal(ours, theirs)
    assert torch.equal(*(torch.autograd.grad(x, coarse)[0] for x in (ours, theirs)))


def test_pixel_losses__half_precision_is_enlarged_in_float32():
    coarse, targets = torch.randn(2, K, 4, 4).bfloat16(), torch.zeros(2, 16, 16, dtype=torch.long)
    assert torch.equal(supervised_loss(coarse, targets), supervised_loss(coarse.float(), targets))
    assert logits_at(coarse, (16, 16)).dtype == logits_at(coarse, (4, 4)).dtype == torch.float32
    full = torch.randn(1, K, 4, 4)
    assert logits_at(full, (4, 4)) is full


@pytest.mark.parametrize("loss", PIXEL_LOSSES)
@pytest.mark.parametrize("ignored", [0.3, 1.1])
@pytest.mark.parametrize("size", [(9, 7), (18, 14)])
def test_pixel_losses__do_not_make_a_gpu_wait(loss, ignored, size):
    logits, targets = scene(8, ignored)
    targets = F.interpolate(targets[:, None].float(), size=size, mode="nearest")[:, 0].long()
    expected = loss(logits, targets)
    expected.backward()
    with fake_cuda() as seen:
        there = on_cuda(logits)
        value = loss(there, on_cuda(targets))
        value.backward()
    assert not seen.waits, seen.table()
    assert torch.equal(value.elem, expected.detach()) and torch.equal(there.grad.elem, logits.grad)


def test_unsupervised__weights_do_not_make_a_gpu_wait():
    logits, labels = scene(9)
    with fake_cuda() as seen:
        unsupervised_loss(
            on_cuda(logits), on_cuda(labels), weight=on_cuda(torch.rand(labels.shape))
        ).backward()
    assert not seen.waits, seen.table()


def test_pixel_losses__half_precision_is_summed_in_float32():
    logits, targets = scene(5, size=(2, 64, 64))
    half = logits.detach().bfloat16()
    assert torch.equal(supervised_loss(half, targets), supervised_loss(half.float(), targets))
    assert unsupervised_loss(half, targets).dtype == torch.float32


@pytest.mark.parametrize("shape", [(8, 11, 16, 16), (3, 5, 13, 17), (1, 1, 5, 9)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("layout_above", [torch.contiguous_format, torch.channels_last])
def test_logits_at__gradient_is_torchs_to_the_bit_and_in_its_layout(shape, layout, layout_above):
    size = (4 * shape[2], 4 * shape[3] - 3)
    ours = torch.randn(shape).contiguous(memory_format=layout).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    above = torch.randn(*shape[:2], *size).contiguous(memory_format=layout_above)
    found = []
    for x, enlarge in ((ours, logits_at), (theirs, by_torch)):
        large = enlarge(x, size)
        found.append((large.detach(), *torch.autograd.grad(large, x, above)))
    for mine, his in zip(*found):
        assert torch.equal(mine, his)
        assert mine.stride() == his.stride()


def by_torch(logits, size):
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
