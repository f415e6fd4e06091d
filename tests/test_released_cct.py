"""CCT against the released codes, `cct.npz`: CCT's own, and what PixelSSL and TorchSemiSeg do differently.

| not compared | why |
|---|---|
| cutout: the contours themselves | OpenCV's compressed ones; regions here are connected components |
| vat_released_float32: the direction | rounding noise, there as here; its length is compared |
"""

import pytest
import torch
from released import assert_gradient, assert_loss, case, cases, needs_reference, states

from dgcl_nb.consistency import DISTANCES, mean_gaps, mean_over, sigmoid_ramp
from dgcl_nb.losses import annealed_loss, annealed_threshold
from dgcl_nb.methods.cct import CCTConfig
from dgcl_nb.perturbations import (
    Region,
    VatConfig,
    adversarial_direction,
    auxiliary_decoder,
    channel_dropout,
    cut_regions,
    feature_drop,
    feature_noise,
    keep_where,
)
from dgcl_nb.pseudo_labels import keep_confident, pseudo_label

pytestmark = needs_reference


def decoder_of(c):
    "Our decoder with a case's weights."
    weights = states(c, "w")
    doublings = len({name.split(".")[0] for name in weights}) - 1
    num_classes, width = weights["0.weight"].shape[:2]
    decoder = auxiliary_decoder(width, num_classes, doublings).to(weights["0.weight"].dtype)
    decoder.load_state_dict(weights)
    return decoder


def feats_of(c):
    return c["feats"].clone().requires_grad_()


def test_decoder__values_and_gradient():
    c = case("cct", "decoder")
    feats = feats_of(c)
    out = decoder_of(c)(feats)
    assert_gradient(out, c["out"])
    assert out.shape[-1] == c["upscale"] * feats.shape[-1]
    out.backward(c["cotangent"])
    assert_gradient(feats.grad, c["grad_feats"])


def test_feature_noise():
    c = case("cct", "feature_noise")
    feats = feats_of(c)
    out = feature_noise(feats, c["noise"])
    assert_gradient(out, c["out"])
    out.backward(c["cotangent"])
    assert_gradient(feats.grad, c["grad_feats"])
    assert c["noise"].abs().max() <= c["uniform_range"] == CCTConfig().noise


def test_feature_drop__is_exact():
    c = case("cct", "feature_drop")
    out = feature_drop(c["feats"], c["gamma"])
    assert torch.equal(out, c["out"])
    low, high = CCTConfig().drop_range
    assert low <= c["gamma"] <= high
    assert torch.equal((out != 0).any(1) | ~c["keep"], torch.ones_like(c["keep"]))


def test_dropout__whole_channels():
    c = case("cct", "dropout2d")
    assert_gradient(channel_dropout(c["feats"], c["keep_channel"], c["p"]), c["out"])
    assert c["p"] == CCTConfig().dropout


def test_cutout__with_the_contours_of_the_released_code():
    c = case("cct", "cutout")
    rows = c["contours"].tolist()
    regions = [Region(image, top, bottom, left, right) for image, _, left, right, top, bottom, _, _ in rows]
    corners = [(y, x) for *_, x, y in rows]
    keep = cut_regions(c["prediction"].shape, regions, corners, c["erase"])
    assert torch.equal(keep, c["mask_full"][:, 0].bool())
    assert torch.equal(keep_where(c["feats"], keep), c["out"])
    assert torch.equal(keep_where(torch.ones_like(c["feats"]), keep)[:, :1], c["mask"].float())
    assert c["erase"] == CCTConfig().erase


@pytest.mark.parametrize("name", ["context_mask", "object_mask"])
def test_masks__foreground_or_background(name):
    c = case("cct", name)
    things = c["prediction"] != 0
    assert torch.equal(keep_where(c["feats"], things if name == "context_mask" else ~things), c["out"])


def search(c):
    cfg = VatConfig(xi=c["xi"], eps=c["eps"], iterations=c["iterations"])
    return adversarial_direction(decoder_of(c), c["feats"], c["uniform_draw"], cfg)


@pytest.mark.parametrize("name", cases("cct", "vat_xi"))
def test_vat__direction_output_and_gradient(name):
    c = case("cct", name)
    push = search(c)
    assert_gradient(push, c["r_adv"], 1e-4)
    assert push.flatten(1).norm(dim=1).tolist() == pytest.approx(c["r_adv_norm"].tolist(), rel=1e-4)
    feats = feats_of(c)
    out = decoder_of(c)(feats + push)
    assert_gradient(out, c["out"])
    out.backward(c["cotangent"])
    assert_gradient(feats.grad, c["grad_feats"])


def test_vat__released_step_in_float64():
    c = case("cct", "vat_released_float64")
    assert_gradient(search(c), c["r_adv"], 1e-4)
    assert_gradient(decoder_of(c)(c["feats"] + search(c)), c["out"])
    assert c["r_adv_norm"].max() < c["eps"] / 10  # it pushes hardly at all


def test_vat__released_step_in_float32_is_noise_of_the_same_size():
    c = case("cct", "vat_released_float32")
    found, expected = search(c).flatten(1).norm(dim=1), c["r_adv_norm"]
    assert found.max() < c["eps"] / 10 and expected.max() < c["eps"] / 10
    assert torch.all((found / expected).log10().abs() < 1)  # the same power of ten


@pytest.mark.parametrize("name", cases("cct", "consistency"))
def test_consistency__loss_and_gradient(name):
    c = case("cct", name)
    distance = {"softmax_mse_loss": "mse", "softmax_kl_loss": "kl", "softmax_js_loss": "js"}
    kind = distance[c.get("loss_fn", "softmax_mse_loss")]
    main = c["logits_main"]
    inside = torch.ones_like(main[:, 0], dtype=torch.bool)
    thresh = c["conf_thresh"] if c.get("conf_masking") else CCTConfig().conf_thresh
    counts = keep_confident(pseudo_label(main).confidence, inside, thresh)
    auxiliary = c["logits_aux"].clone().requires_grad_()

    def step_by_step(predictions, probs, counts, kind):
        return torch.stack([mean_over(DISTANCES[kind](logits, probs), counts) for logits in predictions])

    for gaps_of in (mean_gaps, step_by_step):
        auxiliary.grad = None
        loss = gaps_of(auxiliary, main.softmax(1), counts, kind).mean()
        assert_loss(loss.detach(), c["loss"])
        loss.backward()
        assert_gradient(auxiliary.grad, c["grad_logits_aux"])


def test_ramp__every_value():
    c = case("cct", "ramp")
    length = c["ramp_epochs"] * c["iters_per_epoch"]
    found = [
        c["final_weight"] * sigmoid_ramp(epoch * c["iters_per_epoch"] + i, length)
        for epoch, i in c["epoch_iteration"].tolist()
    ]
    assert found == pytest.approx(c["values"].tolist(), rel=1e-6)
    assert c["final_weight"] == CCTConfig().weight


@pytest.mark.parametrize("name", cases("cct", "abce"))
def test_annealed__threshold_loss_and_gradient(name):
    c = case("cct", name)
    cfg = CCTConfig()
    step, steps = c["epoch"] * c["iters_per_epoch"] + c["iteration"], c["epochs"] * c["iters_per_epoch"]
    num_classes = c["logits"].shape[1]
    threshold = annealed_threshold(step / steps / cfg.sup_anneal, num_classes, c["end"])
    logits = c["logits"].clone().requires_grad_()
    loss = annealed_loss(logits, c["target"], threshold)
    assert threshold == pytest.approx(c["threshold"], rel=1e-6)
    assert_loss(loss.detach(), c["loss"])
    loss.backward()
    assert_gradient(logits.grad, c["grad_logits"])
    assert logits.grad.abs().sum(1).gt(0).sum() == c["n_kept"]
