"""UniMatch against its released code.

| case | compared |
|---|---|
| `unimatch`, `unimatch_threshold0` | losses and gradients of all streams |
| `feature_dropout` | what the decoder makes of clean and dropped copies, and its BatchNorm statistics |
| `fixmatch*` | in `test_released_fixmatch` |
| `box` | in `test_released_boxes` |

The released streams of one step have two supports: boxes take labels of a second batch, dropped features do
not. So each case is two steps of ours: with partners for the strong views, and unmixed for the features.
"""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from released import assert_gradient, assert_loss, case, cases, needs_reference, states
from told import Told, paired_batch, with_partners
from torch import nn

from dgcl_nb.config import parse_run
from dgcl_nb.methods.protocol import Progress
from dgcl_nb.methods.unimatch import UniMatch, UniMatchConfig, stack_dropped

pytestmark = needs_reference
NOW = Progress(step=5, steps=10)
LEAVES = ("logits_x", "logits_u_weak", "logits_u_fp", "logits_u_strong1", "logits_u_strong2")


def settings_of(variant, conf_thresh):
    "UniMatch's settings as released, or our own."
    if variant == "released":
        cfg = parse_run(["--method", "unimatch", "--variant", "released"]).unimatch
    else:
        cfg = UniMatchConfig(halve=True)
    return dataclasses.replace(cfg, conf_thresh=conf_thresh)


def losses_of(cfg, batch, logits_x, strong_1, strong_2, weak, features):
    "A step in which the network says these logits."
    order = [logits_x, strong_1, strong_2, weak, features]
    if cfg.label_mode == "eval":  # the weak view is asked first, and once more in the joint pass
        order.insert(0, weak)
    network = Told(*order)
    method = UniMatch(lambda: network, logits_x.shape[1], UniMatch.configure(unimatch=cfg))
    losses = method(batch, NOW)
    assert network.said == len(network.logits)
    return losses


@pytest.mark.parametrize("variant", ["released", "ours"])
@pytest.mark.parametrize("name", cases("unimatch", "unimatch"))
def test_unimatch__losses_and_gradients(name, variant):
    found = case("unimatch", name)
    cfg = settings_of(variant, found["conf_thresh"])
    x, weak, fp, strong_1, strong_2 = (found[leaf].requires_grad_(True) for leaf in LEAVES)
    blank = torch.zeros(len(weak), 3, *weak.shape[2:])
    places = found["labels"], found["ignore"], found["ignore_mix"]
    boxes = [found["box1"], found["box2"]]
    batch = paired_batch(*places, boxes, [with_partners(blank, blank)] * 2)
    pair = [with_partners(logits, torch.zeros_like(logits)) for logits in (strong_1, strong_2)]
    weak_pair = with_partners(weak, found["logits_u_weak_mix"])
    mixed = losses_of(cfg, batch, x, *pair, weak_pair, torch.zeros_like(weak_pair))
    # the same images without partners
    num = len(weak)
    batch.images_u_w, batch.valid_u, batch.truth_u = (
        x[:num] for x in (batch.images_u_w, batch.valid_u, batch.truth_u)
    )
    batch.images_u_s = [blank, blank]
    batch.mixes = [dataclasses.replace(mix, inactive="no partners") for mix in batch.mixes]
    whole = losses_of(cfg, batch, x, strong_1, strong_2, weak, fp)

    terms = mixed.terms | dict(loss_features=whole.terms["loss_features"])
    names = dict(loss_sup="loss_x", loss_strong_1="loss_u_s1", loss_strong_2="loss_u_s2")
    for ours, theirs in (names | dict(loss_features="loss_u_fp")).items():
        assert_loss(terms[ours][0].item(), found[theirs])
    total = sum(weight * value for value, weight in terms.values())
    assert_loss(total.item(), found["loss"])
    total.backward()
    for leaf in ("logits_x", "logits_u_fp", "logits_u_strong1", "logits_u_strong2"):
        assert_gradient(found[leaf].grad, found[f"grad_{leaf}"])
    assert found["grad_logits_u_weak_is_zero"] and (weak.grad is None or not weak.grad.any())
    assert found["labelled_fp_gets_no_gradient"]  # here labelled images have no such copy


class StandIn(nn.Module):
    "The decoder of the case: maps of two strides to class scores at the size of the image."

    def __init__(self, weights):
        super().__init__()
        shapes = {name: weights[f"{name}.weight"].shape for name in ("head.0", "reduce.0", "fuse.0")}
        blocks = {name.split(".")[0]: self.block(*shape[:3]) for name, shape in shapes.items()}
        self.head, self.reduce, self.fuse = (blocks[name] for name in ("head", "reduce", "fuse"))
        num_classes, width = weights["classifier.weight"].shape[:2]
        self.classifier = nn.Conv2d(width, num_classes, 1)
        found = self.state_dict()
        self.load_state_dict({name: torch.as_tensor(weights[name]).view_as(found[name]) for name in found})

    @staticmethod
    def block(out_channels, in_channels, kernel):
        conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())

    def forward(self, low, deep, size):
        deep = F.interpolate(self.head(deep), low.shape[-2:], mode="bilinear", align_corners=True)
        logits = self.classifier(self.fuse(torch.cat([self.reduce(low), deep], 1)))
        return F.interpolate(logits, size, mode="bilinear", align_corners=True)


@pytest.mark.parametrize("name", cases("unimatch", "feature_dropout"))
def test_feature_dropout__copies_are_stacked_before_the_decoder(name):
    found = case("unimatch", name)
    decoder = StandIn(states(found, "w")).train()
    stays = [found["keep_c1"].bool(), found["keep_c4"].bool()]
    maps = stack_dropped([found["c1"], found["c4"]], stays, found["drop_rate"])
    out, out_fp = decoder(*maps, found["out"].shape[-2:]).chunk(2)
    assert_gradient(out, found["out"])
    assert_gradient(out_fp, found["out_fp"])
    after = decoder.state_dict()
    for key, value in states(found, "w_after").items():
        assert_gradient(after[key], value)
