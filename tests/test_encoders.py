"""Encoders: many of timm's networks at every stride, what is cut off, and plain transformers at any size."""

import pytest
import torch
import torch.nn.functional as F
from timm.models import FeatureInfo
from torch import nn

from dgcl_nb.optim import OptimConfig
from dgcl_nb.core import InputError, seed_everything
from dgcl_nb.encoders import ModelConfig, PaddedEncoder, build_encoder, whole_patches
from dgcl_nb.optim import make_optimizer
from dgcl_nb.methods.protocol import param_groups
from dgcl_nb.model import SegNetwork, resize_logits
from dgcl_nb.weights import load_weights

K = 4
PYRAMIDS = (
    "tf_efficientnet_lite0 resnet18 resnet101 convnext_atto mobilenetv3_small_050 regnety_002 xception41"
)
PLAIN = (
    "vit_small_patch14_dinov2 vit_base_patch14_dinov2 vit_small_patch14_reg4_dinov2 "
    "vit_small_patch16_dinov3 vit_base_patch16_clip_224 deit_tiny_patch16_224 eva02_tiny_patch14_224"
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    "Networks this small gain nothing from a second thread, and lose much beside a busy neighbour."
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small(**changes):
    "A narrow network on a convolutional encoder."
    settings = dict(encoder="resnet18", decoder_channels=16, low_level_channels=8, proj_dim=8)
    return ModelConfig(**settings | dict(pretrained="none") | changes)


def vit(encoder="test_vit", **changes):
    "A narrow network on a plain transformer."
    settings = dict(encoder=encoder, decoder_channels=16, proj_dim=8, pretrained="none")
    return ModelConfig(**settings | changes)


def num_weights(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("encoder", PYRAMIDS.split())
def test_build__encoder_and_stride(encoder, stride):
    with torch.device("meta"):  # shapes only: fast also for resnet101
        net = SegNetwork(small(encoder=encoder, output_stride=stride, aux=True), K)
    out = net(torch.empty(2, 3, 64, 64, device="meta"))
    assert out.logits.shape == (2, K, 16, 16)
    assert out.feats.shape == (2, 16, 16, 16)
    assert out.proj.shape == (2, 8, 16, 16)
    assert net.encoder.feature_info.reduction()[-1] == stride
    assert out.aux.shape[1] == K


@pytest.mark.parametrize("encoder", ["tf_efficientnet_lite0", "resnet18", "mobilenetv3_small_050"])
def test_last_stage__later_blocks_are_cut_off(encoder):
    whole, cut = (build_encoder(small(encoder=encoder, last_stage=s)) for s in (-1, -2))
    assert num_weights(cut) < num_weights(whole)
    assert load_weights(cut, whole.state_dict()).missing == []
    x = torch.randn(1, 3, 64, 64)
    sum(m.sum() for m in cut(x)).backward()
    assert all(p.grad is not None for p in cut.parameters()), "no parameter that no used map depends on"
    same = build_encoder(small(encoder=encoder, aux=True)).eval()  # gives the stage before the last, too
    assert len(cut.eval()(x)) == 2
    same.load_state_dict(whole.state_dict())
    load_weights(cut, whole.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(same(x)[1], cut(x)[-1])


def test_low_level_stage__of_encoders_with_hidden_stages():
    maps = build_encoder(small(encoder="dla34", output_stride=32))(torch.randn(2, 3, 64, 64))
    assert [m.shape[-1] for m in maps] == [16, 2]


@pytest.mark.parametrize("stride", [16, 32])
@pytest.mark.parametrize(
    "encoder", ["swin_tiny_patch4_window7_224", "maxvit_tiny_tf_224", "beit_base_patch16_224"]
)
def test_encoder__transformers_with_windows_are_refused(encoder, stride):
    with pytest.raises(InputError, match="stride"):
        build_encoder(small(encoder=encoder, output_stride=stride))


def test_encoder__swin_message():
    message = (
        r"'swin_tiny_patch4_window7_224' gives no pyramid.*output_stride 16.*"
        r"Take a dilatable one \(resnet101.*a plain transformer \(vit_small"
    )
    with pytest.raises(InputError, match=message):
        build_encoder(small(encoder="swin_tiny_patch4_window7_224"))


# Encoders of whole cells only


@pytest.mark.parametrize("size", [(160, 96), (161, 97), (180, 240), (33, 31)])
@pytest.mark.parametrize("encoder", ["hrnet_w18_small", "dla34", "tresnet_m"])
def test_padded__grids_round_up_at_any_size(encoder, size):
    with torch.device("meta"):
        net = SegNetwork(small(encoder=encoder, output_stride=32, last_stage=-1), K)
    maps = net.encode(torch.empty(2, 3, *size, device="meta"))
    out = net.decode(maps, size)
    assert [m.shape[-2:] for m in maps] == [tuple(-(-n // s) for n in size) for s in (4, 32)]
    assert out.logits.shape == (2, K, *(-(-n // 4) for n in size))


class MeanOfCells(nn.Module):
    "Means over cells of 32×32 pixels, of whole cells only."

    feature_info = FeatureInfo([dict(num_chs=3, reduction=32, module="")], out_indices=(0,))

    def forward(self, images):
        assert not any(n % 32 for n in images.shape[-2:])
        return [F.avg_pool2d(images, 32)]


def test_padded__what_lies_beyond_the_image_is_its_last_row_and_column():
    images = torch.zeros(1, 3, 33, 34)
    images[..., 32, :] = 5.0
    images[..., 33] = 7.0
    (means,) = PaddedEncoder(MeanOfCells())(images)
    right = (7.0 * 31 + 0.0) / 32  # one column of nothing, then 31 as the last one
    assert torch.allclose(means[0, 0], torch.tensor([[0.0, right], [5.0, (7.0 * 31 + 5.0) / 32]]))


# Plain transformers


@pytest.mark.parametrize("size", [(518, 518), (513, 769), (61, 50)])
@pytest.mark.parametrize("encoder", PLAIN.split())
def test_transformer__stride_4_at_any_size(encoder, size):
    with torch.device("meta"):
        net = SegNetwork(vit(encoder, aux=True), K)
    out = net(torch.empty(2, 3, *size, device="meta"))
    grid = tuple(-(-n // 4) for n in size)
    assert out.logits.shape == (2, K, *grid)
    assert out.feats.shape == (2, 16, *grid)
    assert out.proj.shape == (2, 8, *grid)
    patch = net.encoder.patch[0]
    patches = tuple(max(1, (n + patch // 2) // patch) for n in size)
    assert out.aux.shape == (2, K, *patches), "the auxiliary map has the grid of the patches"
    assert len(net.encoder.blocks) == 4
    assert net.encoder.blocks[-1] == len(net.encoder.body.blocks) - 1


def weigh(m):
    "The plain sum after a BatchNorm has no gradient."
    return (m * torch.randn_like(m)).sum()


def has_gradient(p):
    return p.grad is not None and bool(p.grad.isfinite().all()) and bool(p.grad.abs().sum() > 0)


@pytest.mark.parametrize("encoder", ["test_vit", "test_vit2", "test_vit3", "eva02_tiny_patch14_224"])
@pytest.mark.parametrize("size", [(64, 64), (50, 61)])
def test_transformer__a_gradient_reaches_everything(encoder, size):
    net = SegNetwork(vit(encoder, aux=True), K)
    for batch in (1, 2):  # a batch of one trains as well
        out = net(torch.randn(batch, 3, *size))
        net.zero_grad()
        (weigh(out.logits) + weigh(out.proj) + weigh(out.aux)).backward()
        assert [name for name, p in net.named_parameters() if not has_gradient(p)] == []


def test_transformer__a_size_between_patches_is_resized_and_not_padded():
    net = SegNetwork(vit(), K).eval()
    x = torch.randn(1, 3, 57, 70)  # 3.6 and 4.4 patches of 16
    with torch.no_grad():
        maps, want = net.encoder(x), net.encoder(F.interpolate(x, (64, 64), mode="bilinear"))
    assert all(torch.equal(a, b) and a.shape[-2:] == (4, 4) for a, b in zip(maps, want))


@pytest.mark.parametrize("patch", [14, 16])
def test_transformer__the_nearest_number_of_patches(patch):
    for side in range(1, 200):
        (whole,) = whole_patches((side,), (patch,))
        assert whole % patch == 0 and whole >= patch
        assert abs(whole - side) <= patch / 2 or whole == patch


def test_transformer__one_cell_is_refused():
    net = SegNetwork(vit(), K)
    net(torch.randn(1, 3, 24, 16))
    net(torch.randn(2, 3, 20, 20))
    with pytest.raises(InputError, match="larger crops"):
        net(torch.randn(1, 3, 23, 23))


def test_transformer__last_stage_cuts_blocks():
    whole, cut = (build_encoder(vit(last_stage=s)) for s in (-1, 3))
    assert len(cut.body.blocks) == 4 and len(whole.body.blocks) == 6
    assert cut.blocks == (0, 1, 2, 3)
    assert load_weights(cut.body, whole.body.state_dict()).missing == []
    assert "blocks.4.norm1.weight" not in cut.body.state_dict()
    with pytest.raises(InputError, match="last_stage is 9; the blocks of 'test_vit' are 0 to 5"):
        build_encoder(vit(last_stage=9))


@pytest.mark.parametrize(
    "setting",
    [dict(output_stride=8), dict(aspp_rates=(2,)), dict(aspp_pool=False), dict(low_level_channels=8)],
)
def test_transformer__settings_of_a_pyramid_are_refused(setting):
    (name,) = setting
    message = f"model.{name} = .* has no effect on the transformer 'test_vit'.*leave it at"
    with pytest.raises(InputError, match=message):
        build_encoder(vit(**setting))


def test_transformer__unknown_name_or_tag():
    message = "unknown encoder 'vit_smal_patch14_dinov2'; did you mean .*vit_small_patch14_dinov2"
    with pytest.raises(InputError, match=message):
        build_encoder(vit("vit_smal_patch14_dinov2"))
    with pytest.raises(InputError, match="Leave out what follows the dot"):
        build_encoder(vit("test_vit.nonsense"))


def test_transformer__layers_and_their_learning_rates():
    net = SegNetwork(vit(), K)
    body, layers = net.encoder.body, net.encoder_layers()
    assert len(layers) == 7
    assert {id(p) for ps in layers for p in ps} == {id(p) for p in net.encoder_parameters()}
    assert any(p is body.patch_embed.proj.weight for p in layers[0])
    assert any(p is body.norm.weight for p in layers[-1])
    cfg = OptimConfig(lr=1.0, encoder_lr_scale=0.5, layer_decay=0.8)
    optimizer = make_optimizer(param_groups([net, SegNetwork(vit(), K)], by_layer=True), cfg)
    rate = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert rate[id(body.blocks[5].mlp.fc1.weight)] == 0.5
    assert rate[id(net.classifier.weight)] == 1.0
    assert rate[id(body.blocks[3].mlp.fc1.weight)] == pytest.approx(0.5 * 0.8**2)
    assert rate[id(body.pos_embed)] == pytest.approx(0.5 * 0.8**6)
    assert len(rate) == 2 * len(list(net.parameters()))
    assert len(optimizer.param_groups) == 8, "two networks share the groups"


def test_layers__of_a_convolutional_encoder_are_refused():
    message = (
        "layer_decay works on the blocks of a transformer; "
        "leave it at 1 for the convolutional encoder 'resnet18'"
    )
    with pytest.raises(InputError, match=message):
        param_groups([SegNetwork(small(), K)], by_layer=True)


def test_transformer__learns():
    seed_everything(0, "vit")
    net = SegNetwork(vit(dropout=0.0), K)
    x, y = torch.randn(2, 3, 64, 64), torch.zeros(2, 64, 64, dtype=torch.long)
    x[:, 0, :, 32:] += 2
    y[:, :, 32:] = 1
    y[:, 32:, :32] = 2
    x[:, 1, 32:, :32] += 2
    optimizer = make_optimizer(param_groups([net], by_layer=True), OptimConfig(lr=3e-3, layer_decay=0.9))
    losses = []
    for _ in range(25):
        loss = F.cross_entropy(resize_logits(net(x).logits, (64, 64)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
