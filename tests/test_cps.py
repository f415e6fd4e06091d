"""CPS: who learns from whom, what counts, odd batches, and a tiny run."""

import dataclasses

import pytest
import torch
from helpers import few_images, tiny_args, tiny_run

from dgcl_nb import engine
from dgcl_nb.batches import Batch, draw_mixes
from dgcl_nb.boxes import three_boxes
from dgcl_nb.config import build_method, parse_run
from dgcl_nb.core import IGNORE_INDEX, InputError
from dgcl_nb.engine import fit
from dgcl_nb.losses import supervised_loss
from dgcl_nb.methods.cps import CPSConfig
from dgcl_nb.methods.protocol import Progress

START, LATER = (Progress(step=step, steps=10, sup_only_steps=3, seed=1) for step in (1, 5))
SIDE = 48
BOTH = pytest.mark.parametrize("cutmix", [False, True])


def make_method(num_classes=4, background=0, **cps):
    run = dataclasses.replace(tiny_run("cps"), cps=CPSConfig(**cps))
    return build_method(run, num_classes, background)


def made_up(method, num_l=2, num_u=2, num_classes=4):
    "A batch of noise for a method."
    gen = torch.Generator().manual_seed(3)
    images = torch.randn(num_l + num_u, 3, SIDE, SIDE, generator=gen)
    targets = torch.randint(num_classes, (num_l + num_u, SIDE, SIDE), generator=gen)
    inside = torch.ones(num_u, SIDE, SIDE, dtype=torch.bool)
    inside[:, :5] = False
    views = tiny_run("cps").views
    views = dataclasses.replace(views, crop=SIDE, cutmix_prob=1.0)
    strong = [images[num_l:]] * method.views.strong
    mixes = draw_mixes(num_u, views, method.views, 0, 0)
    ids = [[""] * n for n in (num_l, num_u)]
    return Batch(
        images[:num_l],
        targets[:num_l],
        ids[0],
        images[num_l:],
        strong,
        inside,
        targets[num_l:],
        ids[1],
        mixes,
    )


def moved(network):
    return any(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


@BOTH
def test_gradients__a_cross_term_moves_its_own_network_alone(cutmix):
    method = make_method(cutmix=cutmix)
    for term, reached in dict(loss_cps_1=(True, False), loss_cps_2=(False, True)).items():
        method.zero_grad()
        losses = method(made_up(method), LATER)
        losses.terms[term][0].backward()
        assert (moved(method.network1), moved(method.network2)) == reached


@BOTH
def test_cross_term__is_the_cross_entropy_with_the_other_networks_classes(cutmix):
    method = make_method(cutmix=cutmix, label_mode="train", weight=2.0)
    for network in (method.network1, method.network2):
        for layer in network.modules():
            if isinstance(layer, (torch.nn.BatchNorm2d, torch.nn.Dropout2d)):
                layer.eval()  # then each pass answers alike
                layer.train = lambda mode=True, layer=layer: layer
    batch = made_up(method)
    losses = method(batch, LATER)
    mix = batch.mixes[0].mix if cutmix else (lambda x: x)
    images, counts = mix(batch.images_u_w), mix(batch.valid_u)
    said = [n(batch.images_u_w).logits for n in (method.network1, method.network2)]
    said = [torch.nn.functional.interpolate(z, (SIDE, SIDE), mode="bilinear").argmax(1) for z in said]
    targets = mix(said[1]).masked_fill(~counts, IGNORE_INDEX)
    logits = method.network1(images).logits
    if not cutmix:  # labelled images take part
        logits = torch.cat([method.network1(batch.images_l).logits, logits])
        z = method.network2(batch.images_l).logits
        said_l = torch.nn.functional.interpolate(z, (SIDE, SIDE), mode="bilinear").argmax(1)
        targets = torch.cat([said_l, targets])
    value, weight = losses.terms["loss_cps_1"]
    torch.testing.assert_close(value, supervised_loss(logits, targets), rtol=1e-4, atol=1e-5)
    assert weight == 2.0


def test_padding__takes_part_only_if_asked_for():
    nothing_counts = {}
    for count_padding in (False, True):
        method = make_method(count_padding=count_padding)
        batch = made_up(method)
        batch.valid_u.fill_(False)
        batch.targets_l.fill_(IGNORE_INDEX)
        losses = method(batch, LATER)
        losses.total().backward()
        nothing_counts[count_padding] = losses.terms["loss_cps_1"][0].item()
        assert ("loss_cps_1" in losses.reasons()) != count_padding
    assert nothing_counts[False] == 0 and nothing_counts[True] > 0


@BOTH
@pytest.mark.parametrize(
    "num_l, num_u, num_classes, background", [(1, 3, 2, None), (3, 1, 4, 0), (2, 2, 30, 0)]
)
def test_batches__of_odd_sizes_with_few_or_absent_classes(cutmix, num_l, num_u, num_classes, background):
    method = make_method(num_classes, background, cutmix=cutmix)
    losses = method(made_up(method, num_l, num_u, min(num_classes, 4)), LATER)
    losses.total().backward()
    assert torch.isfinite(losses.total())
    assert len(losses.terms) == 4 and moved(method.network1) and moved(method.network2)


def test_supervised_start__both_networks_learn_from_labels_only():
    method = make_method()
    losses = method(made_up(method), START)
    assert list(losses.terms) == ["loss_sup_1", "loss_sup_2"]
    assert set(losses.reasons()) == {"loss_cps_1", "loss_cps_2"}


def test_views__are_asked_for_as_the_variant_needs_them():
    plain, mixed = make_method(), make_method(cutmix=True)
    assert (plain.views.strong, plain.views.cutmix) == (0, False)
    assert (mixed.views.strong, mixed.views.cutmix, mixed.views.boxes) == (1, True, three_boxes)


def test_networks__begin_apart():
    method = make_method()
    pairs = zip(method.network1.parameters(), method.network2.parameters())
    assert any(not torch.equal(p, q) for p, q in pairs)
    assert list(method.scored()) == ["network1", "network2"]


def test_settings__are_checked_and_the_released_ones_parse():
    with pytest.raises(InputError, match="allowed: 0 or more"):
        CPSConfig(weight=-0.1)
    with pytest.raises(InputError, match="label_mode"):
        CPSConfig(label_mode="both")
    cps = parse_run(["--method", "cps", "--variant", "released"], "/nowhere").cps
    assert cps == CPSConfig(weight=1.5, label_mode="train", count_padding=True)


@BOTH
def test_run__tiny(tmp_path, monkeypatch, cutmix):
    monkeypatch.setattr(engine, "build_data", few_images)
    run = parse_run(tiny_args("cps", cps__cutmix=cutmix, steps=4, out=tmp_path / "run"), "/nowhere")
    result = fit(run, callbacks=[])
    assert result["predictor"] == "network1" and set(result["miou"]) == {"network1", "network2"}
