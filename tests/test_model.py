"""The network: batches of one, gradients, the door between its halves, precision, many GPUs, the teacher."""

import copy
import logging

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dgcl_nb.core import InputError, seed_everything
from dgcl_nb.encoders import ModelConfig
from dgcl_nb.model import SegNetwork, resize_logits, to_sync_batchnorm

K = 4
LIGHT = "mobilenetv3_small_050"  # a quick encoder, for what does not depend on it
VIT = dict(encoder="test_vit", low_level_channels=48)
FUSED = dict(encoder="tf_efficientnet_lite0", last_stage=3)  # its BatchNorms apply their activation, too


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    "Networks this small gain nothing from a second thread, and lose much beside a busy neighbour."
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small(**changes):
    settings = dict(encoder="resnet18", decoder_channels=16, low_level_channels=8, proj_dim=8)
    return ModelConfig(**settings | dict(pretrained="none") | changes)


def equal_outputs(a, b):
    return all((x is None and y is None) or torch.equal(x, y) for x, y in zip(a, b, strict=True))


# Training


@pytest.mark.parametrize("encoder", ["tf_efficientnet_lite0", "resnet18", "convnext_atto"])
def test_train__batch_of_one(encoder, caplog):
    net = SegNetwork(small(encoder=encoder, last_stage=-2, aux=True), K)
    with caplog.at_level(logging.INFO, "dgcl_nb.model"):
        for _ in range(2):
            out = net(torch.randn(1, 3, 64, 64))
    (out.logits.sum() + out.proj.sum() + out.aux.sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert len([r for r in caplog.records if "batch of one" in r.message]) == 1


def test_train__one_cell_is_refused():
    net = SegNetwork(small(encoder=LIGHT, output_stride=32), K)
    for through in (net, net.encode):
        with pytest.raises(InputError, match="larger crops, a larger batch or a smaller output_stride"):
            through(torch.randn(1, 3, 32, 32))


@pytest.mark.parametrize("size", [(33, 47), (64, 40), (5, 70)])
def test_forward__any_size_rounds_up(size):
    net = SegNetwork(small(encoder="tf_efficientnet_lite0", last_stage=3), K).eval()
    out = net(torch.randn(1, 3, *size), with_proj=False)
    assert out.logits.shape[-2:] == tuple(-(-n // 4) for n in size)
    assert out.proj is None and out.aux is None
    assert resize_logits(out.logits, size).shape == (1, K, *size)


def test_parameters__two_groups_without_overlap():
    net = SegNetwork(small(aux=True), K)
    encoder, head = ({id(p) for p in ps} for ps in (net.encoder_parameters(), net.head_parameters()))
    assert not encoder & head
    assert encoder | head == {id(p) for p in net.parameters()}


def test_dropout__features_are_dropped_in_training_only():
    seed_everything(0, "dropout")
    net = SegNetwork(small(encoder=LIGHT, dropout=0.5), K)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert (net(x).feats.amax((2, 3)) == 0).float().mean() > 0.2
        net.eval()
        assert torch.equal(net(x).feats, net(x).feats)


def test_channels_last__same_state_dict_and_output():
    last, first = SegNetwork(small(), K).eval(), SegNetwork(small(channels_last=False), K).eval()
    first.load_state_dict(last.state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(last(x).proj, first(x).proj, rtol=1e-3, atol=1e-4)
    assert last.encoder.conv1.weight.is_contiguous(memory_format=torch.channels_last)


# Between encoder and decoder


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize(
    "settings", [dict(aux=True), dict(aux=True, channels_last=False), VIT, VIT | dict(aux=True)]
)
def test_halves__are_the_forward_to_the_bit(settings, is_training):
    net = SegNetwork(small(**settings), K).train(is_training)
    x = torch.randn(2, 3, 50, 61)
    for with_proj in (True, False):
        seed_everything(0, "halves")
        whole = copy.deepcopy(net)(x, with_proj=with_proj)
        seed_everything(0, "halves")
        halves = copy.deepcopy(net)
        assert equal_outputs(halves.decode(halves.encode(x), x.shape[-2:], with_proj), whole)


@pytest.mark.parametrize("settings", [dict(), VIT])
def test_halves__what_is_perturbed_teaches_encoder_and_decoder(settings):
    net = SegNetwork(small(dropout=0.0, **settings), K)
    x = torch.randn(2, 3, 64, 64)
    maps = net.encode(x)
    perturbed = [F.dropout2d(m, 0.5) for m in maps]
    out = net.decode([torch.cat(pair) for pair in zip(maps, perturbed)], x.shape[-2:])
    clean, dropped = out.logits.chunk(2)
    assert out.logits.shape == (4, K, 16, 16) and not torch.equal(clean, dropped)
    (dropped * torch.randn_like(dropped)).sum().backward()
    for name, p in net.named_parameters():
        is_read = not name.startswith("projection.")
        assert is_read == (p.grad is not None), name


# Precision


def test_bfloat16__forward_and_backward():
    net = SegNetwork(small(), K)
    with torch.autocast("cpu", torch.bfloat16):
        out = net(torch.randn(1, 3, 64, 64))
    out.logits.float().sum().backward()
    assert net.classifier.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("size", [(64, 64), (16, 16), (50, 61)], ids=str)
def test_resize__logits_are_enlarged_in_float32(size):
    net = SegNetwork(small(), K).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = net(torch.randn(1, 3, 64, 64)).logits
        assert logits.dtype == torch.bfloat16
        inside = resize_logits(logits, size)
    outside = resize_logits(logits, size)
    want = F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)
    for found in (inside, outside):
        assert found.dtype == torch.float32 and torch.equal(found, want)


def test_resize__float32_is_as_ever():
    logits = torch.randn(2, K, 5, 7)
    want = F.interpolate(logits, (20, 28), mode="bilinear", align_corners=False)
    assert torch.equal(resize_logits(logits, (20, 28)), want)
    assert resize_logits(logits, (5, 7)) is logits


# Several GPUs


@pytest.mark.parametrize(
    "convert, is_right", [(to_sync_batchnorm, True), (nn.SyncBatchNorm.convert_sync_batchnorm, False)]
)
def test_sync_batchnorm__fused_activations_stay(convert, is_right):
    "Synchronised BatchNorm in eval mode works on the CPU; torch's own conversion shows what is at stake."
    net = SegNetwork(small(**FUSED), K).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before = net(x)
        after = convert(copy.deepcopy(net))(x)
    assert equal_outputs(before, after) == is_right


@pytest.mark.parametrize("settings", [FUSED, dict(), VIT | dict(aux=True)])
def test_sync_batchnorm__reaches_every_norm_and_keeps_the_state(settings):
    net = SegNetwork(small(**settings), K)
    net.decoder.eval()
    parts, state = {n: m.training for n, m in net.named_modules()}, net.state_dict()
    parameters = {n: id(p) for n, p in net.named_parameters()}
    synced = to_sync_batchnorm(net)
    norms = [m for m in synced.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms and all(isinstance(m, nn.SyncBatchNorm) for m in norms)
    assert any(n.startswith("decoder.") for n, m in synced.named_modules() if isinstance(m, nn.SyncBatchNorm))
    assert {n: id(p) for n, p in synced.named_parameters()} == parameters, (
        "an optimiser would still find them"
    )
    assert all(torch.equal(v, state[k]) for k, v in synced.state_dict().items())
    assert {n: m.training for n, m in synced.named_modules() if n in parts} == parts


def test_sync_batchnorm__twice_is_once():
    net = SegNetwork(small(**FUSED), K).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before = net(x)
        once = to_sync_batchnorm(net)
        assert equal_outputs(to_sync_batchnorm(once)(x), before)


# The teacher
