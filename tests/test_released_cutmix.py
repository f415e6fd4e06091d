"""CutMix-Seg against the numbers of French et al.'s code and of PixelSSL's port.

| case | compared |
|---|---|
| `cutmix_*`, `loss_*` | what the student sees, loss, gradient, share; variant released |
| `cutmix_no_threshold` | the same, but for the share, which is not recorded there |
| `cutmix_rampup` | the ramp of the epoch as well |
| `cutout_scalar` | the same; their mask is what is kept, ours what is cut |
| `box_*` | in `test_released_boxes.py` |
| `ema` | `Teacher`: all float entries after construction and each update (the counter: ours is copied) |
| `pixelssl*` | what the student sees, loss, gradient, certain share; variant pixelssl |
"""

from dataclasses import replace
from functools import cache

import pytest
import torch
from released import assert_gradient, assert_loss, case, cases, needs_reference
from tinynet import TinyNet, assert_state, states_at

from dgcl_nb.config import parse_run
from dgcl_nb.consistency import sigmoid_ramp
from dgcl_nb.methods.cutmix import consistency, perturb
from dgcl_nb.methods.protocol import Progress
from dgcl_nb.teacher import Teacher
from dgcl_nb.views import CutMix

pytestmark = needs_reference
FRENCH = [n for start in ("cutmix_", "cutout_", "loss_") for n in cases("cutmix", start)]


@cache
def variant(name):
    return parse_run(["--method", "cutmix", "--variant", name], "/nowhere")


def pairs(mask):
    "The mix of images 0 with images 1, stacked: the first half is what the case mixes."
    inside = mask[:, 0].bool()
    partner = torch.arange(2 * len(mask)).roll(len(mask))
    return CutMix(torch.cat([inside, ~inside]), partner)


def disturbed(values):
    "What the student sees (None if it is not in the case), what it shall say, where it counts."
    names = ("image", "logits_teacher", "valid")
    if values["mode"] == "zero":
        mix, mode, parts = CutMix(values["mask"][:, 0] == 0, torch.zeros(0)), "cutout", "0"
    else:
        mix, mode, parts = pairs(values["mask"]), "mix", "01"
    images, logits_t, valid = (
        torch.cat([values[f"{name}_{i}"] for i in parts]) if f"{name}_0" in values else None for name in names
    )
    has_images = images is not None
    images = images if has_images else torch.zeros(len(valid), 3, *valid.shape[-2:])
    seen, mixed_t, counts = perturb(mix, mode, images, logits_t, valid[:, 0].bool())
    num = len(values["mask"])
    return (seen[:num] if has_images else None), mixed_t[:num], counts[:num]


def ramp_of(values, run):
    "The ramp at the case's epoch, seven steps an epoch."
    if "epoch" not in values:
        return sigmoid_ramp(run.semi.schedule(Progress(step=0, steps=1)), run.cutmix.ramp)
    epochs = 2 * values["rampup_epochs"]
    progress = Progress(step=7 * values["epoch"] + 3, steps=7 * epochs, steps_per_epoch=7)
    return sigmoid_ramp(run.semi.schedule(progress), values["rampup_epochs"] / epochs)


@pytest.mark.parametrize("name", FRENCH)
def test_consistency__equals_french(name):
    values, run = case("cutmix", name), variant("released")
    cfg = replace(
        run.cutmix,
        distance=values["loss_fn"],
        weight=values["weight"],
        conf_thresh=values["conf_thresh"],
        per_pixel=values["per_pixel"],
    )
    seen, mixed_t, valid = disturbed(values)
    if seen is not None:
        assert torch.equal(seen, values["image_student"])
    ramp = ramp_of(values, run)
    assert ramp == pytest.approx(values["ramp"])
    logits = values["logits_student"].requires_grad_()
    loss, share = consistency(logits, mixed_t, valid, cfg)
    loss = cfg.weight * ramp * loss
    loss.backward()
    assert_loss(loss.detach(), values["loss"])
    assert_gradient(logits.grad, values["grad_logits"])
    if values["conf_thresh"] > 0:
        assert share.item() == pytest.approx(values["conf_rate"], abs=1e-6)


@pytest.mark.parametrize("name", cases("cutmix", "pixelssl"))
def test_consistency__equals_pixelssls(name):
    values, run = case("cutmix", name), variant("pixelssl")
    first_shows = values["mask"][:, 0].bool()  # where the first half is seen
    half = len(first_shows)
    mix = CutMix(torch.cat([~first_shows, first_shows]), torch.arange(2 * half).roll(half))
    every = torch.ones(2 * half, *first_shows.shape[-2:], dtype=torch.bool)
    mixed = perturb(mix, run.cutmix.mode, values["images_u"], values["prob_teacher"].log(), every)
    seen, mixed_t, valid = (x[:half] for x in mixed)
    assert torch.equal(seen, values["image_student"])
    logits = values["logits_student"].requires_grad_()
    cfg = replace(run.cutmix, conf_thresh=values["conf_thresh"])
    loss, share = consistency(logits, mixed_t, valid, cfg)
    loss = values["weight"] * values["ramp"] * loss
    loss.backward()
    assert_loss(loss.detach(), values["loss"])
    assert_gradient(logits.grad, values["grad_logits"])
    assert share.item() == pytest.approx(values["conf_rate"], abs=1e-6)


def test_teacher__averages_as_frenchs():
    values, semi = case("cutmix", "ema"), variant("released").semi
    states = [states_at(values, "student", t) for t in range(len(values["student.conv.weight"]))]
    student = TinyNet(states[0])
    teacher = Teacher(student, values["alpha"], semi.ema_buffers)

    def is_float(name):
        return not name.endswith("num_batches_tracked")

    assert_state(teacher.network, states_at(values, "teacher", 1), is_float)
    for t, state in enumerate(states[1:], 2):
        student.load_state_dict(state)
        teacher.update(student)
        assert_state(teacher.network, states_at(values, "teacher", t), is_float)
