"""CutMix-Seg: what is mixed, which pixels count and how much, and who learns from it."""

import dataclasses

import pytest
import torch
from helpers import few_images, tiny_run

from dgcl_nb import engine
from dgcl_nb.batches import make_batch
from dgcl_nb.boxes import flip_boxes
from dgcl_nb.config import build_data, build_method, parse_run
from dgcl_nb.core import IGNORE_INDEX, InputError
from dgcl_nb.engine import fit
from dgcl_nb.methods.cutmix import DISTANCES, CutMixConfig, CutMixSeg, consistency, distance_of
from dgcl_nb.methods.protocol import Progress
from dgcl_nb.run_folder import read_lines

START, LATER = Progress(step=1, steps=8, sup_only_steps=2), Progress(step=5, steps=8, sup_only_steps=2)


def batch_and_method(labelled=2, unlabelled=2, num_classes=11, **settings):
    settings = dict(conf_thresh=0.0) | settings  # a fresh teacher is certain of nothing
    run = tiny_run("cutmix", batch__labelled=labelled, batch__unlabelled=unlabelled)
    run = dataclasses.replace(run, cutmix=CutMixConfig(**settings))
    method = build_method(run, num_classes, background=0)
    batch = make_batch(build_data(run), run.views, method.views, run.batch, seed=0, step=0)
    return batch, method


def some_logits(*shape):
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)).mul(3)


def test_consistency__the_share_is_one_factor():
    logits, logits_t = some_logits(2, 3, 4, 4)
    valid = torch.ones(2, 4, 4, dtype=torch.bool)
    plain, _ = consistency(logits, logits_t, valid, CutMixConfig(conf_thresh=0))
    value, share = consistency(logits, logits_t, valid, CutMixConfig(conf_thresh=0.8))
    assert 0 < share < 1 and value.item() == pytest.approx((share * plain).item())


def test_consistency__padding_counts_nowhere_but_in_the_released_share():
    logits, logits_t = some_logits(1, 3, 4, 4)
    valid = torch.arange(16).view(1, 4, 4) < 6
    sure = torch.where(valid[:, None], logits_t, torch.tensor([99.0, 0, 0]).view(1, 3, 1, 1))
    cfg, released = CutMixConfig(conf_thresh=0.8), CutMixConfig(conf_thresh=0.8, over_all=True)
    assert consistency(logits, logits_t, valid, cfg) == consistency(logits, sure, valid, cfg)
    assert consistency(logits, sure, valid, released)[1] >= 10 / 16


@pytest.mark.parametrize("kind", DISTANCES)
def test_distance__is_least_where_both_agree(kind):
    logits, logits_t = some_logits(1, 4, 3, 3)
    at_home = distance_of(logits_t, logits_t, kind)
    assert (distance_of(logits, logits_t, kind) >= at_home - 1e-5).all()
    if kind != "bce":
        assert at_home.abs().max() < 1e-5


@pytest.mark.parametrize(
    "settings", [dict(distance=d) for d in DISTANCES] + [dict(mode="cutout"), dict(per_pixel=True)]
)
def test_forward__gradients_reach_the_student_alone(settings):
    batch, method = batch_and_method(**settings)
    value, _ = method(batch, LATER).terms["loss_consistency"]
    value.backward()
    assert value > 0 and all(p.grad is None for p in method.teacher.parameters())
    assert any(p.grad is not None and p.grad.any() for p in method.student.encoder_parameters())


@pytest.mark.parametrize(
    "sizes", [dict(labelled=1, unlabelled=1), dict(labelled=3, unlabelled=1), dict(labelled=1, unlabelled=3)]
)
def test_forward__batches_of_any_size(sizes):
    batch, method = batch_and_method(**sizes)
    losses = method(batch, LATER)
    assert losses.total().isfinite()
    assert ("cutmix" in losses.reasons()) == (sizes["unlabelled"] == 1)
    batch, method = batch_and_method(**sizes, mode="cutout")
    assert batch.mixes[0].inside.any() and "cutmix" not in method(batch, LATER).reasons()


def test_forward__nothing_known_nothing_inside_nothing_certain():
    batch, method = batch_and_method(conf_thresh=1.0)
    batch.targets_l.fill_(IGNORE_INDEX)
    losses = method(batch, LATER)
    losses.total().backward()
    assert losses.total() == 0 and set(losses.reasons()) == {"loss_sup", "loss_consistency"}
    batch, method = batch_and_method()
    batch.valid_u.fill_(False)
    assert method(batch, LATER).terms["loss_consistency"][0] == 0


def test_forward__two_classes_and_the_supervised_start():
    batch, method = batch_and_method(num_classes=2)
    batch.targets_l.clamp_(max=1)
    losses = method(batch, START)
    assert list(losses.terms) == ["loss_sup"] and "supervised start" in losses.reasons()["loss_consistency"]
    assert method(batch, LATER).total().isfinite()


def test_config__names_what_is_wrong():
    for settings in (
        dict(ramp=2),
        dict(weight=-1),
        dict(conf_thresh=97),
        dict(distance="l1"),
        dict(mode="x"),
    ):
        with pytest.raises(InputError):
            CutMixConfig(**settings)


def test_released_variants__parse():
    assert CutMixSeg.views.boxes is flip_boxes
    run = parse_run(["--method", "cutmix", "--variant", "released"], "/nowhere")
    assert run.cutmix == CutMixConfig(student_view="weak", over_all=True)
    assert run.semi.ema_buffers == "average" and run.semi.teacher_mode == "train"
    run = parse_run(["--method", "cutmix", "--variant", "pixelssl"], "/nowhere")
    assert run.cutmix == CutMixConfig(distance="mse", weight=20, student_view="weak", over_all=True)
    assert run.semi.ema_buffers == "own" and run.sup.over_all


def test_a_tiny_run__ends_with_a_score(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "build_data", few_images)
    result = fit(tiny_run("cutmix", out=tmp_path / "run", cutmix__conf_thresh=0.05), callbacks=[])
    assert result["predictor"] == "teacher"
    trained = [x for x in read_lines(tmp_path / "run" / "metrics.jsonl") if "loss_consistency" in x]
    assert trained[-1]["loss_consistency"] > 0 and trained[-1]["certain"] == 1
