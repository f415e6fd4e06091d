"""PS-MT beyond its notebook: who learns from what, batches at the edge, its predictor opened again, a run."""

import math

import pytest
import torch
from helpers import few_images, tiny_run
from sync_gate import ROOT

from dgcl_nb import engine
from dgcl_nb.batches import Batch, draw_mixes
from dgcl_nb.checkpoints import init_from_run
from dgcl_nb.config import build_method, parse_run
from dgcl_nb.core import IGNORE_INDEX, InputError
from dgcl_nb.methods.protocol import Progress
from dgcl_nb.methods.ps_mt import PSMTConfig
from dgcl_nb.trained import open_trained
from dgcl_nb.views import ViewConfig

START, LATER = (Progress(step=step, steps=10, sup_only_steps=2) for step in (1, 6))
EASY = dict(ps_mt__conf_thresh=0.0)
"Untrained teachers are sure of nothing."


def method_of(num_classes=5, **settings):
    return build_method(tiny_run("ps_mt", **settings), num_classes, 0)


def batch_of(method, num_l, num_u, num_classes=5, size=48):
    "Random images with labels, the upper rows of the unlabelled ones outside of the image."
    gen = torch.Generator().manual_seed(num_l + 10 * num_u)
    images = torch.randn(num_l + 2 * num_u, 3, size, size, generator=gen)
    targets = torch.randint(num_classes, (num_l + num_u, size, size), generator=gen)
    valid = torch.ones(num_u, size, size, dtype=torch.bool)
    valid[:, :4] = False
    return Batch(
        images_l=images[:num_l],
        targets_l=targets[:num_l],
        ids_l=[],
        images_u_w=images[num_l : num_l + num_u],
        images_u_s=[images[num_l + num_u :]],
        valid_u=valid,
        truth_u=targets[num_l:],
        ids_u=[],
        mixes=draw_mixes(num_u, ViewConfig(crop=size), method.views, 0, 0),
    )


def learners(method, losses):
    "The networks that get a gradient."
    method.zero_grad(set_to_none=True)
    losses.total().backward()
    with_grad = [n for n, p in method.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    return {".".join(n.split(".")[: 2 if n.startswith("ensemble") else 1]) for n in with_grad}


def test_gradients__all_three_in_the_supervised_start_then_the_student_alone():
    method = method_of(**EASY)
    batch = batch_of(method, 2, 3)
    assert learners(method, method(batch, START)) == {"student", "ensemble.first", "ensemble.second"}
    losses = method(batch, LATER)
    assert losses.terms["loss_unsup"][0] > 0 and learners(method, losses) == {"student"}
    assert all(p.grad is None for p in method.ensemble.parameters())  # so no optimiser moves them


def test_networks__three_starts_and_every_parameter_in_one_group_once():
    method = method_of()
    heads = [n.classifier.weight for n in (method.student, *method.teachers)]
    assert not any(torch.equal(a, b) for a, b in zip(heads, heads[1:] + heads[:1]))
    grouped = [id(p) for group in method.param_groups("main").values() for p in group]
    assert len(grouped) == len(set(grouped)) == len(list(method.parameters()))


@pytest.mark.parametrize("num_l, num_u, num_classes", [(1, 1, 5), (2, 3, 2), (3, 1, 5)])
@pytest.mark.parametrize("boxes", ["beta", "layered"])
def test_forward__odd_batches_and_two_classes(num_l, num_u, num_classes, boxes):
    method = method_of(num_classes, ps_mt__boxes=boxes, **EASY)
    losses = method(batch_of(method, num_l, num_u, num_classes), LATER)
    assert list(losses.terms) == ["loss_sup", "loss_unsup"] and not losses.reasons()
    assert math.isfinite(losses.total().item()) and learners(method, losses) == {"student"}


def test_forward__nothing_known_and_nothing_valid_is_zero_with_a_graph():
    method = method_of(ps_mt__neg_thresh=0.3, **EASY)
    batch = batch_of(method, 2, 2)
    batch.targets_l.fill_(IGNORE_INDEX)
    batch.valid_u.fill_(False)
    losses = method(batch, LATER)
    assert losses.total() == 0 and set(losses.reasons()) == {"loss_sup", "loss_unsup"}
    assert learners(method, losses) == set()


def test_forward__is_a_function_of_the_step_and_touches_no_global_chance():
    method = method_of(model__dropout=0.0, **EASY)
    batch, before = batch_of(method, 2, 2), torch.get_rng_state()
    first, again = (method(batch, LATER).total() for _ in range(2))
    assert first == again and torch.equal(before, torch.get_rng_state())


def test_teachers__statistics_stay_in_eval_mode_and_move_in_train_mode():
    for mode, stays in (("eval", True), ("train", False)):
        method = method_of(ps_mt__teacher_mode=mode)
        before = [b.clone() for b in method.ensemble.buffers()]
        method(batch_of(method, 2, 2), LATER)
        assert all(map(torch.equal, before, method.ensemble.buffers())) == stays
        assert method.ensemble.first.training and method.ensemble.second.training


def test_push__length_zero_changes_nothing_and_more_changes_the_answer():
    outs = []
    for eps in (0.0, 5.0):
        method = method_of(ps_mt__vat__eps=eps, model__dropout=0.0).eval()
        images = batch_of(method, 2, 2).images_l
        outs.append((method.disturbed(images, draw=LATER.generator("x")), method.student(images)))
    assert torch.equal(outs[0][0].logits, outs[0][1].logits)
    assert (outs[1][0].logits - outs[1][1].logits).abs().max() > 1e-3


def test_turns__by_share_and_by_epoch_odd_ones_are_the_first_teachers():
    by_share, by_epoch = method_of(ps_mt__turn=0.25), method_of(ps_mt__turn=0.0)
    points = [Progress(step=step, steps=10, sup_only_steps=2, steps_per_epoch=3) for step in range(2, 10)]
    assert [by_share.active(p) for p in points] == [1, 1, 0, 0, 1, 1, 0, 0]
    assert [by_epoch.active(p) for p in points] == [1, 1, 1, 0, 0, 0, 1, 1]
    long = Progress(step=9, steps=10, sup_only_steps=2, steps_per_epoch=1000)
    assert (by_share.active(long), by_epoch.active(long)) == (0, 1)


def test_negative_learning__is_a_term_of_its_own():
    method = method_of(ps_mt__neg_thresh=0.3, **EASY)
    losses = method(batch_of(method, 2, 3), LATER)
    assert list(losses.terms) == ["loss_sup", "loss_unsup", "loss_negative"]
    assert losses.terms["loss_negative"][0] > 0 and learners(method, losses) == {"student"}


def test_forward__without_a_supervised_start_says_so():
    method = method_of()
    losses = method(batch_of(method, 2, 2), Progress(step=3, steps=10, sup_only_steps=0))
    assert "warm_up" in losses.reasons()


def test_settings__what_is_wrong_is_named():
    for wrong in (dict(turn=2.0), dict(weight=-1.0), dict(top_classes=0), dict(teacher_mode="noisy")):
        with pytest.raises(InputError, match=next(iter(wrong))):
            PSMTConfig(**wrong)


def test_released__parses_and_so_do_the_tries():
    cfg = parse_run(["--method", "ps_mt", "--variant", "released"], ROOT / "tests").ps_mt
    assert (cfg.vat.xi, cfg.turn, cfg.teacher_mode, cfg.neg_thresh) == (1e-6, 0.0, "train", 0.0)
    lines = (ROOT / "results" / "tries" / "ps_mt.txt").read_text().splitlines()
    for line in lines:
        name, *words = line.split(": ", 1)[1].split()
        assert name == "ps_mt" and parse_run(
            ["--preset", "digits-tune", "--method", name, *words], ROOT / "tests"
        )
    assert len(lines) == 6


def test_run__trains_scores_and_its_best_weights_open_again(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "build_data", few_images)
    result = engine.fit(tiny_run("ps_mt", out=tmp_path / "run"), callbacks=[])
    assert result["predictor"] == "ensemble" and list(result["miou"]) == ["ensemble", "teacher1", "student"]
    images = torch.randn(1, 3, 48, 48)
    for weights, names in (("best", ["ensemble"]), ("last", ["ensemble", "teacher1", "student"])):
        trained = open_trained(tmp_path / "run", weights, "cpu")
        out = trained.network(images)
        pair = trained.network.first(images), trained.network.second(images)
        assert list(trained.networks) == names
        torch.testing.assert_close(out.logits, (pair[0].logits + pair[1].logits) / 2)
        assert torch.equal(out.feats, pair[0].feats)
    for name in ("ps_mt", "self_training"):  # another run may start from it, of this method or of another
        method = build_method(tiny_run(name), 11, 0)
        init_from_run(method, tmp_path / "run")
        saved = torch.load(tmp_path / "run" / "checkpoints" / "best.pt", weights_only=True)["networks"]
        assert torch.equal(method.student.classifier.weight, saved["student"]["classifier.weight"])
        for key, value in saved["ensemble"].items() if name == "ps_mt" else ():
            assert torch.equal(method.ensemble.state_dict()[key], value)
