"""FixMatch against UniMatch's released code for it.

| case | compared |
|---|---|
| `fixmatch`, `fixmatch_threshold0`, `fixmatch_none_pass` | losses, gradients, mixed labels, images seen |

The cases of UniMatch itself are in `test_released_unimatch`, those of the boxes in `test_released_boxes`.
"""

import dataclasses

import pytest
import torch
from released import assert_gradient, assert_loss, case, cases, needs_reference
from told import Told, paired_batch, with_partners

from dgcl_nb.config import parse_run
from dgcl_nb.core import IGNORE_INDEX
from dgcl_nb.methods.fixmatch import FixMatch, FixMatchConfig
from dgcl_nb.methods.protocol import Progress, confident_labels

pytestmark = needs_reference
NOW = Progress(step=5, steps=10)


def settings_of(variant, conf_thresh):
    "FixMatch's settings as released, or our own."
    if variant == "released":
        cfg = parse_run(["--method", "fixmatch", "--variant", "released"]).fixmatch
    else:
        cfg = FixMatchConfig(halve=True)
    return dataclasses.replace(cfg, conf_thresh=conf_thresh)


def step_of(found, cfg):
    "Losses, method, network and batch of a case; its logits are leaves."
    for name in ("logits_x", "logits_u_weak", "logits_u_strong"):
        found[name].requires_grad_(True)
    weak = with_partners(found["logits_u_weak"], found["logits_u_weak_mix"])
    strong = with_partners(found["logits_u_strong"], torch.zeros_like(found["logits_u_strong"]))
    order = [found["logits_x"], weak] if cfg.label_mode == "train" else [weak, found["logits_x"]]
    network = Told(*order, strong)
    blank = torch.zeros(len(found["box"]), 3, *found["box"].shape[1:])
    images = with_partners(found.get("image_strong", blank), found.get("image_strong_mix", blank))
    batch = paired_batch(found["labels"], found["ignore"], found["ignore_mix"], [found["box"]], [images])
    method = FixMatch(lambda: network, found["logits_x"].shape[1], FixMatch.configure(fixmatch=cfg))
    return method(batch, NOW), method, network, batch


@pytest.mark.parametrize("variant", ["released", "ours"])
@pytest.mark.parametrize("name", cases("unimatch", "fixmatch"))
def test_fixmatch__losses_and_gradients(name, variant):
    found = case("unimatch", name)
    losses, _, network, _ = step_of(found, settings_of(variant, found["conf_thresh"]))
    assert_loss(losses.terms["loss_sup"][0].item(), found["loss_x"])
    assert_loss(losses.terms["loss_unsup"][0].item(), found["loss_u"])
    assert_loss(losses.total().item(), found["loss"])
    losses.total().backward()
    assert network.said == len(network.logits)
    for logits in ("logits_x", "logits_u_strong"):
        assert_gradient(found[logits].grad, found[f"grad_{logits}"])
    weak = found["logits_u_weak"].grad
    assert found["grad_logits_u_weak_is_zero"] and (weak is None or not weak.any())


@pytest.mark.parametrize("name", cases("unimatch", "fixmatch"))
def test_fixmatch__what_is_pasted(name):
    found = case("unimatch", name)
    _, method, network, batch = step_of(found, settings_of("ours", found["conf_thresh"]))
    weak = with_partners(found["logits_u_weak"], found["logits_u_weak_mix"])
    labels = confident_labels(Told(weak)(batch.images_u_w), batch.valid_u, found["conf_thresh"])
    num, mix = len(found["box"]), batch.mixes[0]
    assert torch.equal(mix.mix(labels.pseudo.labels)[:num], found["pseudo_label_mixed"].long())
    assert_gradient(mix.mix(labels.pseudo.confidence)[:num], found["confidence_mixed"])
    assert torch.equal(mix.mix(batch.valid_u)[:num], found["ignore_mixed"] != IGNORE_INDEX)
    if "image_seen" in found:
        seen = torch.cat(network.seen)[-2 * num - 1 :][:num]
        assert torch.equal(seen, found["image_seen"])
