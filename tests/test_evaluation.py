"""Evaluation against slow references: sliding windows, sizes, processes, and a network that is left as it was."""
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
from dgcl_nb.evaluation import EvalConfig, evaluate, predict_labels, window_starts, windows_of
from dgcl_nb.metrics import SegScore, cluster_scores, pixels_per_class

MEAN, STD = (.5, .4, .3), (.2, .25, .3)


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
        self.body = nn.Sequential(nn.Conv2d(3, dim, 7, stride=4, padding=3), nn.BatchNorm2d(dim), nn.ReLU(), nn.Dropout(.5), nn.Conv2d(dim, dim, 3, padding=1))
        self.head = nn.Conv2d(dim, num_classes, 1)

    def forward(self, images):
        feats = self.body(images)
        return Output(self.head(feats), feats, feats)


class Scenes(torch.utils.data.Dataset):
    def __init__(self, sizes, num_classes=4):
        self.sizes, self.ids, self.num_classes = sizes, [f"val-{i}" for i in range(len(sizes))], num_classes
    def __len__(self): return len(self.sizes)
    def __getitem__(self, i):
        gen = torch.Generator().manual_seed(i)
        target = torch.randint(0, self.num_classes, self.sizes[i], generator=gen); target[:2] = IGNORE_INDEX
        return dict(image=torch.randint(0, 256, (3, *self.sizes[i]), generator=gen, dtype=torch.uint8), target=target, id=self.ids[i])


def run(network, dataset, cfg=None, **kwargs): return evaluate(network, dataset, 4, cfg or EvalConfig(), torch.device("cpu"), MEAN, STD, **kwargs)


def slow_slide(network, image, crop, stride, add):
    "One image (3, H, W), window by window and pixel by pixel."
    height, width = image.shape[1:]; step = math.ceil(crop * stride); total = np.zeros((4, height, width))
    def starts(n):
        if n <= crop: return [0]
        found, at = [], 0
        while at + crop < n: found.append(at); at += step
        return found + [n - crop]
    for y in starts(height):
        for x in starts(width):
            h, w = min(crop, height), min(crop, width)
            z = F.interpolate(network(image[None, :, y:y + h, x:x + w]).logits, size=(h, w), mode="bilinear", align_corners=False)[0]
            if add == "probs": z = z.softmax(0)
            for i in range(h):
                for j in range(w): total[:, y + i, x + j] += z[:, i, j].numpy()
    return total.argmax(0)


@pytest.mark.parametrize("size, crop, stride, add", [
    ((50, 37), 24, 2/3, "logits"), ((20, 70), 32, .5, "logits"), ((33, 45), 20, 1., "probs"), ((16, 16), 24, 2/3, "probs"),
])
@torch.no_grad()
def test_slide__equals_slow_reference(size, crop, stride, add):
    network, images = TinyNetwork().eval(), torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    got = predict_labels(network, images, EvalConfig(mode="slide", crop=crop, stride=stride, add=add))
    for labels, image in zip(got, images): assert (labels.numpy() == slow_slide(network, image, crop, stride, add)).all()


@pytest.mark.parametrize("crop, stride", [(1, 1.), (7, .1), (16, 2/3), (64, 1.)])
def test_windows__cover_and_are_whole(crop, stride):
    for length in range(1, 100):
        starts = window_starts(length, crop, stride)
        assert starts == sorted(set(starts)) and starts[0] == 0
        assert {p for s in starts for p in range(s, min(s + crop, length))} == set(range(length))
        assert length <= crop or all(s + crop <= length for s in starts)
    assert len(windows_of(99, 99, EvalConfig(mode="slide", crop=crop, stride=stride))) == len(window_starts(99, crop, stride))**2


def test_evaluate__equals_one_image_at_a_time():
    network, scenes = TinyNetwork(), Scenes([(32, 32)] * 5)
    got = run(network, scenes, EvalConfig(batch_size=2), collect_feats=30, with_background=True)
    network.eval(); score, feats = SegScore(4), []
    for s in (scenes[i] for i in range(5)):
        x = (s["image"][None] / 255 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
        with torch.no_grad(): out = network(x)
        score.update(F.interpolate(out.logits, size=(32, 32), mode="bilinear", align_corners=False).argmax(1), s["target"][None]); feats.append(out.feats)
    assert got.score[:3] == score.compute()[:3]
    targets = torch.stack([scenes[i]["target"] for i in range(5)])
    for clusters, background in ((got.clusters, False), (got.clusters_with_background, True)):
        assert clusters[:3] == pytest.approx(cluster_scores(*pixels_per_class(torch.cat(feats), targets, 30, background=background))[:3], rel=1e-4)
    assert got.clusters.num_points == 90 and got.clusters_with_background.num_points == 120


@pytest.mark.parametrize("cfg", [EvalConfig(batch_size=1), EvalConfig(batch_size=3), EvalConfig(mode="slide", crop=24), EvalConfig(workers=1)], ids=str)
def test_evaluate__different_sizes_count_every_pixel_once(cfg):
    scenes = Scenes([(32, 32), (32, 32), (20, 41), (41, 20), (32, 32)])
    got = run(TinyNetwork(), scenes, cfg, collect_feats=20)
    assert got.score.confusion.sum() == sum((h - 2) * w for h, w in scenes.sizes) and got.clusters.num_points == 60


def test_evaluate__leaves_modes_weights_and_generators():
    network = TinyNetwork().train(); network.body[1].eval(); network.head.weight.requires_grad_(False)
    before = {k: v.clone() for k, v in network.state_dict().items()}; rng = torch.get_rng_state()
    run(network, Scenes([(16, 16)] * 3), collect_feats=10)
    assert network.training and not network.body[1].training and network.body[3].training
    assert torch.equal(rng, torch.get_rng_state()) and all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    with pytest.raises(InputError): run(network, Scenes([(16, 16)], num_classes=9))                # modes are restored after an error too
    assert network.training and not network.body[1].training


def test_evaluate__channels_last_changes_nothing():
    network, scenes = TinyNetwork(), Scenes([(32, 32)] * 3)
    plain = run(network, scenes).score.miou
    assert run(network.to(memory_format=torch.channels_last), scenes, channels_last=True).score.miou == pytest.approx(plain, abs=.1)


def test_evaluate__protocol_is_said():
    assert run(TinyNetwork(), Scenes([(16, 16)])).protocol.startswith("whole images, original resolution, single scale, no flip; 1 images; mIoU")
    said = run(TinyNetwork(), Scenes([(16, 16)]), EvalConfig(mode="slide", crop=8)).protocol
    assert "sliding windows of 8 pixels, step 6, sum of logits" in said


@pytest.mark.parametrize("kwargs, message", [
    (dict(mode="slid"), "unknown evaluation mode 'slid'; did you mean slide"), (dict(mode="slide"), "eval.crop is 0"),
    (dict(crop=5), "has no effect on whole images"), (dict(stride=0), "eval.stride is 0; allowed"), (dict(batch_size=0), "eval.batch_size is 0"),
    (dict(workers=-1), "eval.workers is -1"), (dict(add="logit"), "did you mean logits"),
])
def test_config__says_what_is_allowed(kwargs, message):
    with pytest.raises(InputError, match=message): EvalConfig(**kwargs)


class Broken(Scenes):
    def __init__(self, change): super().__init__([(16, 16)] * 2); self.change = change
    def __getitem__(self, i): return super().__getitem__(i) | (self.change if i == 1 else {})


@pytest.mark.parametrize("dataset, message", [
    (Scenes([]), "the evaluation set is empty"), (Broken(dict(target=None)), "image 'val-1' has no target"),
    (Broken(dict(target=torch.zeros(16, 15, dtype=torch.long))), "image 'val-1' is 16×16 and its mask 16×15"),
    (Broken(dict(target=torch.full((16, 16), 9))), "target value 9 found; allowed: 0 to 3"),
])
def test_evaluate__bad_input(dataset, message):
    with pytest.raises(InputError, match=message): run(TinyNetwork(), dataset)


def rank_main(rank, world, folder):
    os.environ["OMP_NUM_THREADS"] = "1"; torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    found = [run(TinyNetwork(), Scenes([(16, 16)] * n), collect_feats=10, rank=rank, world=world) for n in (5, 1)]
    torch.save([(r.score.confusion, r.score.miou, r.clusters[:5]) for r in found], f"{folder}/{rank}.pt")
    dist.barrier(); dist.destroy_process_group()     # nobody leaves while another still reads
    os._exit(0)                                      # gloo's threads now and then abort the interpreter's own way out; what counts is in the file


def test_evaluate__two_processes_equal_one():
    "Five images over two processes, and one image, of which the second process gets none."
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(rank_main, args=(2, folder), nprocs=2)
        ranks = [torch.load(f"{folder}/{r}.pt") for r in range(2)]
    for i, num in enumerate((5, 1)):
        one = run(TinyNetwork(), Scenes([(16, 16)] * num), collect_feats=10)
        for found in ranks:
            assert torch.equal(found[i][0], one.score.confusion) and found[i][1] == one.score.miou
            assert found[i][2] == pytest.approx(one.clusters[:5], rel=1e-3)
