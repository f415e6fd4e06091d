"""CCT beyond its notebook: who learns from what, batches at the edge, settings, a tiny run."""

import math

import pytest
import torch
from helpers import few_images, flags, tiny_run
from sync_gate import ROOT

from dgcl_nb import engine
from dgcl_nb.batches import Batch
from dgcl_nb.config import build_method, parse_run
from dgcl_nb.core import IGNORE_INDEX, InputError
from dgcl_nb.methods.cct import CCT, KINDS, OF_THINGS
from dgcl_nb.methods.protocol import Progress, SupConfig

LATER = Progress(step=6, steps=10, sup_only_steps=2)


def batch_of(num_l, num_u, num_classes, size=48):
    "Random images with labels, the upper rows of the unlabelled ones outside of the image."
    gen = torch.Generator().manual_seed(num_l + 10 * num_u)
    images = torch.randn(num_l + num_u, 3, size, size, generator=gen)
    targets = torch.randint(num_classes, (num_l + num_u, size, size), generator=gen)
    valid = torch.ones(num_u, size, size, dtype=torch.bool)
    valid[:, :4] = False
    return Batch(
        images_l=images[:num_l],
        targets_l=targets[:num_l],
        ids_l=[],
        images_u_w=images[num_l:],
        images_u_s=[],
        valid_u=valid,
        truth_u=targets[num_l:],
        ids_u=[],
    )


def method_of(num_classes=5, background=0, **settings):
    return build_method(tiny_run("cct", **settings), num_classes, background)


def grads(method, losses):
    method.zero_grad(set_to_none=True)
    losses.total().backward()
    return {n for n, p in method.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


def test_gradients__consistency_reaches_encoder_and_auxiliary_decoders_not_the_classifier():
    method, batch = method_of(), batch_of(2, 3, 5)
    batch.targets_l.fill_(IGNORE_INDEX)  # no labels: what moves is moved by the consistency
    reached = grads(method, method(batch, LATER))
    assert {name.split(".")[1] for name in reached} == {"encoder", "decoder", *KINDS}


def test_param_groups__hold_every_parameter_that_learns_once():
    method = method_of()
    grouped = [id(p) for group in method.param_groups("main").values() for p in group]
    assert len(grouped) == len(set(grouped)) == len(list(method.parameters()))


@pytest.mark.parametrize("num_l, num_u, num_classes", [(1, 1, 5), (2, 3, 2), (3, 1, 5)])
def test_forward__odd_batches_and_two_classes(num_l, num_u, num_classes):
    method = method_of(num_classes)
    losses = method(batch_of(num_l, num_u, num_classes), LATER)
    assert list(losses.terms) == ["loss_sup", "loss_unsup"] and math.isfinite(losses.total().item())
    assert losses.terms["loss_unsup"][0] > 0 and not losses.reasons()
    assert grads(method, losses)


def test_forward__nothing_known_and_nothing_valid_is_zero_with_a_graph():
    method, batch = method_of(), batch_of(2, 2, 5)
    batch.targets_l.fill_(IGNORE_INDEX)
    batch.valid_u.fill_(False)
    losses = method(batch, LATER)
    assert losses.total() == 0 and set(losses.reasons()) == {"loss_sup", "loss_unsup"}
    assert not grads(method, losses)


def test_forward__without_a_background_the_masks_are_inactive_and_the_state_is_the_same():
    streets, method = method_of(background=None), method_of()
    losses = streets(batch_of(2, 2, 5), LATER)
    assert set(losses.reasons()) == {f"gap_{kind}" for kind in OF_THINGS}
    assert losses.terms["loss_unsup"][0] > 0
    assert streets.state_dict().keys() == method.state_dict().keys()


def test_forward__only_what_needs_a_background_and_there_is_none():
    none = {f"cct__num_{kind}": int(kind in OF_THINGS) for kind in KINDS}
    losses = method_of(background=None, **none)(batch_of(2, 2, 5), LATER)
    assert losses.terms["loss_unsup"][0] == 0 and math.isfinite(losses.total().item())


def test_forward__is_a_function_of_the_step_and_touches_no_global_chance():
    method, batch = method_of(model__dropout=0.0), batch_of(2, 2, 5)
    before = torch.get_rng_state()
    first, again = (method(batch, LATER).total() for _ in range(2))
    other = method(batch, Progress(step=7, steps=10, sup_only_steps=2)).total()
    assert first == again != other
    assert torch.equal(before, torch.get_rng_state())


def test_settings__shuffled_decoders_distances_and_the_annealed_loss():
    for distance in ("kl", "js"):
        more = dict(cct__decoder="shuffle", cct__distance=distance, cct__sup_loss="annealed", model__aux=True)
        method = method_of(**more)
        losses = method(batch_of(2, 2, 5), LATER)
        assert list(losses.terms) == ["loss_sup", "loss_aux", "loss_unsup"]
        assert math.isfinite(losses.total().item()) and grads(method, losses)


def test_settings__the_weight_grows():
    weights = []
    for step in (0, 2, 3, 10):
        losses = method_of(cct__ramp=0.25)(batch_of(2, 2, 5), Progress(step=step, steps=10, sup_only_steps=2))
        weights.append(losses.terms["loss_unsup"][1] if "loss_unsup" in losses.terms else None)
    assert weights == [None, pytest.approx(30 * math.exp(-5)), pytest.approx(30 * math.exp(-1.25)), 30]


def test_settings__annealed_and_ohem_exclude_each_other():
    cfg = CCT.configure(sup=SupConfig(ohem=True), cct=tiny_run("cct", cct__sup_loss="annealed").cct)
    with pytest.raises(InputError, match="sup.ohem"):
        CCT(lambda: None, 5, cfg)


def test_released__parses():
    cct = parse_run(["--method", "cct", "--variant", "released"], ROOT / "tests").cct
    assert sum(cct.counts().values()) == 30
    assert (cct.vat.xi, cct.vat.eps, cct.decoder, cct.distance) == (1e-6, 2.0, "shuffle", "mse")
    tries = (ROOT / "results" / "tries" / "cct.txt").read_text().splitlines()
    for line in tries:
        name, *words = line.split(": ", 1)[1].split()
        assert name == "cct" and parse_run(
            ["--preset", "digits-tune", "--method", name, *words], ROOT / "tests"
        )
    assert len(tries) == 6 and flags({}) == []


def test_run__trains_and_scores(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "build_data", few_images)
    result = engine.fit(tiny_run("cct", out=tmp_path / "run"), callbacks=[])
    assert result["predictor"] == "student"
