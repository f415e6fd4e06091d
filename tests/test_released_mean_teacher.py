"""Mean Teacher against the numbers of PixelSSL and of TorchSemiSeg.

| case | compared |
|---|---|
| `ramp` | `sigmoid_ramp` |
| `logits_mse_unlabeled`, `logits_mse_all` | loss, gradient, weight; variant pixelssl |
| `sup_mean_over_all_pixels` | `supervised` with `sup.over_all`: loss, gradient, loss of each image |
| `ema_step*` | `Teacher.update` with `ema_decay_at`, buffers own: every entry |
| `noise` | `add_noise` |
| `softmax_mse` | loss, gradients, weight; variant released |
| `softmax_mse_trajectory` | every loss and state; our functions in the order of that loop |
"""

from dataclasses import replace
from functools import cache

import pytest
import torch
from released import assert_gradient, assert_loss, case, cases, needs_reference, states
from tinynet import TinyNet, assert_state, states_at

from dgcl_nb.config import parse_run
from dgcl_nb.consistency import sigmoid_ramp
from dgcl_nb.methods.mean_teacher import add_noise, agreement
from dgcl_nb.methods.protocol import Losses, Progress, SemiConfig, SupConfig, supervised
from dgcl_nb.model import SegOutput
from dgcl_nb.teacher import Teacher, ema_decay_at, move_towards

pytestmark = needs_reference


@cache
def variant(name):
    return parse_run(["--method", "mean_teacher", "--variant", name], "/nowhere")


def everywhere(logits):
    "All pixels count."
    return torch.ones(len(logits), *logits.shape[-2:], dtype=torch.bool)


def test_ramp__equals_pixelssls():
    values = case("mean_teacher", "ramp")
    found = [sigmoid_ramp(t, values["ramp_steps"]) for t in values["steps"].tolist()]
    assert found == pytest.approx(values["values"].tolist())
    assert sigmoid_ramp(3, 0) == values["value_if_ramp_steps_0"]


@pytest.mark.parametrize("name", cases("mean_teacher", "logits_mse"))
def test_agreement__of_logits(name):
    values, cfg = case("mean_teacher", name), variant("pixelssl").mean_teacher
    steps = 10 * values["ramp_steps"]
    cfg = replace(cfg, weight=values["weight"], ramp=0.1)
    weight = cfg.weight_at(SemiConfig().schedule(Progress(step=values["step"], steps=steps)))
    assert weight == pytest.approx(values["weight"] * values["ramp"])
    logits = values["logits"].requires_grad_()
    first = 0 if values["on_labeled"] else values["num_labeled"]
    seen, seen_t = logits[first:], values["logits_teacher"][first:]
    loss = weight * agreement(seen, seen_t, everywhere(seen), cfg.distance)
    loss.backward()
    assert_loss(loss.detach(), values["loss"])
    assert_gradient(logits.grad, values["grad_logits"])


def test_variants__hold_the_released_settings():
    released, pixelssl = variant("released"), variant("pixelssl")
    assert (released.mean_teacher.distance, released.mean_teacher.on_labelled) == ("probs", True)
    assert (pixelssl.mean_teacher.distance, pixelssl.mean_teacher.on_labelled) == ("logits", False)
    assert pixelssl.sup.over_all and not released.sup.over_all
    for run in (released, pixelssl):
        assert (run.semi.ema_decay, run.semi.ema_buffers, run.semi.teacher_mode) == (0.99, "own", "train")
        assert run.mean_teacher.student_view == "weak" and run.mean_teacher.noise == 0


def supervised_of(logits, targets, sup):
    losses = Losses()
    supervised(losses, SegOutput(logits, None, None, None), targets, sup)
    return losses.terms["loss_sup"][0]


def test_supervised__over_all_pixels():
    values, sup = case("mean_teacher", "sup_mean_over_all_pixels"), variant("pixelssl").sup
    logits = values["logits"].requires_grad_()
    loss = supervised_of(logits, values["target"], sup)
    loss.backward()
    assert_loss(loss.detach(), values["loss"])
    assert_gradient(logits.grad, values["grad_logits"])
    for i, expected in enumerate(values["loss_per_image"]):
        assert_loss(supervised_of(logits.detach()[i : i + 1], values["target"][i : i + 1], sup), expected)


@pytest.mark.parametrize("name", cases("mean_teacher", "ema_step"))
def test_teacher__follows_as_in_pixelssl(name):
    values = case("mean_teacher", name)
    student = TinyNet(states(values, "student"))
    teacher = Teacher(student, values["decay"], variant("pixelssl").semi.ema_buffers)
    teacher.network = TinyNet(states(values, "teacher_before"))
    teacher.update(student, ema_decay_at(values["step"], values["decay"]))
    assert_state(teacher.network, states(values, "teacher_after"))


def test_noise__equals_pixelssls():
    values = case("mean_teacher", "noise")
    torch.testing.assert_close(
        add_noise(values["images"], values["noise"]), values["out"], atol=1e-5, rtol=1e-5
    )
    assert 0 <= values["std"] <= values["max_std"]


def test_agreement__of_probabilities():
    values, cfg = case("mean_teacher", "softmax_mse"), variant("released").mean_teacher
    cfg = replace(cfg, weight=values["weight"])
    parts = [values[f"logits_{part}"].requires_grad_() for part in "lu"]
    logits_t = torch.cat([values[f"logits_teacher_{part}"] for part in "lu"])
    logits = torch.cat(parts)
    loss = cfg.weight_at(0.0) * agreement(logits, logits_t, everywhere(logits), cfg.distance)
    loss.backward()
    assert_loss(loss.detach(), values["loss"])
    for part, name in zip(parts, "lu"):
        assert_gradient(part.grad, values[f"grad_logits_{name}"])


def test_trajectory__of_torchsemiseg():
    "Labelled pass, running mean, unlabelled pass, optimiser; in step 0 the teacher is a copy instead."
    values, cfg = case("mean_teacher", "softmax_mse_trajectory"), variant("released").mean_teacher
    student = TinyNet(states_at(values, "student", 0)).train()
    teacher = Teacher(student, values["ema_decay"], buffers="own", is_noisy=True).train()
    teacher.network.load_state_dict(states_at(values, "teacher", 0))
    optimizer = torch.optim.SGD(
        student.parameters(), values["lr"], momentum=values["momentum"], weight_decay=values["weight_decay"]
    )
    for step, (images_l, labels, images_u) in enumerate(
        zip(values["images_l"], values["labels_l"], values["images_u"])
    ):
        if step == 0:
            move_towards(teacher.network, student, decay=0.0, buffers="own")
        logits_l = student(images_l).logits
        with torch.no_grad():
            logits_l_t = teacher(images_l).logits
            if step > 0:
                teacher.update(student)
            logits_u_t = teacher(images_u).logits
        logits = torch.cat([logits_l, student(images_u).logits])
        loss_sup = supervised_of(logits_l, labels, SupConfig())
        logits_t = torch.cat([logits_l_t, logits_u_t])
        loss = values["weight"] * agreement(logits, logits_t, everywhere(logits), cfg.distance)
        assert_loss(loss_sup.detach(), values["loss_sup"][step])
        assert_loss(loss.detach(), values["loss_consistency"][step])
        assert_loss(supervised_of(logits_l_t, labels, SupConfig()), values["loss_sup_teacher"][step])
        optimizer.zero_grad()
        (loss_sup + loss).backward()
        optimizer.step()
        assert_state(student, states_at(values, "student", step + 1))
        assert_state(teacher.network, states_at(values, "teacher", step + 1))
