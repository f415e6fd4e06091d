"""GCT: what each phase moves, its edge cases, its detector's size, and a tiny run."""

import dataclasses

import pytest
import torch
from helpers import equal_states, tiny_run
from sync_gate import ROOT

from dgcl_nb.batches import Batch
from dgcl_nb.config import build_method, parse_run
from dgcl_nb.core import IGNORE_INDEX, InputError
from dgcl_nb.engine import fit
from dgcl_nb.flaws import FlawDetector, check_cells, clean_flaws, detector_cells, exchange, flaw_targets
from dgcl_nb.methods.gct import GCTConfig
from dgcl_nb.methods.protocol import Progress

START, LATER = (Progress(step=step, steps=100, sup_only_steps=20) for step in (3, 40))


def made_up(num_l=2, num_u=2, num_classes=5, side=48, **changes):
    "A batch of noise."
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(num_l + num_u, 3, side, side, generator=generator)
    targets = torch.randint(num_classes, (num_l + num_u, side, side), generator=generator)
    batch = Batch(
        images_l=images[:num_l],
        targets_l=targets[:num_l],
        ids_l=[""] * num_l,
        images_u_w=images[num_l:],
        images_u_s=[],
        valid_u=torch.ones(num_u, side, side, dtype=torch.bool),
        truth_u=targets[num_l:],
        ids_u=[""] * num_u,
    )
    return dataclasses.replace(batch, **changes)


def make(num_classes=5, **settings):
    more = {f"gct__{name}": value for name, value in settings.items()}
    return build_method(tiny_run("gct", model__dropout=0.0, **more), num_classes)


def touched(method):
    return {n for n, part in method.named_children() if any(p.grad is not None for p in part.parameters())}


def step(method, batch, progress=LATER):
    "Losses of both phases, with gradients of the last one."
    found = {}
    for phase in method.phases:
        method.zero_grad(set_to_none=True)
        losses = method(batch, progress, phase)
        losses.total().backward()
        assert all(torch.isfinite(value) for value, _ in losses.terms.values()), phase
        assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)
        found |= losses.terms
        losses.reasons()
    method.after_step(batch, progress)
    return found


def test_phases__each_moves_its_own():
    method, batch = make(), made_up()
    for phase, parts in (("task", {"network1", "network2"}), ("detector", {"detector"})):
        method.zero_grad(set_to_none=True)
        method(batch, LATER, phase).total().backward()
        assert touched(method) == parts
        moved = [p for group in method.param_groups(phase).values() for p in group]
        own = [p for name in parts for p in getattr(method, name).parameters()]
        assert {id(p) for p in moved} == {id(p) for p in own}


def test_phases__the_supervised_start_needs_labels_only():
    method, batch = make(), made_up()
    losses = method(batch, START, "task")
    assert list(losses.terms) == ["loss_sup_1", "loss_sup_2"] and len(losses.reasons()) == 4
    before = method(batch, START, "detector").total()
    other = dataclasses.replace(batch, images_u_w=batch.images_u_w + 9)
    method = make()
    method(other, START, "task")
    assert torch.equal(before, method(other, START, "detector").total())


def test_networks__start_apart():
    method = make()
    assert not equal_states(method.network1.state_dict(), method.network2.state_dict())
    assert list(method.scored()) == ["network1", "network2"]


@pytest.mark.parametrize("batch", [(1, 1), (1, 3), (3, 1)])
@pytest.mark.parametrize("num_classes", [2, 5])
def test_step__odd_batches_and_two_classes(batch, num_classes):
    step(make(num_classes), made_up(*batch, num_classes=num_classes))


def test_step__nothing_counts():
    batch = made_up()
    nobody = torch.full_like(batch.targets_l, IGNORE_INDEX)
    empty = dataclasses.replace(batch, targets_l=nobody, truth_u=nobody, valid_u=nobody < 0)
    assert all(value.item() == 0 for value, _ in step(make(), empty).values())
    assert any(value.item() > 0 for value, _ in step(make(count_ignored=True), empty).values())


def test_step__padding_has_no_say():
    batch = made_up()
    batch.valid_u[:, :, 30:] = False
    batch.targets_l[:, :, 30:] = IGNORE_INDEX
    method = make()
    terms = method(batch, LATER, "task").terms
    probs = method.predict(torch.cat([batch.images_l, batch.images_u_w]))
    flaws = [method.judge(torch.cat([batch.images_l, batch.images_u_w]), p) for p in probs]
    trade = exchange(probs, [clean_flaws(f, 48) for f in flaws])
    inside = (probs[0] - trade.targets[0]).square().mean(1)[:, :, :30].mean()
    assert terms["loss_consistency_1"][0].item() == pytest.approx(inside.item(), rel=1e-4)


@pytest.mark.parametrize(
    "settings", [{}, dict(detector_sees="after"), dict(label_pass=True), dict(straight_through=True)]
)
def test_step__without_dropout_a_second_look_says_the_same(settings):
    terms = step(make(**settings), made_up())
    same = step(make(), made_up())
    for name in ("loss_consistency_1", "loss_flaw_2"):
        assert terms[name][0].item() == pytest.approx(same[name][0].item(), rel=1e-4)
    is_same = terms["loss_detector_1"][0].item() == pytest.approx(same["loss_detector_1"][0].item(), rel=1e-4)
    assert is_same == ("straight_through" not in settings)


def test_step__under_autocast():
    method, batch = make(), made_up()
    with torch.autocast("cpu", torch.bfloat16):
        terms = step(method, batch)
    whole = step(make(), batch)
    for name, (value, _) in terms.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(whole[name][0].item(), rel=0.2, abs=1e-3), name


def test_step__the_default_looks_once():
    method, looks = make(), []
    for network in (method.network1, method.network2):
        network.register_forward_hook(lambda *_: looks.append(torch.is_grad_enabled()))
    step(method, made_up())
    assert looks == [True, True]


def test_predictions__are_handed_over_by_batch():
    "Of several batches that are accumulated, and of none that was dropped."
    method, one, other = make(), made_up(), made_up(1, 3)
    for batch in (one, other):
        method(batch, LATER, "task")
    for batch in (one, other):
        method(batch, LATER, "detector")
    assert not method.seen
    method(one, LATER, "task")
    method.after_step(one, LATER)
    assert not method.seen


# Flaws


def test_flaw_targets__any_size():
    generator = torch.Generator().manual_seed(0)
    probs = torch.randn(2, 3, 33, 50, generator=generator).softmax(1)
    targets = torch.randint(3, (2, 33, 50), generator=generator)
    found = flaw_targets(probs, targets, size=50)
    assert found.shape == (2, 33, 50) and found.amin((1, 2)).tolist() == [0, 0]
    assert found.amax((1, 2)).tolist() == pytest.approx([1, 1])


def test_exchange__a_tie_leaves_both_and_the_worse_follows():
    first, second = torch.zeros(1, 2, 1, 3), torch.ones(1, 2, 1, 3)
    flaws = torch.tensor([[[0.1, 0.5, 0.7]]]), torch.tensor([[[0.1, 0.2, 0.9]]])
    trade = exchange([first, second], flaws)
    assert trade.targets[0][0, 0, 0].tolist() == [0, 1, 0]
    assert trade.targets[1][0, 0, 0].tolist() == [1, 1, 1]
    assert trade.both_bad.flatten().tolist() == [False, False, True]


def test_clean_flaws__of_two_maps_without_flaws_none_wins():
    slight = torch.rand(2, 1, 20, 20, generator=torch.Generator().manual_seed(0)) * 0.05
    off = [clean_flaws(maps, 20) for maps in slight]
    assert not exchange(slight[:, :, None], off).both_bad.any() and not any(maps.any() for maps in off)
    released = [clean_flaws(maps, 20, shift_off=True) for maps in slight]
    assert all(len(maps.unique()) == 1 and maps.max() < 0 for maps in released)


@pytest.mark.parametrize("side, depth", [(48, 1), (48, 3), (64, 5), (60, 7), (93, 7), (9, 1)])
def test_detector_cells__as_convolutions_count(side, depth):
    detector = FlawDetector(2, ndf=2, depth=depth)
    x = torch.zeros(2, 5, side, side)
    for layer in detector.layers:
        x = layer(x) if isinstance(layer, torch.nn.Conv2d) else x
    assert detector.classifier(x).shape[-1] == detector_cells(side, depth)


def test_detector__too_deep_for_the_crop():
    with pytest.raises(InputError, match="set gct.depth to 5 or less, or set views.crop to 92 or more"):
        step(make(depth=7), made_up(side=64))
    check_cells((92, 60), 7)


@pytest.mark.parametrize("setting", ["depth", "ndf", "ramp", "weight", "detector_lr", "flaw_thresh"])
def test_config__says_what_is_allowed(setting):
    with pytest.raises(InputError, match=f"gct.{setting} is -1; allowed"):
        GCTConfig(**{setting: -1})


# Runs


def test_settings__of_digits_and_of_the_released_variant():
    args = ["--preset", "digits-start", "--method", "gct"]
    run, released = (parse_run([*args, *more], ROOT / "tests") for more in ([], ["--variant", "released"]))
    assert (run.gct.depth, GCTConfig().depth, GCTConfig().ndf) == (3, 7, 64)
    assert run.gct == dataclasses.replace(GCTConfig(), depth=run.gct.depth, ndf=run.gct.ndf)
    accidents = ("label_pass", "count_ignored", "straight_through", "shift_off")
    assert all(getattr(released.gct, name) for name in accidents) and released.gct.detector_sees == "before"
    whole = parse_run(["--method", "gct", "--preset", "voc-732"], ROOT / "tests")
    assert whole.gct == GCTConfig()


def test_optimisers__the_detector_has_its_own():
    method = make()
    cfg = method.optim_config("detector", tiny_run("gct").optim)
    assert (cfg.lr, cfg.betas, cfg.weight_decay) == (1e-4, (0.9, 0.99), 0.0)
    assert method.optim_config("task", tiny_run("gct").optim) == tiny_run("gct").optim


def test_run__tiny(tmp_path):
    result = fit(tiny_run("gct", out=tmp_path / "run"), callbacks=[])
    assert result["predictor"] == "network1" and set(result["miou"]) == {"network1", "network2"}
