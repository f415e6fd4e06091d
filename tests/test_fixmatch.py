"FixMatch: which labels count, what gradients reach, and batches of every shape."

import math

import pytest
import torch
from helpers import few_images, tiny_run
from released import assert_loss
from small import NOW, START, gradient_reaches, small_batch, small_method, without_pixels

from dgcl_nb import engine
from dgcl_nb.config import parse_run
from dgcl_nb.core import InputError
from dgcl_nb.engine import fit
from dgcl_nb.methods.fixmatch import FixMatch, FixMatchConfig
from dgcl_nb.views import CutMix

SHAPES = [(1, 1, 4), (1, 3, 4), (3, 2, 2), (2, 2, 4)]
"Labelled images, unlabelled images, classes."


def make(background=0, num_classes=4, **settings):
    cfg = FixMatchConfig(**dict(conf_thresh=0.3) | settings)
    return small_method(FixMatch, num_classes, background, fixmatch=cfg)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("num_l, num_u, num_classes", SHAPES)
def test_fixmatch__batches_of_every_shape(num_l, num_u, num_classes, mode):
    method = make(num_classes=num_classes, label_mode=mode, background=None)
    losses = method(small_batch(FixMatch, num_l, num_u, num_classes), NOW)
    losses.total().backward()
    assert losses.total().isfinite() and gradient_reaches(method.student.encoder)
    assert method.student.training


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_fixmatch__nothing_counts(mode):
    losses = make(label_mode=mode)(without_pixels(small_batch(FixMatch)), NOW)
    losses.total().backward()
    assert losses.total() == 0
    assert list(losses.reasons()) == ["loss_sup", "loss_unsup"]


def test_fixmatch__a_certain_pixel_counts_among_all_that_are_inside():
    method, batch = make(conf_thresh=0), small_batch(FixMatch)
    batch.mixes = [CutMix(torch.zeros_like(batch.valid_u), torch.arange(2), "not now")]
    for p in method.student.classifier.parameters():
        p.data.zero_()  # it believes nothing: every pixel costs ln 4
    batch.valid_u[0] = False
    assert_loss(method(batch, NOW).terms["loss_unsup"][0].item(), math.log(4))
    none = make(conf_thresh=1)
    assert none(batch, NOW).terms["loss_unsup"][0] == 0


def test_fixmatch__the_supervised_start_and_halves():
    batch = small_batch(FixMatch)
    assert list(make()(batch, START).terms) == ["loss_sup"]
    for progress in (START, NOW):
        whole, half = (make(halve=halve)(batch, progress).total().item() for halve in (False, True))
        assert_loss(half, whole / 2)


def test_fixmatch__labels_in_eval_mode_do_not_depend_on_the_others_in_the_batch():
    method, batch = make(), small_batch(FixMatch, num_u=3)
    together = method.in_eval_mode(batch.images_u_w).logits
    alone = method.in_eval_mode(batch.images_u_w[:1]).logits
    torch.testing.assert_close(together[:1], alone)


def test_fixmatch__released_variant_and_errors():
    run = parse_run(["--method", "fixmatch", "--variant", "released"])
    assert run.fixmatch == FixMatchConfig(label_mode="train", halve=True)
    for settings in (dict(conf_thresh=2), dict(weight=-1), dict(label_mode="both")):
        with pytest.raises(InputError):
            FixMatchConfig(**settings)


def test_fixmatch__a_tiny_run(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "build_data", few_images)
    result = fit(tiny_run("fixmatch", out=tmp_path / "run"), callbacks=[])
    assert list(result["miou"]) == ["student"]
