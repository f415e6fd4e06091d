"""CPS against numbers of its released code (TorchSemiSeg, CPS and CPS+CutMix for VOC and Cityscapes).

| case | compared |
|---|---|
| plain_* | whole `forward` with networks that answer with the case's logits: both losses, all gradients |
| cutmix_* | the same, the two unmixed batches as one; pseudo-labels; the mixed image where it is given |
| ohem, ohem_min_kept | `supervised` with `sup.ohem` |
| box | no: the draws and the masks belong to `23_boxes` and are compared there |
"""

import pytest
import torch
from released import assert_gradient, assert_loss, case, cases, needs_reference
from torch import nn

from dgcl_nb.batches import Batch
from dgcl_nb.config import parse_run
from dgcl_nb.core import IGNORE_INDEX
from dgcl_nb.methods.cps import CPS, CPSConfig
from dgcl_nb.methods.protocol import Losses, Progress, SupConfig, supervised
from dgcl_nb.model import SegOutput
from dgcl_nb.views import CutMix

pytestmark = needs_reference
NOW = Progress(step=1, steps=2)
THRESH = 0.7  # of the released OHEM


class Answers(nn.Module):
    "A network that gives the answers it was told, one a call, and remembers what it was asked."

    def __init__(self, answers):
        super().__init__()
        self.answers, self.asked = list(answers), []

    def forward(self, images, with_proj=True):
        self.asked.append(images)
        logits = self.answers.pop(0)
        return SegOutput(logits, logits, None, None)


def leaves(values, names):
    return {name: values[name].clone().requires_grad_() for name in names}


def sup_config(values):
    kept = int(values["min_kept"])
    return SupConfig(ohem=kept > 0, ohem_thresh=THRESH, ohem_min_kept=kept)


def released_cps(values, cutmix):
    "The settings of the released code, with the case's weight."
    flags = ["--method", "cps", "--variant", "released", "--cps.cutmix", str(cutmix)]
    cps = parse_run([*flags, "--cps.weight", str(values["weight"])], "/nowhere").cps
    assert cps.count_padding and cps.label_mode == "train"
    return cps


def make_method(answers1, answers2, num_classes, **groups):
    networks = iter([Answers(answers1), Answers(answers2)])
    return CPS(lambda: next(networks), num_classes, CPS.configure(**groups)).train()


def make_batch(targets_l, images_u, mixes=()):
    "A batch whose labelled images are empty; its unlabelled ones are seen as they are, without padding."
    like = images_u.new_zeros((len(targets_l), *images_u.shape[1:]))
    inside = torch.ones_like(images_u[:, 0], dtype=torch.bool)
    truth = torch.full(inside.shape, IGNORE_INDEX)
    return Batch(like, targets_l, [], images_u, [images_u], inside, truth, [], list(mixes))


def check_losses(losses, values):
    found = {name: value.item() for name, (value, _) in losses.terms.items()}
    crossed = found["loss_cps_1"] + found["loss_cps_2"]
    assert_loss(values["weight"] * crossed, values["loss_cps"])
    for i in "12":
        assert_loss(found[f"loss_sup_{i}"], values[f"loss_sup_{i}"])


@pytest.mark.parametrize("name", cases("cps", "plain_"))
def test_plain__losses_and_gradients(name):
    values = case("cps", name)
    z = leaves(values, ["logits_l1", "logits_l2", "logits_u1", "logits_u2"])
    answers = ([torch.cat([z[f"logits_l{i}"], z[f"logits_u{i}"]])] for i in "12")
    num_classes = z["logits_l1"].shape[1]
    groups = dict(sup=sup_config(values), cps=released_cps(values, cutmix=False))
    method = make_method(*answers, num_classes, **groups)
    size = values["labels"].shape[1:]
    batch = make_batch(values["labels"], torch.zeros(len(z["logits_u1"]), 3, *size))
    losses = method(batch, NOW)
    check_losses(losses, values)
    losses.total().backward()
    for key, logits in z.items():
        assert_gradient(logits.grad, values[f"grad_{key}"])


@pytest.mark.parametrize("name", cases("cps", "plain_"))
def test_plain__without_ignored_pixels_the_default_is_the_same(name):
    values = case("cps", name)
    labels = torch.zeros_like(values["labels"])  # every pixel counts then
    size, (num_u, num_classes) = labels.shape[1:], values["logits_u1"].shape[:2]
    found = []
    for count_padding in (False, True):
        cfg = CPSConfig(weight=values["weight"], count_padding=count_padding)
        answers = ([torch.cat([values[f"logits_l{i}"], values[f"logits_u{i}"]])] for i in "12")
        method = make_method(*answers, num_classes, cps=cfg)
        losses = method(make_batch(labels, torch.zeros(num_u, 3, *size)), NOW)
        found.append(sum(float(losses.terms[f"loss_cps_{i}"][0]) for i in "12"))
    assert_loss(found[0], found[1])
    assert_loss(values["weight"] * found[0], values["loss_cps"])


def both_halves(mask):
    "Boxes for [u0, u1] as one batch: the first half shows u1 inside M, the second u0 outside."
    num = len(mask)
    inside = mask[:, 0].bool()
    partner = (torch.arange(2 * num) + num) % (2 * num)
    return CutMix(torch.cat([inside, ~inside]), partner)


@pytest.mark.parametrize("name", cases("cps", "cutmix_"))
def test_cutmix__losses_gradients_and_labels(name):
    values = case("cps", name)
    z = leaves(values, ["logits_l1", "logits_l2", "logits_m1", "logits_m2"])

    def answers(i):
        unmixed = torch.cat([values[f"logits_u0_{i}"], values[f"logits_u1_{i}"]])
        return [unmixed, torch.cat([z[f"logits_l{i}"], z[f"logits_m{i}"], z[f"logits_m{i}"]])]

    groups = dict(sup=sup_config(values), cps=released_cps(values, cutmix=True))
    method = make_method(answers("1"), answers("2"), z["logits_l1"].shape[1], **groups)
    mix, num = both_halves(values["mask"]), len(values["mask"])
    images = torch.zeros(2 * num, 3, *values["mask"].shape[2:])
    if "image_u0" in values:
        images = torch.cat([values["image_u0"], values["image_u1"]])
    losses = method(make_batch(values["labels"], images, [mix]), NOW)
    check_losses(losses, values)
    losses.total().backward()
    for key, logits in z.items():
        assert_gradient(logits.grad, values[f"grad_{key}"])
    for i, network in enumerate((method.network1, method.network2), 1):
        unmixed, learned = network.asked
        assert torch.equal(unmixed, images)
        if "image_mixed" in values:
            assert torch.equal(learned[-num:], values["image_mixed"])
        said = torch.cat([values[f"logits_u0_{i}"], values[f"logits_u1_{i}"]]).argmax(1)
        assert torch.equal(mix.mix(said)[:num], values[f"pseudo_label_{i}"].long())


@pytest.mark.parametrize("name", cases("cps", "ohem"))
def test_ohem__loss_and_gradient(name):
    values = case("cps", name)
    logits, losses = leaves(values, ["logits"])["logits"], Losses()
    cfg = SupConfig(ohem=True, ohem_thresh=values["thresh"], ohem_min_kept=values["min_kept"])
    supervised(losses, SegOutput(logits, logits, None, None), values["target"], cfg)
    assert_loss(losses.total().item(), values["loss"])
    losses.total().backward()
    assert_gradient(logits.grad, values["grad_logits"])
