"""Evaluation against slow references: windows, sizes, processes, and a network that is left as it was."""

import math
import os
import tempfile
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor, nn

from dgcl_nb.core import IGNORE_INDEX, InputError
from dgcl_nb.evaluation import BATCH_PIXELS, describe_protocol, equal_sized_batches, evaluate, sizes_vary
from dgcl_nb.metrics import SegScore, cluster_scores, pixels_per_class
from dgcl_nb.windows import (
    EvalConfig,
    labels_of,
    mean_of_passes,
    predict_labels,
    upsample,
    window_starts,
    windows_of,
)

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


class Output(NamedTuple):
    logits: Tensor
    feats: Tensor
    proj: Tensor
    aux: Tensor | None = None


class TinyNetwork(nn.Module):
    "Stride 4, looks around itself, and has the parts whose mode matters."

    def __init__(self, num_classes=4, dim=6):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(3, dim, 7, stride=4, padding=3),
            nn.BatchNorm2d(dim),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Conv2d(dim, dim, 3, padding=1),
        )
        self.head = nn.Conv2d(dim, num_classes, 1)
        with torch.no_grad():
            means = self.eval()(torch.randn(4, 3, 64, 64)).logits.mean((0, 2, 3))
            self.head.bias.sub_(means)  # it says every class somewhere
        self.train()

    def forward(self, images):
        feats = self.body(images)
        return Output(self.head(feats), feats, feats)


class Scenes(torch.utils.data.Dataset):
    def __init__(self, sizes, num_classes=4):
        self.sizes, self.ids, self.num_classes = sizes, [f"val-{i}" for i in range(len(sizes))], num_classes

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, i):
        gen = torch.Generator().manual_seed(i)
        target = torch.randint(0, self.num_classes, self.sizes[i], generator=gen)
        target[:2] = IGNORE_INDEX
        image = torch.randint(0, 256, (3, *self.sizes[i]), generator=gen, dtype=torch.uint8)
        return dict(image=image, target=target, id=self.ids[i])


def run(network, dataset, cfg=None, background=0, **more):
    device = torch.device("cpu")
    more |= dict(background=background)
    return evaluate(network, dataset, 4, cfg or EvalConfig(), device, MEAN, STD, **more)


class Projecting(TinyNetwork):
    "Can leave out its projection, and knows whether it was asked to."

    asked = ()

    def forward(self, images, with_proj=True):
        self.asked = {*self.asked, with_proj}
        return super().forward(images)


@pytest.mark.parametrize("cfg", [EvalConfig(), EvalConfig(mode="slide", crop=24), EvalConfig(flip=True)])
def test_evaluate__no_projection_is_computed(cfg):
    network, scenes = Projecting(), Scenes([(32, 40)] * 3)
    network.asked = ()
    ours, plain = (run(net, scenes, cfg).score.confusion for net in (network, TinyNetwork()))
    assert torch.equal(ours, plain)
    assert network.asked == {False}


def normalised(image):
    "What a network is shown of an image (3, H, W) u8."
    return (image / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def bilinear(logits, size):
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def slow_starts(length, crop, step):
    if length <= crop:
        return [0]
    found, at = [], 0
    while at + crop < length:
        found.append(at)
        at += step
    return found + [length - crop]


def slow_slide(network, image, crop, stride, add):
    "One image (3, H, W), window by window and pixel by pixel."
    height, width = image.shape[1:]
    step = math.ceil(crop * stride)
    total = np.zeros((4, height, width))
    for y in slow_starts(height, crop, step):
        for x in slow_starts(width, crop, step):
            h, w = min(crop, height), min(crop, width)
            z = bilinear(network(image[None, :, y : y + h, x : x + w]).logits, (h, w))[0]
            if add == "probs":
                z = z.softmax(0)
            for i in range(h):
                for j in range(w):
                    total[:, y + i, x + j] += z[:, i, j].numpy()
    return total.argmax(0)


@pytest.mark.parametrize(
    "size, crop, stride, add",
    [
        ((50, 37), 24, 2 / 3, "logits"),
        ((20, 70), 32, 0.5, "logits"),
        ((33, 45), 20, 1.0, "probs"),
        ((16, 16), 24, 2 / 3, "probs"),
    ],
)
@torch.no_grad()
def test_slide__equals_slow_reference(size, crop, stride, add):
    network = TinyNetwork().eval()
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    got = predict_labels(network, images, EvalConfig(mode="slide", crop=crop, stride=stride, add=add))
    for labels, image in zip(got, images):
        assert (labels.numpy() == slow_slide(network, image, crop, stride, add)).all()


@pytest.mark.parametrize("size", [(64, 64), (37, 50), (180, 240), (700, 900)], ids=str)
def test_whole__parts_change_no_label(size):
    "Not of equal logits, where the first class counts, and not of those that are no numbers."
    generator = torch.Generator().manual_seed(3)
    small = [-(-n // 4) for n in size]
    smooth = torch.randn(5, 11, *small, generator=generator)
    equal = torch.randint(3, smooth.shape, generator=generator).float()
    broken = smooth.clone()
    broken[1, 4, 2:5] = torch.nan
    broken[2, 7, 3, 4] = torch.inf
    for logits in (smooth, equal, broken, smooth.half()):
        assert torch.equal(labels_of(logits, size), upsample(logits, size).argmax(1))


@pytest.mark.parametrize("crop, stride", [(1, 1.0), (7, 0.1), (16, 2 / 3), (64, 1.0)])
def test_windows__cover_and_are_whole(crop, stride):
    for length in range(1, 100):
        starts = window_starts(length, crop, stride)
        assert starts == sorted(set(starts)) and starts[0] == 0
        assert {p for s in starts for p in range(s, min(s + crop, length))} == set(range(length))
        assert length <= crop or all(s + crop <= length for s in starts)
    windows = windows_of(99, 99, EvalConfig(mode="slide", crop=crop, stride=stride))
    assert len(windows) == len(window_starts(99, crop, stride)) ** 2


# Several sizes and mirror images, against NumPy in float64, pixel by pixel


def row_weights(old, new, antialias):
    "(new, old) weights of a bilinear resize along one axis, cells seen as areas."
    step, weights = old / new, np.zeros((new, old))
    reach = max(step, 1.0) if antialias else 1.0
    for i in range(new):
        centre = (i + 0.5) * step
        for j in range(-1, old + 1):
            w = max(0.0, 1 - abs(j + 0.5 - centre) / reach)
            if antialias and not 0 <= j < old:
                continue  # what lies outside is left out, ...
            weights[i, min(max(j, 0), old - 1)] += w  # ... or the edge stands for it
        weights[i] /= weights[i].sum()
    return weights


def slow_resize(maps, size, antialias=False):
    "(C, h, w) to (C, H, W)."
    down, across = (row_weights(old, new, antialias) for old, new in zip(maps.shape[1:], size))
    return np.einsum("yh,chw,xw->cyx", down, maps, across)


def slow_pass(network, image, cfg):
    "(4, H, W) of one image (3, H, W) as it is, float64: the mean over its windows."
    size = image.shape[1:]
    said, votes = np.zeros((4, *size)), np.zeros(size)
    step = math.ceil(cfg.crop * cfg.stride)
    crop = cfg.crop if cfg.mode == "slide" else max(size)
    x = torch.from_numpy(image.copy()).float()[None]
    for top in slow_starts(size[0], crop, step):
        for left in slow_starts(size[1], crop, step):
            here = (..., slice(top, top + crop), slice(left, left + crop))
            z = slow_resize(network(x[here]).logits[0].double().numpy(), x[here].shape[2:])
            if cfg.add == "probs":
                z = np.exp(z) / np.exp(z).sum(0)
            said[here] += z
            votes[here] += 1
    return said / votes


def slow_scores(network, image, cfg):
    "(4, H, W): what the network says of one image (3, H, W), by a protocol."
    total = np.zeros((4, *image.shape[1:]))
    for scale in cfg.scales:
        size = [max(1, round(n * scale)) for n in image.shape[1:]]
        seen = slow_resize(image.double().numpy(), size, antialias=True)
        total += slow_resize(slow_pass(network, seen, cfg), image.shape[1:])
        if cfg.flip:
            mirrored = slow_pass(network, seen[:, :, ::-1], cfg)
            total += slow_resize(mirrored[:, :, ::-1], image.shape[1:])
    return total / (len(cfg.scales) * (1 + cfg.flip))


PASSES = [
    dict(flip=True),
    dict(scales=(0.5, 1.0, 1.75)),
    dict(scales=(0.6, 1.3), flip=True, add="probs"),
    dict(scales=(0.5,), mode="slide", crop=16),
    dict(scales=(0.75, 1.5), flip=True, mode="slide", crop=20, stride=0.5),
    dict(scales=(1.0, 2.0), mode="slide", crop=24, add="probs"),
]


@pytest.mark.parametrize("kwargs", PASSES, ids=str)
@torch.no_grad()
def test_passes__equal_slow_reference(kwargs):
    network, cfg = TinyNetwork().eval(), EvalConfig(**kwargs)
    images = torch.randn(2, 3, 37, 50, generator=torch.Generator().manual_seed(1))
    found = mean_of_passes(network, images, cfg)
    for scores, labels, image in zip(found, predict_labels(network, images, cfg), images):
        slow = slow_scores(network, image, cfg)
        assert np.abs(scores.numpy() - slow).max() < 1e-5
        assert (labels.numpy() == slow.argmax(0)).all()


@pytest.mark.parametrize("kwargs", [dict(), dict(mode="slide", crop=20), *PASSES[2::2]], ids=str)
@torch.no_grad()
def test_evaluate__equals_slow_reference_to_the_last_pixel(kwargs):
    "Images of different sizes, counted one pixel after the other."
    cfg, network = EvalConfig(batch_size=2, **kwargs), TinyNetwork()
    scenes, counts = Scenes([(32, 32), (32, 32), (21, 40), (40, 21)]), np.zeros((4, 4), int)
    got = run(network, scenes, cfg, collect_feats=20)
    network.eval()
    for s in (scenes[i] for i in range(4)):
        labels = slow_scores(network, normalised(s["image"]), cfg).argmax(0)
        for truth, said in zip(s["target"].flatten().tolist(), labels.flatten().tolist()):
            if truth != IGNORE_INDEX:
                counts[truth, said] += 1
    assert (got.score.confusion.numpy() == counts).all()
    assert (counts.sum(0) > 0).all()
    unions = [counts[c].sum() + counts[:, c].sum() - counts[c, c] for c in range(4)]
    ious = [100 * counts[c, c] / unions[c] for c in range(4)]
    assert got.score.miou == pytest.approx(np.mean(ious), abs=1e-9)


@pytest.mark.parametrize("mode", [dict(), dict(mode="slide", crop=24)], ids=str)
def test_passes__features_are_those_of_the_plain_image(mode):
    network, scenes = TinyNetwork(), Scenes([(32, 32)] * 3)
    plain = run(network, scenes, EvalConfig(**mode), collect_feats=20).clusters
    for scales in ((1.0, 0.5), (0.5,)):
        cfg = EvalConfig(scales=scales, flip=True, **mode)
        assert run(network, scenes, cfg, collect_feats=20).clusters == plain


def test_batches__hold_few_large_images():
    side = int((BATCH_PIXELS // 3) ** 0.5)
    large = dict(image=torch.empty(3, side, side, dtype=torch.uint8, device="meta"))
    huge = dict(image=torch.empty(3, 9 * side, side, dtype=torch.uint8, device="meta"))
    assert [len(b) for b in equal_sized_batches([large] * 7, 32)] == [3, 3, 1]
    assert [len(b) for b in equal_sized_batches([huge] * 2, 32)] == [1, 1]


def test_evaluate__tells_how_far_it_is():
    seen = []
    run(TinyNetwork(), Scenes([(16, 16)] * 5), EvalConfig(batch_size=2), watch=seen.append)
    assert seen == [2, 2, 1]


def test_evaluate__equals_one_image_at_a_time():
    network, scenes = TinyNetwork(), Scenes([(32, 32)] * 5)
    got = run(network, scenes, EvalConfig(batch_size=2), collect_feats=30, with_background=True)
    network.eval()
    score, feats = SegScore(4), []
    for s in (scenes[i] for i in range(5)):
        with torch.no_grad():
            out = network(normalised(s["image"])[None])
        score.update(bilinear(out.logits, (32, 32)).argmax(1), s["target"][None])
        feats.append(out.feats)
    assert got.score[:3] == score.compute()[:3]
    targets = torch.stack([scenes[i]["target"] for i in range(5)])
    for clusters, without in ((got.clusters, 0), (got.clusters_with_background, None)):
        expected = cluster_scores(*pixels_per_class(torch.cat(feats), targets, 30, without=without))
        assert clusters[:3] == pytest.approx(expected[:3], rel=1e-4)
    assert got.clusters.num_points == 90
    assert got.clusters_with_background.num_points == 120


class ByteScenes(Scenes):
    "As files give them: classes in bytes, which hold no number of a cell of a 19 x 19 confusion matrix."

    def __getitem__(self, i):
        sample = super().__getitem__(i)
        return sample | dict(target=sample["target"].to(torch.uint8))


def test_evaluate__masks_of_bytes_score_as_those_of_int64():
    where = 19, EvalConfig(), torch.device("cpu"), MEAN, STD
    sets = [kind([(32, 32)] * 5, num_classes=19) for kind in (Scenes, ByteScenes)]
    network = TinyNetwork()
    found = [evaluate(network, scenes, *where, collect_feats=30) for scenes in sets]
    assert torch.equal(found[0].score.confusion, found[1].score.confusion)
    assert found[0].clusters[:3] == found[1].clusters[:3]


def test_evaluate__which_class_is_background_is_said_by_the_data():
    "No class, the first, or another: what is left out of the cluster scores, and what the protocol says."
    network, scenes = TinyNetwork(), Scenes([(32, 32)] * 5)
    found = {
        b: run(network, scenes, collect_feats=30, background=b, with_background=True) for b in (None, 0, 2)
    }
    assert found[None].clusters == found[0].clusters_with_background == found[2].clusters_with_background
    assert found[None].clusters_with_background is None
    assert [f.clusters.num_points for f in found.values()] == [120, 90, 90]
    assert found[0].clusters != found[2].clusters
    assert [("incl. background" in f.protocol) for f in found.values()] == [False, True, True]
    assert found[None].score[:3] == found[0].score[:3] == found[2].score[:3], "mIoU is over all classes"
    assert run(network, scenes, collect_feats=30).clusters_with_background is None, "only if asked for"


@pytest.mark.parametrize(
    "kwargs",
    [
        dict(batch_size=1),
        dict(batch_size=3),
        dict(mode="slide", crop=24),
        dict(workers=1),
        dict(scales=(0.5, 1.5), flip=True),
    ],
    ids=str,
)
def test_evaluate__different_sizes_count_every_pixel_once(kwargs):
    cfg = EvalConfig(**kwargs)
    scenes = Scenes([(32, 32), (32, 32), (20, 41), (41, 20), (32, 32)])
    got = run(TinyNetwork(), scenes, cfg, collect_feats=20)
    assert got.score.confusion.sum() == sum((h - 2) * w for h, w in scenes.sizes)
    assert got.clusters.num_points == 60


def test_evaluate__leaves_modes_weights_and_generators():
    network = TinyNetwork().train()
    network.body[1].eval()
    network.head.weight.requires_grad_(False)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    rng = torch.get_rng_state()
    run(network, Scenes([(16, 16)] * 3), collect_feats=10)
    assert network.training and not network.body[1].training and network.body[3].training
    assert torch.equal(rng, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    with pytest.raises(InputError):
        run(network, Scenes([(16, 16)], num_classes=9))  # modes are restored after an error too
    assert network.training and not network.body[1].training


class Counter:
    "A compiler that compiles nothing, but counts."

    def __init__(self):
        self.num = 0

    def __call__(self, graph, inputs):
        self.num += 1
        return graph.forward


@pytest.mark.parametrize(
    "cfg", [EvalConfig(), EvalConfig(scales=(0.5, 1.5)), EvalConfig(mode="slide", crop=20)], ids=str
)
def test_evaluate__compiles_nothing_for_its_sizes(cfg):
    "A network that training has compiled stays as it is, and gives the figures of one that was not."
    counter, network = Counter(), TinyNetwork()
    network.compile(backend=counter)
    network(torch.randn(2, 3, 32, 32))
    in_training = counter.num
    assert in_training > 0
    uncompiled = TinyNetwork()
    uncompiled.load_state_dict(network.state_dict())
    scenes = Scenes([(32, 32), (24, 40), (40, 24), (17, 33)])
    found, plain = (run(n, scenes, cfg, collect_feats=20) for n in (network, uncompiled))
    assert found.clusters == plain.clusters and torch.equal(found.score.confusion, plain.score.confusion)
    assert counter.num == in_training
    network(torch.randn(2, 3, 32, 32))
    assert counter.num == in_training, "the next step finds its compiled form"


@pytest.mark.parametrize("is_tuning", [True, False])
def test_sizes_vary__nothing_is_tuned_and_the_setting_comes_back(is_tuning, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", is_tuning)
    seen = []
    network = TinyNetwork()
    network.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.benchmark))
    run(network, Scenes([(16, 16)] * 2))
    assert seen == [False] and torch.backends.cudnn.benchmark is is_tuning
    with pytest.raises(KeyError):
        with sizes_vary():
            raise KeyError
    assert torch.backends.cudnn.benchmark is is_tuning


def test_evaluate__channels_last_changes_nothing():
    network, scenes = TinyNetwork(), Scenes([(32, 32)] * 3)
    plain = run(network, scenes).score.miou
    network.to(memory_format=torch.channels_last)
    assert run(network, scenes, channels_last=True).score.miou == pytest.approx(plain, abs=0.1)


def test_protocol__one_image_is_one_image():
    assert "; 1 image; " in describe_protocol(EvalConfig(), 1, 3)
    assert "; 2 images; " in describe_protocol(EvalConfig(), 2, 3)


@pytest.mark.parametrize(
    "kwargs, said",
    [
        (dict(), "whole images, original resolution, single scale, no flip; 1 image; mIoU"),
        (
            dict(mode="slide", crop=8),
            "sliding windows of 8 pixels, step 6, sum of logits, original resolution",
        ),
        (
            dict(scales=(0.5, 2.0), flip=True, add="probs"),
            "whole images, original resolution, scales 0.5, 2, each also mirrored, mean of probs; 1 image",
        ),
        (dict(scales=(0.5,)), "whole images, original resolution, scale 0.5, no flip; 1 image"),
    ],
)
def test_evaluate__protocol_is_said(kwargs, said):
    protocol = run(TinyNetwork(), Scenes([(16, 16)]), EvalConfig(**kwargs)).protocol
    assert protocol.startswith(said)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        (dict(mode="slid"), "unknown eval.mode 'slid'; did you mean slide"),
        (dict(mode="slide"), "eval.crop is 0"),
        (dict(crop=5), "has no effect on whole images"),
        (dict(stride=0), "eval.stride is 0; allowed"),
        (dict(batch_size=0), "eval.batch_size is 0"),
        (dict(workers=-1), "eval.workers is -1"),
        (dict(add="logit"), "did you mean logits"),
        (dict(scales=()), "eval.scales is empty; allowed"),
        (dict(scales=(1.0, 0.0)), "eval.scales is 1.0 0.0; allowed for each entry"),
        (dict(scales=(0.5, 0.5)), "eval.scales is 0.5 0.5; allowed"),
    ],
)
def test_config__says_what_is_allowed(kwargs, message):
    with pytest.raises(InputError, match=message):
        EvalConfig(**kwargs)


class Broken(Scenes):
    def __init__(self, change):
        super().__init__([(16, 16)] * 2)
        self.change = change

    def __getitem__(self, i):
        return super().__getitem__(i) | (self.change if i == 1 else {})


@pytest.mark.parametrize(
    "dataset, message",
    [
        (Scenes([]), "the evaluation set is empty"),
        (Broken(dict(target=None)), "image 'val-1' has no target"),
        (Broken(dict(target=torch.zeros(16, 15))), "image 'val-1' is 16×16 and its mask 16×15"),
        (Broken(dict(target=torch.full((16, 16), 9))), "target value 9 found; allowed: 0 to 3"),
    ],
)
def test_evaluate__bad_input(dataset, message):
    with pytest.raises(InputError, match=message):
        run(TinyNetwork(), dataset)


SHARED = [
    (5, EvalConfig()),
    (1, EvalConfig()),
    (5, EvalConfig(mode="slide", crop=12, scales=(0.75, 1.5), flip=True)),
]


def rank_main(rank, world, folder):
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    how = dict(collect_feats=10, rank=rank, world=world)
    found = [run(TinyNetwork(), Scenes([(16, 16)] * n), cfg, **how) for n, cfg in SHARED]
    torch.save([(r.score.confusion, r.score.miou, r.clusters[:5]) for r in found], f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()  # nobody leaves while another still reads
    os._exit(0)  # gloo's threads now and then abort the interpreter's own way out; what counts is in the file


def test_evaluate__two_processes_equal_one():
    "Five images over two processes, and one image, of which the second process gets none."
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(rank_main, args=(2, folder), nprocs=2)
        ranks = [torch.load(f"{folder}/{r}.pt") for r in range(2)]
    for i, (num, cfg) in enumerate(SHARED):
        one = run(TinyNetwork(), Scenes([(16, 16)] * num), cfg, collect_feats=10)
        for found in ranks:
            assert torch.equal(found[i][0], one.score.confusion)
            assert found[i][1] == one.score.miou
            assert found[i][2] == pytest.approx(one.clusters[:5], rel=1e-3)
