"""GTA-Seg: who learns from what, the transfer, odd batches, and a tiny run."""

import dataclasses
import math

import pytest
import torch
from helpers import few_images, tiny_run

from dgcl_nb import engine
from dgcl_nb.batches import Batch, draw_mixes
from dgcl_nb.config import build_method, parse_run
from dgcl_nb.core import IGNORE_INDEX, InputError
from dgcl_nb.engine import fit
from dgcl_nb.consistency import confidence_weighted
from dgcl_nb.methods.gta_seg import GTASeg, GTASegConfig
from dgcl_nb.methods.protocol import Progress
from dgcl_nb.pseudo_labels import FilterConfig, drop_unsure

SIDE = 48


def at(step):
    return Progress(step=step, steps=40, sup_only_steps=10, steps_per_epoch=5, seed=1)


START, FIRST, SECOND, LATER = at(3), at(10), at(11), at(30)


def make_method(num_classes=4, background=0, model=None, semi=None, **gta_seg):
    run = tiny_run("gta_seg")
    run = dataclasses.replace(
        run,
        gta_seg=GTASegConfig(**gta_seg),
        model=dataclasses.replace(run.model, **model or {}),
        semi=dataclasses.replace(run.semi, **semi or {}),
    )
    return build_method(run, num_classes, background)


def made_up(num_l=2, num_u=2, num_classes=4):
    "A batch of noise."
    gen = torch.Generator().manual_seed(3)
    images = torch.randn(num_l + num_u, 3, SIDE, SIDE, generator=gen)
    targets = torch.randint(num_classes, (num_l + num_u, SIDE, SIDE), generator=gen)
    inside = torch.ones(num_u, SIDE, SIDE, dtype=torch.bool)
    inside[:, :5] = False
    views = dataclasses.replace(tiny_run("gta_seg").views, crop=SIDE, cutmix_prob=1.0)
    mixes = draw_mixes(num_u, views, GTASeg.views, 0, 0)
    ids = [[""] * n for n in (num_l, num_u)]
    images_u = images[num_l:]
    return Batch(
        images[:num_l], targets[:num_l], ids[0], images_u, [images_u], inside, targets[num_l:], ids[1], mixes
    )


def networks_of(method):
    return dict(student=method.student, assistant=method.assistant, teacher=method.teacher)


def reached(method, phase, progress, batch=None):
    "The networks that a phase gives a gradient that is not 0."
    method.zero_grad()
    method(batch or made_up(), progress, phase).total().backward()
    grads = {
        n: [p.grad for p in net.parameters() if p.grad is not None] for n, net in networks_of(method).items()
    }
    return {n for n, found in grads.items() if any(g.abs().max() > 0 for g in found)}


def shift(network, by):
    with torch.no_grad():
        for p in network.parameters():
            p.add_(by)


def copy_of(network):
    return {name: p.detach().clone() for name, p in network.named_parameters()}


@pytest.mark.parametrize("confidence_from", ["labels", "mixed"])
def test_gradients__pseudo_labels_move_the_assistant_and_labels_the_student(confidence_from):
    method = make_method(confidence_from=confidence_from)
    assert reached(method, "assistant", LATER) == {"assistant"}
    assert reached(method, "student", LATER) == {"student"}
    assert reached(method, "assistant", START) == set()
    assert reached(method, "student", START) == {"student"}


def test_loss__by_hand():
    confidence = torch.tensor([[[0.9, 0.8, 0.7, 0.6, 0.5]]])
    labels, valid = torch.zeros(1, 1, 5, dtype=torch.int64), torch.tensor([[[True, True, True, True, False]]])
    targets, left = drop_unsure(labels, confidence, valid, FilterConfig(), drop_percent=25)
    assert targets.flatten().tolist() == [0, 0, 0, IGNORE_INDEX, IGNORE_INDEX]
    torch.testing.assert_close(left.flatten(), torch.tensor([0.9, 0.8, 0.7, 0.0, 0.5]))
    logits = torch.zeros(1, 2, 1, 5)
    inside = confidence_weighted(logits, targets, left, counts=valid)
    assert inside.item() == pytest.approx(math.log(2) * 5.4 / 6.4)
    assert confidence_weighted(logits, targets, left).item() == pytest.approx(math.log(2) * 5.4 / 7.9)


def test_transfer__all_but_the_classifier_by_the_momentum():
    method = make_method()
    shift(method.assistant, 1.0)
    before = copy_of(method.student)
    method.after_phase("assistant", None, SECOND)
    for name, p in method.student.named_parameters():
        expected = before[name] + (0.0 if name.startswith("classifier") else 0.5)
        torch.testing.assert_close(p.detach(), expected, atol=1e-5, rtol=0)
    after = copy_of(method.student)
    method.after_phase("student", None, SECOND)
    method.after_phase("assistant", None, START)  # nothing is handed on in the supervised start
    assert all(torch.equal(p, after[name]) for name, p in method.student.named_parameters())


def test_transfer__leaves_out_an_auxiliary_head_too():
    method = make_method(model=dict(aux=True))
    shift(method.assistant, 1.0)
    before = copy_of(method.student.aux_head)
    method.after_phase("assistant", None, FIRST)
    assert all(torch.equal(p, before[name]) for name, p in method.student.aux_head.named_parameters())


def test_start__the_assistant_begins_as_the_student():
    method = make_method()
    shift(method.student, 0.1)
    for progress, is_copied in ((START, False), (SECOND, False), (FIRST, True)):
        method(made_up(), progress, "assistant")
        pairs = zip(method.student.parameters(), method.assistant.parameters())
        assert all(torch.equal(p, q) for p, q in pairs) == is_copied


def test_share_memory__one_classifier_for_good_and_one_network_for_an_epoch():
    method = make_method(share_memory=True, semi=dict(teacher_start="unsup"))
    assert method.assistant.classifier is method.student.classifier
    assert [method.is_one(p) for p in (START, FIRST, at(14), at(15))] == [False, True, True, False]
    state = method.state_dict()
    other = make_method(share_memory=True)
    other.load_state_dict(state)
    assert torch.equal(other.student.classifier.weight, method.student.classifier.weight)
    shift(method.assistant, 1.0)
    method.after_phase("assistant", None, SECOND)  # at full strength, where the momentum says a half
    for name, p in method.student.named_parameters():
        torch.testing.assert_close(p, dict(method.assistant.named_parameters())[name])


@pytest.mark.parametrize(
    "num_l, num_u, num_classes, background", [(1, 3, 2, None), (3, 1, 4, 0), (2, 2, 30, 0)]
)
def test_batches__of_odd_sizes_with_few_or_absent_classes(num_l, num_u, num_classes, background):
    method = make_method(num_classes, background)
    batch = made_up(num_l, num_u, min(num_classes, 4))
    assert reached(method, "assistant", LATER, batch) == {"assistant"}
    assert reached(method, "student", LATER, batch) == {"student"}


def test_batches__in_which_nothing_counts():
    method = make_method()
    batch = made_up()
    batch.valid_u.fill_(False)
    batch.targets_l.fill_(IGNORE_INDEX)
    for phase, term in (("assistant", "loss_unsup"), ("student", "loss_sup")):
        losses = method(batch, LATER, phase)
        losses.total().backward()
        assert losses.total().item() == 0 and term in losses.reasons()
    padded = make_method(count_padding=True)
    assert padded(batch, LATER, "assistant").terms["loss_unsup"][0].item() > 0


def test_settings__are_checked_and_the_released_ones_parse():
    for wrong in (dict(drop_percent=100), dict(transfer_momentum=1.0), dict(confidence_from="both")):
        with pytest.raises(InputError):
            GTASegConfig(**wrong)
    run = parse_run(["--method", "gta_seg", "--variant", "released"], "/nowhere")
    assert run.gta_seg == GTASegConfig(
        confidence_from="mixed", count_padding=True, decay_lr=False, share_memory=True
    )
    semi = run.semi
    assert (semi.unsup_weight, semi.teacher_mode, semi.ema_buffers) == (1.0, "eval", "own")
    assert (semi.ema_decay, semi.teacher_start, semi.filter.ties) == (0.999, "unsup", "drop")
    method = build_method(run, 3)
    assert [method.optim_config(p, run.optim).poly_power for p in method.phases] == [0, run.optim.poly_power]


@pytest.mark.parametrize("share_memory", [False, True])
def test_run__tiny(tmp_path, monkeypatch, share_memory):
    monkeypatch.setattr(engine, "build_data", few_images)
    more = dict(gta_seg__share_memory=share_memory, loop__sup_only_fraction=0.5)
    result = fit(tiny_run("gta_seg", steps=4, out=tmp_path / "run", **more), callbacks=[])
    assert result["predictor"] == "teacher" and set(result["miou"]) == {"teacher", "student"}
