"""PS-MT against its released code, `ps_mt.npz`.

| not compared | why |
|---|---|
| cutmix_voc, cutmix_city | boxes are a room of their own: `test_released_boxes.py` |
| ema*: the teacher's counter of batches | averaged and truncated there, copied here; nothing reads it |
| unsup_none_pass_voc: requires_grad False | a constant there; 0 with a graph here |
| unsup_*: negative_term_is_nan | their mean over no entry; ours is 0 with a graph (checked) |
| tvat_released_float32: the direction | rounding noise, there as here; its length is compared |
"""

import pytest
import torch
import torch.nn.functional as F
from released import assert_gradient, assert_loss, case, cases, needs_reference, states
from torch import nn

from dgcl_nb.consistency import cosine_ramp, negative_loss, spread_loss
from dgcl_nb.losses import unsupervised_loss
from dgcl_nb.methods.protocol import confident_labels
from dgcl_nb.methods.ps_mt import PSMTConfig
from dgcl_nb.model import SegOutput
from dgcl_nb.perturbations import VatConfig, adversarial_direction, eval_mode
from dgcl_nb.teacher import Ensemble, mean_logits, move_towards, steadied

pytestmark = needs_reference
CFG = PSMTConfig()


class Small(nn.Module):
    "The networks of the reference: a convolution, a norm, a classifier, under these names."

    def __init__(self, weights):
        super().__init__()
        (width, channels, kernel, _), num_classes = (
            weights["conv.weight"].shape,
            len(weights["classifier.bias"]),
        )
        self.conv = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.classifier = nn.Conv2d(width, num_classes, 1)
        self.to(weights["conv.weight"].dtype)
        self.load_state_dict({name: torch.as_tensor(value) for name, value in weights.items()})

    def decode(self, maps, size, with_proj=False):
        logits = self.classifier(F.relu(self.bn(self.conv(maps[-1]))))
        logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=True)
        return SegOutput(logits, maps[-1], None, None)


def positive(c, logits):
    "Our loss on the pixels of which a case's teachers are sure, and the labels."
    inside = torch.ones_like(c["logits_teacher"][:, 0], dtype=torch.bool)
    answer = SegOutput(c["logits_teacher"], None, None, None)
    labels = confident_labels(answer, inside, c["conf_thresh"])
    weight = labels.pseudo.confidence
    return unsupervised_loss(logits, labels.targets, rescale=False, weight=weight), labels


@pytest.mark.parametrize("name", ["unsup_voc", "unsup_city", "unsup_none_pass_voc", "unsup_none_pass_city"])
def test_unsup__loss_gradient_and_share(name):
    c = case("ps_mt", name)
    logits = c["logits"].clone().requires_grad_()
    loss, labels = positive(c, logits)
    assert_loss(loss.detach(), c["loss"])
    loss.backward()
    assert_gradient(logits.grad, c["grad_logits"])
    assert labels.kept.float().mean().item() == pytest.approx(c["pass_fraction"])
    nothing = negative_loss(logits, c["logits_teacher"].softmax(1), 0.0, torch.ones_like(labels.kept))
    assert c["negative_term_is_nan"] and nothing == 0
    assert c["conf_thresh"] == CFG.conf_thresh


def test_unsup__with_its_weight():
    c = case("ps_mt", "unsup_weighted")
    length = c["ramp_epochs"] * c["iters_per_epoch"]
    step = c["epoch"] * c["iters_per_epoch"] + c["iteration"]
    weight = c["final_weight"] * cosine_ramp(step, length)
    assert weight == pytest.approx(c["weight"], rel=1e-6) and c["final_weight"] == CFG.weight
    logits = c["logits"].clone().requires_grad_()
    loss = weight * positive(c, logits)[0]
    assert_loss(loss.detach(), c["loss_weighted"])
    loss.backward()
    assert_gradient(logits.grad, c["grad_logits"])


def test_unsup__negative_learning():
    c = case("ps_mt", "unsup_negative_learning")
    logits = c["logits"].clone().requires_grad_()
    found, labels = positive(c, logits)
    inside = torch.ones_like(labels.kept)
    negative = negative_loss(logits, c["logits_teacher"].softmax(1), c["neg_thresh"], inside)
    assert_loss(negative.detach(), c["negative_loss"])
    loss = c["weight"] * (found + negative + spread_loss(logits, inside))
    assert_loss(loss.detach(), c["loss_weighted"])
    loss.backward()
    assert_gradient(logits.grad, c["grad_logits"])


def test_ramp__every_value():
    c = case("ps_mt", "ramp")
    per_epoch = c["iters_per_epoch"]
    steps = [epoch * per_epoch + i for epoch, i in c["epoch_iteration"].tolist()]
    found = [c["final_weight"] * cosine_ramp(step, c["ramp_epochs"] * per_epoch) for step in steps]
    assert found == pytest.approx(c["values"].tolist(), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", cases("ps_mt", "ensemble"))
def test_ensemble__the_idle_teacher_is_steadied(name):
    c = case("ps_mt", name)
    logits, active = (c["logits_1"], c["logits_2"]), c["active_teacher"] - 1
    used = [c["logits_1_used"], c["logits_2_used"]]
    idle = 1 - active
    assert_gradient(steadied(logits[idle], logits[active], c["topk"]), used[idle])
    assert torch.equal(logits[active], used[active])
    assert_gradient(mean_logits(logits, active, c["topk"]), c["ensemble"])
    assert c["topk"] == CFG.top_classes and c["gamma"] == 0.5


def search(c):
    "Our direction for a case, of the mean of its two decoders, which are in train mode outside."
    ensemble = Ensemble(Small(states(c, "teacher1")), Small(states(c, "teacher2")))
    ensemble.train().to(c["feats"].dtype)
    buffers = [b.clone() for b in ensemble.buffers()]
    cfg = VatConfig(xi=c["xi"], eps=c["eps"], iterations=c["iterations"])

    def answer(feats):
        return ensemble.decode([feats], c["out_size"].tolist()).logits

    with eval_mode(ensemble):
        push = adversarial_direction(answer, c["feats"], c["uniform_draw"], cfg)
    assert all(m.training for m in ensemble.modules()) == c["back_in_train_mode"]
    assert all(map(torch.equal, buffers, ensemble.buffers())) == c["buffers_untouched"]
    assert all(p.grad is None for p in ensemble.parameters())
    return push, push.flatten(1).norm(dim=1)


@pytest.mark.parametrize("name", [*cases("ps_mt", "tvat_xi"), *cases("ps_mt", "tvat_released_float64")])
def test_tvat__direction(name):
    c = case("ps_mt", name)
    push, norm = search(c)
    assert_gradient(push, c["r_adv"], 1e-4)
    assert norm.tolist() == pytest.approx(c["r_adv_norm"].tolist(), rel=1e-4)


def test_tvat__released_step_in_float32_is_noise_of_the_same_size():
    c = case("ps_mt", "tvat_released_float32")
    _, norm = search(c)
    assert norm.max() < c["eps"] / 10 and c["r_adv_norm"].max() < c["eps"] / 10
    assert torch.all((norm / c["r_adv_norm"]).log10().abs() < 1)  # the same power of ten


@pytest.mark.parametrize("name", cases("ps_mt", "ema"))
def test_ema__weights_and_statistics(name):
    c = case("ps_mt", name)
    student, teacher = Small(states(c, "student")), Small(states(c, "teacher_before"))
    move_towards(teacher, student, c["keep_rate"], CFG.buffers)
    found = teacher.state_dict()
    for key, expected in states(c, "teacher_after").items():
        if key != "bn.num_batches_tracked":
            assert_gradient(found[key], expected, 1e-6)
