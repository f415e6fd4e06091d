"UniMatch: its three streams, the dropped channels, and batches of every shape."

import pytest
import torch
from helpers import few_images, tiny_run
from released import assert_loss
from small import NET, NOW, START, gradient_reaches, small_batch, small_method, without_pixels

from dgcl_nb import engine
from dgcl_nb.config import parse_run
from dgcl_nb.core import InputError, generator_for
from dgcl_nb.engine import fit
from dgcl_nb.methods.unimatch import UniMatch, UniMatchConfig, draw_channels, stack_dropped
from dgcl_nb.weights import build_network

STREAMS = ["loss_strong_1", "loss_strong_2", "loss_features"]
SHAPES = [(1, 1, 4), (1, 3, 4), (3, 2, 2), (2, 2, 4)]
"Labelled images, unlabelled images, classes."


def make(background=0, num_classes=4, **settings):
    cfg = UniMatchConfig(**dict(conf_thresh=0.3) | settings)
    return small_method(UniMatch, num_classes, background, unimatch=cfg)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("num_l, num_u, num_classes", SHAPES)
def test_unimatch__batches_of_every_shape(num_l, num_u, num_classes, mode):
    method = make(num_classes=num_classes, label_mode=mode, background=None)
    losses = method(small_batch(UniMatch, num_l, num_u, num_classes), NOW)
    losses.total().backward()
    assert losses.total().isfinite() and gradient_reaches(method.student.encoder)
    assert list(losses.terms) == ["loss_sup", *STREAMS] and method.student.training


def test_unimatch__nothing_counts():
    losses = make()(without_pixels(small_batch(UniMatch)), NOW)
    losses.total().backward()
    assert losses.total() == 0
    assert losses.reasons()["loss_features"] == "no label of a weak view is certain enough"


def test_unimatch__each_stream_trains_encoder_and_classifier():
    for name in STREAMS:
        method = make(conf_thresh=0)
        method(small_batch(UniMatch), NOW).terms[name][0].backward()
        assert gradient_reaches(method.student.encoder) and gradient_reaches(method.student.classifier)


def test_unimatch__the_supervised_start_and_halves():
    batch = small_batch(UniMatch)
    start = make()(batch, START)
    assert list(start.terms) == ["loss_sup"] and list(start.reasons()) == STREAMS
    for progress in (START, NOW):
        whole, half = (make(halve=halve)(batch, progress).total().item() for halve in (False, True))
        assert_loss(half, whole / 2)


def test_unimatch__without_dropping_the_copies_are_the_clean_ones():
    method, batch = make(drop_rate=0, conf_thresh=0, label_mode="train"), small_batch(UniMatch)
    groups = [batch.images_l, *batch.images_u_s, batch.images_u_w]
    *_, clean, copies = method.pass_all(groups, NOW)
    torch.testing.assert_close(clean.logits, copies.logits)


def test_unimatch__with_an_auxiliary_head():
    network = NET.__class__(**vars(NET) | dict(aux=True))
    cfg = UniMatch.configure(unimatch=UniMatchConfig(conf_thresh=0.3))
    method = UniMatch(lambda: build_network(network, 4), 4, cfg).train()
    losses = method(small_batch(UniMatch), NOW)
    losses.total().backward()
    assert "loss_aux" in losses.terms and losses.total().isfinite()


def test_stack_dropped__survivors_keep_the_mean_and_every_image_draws_its_own():
    maps = [torch.ones(4, 400, 2, 2), torch.ones(4, 30, 1, 1)]
    stays = draw_channels(maps, 3, 0.25, generator_for("test"))
    stacked = stack_dropped(maps, stays, 0.25)
    assert [m.shape[0] for m in stacked] == [7, 7] and torch.equal(stacked[0][:4], maps[0])
    values = stacked[0][4:].unique()
    torch.testing.assert_close(values, torch.tensor([0, 4 / 3]))
    assert abs(stays[0].float().mean() - 0.75) < 0.05
    assert not torch.equal(stays[0][0], stays[0][1])


def test_unimatch__released_variant_and_errors():
    run = parse_run(["--method", "unimatch", "--variant", "released"])
    assert run.unimatch == UniMatchConfig(label_mode="train", halve=True)
    for settings in (dict(conf_thresh=2), dict(feature_weight=-1), dict(drop_rate=1), dict(label_mode="no")):
        with pytest.raises(InputError):
            UniMatchConfig(**settings)


def test_unimatch__a_tiny_run(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "build_data", few_images)
    result = fit(tiny_run("unimatch", out=tmp_path / "run"), callbacks=[])
    assert list(result["miou"]) == ["student"]
