"""A run at work: pictures of the right size and content, nothing lost, an ONNX file that says the same."""

import importlib.util
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import clean_environment, few_images, tiny_run
from PIL import Image, ImageOps
from torch.utils.data import Dataset

from dgcl_nb import engine, onnx_export, prediction
from dgcl_nb import predict as room
from dgcl_nb.config import build_method, run_from_dict
from dgcl_nb.core import InputError
from dgcl_nb.run_folder import RunFolder, write_torch
from dgcl_nb.engine import fit
from dgcl_nb.evaluation import to_network
from dgcl_nb.onnx_export import Framed, OnnxFailed, export_onnx, run_onnx
from dgcl_nb.predict import main, name_pictures, predict, predict_files
from dgcl_nb.prediction import KINDS, images_below, predict_batch, predictions_of
from dgcl_nb.trained import open_trained
from dgcl_nb.windows import RESIZE_BUDGET, EvalConfig, mean_of_passes, predict_labels, score_parts

NO_ONNX = ", ".join(p for p in ("onnx", "onnxruntime", "onnxscript") if importlib.util.find_spec(p) is None)
needs_onnx = pytest.mark.skipif(
    bool(NO_ONNX), reason=f"the extra is not installed: {NO_ONNX} (pip install 'dgcl_nb[onnx]')"
)


@torch.no_grad()
def make_opinionated(network):
    "Shift and scale the class scores of a hardly trained network: on noise every class is said somewhere."
    logits = network(torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))).logits
    scale = 4 / logits.std((0, 2, 3))
    network.classifier.bias.sub_(logits.mean((0, 2, 3))).mul_(scale)
    network.classifier.weight.mul_(scale[:, None, None, None])


def places_of(trained):
    "Where the scored networks lie in their method: {name: prefix of their tensors}."
    method = build_method(trained.run, len(trained.class_names))
    names = {id(module): name for name, module in method.named_modules()}
    return {name: f"{names[id(network)]}." for name, network in method.scored().items()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run of self-training, with classifiers that say many things.

    The student differs from the teacher, its last weights from its best.
    """
    place, patch = tmp_path_factory.mktemp("runs"), pytest.MonkeyPatch()
    patch.setattr(engine, "build_data", few_images)
    short = dict(steps=6, loop__sup_only_fraction=0.5, loop__evaluations=2, views__std=(0.2, 0.3, 0.4))
    fit(tiny_run("self_training", out=str(place / "run"), **short), callbacks=[])
    patch.undo()
    best, last = open_trained(place / "run", "best", "cpu"), open_trained(place / "run", "last", "cpu")
    assert best.predictor == last.predictor == "teacher"
    assert list(best.networks) == ["teacher"]
    assert list(last.networks) == ["teacher", "student"], "the predictor comes first"
    newest = engine.checkpoints_of(RunFolder(place / "run"))[-1]
    files = ((place / "run" / "checkpoints" / "best.pt", best, "predictor"), (newest, last, "method"))
    for path, trained, key in files:
        saved = torch.load(path, weights_only=True)
        for name, network in trained.networks.items():
            make_opinionated(network)
            prefix = places_of(trained)[name] if key == "method" else ""
            saved[key] |= {prefix + k: v for k, v in network.state_dict().items()}
        write_torch(path, saved)
    return place


@pytest.fixture
def run(runs, tmp_path):
    "A copy that a test may spoil."
    return Path(shutil.copytree(runs / "run", tmp_path / "run"))


@pytest.fixture
def trained(runs):
    return open_trained(runs / "run", device="cpu")


@pytest.fixture
def command(capsys, monkeypatch):
    "Run the command in this process: (exit status, what it printed, what it complained)."

    def call(*args):
        try:
            main([str(a) for a in args])
            status = 0
        except SystemExit as e:
            status = e.code if isinstance(e.code, int) else 1
        return status, *capsys.readouterr()

    return call


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def photo(path, array, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **kwargs)
    return path


def change_config(run, group, **settings):
    "Write other settings of a group into the config.json of a run."
    path = run / "config.json"
    values = json.loads(path.read_text())
    values[group] |= settings
    path.write_text(json.dumps(values))
    return values


def words_of(text):
    "What was complained, in one line however wide the terminal is."
    assert "Traceback" not in text
    return " ".join(text.split())


def array_of(path):
    return np.asarray(Image.open(path))


# What is predicted


@pytest.mark.parametrize(
    "cfg",
    [
        EvalConfig(),
        EvalConfig(mode="slide", crop=32),
        EvalConfig(scales=(0.5, 1.0), flip=True),
        EvalConfig(scales=(0.5, 1.0), add="probs"),
    ],
    ids=str,
)
@torch.no_grad()
def test_predict__is_what_evaluation_counts(trained, cfg):
    images = [noise(40, 56, i) for i in range(3)] + [noise(30, 70)]
    views = trained.run.views
    for p, image in zip(predict(trained, images, cfg), images, strict=True):
        sample = dict(image=torch.from_numpy(image).permute(2, 0, 1))
        x = to_network([sample], "cpu", views.mean, views.std)
        assert (p.labels == predict_labels(trained.network, x, cfg)[0].numpy()).all()
        assert (p.image == image).all()


@torch.no_grad()
def test_predict__confidence_is_the_largest_probability(trained):
    image = noise(33, 47)
    p = next(predict(trained, image, EvalConfig()))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (trained.run.views.mean, (0.2, 0.3, 0.4)))
    x = ((torch.from_numpy(image).permute(2, 0, 1) / 255 - mean) / std)[None]
    logits = F.interpolate(trained.network(x).logits, size=(33, 47), mode="bilinear", align_corners=False)
    probs = logits.softmax(1)[0]
    assert np.allclose(p.confidence, probs.max(0).values.numpy(), atol=1e-5)
    assert (p.labels == probs.argmax(0).numpy()).all()
    assert len(np.unique(p.labels)) > 5, "the network has something to say"
    assert p.confidence.min() < 0.5 and p.confidence.max() > 0.8
    for add in ("logits", "probs"):
        cfg = EvalConfig(scales=(0.5, 1.0), flip=True, add=add)
        mean = mean_of_passes(trained.network, x, cfg)[0]
        probs = mean if add == "probs" else mean.softmax(0)
        p = next(predict(trained, image, cfg))
        assert np.allclose(p.confidence, probs.max(0).values.numpy(), atol=1e-5)
        assert p.confidence.max() > 0.5


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (64, 64), (97, 131)], ids=str)
def test_predict__any_size(trained, size):
    p = next(predict(trained, noise(*size)))
    assert p.labels.shape == p.confidence.shape == size
    assert np.isfinite(p.confidence).all()
    assert p.labels.max() < 11


def test_predict__kinds_of_input(runs, tmp_path):
    array = noise(20, 30)
    path = photo(tmp_path / "a.png", array)
    given = [array, torch.from_numpy(array).permute(2, 0, 1), Image.fromarray(array), path, str(path)]
    for each in given:
        (p,) = predict(runs / "run", each)
        assert (p.image == array).all() and p.class_names[0] == "background"
    names = [p.name for p in predict(runs / "run", given)]
    assert names == ["0", "1", "2", str(path)], "a file that is named twice is done once"
    for wrong in (array.astype(float), array[..., 0], np.zeros((0, 5, 3), np.uint8)):
        with pytest.raises(InputError, match="cannot be used; give an array"):
            list(predict(runs / "run", [wrong]))


def test_predict__reads_only_what_it_needs(trained, monkeypatch):
    "A folder of any length: beyond the batch that is worked on one more is read, whatever comes after it."
    seen = []

    class Endless(Dataset):
        def __init__(self, named):
            pass

        def __len__(self):
            return 10**6

        def __getitem__(self, i):
            seen.append(i)
            return dict(id=str(i), image=torch.zeros(3, 64, 64, dtype=torch.uint8))

    monkeypatch.setattr(prediction, "NamedImages", Endless)
    found = predict(trained, ["x"], EvalConfig(batch_size=4))
    for _ in range(9):
        next(found)
    assert max(seen) <= 12 + 4
    next(predictions_of(trained, {}, EvalConfig(batch_size=1024)))
    most = RESIZE_BUDGET // (11 * 64 * 64)
    assert max(seen) <= 13 + 2 * most, "a batch's scores fit the budget, however large eval.batch_size is"


def test_open_trained__needs_neither_data_nor_pretrained_weights(runs, run):
    change_config(run, "data", root="/nowhere")
    change_config(run, "model", pretrained="/nowhere.pth")
    here, there = (next(predict(open_trained(r, device="cpu"), noise(20, 20))) for r in (run, runs / "run"))
    assert (here.labels == there.labels).all()
    assert here.class_names == there.class_names
    shutil.rmtree(run / "snapshots")
    assert next(predict(run, noise(20, 20))).class_names == there.class_names
    (run / "result.json").unlink()
    assert next(predict(run, noise(20, 20))).class_names == tuple(map(str, range(11)))


def test_open_trained__a_background_whose_name_is_lost(run, caplog):
    change_config(run, "data", background="7")
    by_number = open_trained(run, device="cpu")
    change_config(run, "data", background="background")
    by_name = open_trained(run, device="cpu")
    assert (by_number.background, by_name.background) == (7, 0) and not caplog.messages
    shutil.rmtree(run / "snapshots")
    (run / "result.json").unlink()  # a run that was copied without what names its classes
    lost = open_trained(run, device="cpu")
    assert lost.background is None and "they are called by numbers" in caplog.text
    assert next(predict(lost, noise(20, 20))).background is None
    change_config(run, "data", background="7")
    assert open_trained(run, device="cpu").background == 7


def test_open_trained__best_and_last(runs):
    last, best = open_trained(runs / "run", "last", "cpu"), open_trained(runs / "run", device="cpu")
    saved = torch.load(runs / "run" / "checkpoints" / "best.pt", weights_only=True)
    assert best.step == saved["step"] and best.weights == "best"
    assert last.step == 6
    assert all(torch.equal(v, saved["predictor"][k]) for k, v in best.network.state_dict().items())
    state = engine.checkpoints_of(RunFolder(runs / "run"))[-1]
    method = torch.load(state, weights_only=True)["method"]
    for name, network in last.networks.items():
        prefix = places_of(last)[name]
        assert all(torch.equal(v, method[prefix + k]) for k, v in network.state_dict().items())
        assert not network.training


# Files


def test_files__structure_size_and_content(trained, tmp_path):
    arrays = {
        "a.png": noise(20, 30),
        "deep/er/b.jpg": noise(40, 25, 1),
        "deep/ü ß 漢.webp": noise(64, 64, 2),
        "deep/c.bmp": noise(10, 90, 3),
    }
    for name, array in arrays.items():
        photo(tmp_path / "in" / name, array)
    out = tmp_path / "out"
    assert predict_files(trained, tmp_path / "in", out) == (4, 0, {})
    there = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert there == {f"{k}/{os.path.splitext(n)[0]}.png" for k in KINDS for n in arrays} | {"prediction.json"}
    for p in predict(trained, tmp_path / "in"):
        pictures = [Image.open((out / kind / p.name).with_suffix(".png")) for kind in KINDS]
        index, colour, overlay, confidence = pictures
        assert [i.mode for i in pictures] == ["P", "RGB", "RGB", "L"]
        assert {i.size for i in pictures} == {arrays[p.name].shape[1::-1]}
        assert (np.asarray(index) == p.labels).all()
        assert (np.asarray(index.convert("RGB")) == p.palette[p.labels]).all()
        assert (np.asarray(colour) == p.palette[p.labels]).all()
        assert np.abs(np.asarray(confidence) / 255 - p.confidence).max() <= 0.5 / 255 + 1e-6
        share = np.where(p.labels == 0, 0.0, 0.5)[..., None]  # background stays clear
        mixed = p.image * (1 - share) + p.palette[p.labels] * share
        assert np.abs(np.asarray(overlay) - mixed).max() <= 0.51


@pytest.mark.parametrize("tag", range(1, 9))
def test_files__exif_orientation(trained, tmp_path, tag):
    "Each of the eight ways a camera may be held: the label map is that of the upright picture."
    exif = Image.Exif()
    exif[0x0112] = tag
    path = photo(tmp_path / "in" / "a.png", noise(20, 36), exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    predict_files(trained, path, tmp_path / "out", ("index",))
    index = array_of(tmp_path / "out" / "index" / "a.png")
    assert (index == next(predict(trained, upright)).labels).all()
    assert index.shape == ((36, 20) if tag > 4 else (20, 36))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_files__colour_modes(trained, tmp_path, mode):
    image = Image.fromarray(noise(20, 30)).convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    image.save(path)
    written = predict_files(trained, path, tmp_path / "out", ("overlay",))
    assert written.done == 1 and Image.open(tmp_path / "out" / "overlay" / "a.png").size == (30, 20)


def test_files__what_cannot_be_read_is_named_and_the_others_are_done(runs, command, tmp_path):
    folder = tmp_path / "in"
    photo(folder / "b.png", noise(20, 30))
    photo(folder / "z" / "y.jpg", noise(20, 30))
    (folder / "a.png").write_bytes(b"")
    (folder / "c.jpg").write_bytes(photo(tmp_path / "whole.jpg", noise(90, 90)).read_bytes()[:900])
    (folder / "d.png").write_text("no picture")
    Image.fromarray(np.zeros((5, 5), np.uint16)).save(folder / "e.png")
    (folder / "f.png").symlink_to(tmp_path / "gone.png")
    out = tmp_path / "out"
    words = (runs / "run", folder, "--out", out, "--device", "cpu")
    status, said, complained = command(*words)
    assert status == 1 and "2 images written" in said and "Traceback" not in complained
    named = [line for line in complained.splitlines() if line.startswith("not done: ")]
    bad = ["a.png", "c.jpg", "d.png", "e.png", "f.png"]
    assert [line.split(": ")[1] for line in named] == bad
    assert "16- or 32-bit grey" in named[3] and "does not exist" in named[4]
    assert sorted(p.name for p in (out / "index").rglob("*.png")) == ["b.png", "y.png"]
    assert list(json.loads((out / "prediction.json").read_text())["failed"]) == bad
    status, said, complained = command(*words, "--existing", "skip")
    assert status == 1 and "2 were there already" in said
    assert "0 images written" in said, "what could not be read is tried again, the rest is left"


def test_files__nothing_is_replaced_unless_asked(runs, command, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    photo(folder / "a.png", noise(20, 30))
    photo(folder / "b.png", noise(20, 30, 1))
    words = (runs / "run", folder, "--out", out, "--device", "cpu")
    mine = photo(out / "index" / "b.png", noise(3, 3))
    before = mine.read_bytes()
    status, _, complained = command(*words)
    assert status == 2 and "--existing overwrite" in complained
    assert "holds pictures of 1 of these 2 images already, e.g. of b.png" in complained
    assert mine.read_bytes() == before
    assert len(list(out.rglob("*.png"))) == 1, "it stops before the first image"
    assert command(*words, "--kinds", "index", "--existing", "skip")[0] == 0
    assert mine.read_bytes() == before and (out / "index" / "a.png").exists()
    assert command(*words, "--existing", "overwrite")[0] == 0
    assert mine.read_bytes() != before
    other = photo(tmp_path / "other.png", noise(9, 9))
    status = command(runs / "run", other, "--out", out, "--device", "cpu")[0]
    assert status == 0, "pictures of other images are no hindrance"


def test_files__an_interrupted_command_goes_on(trained, tmp_path, monkeypatch):
    for i in range(5):
        photo(tmp_path / "in" / f"{i}.png", noise(20, 30, i))
    whole = predict_files(trained, tmp_path / "in", tmp_path / "whole")
    save, count = room.save_picture, [0]

    def interrupted(picture, path):
        count[0] += 1
        if count[0] == 10:
            raise KeyboardInterrupt
        save(picture, path)

    monkeypatch.setattr(room, "save_picture", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict_files(trained, tmp_path / "in", tmp_path / "out")
    monkeypatch.undo()
    written = predict_files(trained, tmp_path / "in", tmp_path / "out", existing="skip")
    assert whole.done == 5 and written == (3, 2, {}), "the third was half done: it is done again"
    for p in (tmp_path / "whole").rglob("*.png"):
        assert p.read_bytes() == (tmp_path / "out" / p.relative_to(tmp_path / "whole")).read_bytes()


def test_files__a_picture_is_whole_or_not_there(tmp_path, monkeypatch):
    def fails(self, path, **kwargs):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fails)
    with pytest.raises(InputError, match="a.png: No space left on device; free space"):
        room.save_picture(Image.new("L", (3, 3)), tmp_path / "x" / "a.png")
    assert not list((tmp_path / "x").iterdir())


def test_files__results_inside_the_folder_are_no_images(trained, tmp_path):
    photo(tmp_path / "a.png", noise(20, 30))
    for existing in ("refuse", "overwrite"):
        assert predict_files(trained, tmp_path, tmp_path / "out", existing=existing) == (1, 0, {})


def test_names__links_in_a_circle_and_hidden_files(tmp_path):
    photo(tmp_path / "in" / "a.png", noise(3, 3))
    photo(tmp_path / "else" / "b.png", noise(3, 3))
    photo(tmp_path / "in" / ".thumbs" / "c.png", noise(3, 3))
    (tmp_path / "in" / "up").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "else")
    (tmp_path / "else" / "back").symlink_to(tmp_path / "in")
    assert images_below(tmp_path / "in") == ["a.png", "link/b.png"]


def test_names__a_folder_that_cannot_be_looked_into_is_said(tmp_path, monkeypatch):
    photo(tmp_path / "in" / "a.png", noise(3, 3))
    photo(tmp_path / "in" / "shut" / "b.png", noise(3, 3))
    scandir = os.scandir

    def refuse(place):
        if str(place).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match="cannot look into .*shut: Permission denied; correct its perm"):
        images_below(tmp_path / "in")


def test_names__a_link_upwards_brings_in_nothing_else(tmp_path):
    photo(tmp_path / "in" / "a.png", noise(3, 3))
    photo(tmp_path / "secret" / "b.png", noise(3, 3))
    (tmp_path / "in" / "up").symlink_to(tmp_path)
    assert images_below(tmp_path / "in") == ["a.png"]


def test_files__results_of_before_are_no_images(runs, command, tmp_path):
    photo(tmp_path / "in" / "a.png", noise(20, 30))
    for out in ("one", "two"):
        status, said, _ = command(runs / "run", tmp_path / "in", "--out", tmp_path / "in" / out)
        assert status == 0 and "1 image written" in said
    (tmp_path / "in" / "one" / "prediction.json").unlink()
    status, _, complained = command(runs / "run", tmp_path / "in", "--out", tmp_path / "in")
    words = "in, the folder of the images; name one in it, or another"
    assert status == 2 and words in words_of(complained)


def test_files__of_a_killed_process_are_no_images(trained, tmp_path, monkeypatch):
    photo(tmp_path / "in" / "a.png", noise(20, 30))
    monkeypatch.setattr(room, "save_picture", lambda picture, path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predict_files(trained, tmp_path / "in", tmp_path / "in" / "one")
    assert (tmp_path / "in" / "one" / "prediction.json").exists()


def test_files__pictures_of_two_networks_are_not_mixed(runs, run, command, tmp_path):
    photo(tmp_path / "in" / "a.png", noise(20, 30))
    words = (tmp_path / "in", "--out", tmp_path / "out", "--device", "cpu", "--existing")
    assert command(run, *words, "refuse")[0] == 0
    made = (tmp_path / "out" / "prediction.json").read_text()
    photo(tmp_path / "in" / "b.png", noise(20, 30, 1))
    for more in (["--weights", "last"], ["--eval.flip", "True"]):
        status, _, complained = command(run, *words, "skip", *more)
        assert status == 2 and "name another --out, or replace what is there" in words_of(complained)
    assert "were made by protocol" in words_of(complained)
    other = photo(tmp_path / "c.png", noise(9, 9))
    status, _, complained = command(run, other, "--out", tmp_path / "out", "--weights", "last")
    assert status == 2 and "were made by weights best and not last" in words_of(complained)
    assert (tmp_path / "out" / "prediction.json").read_text() == made
    assert command(run, *words, "skip")[0] == 0
    assert command(run, *words, "overwrite", "--weights", "last")[0] == 0


def test_predict__sixteen_bits_in_memory_are_refused_as_in_files(trained):
    deep = Image.fromarray(np.full((20, 30), 60_000, np.uint16))
    with pytest.raises(InputError, match="the image in memory has 16- or 32-bit grey values"):
        list(predict(trained, deep))


def test_predict__of_shrunk_images_knows_others_at_that_size(run, command, tmp_path):
    images = photo(tmp_path / "in" / "a.png", noise(60, 90)).parent
    change_config(run, "data", name="camvid", num_labelled=250, split_seed=0, shrink=2)
    status, said, _ = command(run, images, "--out", tmp_path / "out", "--device", "cpu")
    assert status == 0 and "scale 0.5" in said
    half = next(predict(open_trained(run, device="cpu"), images))
    assert (half.labels == array_of(tmp_path / "out" / "index" / "a.png")).all()


def test_names__no_two_images_share_a_picture():
    pictures = name_pictures(["x/a.jpg", "x/a.png", "y/a.jpg"])
    assert list(pictures.values()) == ["x/a.jpg.png", "x/a.png.png", "y/a.png"]
    with pytest.raises(InputError, match="rename the image"):
        name_pictures(["a.jpg", "a.png", "a.jpg.png"])


def test_files__gpu_memory_that_does_not_suffice(trained, tmp_path, monkeypatch):
    photo(tmp_path / "in" / "a.png", noise(90, 90))
    photo(tmp_path / "in" / "b.png", noise(20, 30))

    def full(network, images, cfg):
        if images.shape[-1] == 90:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return score_parts(network, images, cfg)

    monkeypatch.setattr(prediction, "score_parts", full)
    written = predict_files(trained, tmp_path / "in", tmp_path / "out", ("index",))
    assert written.done == 1 and "--eval.mode slide" in written.failed["a.png"]
    with pytest.raises(InputError, match="a.png: it does not fit"):
        list(predict(trained, tmp_path / "in"))


def test_files__facts_beside_the_pictures(trained, tmp_path):
    image, cfg = photo(tmp_path / "a.png", noise(9, 9)), EvalConfig(scales=(1.0, 2.0))
    predict_files(trained, image, tmp_path / "out", ("index",), cfg=cfg)
    facts = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert (facts["network"], facts["weights"], facts["done"]) == ("teacher", "best", 1)
    assert "scales 1, 2" in facts["protocol"]
    assert str(tmp_path) not in json.dumps(facts)
    assert facts["classes"][0] == dict(name="background", colour=trained.palette[0].tolist())
    assert len(facts["classes"]) == 11


@pytest.mark.parametrize("add", ["logits", "probs"])
@pytest.mark.parametrize("size", [(64, 64), (33, 45), (600, 500)])
@torch.no_grad()
def test_batch__parts_change_no_bit(trained, size, add):
    generator = torch.Generator().manual_seed(2)
    pictures = torch.randint(256, (3, 3, *size), generator=generator, dtype=torch.uint8)
    samples = [dict(id=str(i), image=image, target=None) for i, image in enumerate(pictures)]
    views, cfg = trained.run.views, EvalConfig(add=add)
    mean, std = (torch.tensor(v)[:, None, None] for v in (views.mean, views.std))
    logits = trained.network((pictures.float() / 255 - mean) / std).logits.contiguous(
        memory_format=torch.channels_last
    )
    scores = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    scores = (scores.softmax(1) if add == "probs" else scores).contiguous()
    top = scores.max(1).values
    confidence = top if add == "probs" else (top - scores.logsumexp(1)).exp()
    for p, labels, sure in zip(predict_batch(trained, samples, cfg), scores.argmax(1), confidence):
        assert (p.labels == labels.numpy()).all() and (p.confidence == sure.numpy()).all()


# Errors


def spoil(run, how):
    "Make a run folder that cannot be used."
    files, best = RunFolder(run), run / "checkpoints" / "best.pt"
    values = json.loads(files.config.read_text())
    if how == "no config":
        files.config.unlink()
    elif how == "half a config":
        files.config.write_text(files.config.read_text()[:100])
    elif how == "a list":
        files.config.write_text("[1]")
    elif how == "another method":
        files.config.write_text(json.dumps(values | dict(method="dgcll")))
    elif how == "a newer setting":
        values["model"]["wings"] = 2
        files.config.write_text(json.dumps(values))
    elif how == "other widths":
        values["model"]["decoder_channels"] = 32
        files.config.write_text(json.dumps(values))
    elif how == "no weights":
        shutil.rmtree(files.checkpoints)
    elif how == "no best":
        best.unlink()
    elif how == "cut":
        best.write_bytes(best.read_bytes()[:-1000])
    elif how == "other content":
        write_torch(best, dict(step=1, predictor=dict(a=torch.zeros(1))))


@pytest.mark.parametrize(
    "how, message",
    [
        ("no config", "is no run folder, as it has no config.json"),
        ("half a config", "config.json cannot be read as the settings of a run"),
        ("a list", "config.json cannot be read as the settings"),
        ("another method", "did you mean dgcl"),
        ("a newer setting", "unknown setting 'model.wings'"),
        ("other widths", "does not fit the config.json of its run"),
        ("no weights", "has no weights in checkpoints/"),
        ("cut", "best.pt is damaged"),
        ("other content", "best.pt holds no classifier"),
    ],
)
def test_main__runs_that_cannot_be_used(command, run, tmp_path, how, message):
    spoil(run, how)
    image, out = photo(tmp_path / "a.png", noise(9, 9)), tmp_path / "out"
    status, said, complained = command(run, image, "--out", out, "--device", "cpu")
    assert status == 2 and complained.startswith("error: ")
    assert message in complained and "Traceback" not in complained
    assert not out.exists()


def test_main__falls_back_on_the_last_weights_or_says_so(command, run, tmp_path):
    spoil(run, "no best")
    words = (run, photo(tmp_path / "a.png", noise(9, 9)), "--out", tmp_path / "out", "--device", "cpu")
    assert "step_0000006.pt: take --weights last" in command(*words, "--weights", "best")[2]
    status, said, _ = command(*words)
    assert status == 0 and "last weights, step 6" in said


class Evil:
    def __reduce__(self):
        return os.mkdir, (str(Path(os.environ["EVIL"])),)


@pytest.mark.parametrize("sealed", [False, True])
def test_main__weights_that_hold_a_program_are_refused(command, run, tmp_path, monkeypatch, sealed):
    monkeypatch.setenv("EVIL", str(tmp_path / "evil"))
    best = run / "checkpoints" / "best.pt"
    if sealed:
        write_torch(best, dict(step=1, predictor=Evil()))
    else:
        best.write_bytes(pickle.dumps(Evil()))
    status, _, complained = command(run, photo(tmp_path / "a.png", noise(9, 9)), "--out", tmp_path / "out")
    assert status == 2 and ("refused" in complained or "damaged" in complained)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        (["nowhere", "a.png"], "there is no folder nowhere"),
        (["run"], "nothing to do: name an image or a folder"),
        (["run", "a.png"], "--out is missing"),
        (["run", "--out", "out"], "--out is given, but no images"),
        (["run", "b.png", "--out", "out"], "there is no image or folder b.png"),
        (["run", "a.png", "--out", "a.png"], "--out a.png is a file"),
        (["run", "empty", "--out", "out"], "empty holds no image; expected files that end in .png"),
        (["run", "a.png", "--out", "a.png/x"], "cannot write a.png/x"),
        (["run", "a.png", "--out", "out", "--device", "cdua"], "unknown device 'cdua'; did you mean cuda"),
        (["run", "a.png", "--out", "out", "--opacity", "2"], "--opacity is 2"),
        (["run", "a.png", "--out", "out", "--kinds", "index", "index"], "each once"),
        (["run", "a.png", "--out", "out", "--eval.scales", "0"], "eval.scales is 0.0; allowed"),
        (["run", "a.png", "--out", "out", "--weights", "bset"], "best"),
        (["run", "a.png", "--outt", "out"], "--out"),
    ],
)
def test_main__wrong_words(command, runs, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "run").symlink_to(runs / "run")
    (tmp_path / "empty").mkdir()
    photo(tmp_path / "a.png", noise(9, 9))
    status, said, complained = command(*words)
    assert status == 2 and message in words_of(complained)
    assert not (tmp_path / "out").exists()


def test_main__a_flag_before_the_run_does_not_lose_its_protocol(command, run, tmp_path):
    change_config(run, "eval", mode="slide", crop=32)
    image, out = photo(tmp_path / "a.png", noise(50, 50)), tmp_path / "out"
    status, said, complained = command("--out", out, run, image, "--device", "cpu")
    assert status == 2 and "the run comes first, as its settings are the defaults" in words_of(complained)
    assert "dgcl_nb.predict RUN --out" in words_of(complained) and not out.exists()
    status, said, _ = command(run, image, "--out", out, "--device", "cpu")
    assert status == 0 and "sliding windows of 32 pixels" in said


def test_main__in_a_process_of_its_own(runs, tmp_path):
    photo(tmp_path / "in" / "a.png", noise(30, 20))
    (tmp_path / "in" / "b.png").write_text("")
    (tmp_path / "in" / "c.heic").write_text("")
    words = "in --out out --device cpu --eval.workers 1 --kinds index confidence"
    program = [sys.executable, "-m", "dgcl_nb.predict", str(runs / "run"), *words.split()]
    done = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path, env=clean_environment())
    assert done.returncode == 1 and "1 image written to out (index, confidence)" in done.stdout
    assert "1 file passed over, no image by ending: .heic" in done.stdout
    assert "not done: b.png: cannot read" in done.stderr and "Traceback" not in done.stderr
    assert Image.open(tmp_path / "out" / "index" / "a.png").size == (20, 30)


# ONNX


@needs_onnx
def test_onnx__says_what_torch_says(runs, command, trained, tmp_path):
    import onnx

    image, path = photo(tmp_path / "a.png", noise(45, 60)), tmp_path / "net.onnx"
    status, said, complained = command(runs / "run", image, "--onnx", path, "--device", "cpu")
    assert status == 0 and not complained
    assert "images of any size" in said and "logits differ from torch's by at most" in said
    for size in ((45, 60), (64, 64), (33, 90), (7, 5)):  # sizes that the exporter has not seen
        array = noise(*size, seed=1)
        labels = next(predict(trained, array, EvalConfig())).labels
        logits = run_onnx(path, torch.from_numpy(array).permute(2, 0, 1)[None])
        assert logits.shape == (1, 11, *size)
        assert (logits[0].argmax(0).numpy() == labels).mean() > 0.999
    facts = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert json.loads(facts["class_names"]) == list(trained.class_names)
    assert facts["network"] == "teacher"
    assert not [p for p in tmp_path.iterdir() if "part" in p.name]


@needs_onnx
def test_onnx__what_it_lacks_is_said(run, command, tmp_path):
    import onnx

    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"no picture")
    photo(tmp_path / "in" / "b.png", noise(40, 40))
    change_config(run, "eval", scales=[0.5])
    words = (run, tmp_path / "in", "--out", tmp_path / "out", "--onnx", tmp_path / "net.onnx")
    status, said, complained = command(*words, "--device", "cpu")
    assert status == 1 and "not done: a.png" in complained and "1 image written" in said
    assert "b.png logits differ" in said, "the first image that can be read is compared"
    assert "the network knows images at 0.5 of their size: show the file images of that size" in said
    facts = {p.key: p.value for p in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert json.loads(facts["scales"]) == [0.5]


@needs_onnx
def test_onnx__a_file_that_is_there(runs, command, trained, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_text("mine")
    status, _, complained = command(runs / "run", "--onnx", path)
    assert status == 2 and "exists; name another file" in complained
    assert path.read_text() == "mine"
    status, said, _ = command(runs / "run", "--onnx", path, "--existing", "overwrite", "--device", "cpu")
    assert status == 0 and "on noise" in said
    with pytest.raises(InputError, match="cannot write --onnx"):
        export_onnx(trained, path / "net.onnx")


@needs_onnx
def test_onnx__a_graph_that_says_something_else_is_refused(trained, tmp_path, monkeypatch):
    wrong_mean = Framed(trained.network, (0.1, 0.1, 0.1), trained.run.views.std).eval()  # a faulty frame
    write = onnx_export.write_graph

    def write_other(framed, images, path, dynamo):
        write(wrong_mean, images, path, False)

    monkeypatch.setattr(onnx_export, "write_graph", write_other)
    with pytest.raises(OnnxFailed, match="traced: logits differ by .*; dynamo: logits differ by"):
        export_onnx(trained, tmp_path / "net.onnx", noise(40, 40))
    assert not list(tmp_path.iterdir()), "no file is left"


@needs_onnx
def test_onnx__one_size_where_the_tracer_fails(trained, tmp_path, monkeypatch):
    write = onnx_export.write_graph

    def broken(framed, images, path, dynamo):
        if not dynamo:
            raise RuntimeError("the traced exporter is gone")
        write(framed, images, path, dynamo)

    monkeypatch.setattr(onnx_export, "write_graph", broken)
    check = export_onnx(trained, tmp_path / "net.onnx", noise(40, 40))
    assert check.exporter == "dynamo" and not check.any_size
    assert check.difference < 1e-3 * check.largest


@needs_onnx
def test_onnx__a_transformer_gets_a_file_of_one_size(run, tmp_path, capfd):
    "Its positions are resized in a way that the traced exporter does not know."
    pyramid = dict(output_stride=16, aspp_rates=[6, 12, 18], aspp_pool=True, low_level_channels=48)
    values = change_config(run, "model", encoder="test_vit", last_stage=-1, pretrained="none", **pyramid)
    predictor = next(iter(build_method(run_from_dict(values), 11).scored().values()))
    best = dict(step=1, miou=0.0, predictor=predictor.state_dict())
    write_torch(run / "checkpoints" / "best.pt", best)
    trained = open_trained(run, device="cpu")
    check = export_onnx(trained, tmp_path / "net.onnx", noise(50, 70))
    assert check.exporter == "dynamo" and not check.any_size
    assert check.agreement > 0.999
    assert "graph" not in "".join(capfd.readouterr())
    assert next(predict(trained, noise(50, 70))).labels.shape == (50, 70)


def test_onnx__without_the_extra(command, runs, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export.importlib.util, "find_spec", lambda name: None)
    status, _, complained = command(runs / "run", "--onnx", tmp_path / "net.onnx")
    assert status == 2
    assert "--onnx needs onnx, onnxruntime, onnxscript: pip install 'dgcl_nb[onnx]'" in complained


def test_predict__by_the_precision_of_the_run(runs, run):
    change_config(run, "loop", precision="bf16")
    half, full = (next(predict(open_trained(r, device="cpu"), noise(40, 40))) for r in (run, runs / "run"))
    assert 0 < np.abs(half.confidence - full.confidence).max() < 0.2
    change_config(run, "loop", precision="fp16")
    assert open_trained(run, device="cpu").precision == "no"


def test_predict__one_image_without_room_does_not_end_the_others(runs, command, tmp_path, monkeypatch):
    for name, side in (("a", 40), ("b", 90), ("c", 41)):
        photo(tmp_path / "in" / f"{name}.png", noise(side, side))
    monkeypatch.setattr(prediction, "free_memory", lambda: prediction.COPIES * 4 * 11 * 60**2)
    status, said, complained = command(runs / "run", tmp_path / "in", "--out", tmp_path / "out")
    assert status == 1 and "not done: b.png: it does not fit into the memory" in words_of(complained)
    assert sorted(p.name for p in (tmp_path / "out" / "index").iterdir()) == ["a.png", "c.png"]


def test_predict__room_is_counted_at_the_largest_size(trained, monkeypatch):
    monkeypatch.setattr(prediction, "free_memory", lambda: prediction.COPIES * 4 * 11 * 60**2)
    for scales, is_done in (((1.0,), True), ((0.5, 1.0), True), ((1.0, 2.0), False)):
        failed = {}
        cfg = EvalConfig(scales=scales)
        done = list(predictions_of(trained, {"x": noise(40, 40)}, cfg, failed.__setitem__))
        assert (len(done), failed) == ((1, {}) if is_done else (0, {"x": prediction.NO_ROOM}))


def test_predict__what_torch_and_pillow_say_of_memory(trained, monkeypatch):
    def refuse(*_):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")

    failed = {}
    monkeypatch.setattr(prediction, "predict_batch", refuse)
    assert not list(predictions_of(trained, {"x": noise(20, 20)}, EvalConfig(), failed.__setitem__))
    monkeypatch.setattr(prediction, "as_image", lambda source: np.empty((2**40, 2**20), np.uint8))
    assert not list(predictions_of(trained, {"y": noise(20, 20)}, EvalConfig(), failed.__setitem__))
    assert failed == dict.fromkeys("xy", prediction.NO_ROOM)


def test_predict__replaces_files_only(runs, command, tmp_path, trained):
    image, onnx = photo(tmp_path / "a.png", noise(30, 30)), tmp_path / "net.onnx"
    (tmp_path / "out" / "index").mkdir(parents=True)
    for path in (onnx, tmp_path / "out" / "index" / "a.png"):
        os.mkfifo(path)
    over = ("--existing", "overwrite", "--device", "cpu")
    status, _, complained = command(runs / "run", image, "--out", tmp_path / "out", *over)
    assert status == 2 and "no regular file" in words_of(complained)
    if not NO_ONNX:
        status, _, complained = command(runs / "run", "--onnx", onnx, *over)
        assert status == 2 and "cannot write --onnx" in words_of(complained)
        assert onnx.is_fifo()
    assert (tmp_path / "out" / "index" / "a.png").is_fifo()
