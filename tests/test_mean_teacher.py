"""Mean Teacher: what is compared, over which pixels, and who learns from it."""

import dataclasses
import math

import pytest
import torch
from helpers import few_images, tiny_run

from dgcl_nb import engine
from dgcl_nb.config import build_data, build_method, parse_run
from dgcl_nb.core import IGNORE_INDEX, InputError
from dgcl_nb.batches import make_batch
from dgcl_nb.engine import fit
from dgcl_nb.methods.mean_teacher import MeanTeacherConfig, add_noise, agreement, draw_noise
from dgcl_nb.methods.protocol import Progress
from dgcl_nb.run_folder import read_lines

START, LATER = Progress(step=1, steps=8, sup_only_steps=2), Progress(step=5, steps=8, sup_only_steps=2)


def batch_and_method(labelled=2, unlabelled=2, num_classes=11, **settings):
    run = tiny_run("mean_teacher", batch__labelled=labelled, batch__unlabelled=unlabelled)
    run = dataclasses.replace(run, mean_teacher=MeanTeacherConfig(**settings))
    method = build_method(run, num_classes, background=0)
    batch = make_batch(build_data(run), run.views, method.views, run.batch, seed=0, step=0)
    return batch, method


def test_agreement__by_hand():
    logits = torch.tensor([[[[math.log(3)]], [[0.0]]]], requires_grad=True)  # 3/4, 1/4
    logits_t = torch.zeros(1, 2, 1, 1)  # 1/2, 1/2
    inside = torch.ones(1, 1, 1, dtype=torch.bool)
    assert agreement(logits, logits_t, inside).item() == pytest.approx(1 / 16)
    assert agreement(logits, logits_t, inside, "logits").item() == pytest.approx(math.log(3) ** 2 / 2)


def test_agreement__padding_does_not_count():
    generator = torch.Generator().manual_seed(0)
    logits, logits_t = torch.randn(2, 1, 3, 4, 4, generator=generator)
    valid = torch.arange(16).view(1, 4, 4) < 6
    changed = torch.where(valid[:, None], logits_t, 9.0)
    assert agreement(logits, logits_t, valid) == agreement(logits, changed, valid)


@pytest.mark.parametrize("distance", ["probs", "logits"])
@pytest.mark.parametrize("on_labelled", [False, True])
def test_forward__gradients_reach_the_student_alone(distance, on_labelled):
    batch, method = batch_and_method(distance=distance, on_labelled=on_labelled, noise=0.1)
    value, _ = method(batch, LATER).terms["loss_consistency"]
    value.backward()
    assert value > 0 and all(p.grad is None for p in method.teacher.parameters())
    assert any(p.grad is not None and p.grad.any() for p in method.student.encoder_parameters())


def test_forward__the_noise_is_a_function_of_seed_and_step():
    batch, method = batch_and_method(noise=0.5)
    seen = [method.disturbed(batch.images_u_w, LATER, who) for who in ("student", "student", "teacher")]
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])
    noise = draw_noise(batch.images_u_w, 0.5, torch.Generator().manual_seed(0))
    assert 0 < noise.std() <= 0.52
    out = add_noise(batch.images_u_w, noise)
    assert out.amax() <= batch.images_u_w.amax() + 1e-5


@pytest.mark.parametrize(
    "sizes", [dict(labelled=1, unlabelled=1), dict(labelled=3, unlabelled=1), dict(labelled=1, unlabelled=3)]
)
def test_forward__batches_of_any_size(sizes):
    batch, method = batch_and_method(**sizes, on_labelled=True)
    assert method(batch, LATER).total().isfinite()


def test_forward__nothing_known_and_nothing_inside():
    batch, method = batch_and_method()
    batch.targets_l.fill_(IGNORE_INDEX)
    batch.valid_u.fill_(False)
    losses = method(batch, LATER)
    losses.total().backward()
    assert losses.total() == 0 and set(losses.reasons()) == {"loss_sup", "loss_consistency"}


def test_forward__two_classes_and_the_supervised_start():
    batch, method = batch_and_method(num_classes=2)
    batch.targets_l.clamp_(max=1)
    losses = method(batch, START)
    assert list(losses.terms) == ["loss_sup"] and "supervised start" in losses.reasons()["loss_consistency"]
    assert method(batch, LATER).total().isfinite()


def test_config__names_what_is_wrong():
    for settings in (dict(ramp=2), dict(weight=-1), dict(noise=-0.1), dict(distance="l1")):
        with pytest.raises(InputError):
            MeanTeacherConfig(**settings)


def test_released_variants__parse():
    run = parse_run(["--method", "mean_teacher", "--variant", "released"], "/nowhere")
    assert run.mean_teacher == MeanTeacherConfig(ramp=0, student_view="weak", on_labelled=True)
    run = parse_run(["--method", "mean_teacher", "--variant", "pixelssl"], "/nowhere")
    assert run.mean_teacher.distance == "logits" and run.mean_teacher.ramp == pytest.approx(5 / 45)


def test_a_tiny_run__ends_with_a_score(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "build_data", few_images)
    result = fit(tiny_run("mean_teacher", out=tmp_path / "run"), callbacks=[])
    assert result["predictor"] == "teacher"
    trained = [x for x in read_lines(tmp_path / "run" / "metrics.jsonl") if "loss_consistency" in x]
    assert trained[-1]["loss_consistency"] > 0 and "pseudo_accuracy" in trained[-1]
