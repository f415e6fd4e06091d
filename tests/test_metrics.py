"""Metrics against slow references, the sample's independence of batches, and what is not defined."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fakecuda import fake_cuda, on_cuda
from hypothesis import given, settings
from hypothesis import strategies as st

from dgcl_nb.core import IGNORE_INDEX, InputError
from dgcl_nb.metrics import (
    PixelSample,
    SegScore,
    cell_labels,
    cluster_scores,
    lowest_keys,
    pixels_per_class,
    pseudo_label_scores,
)


def slow_iou(preds, targets, num_classes):
    "Pixel by pixel, in Python integers."
    inter, union = [0] * num_classes, [0] * num_classes
    for p, t in zip(preds.flatten().tolist(), targets.flatten().tolist()):
        if t == IGNORE_INDEX:
            continue
        for c in {p, t}:
            union[c] += 1
        if p == t:
            inter[p] += 1
    return [100 * i / u if u else None for i, u in zip(inter, union)]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 6), st.integers(1, 4))
def test_seg_score__equals_slow_reference(seed, num_classes, num_batches):
    gen = torch.Generator().manual_seed(seed)
    preds = torch.randint(0, num_classes, (num_batches, 2, 5, 6), generator=gen)
    targets = torch.randint(0, num_classes, preds.shape, generator=gen)
    targets[torch.rand(targets.shape, generator=gen) < 0.3] = IGNORE_INDEX
    score = SegScore(num_classes)
    for p, t in zip(preds, targets):
        score.update(p, t)
    got, expected = score.compute(), slow_iou(preds, targets, num_classes)
    assert got.left_out == [c for c, v in enumerate(expected) if v is None]
    assert got.iou_per_class == pytest.approx(expected, rel=1e-12)
    assert got.miou == pytest.approx(np.mean([v for v in expected if v is not None]), rel=1e-12)
    assert got.confusion.sum() == (targets != IGNORE_INDEX).sum()


def test_seg_score__confusion_has_truth_in_rows():
    score = SegScore(3)
    score.update(torch.tensor([[[2]]]), torch.tensor([[[1]]]))
    assert score.compute().confusion.tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_seg_score__all_ignored_is_nan():
    score = SegScore(3)
    score.update(torch.zeros(1, 2, 2, dtype=torch.long), torch.full((1, 2, 2), IGNORE_INDEX))
    got = score.compute()
    assert math.isnan(got.miou) and got.left_out == [0, 1, 2] and got.iou_per_class == [None] * 3


def test_seg_score__large_counts_are_exact():
    "Beyond 2**24 a float32 count would lose pixels."
    score = SegScore(2)
    score.update(torch.tensor([[[0, 1]]]), torch.tensor([[[0, 0]]]))
    score.counts = torch.tensor([2**25 + 1, 1, 0, 2**25, 7])
    assert score.compute().iou_per_class[0] == pytest.approx(100 * (2**25 + 1) / (2**25 + 2), rel=1e-14)


def test_seg_score__counts_what_torchmetrics_counts():
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    draw = torch.Generator().manual_seed(0)
    preds, targets = torch.randint(0, 7, (2, 4, 20, 30), generator=draw)
    targets[torch.rand(targets.shape, generator=draw) < 0.2] = IGNORE_INDEX
    score = SegScore(7)
    for part in (slice(0, 3), slice(3, 4)):
        score.update(preds[part], targets[part])
    wanted = multiclass_confusion_matrix(preds, targets, 7, ignore_index=IGNORE_INDEX)
    first = score.compute()
    assert torch.equal(first.confusion, wanted)
    score.update(preds, targets)
    assert torch.equal(first.confusion, wanted), "a score that was given stays"


def test_seg_score__no_gpu_is_waited_for():
    score = SegScore(4)
    score.counts = on_cuda(score.counts)
    labels = on_cuda(torch.randint(0, 4, (2, 8, 8)))
    with fake_cuda() as seen:
        score.count(labels, labels)
    assert not seen.waits, seen.table()


@pytest.mark.parametrize("value", [3, 254, -1])
def test_seg_score__wrong_target_value(value):
    with pytest.raises(InputError, match=f"target value {value} found; allowed: 0 to 2, and 255"):
        SegScore(3).update(torch.zeros(1, 1, 1, dtype=torch.long), torch.full((1, 1, 1), value))


@pytest.mark.parametrize("value", [3, 255, -1])
def test_seg_score__wrong_prediction(value):
    preds, score = torch.full((1, 1, 1), value), SegScore(3)
    with pytest.raises(InputError, match=f"predicted class {value} found; allowed: 0 to 2"):
        score.update(preds, torch.zeros(1, 1, 1, dtype=torch.long))
    score.update(preds, torch.full((1, 1, 1), IGNORE_INDEX))  # of an ignored pixel anything may be said
    assert score.compute().confusion.sum() == 0


def slow_cluster_scores(feats, labels):
    "The three scores from their definitions, in NumPy."
    x = feats / np.linalg.norm(feats, axis=1, keepdims=True)
    d = np.linalg.norm(x[:, None] - x[None], axis=2)
    classes = np.unique(labels)
    n, k = len(x), len(classes)
    sil = []
    for i in range(n):
        own = labels == labels[i]
        own[i] = False
        if not own.any():
            sil.append(0.0)
            continue
        a = d[i, own].mean()
        b = min(d[i, labels == c].mean() for c in classes if c != labels[i])
        sil.append((b - a) / max(a, b))
    mu = np.stack([x[labels == c].mean(0) for c in classes])
    counts = np.array([(labels == c).sum() for c in classes])
    between = (counts * ((mu - x.mean(0)) ** 2).sum(1)).sum()
    within = sum(((x[labels == c] - m) ** 2).sum() for c, m in zip(classes, mu))
    sigma = np.array([np.linalg.norm(x[labels == c] - m, axis=1).mean() for c, m in zip(classes, mu)])
    worst = []
    for i in range(k):
        others = [j for j in range(k) if j != i]
        worst.append(max((sigma[i] + sigma[j]) / np.linalg.norm(mu[i] - mu[j]) for j in others))
    return np.mean(sil), (between / (k - 1)) / (within / (n - k)), np.mean(worst)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cluster_scores__equal_slow_reference(dtype):
    torch.manual_seed(0)
    labels = torch.arange(90) % 4
    feats = (F.one_hot(labels, 8) * 2 + torch.randn(90, 8)).to(dtype)
    got = cluster_scores(feats, labels)
    assert got[:3] == pytest.approx(slow_cluster_scores(feats.double().numpy(), labels.numpy()), rel=1e-5)
    assert (got.num_points, got.num_clusters, got.reason) == (90, 4, "")


@pytest.mark.parametrize(
    "feats, labels, reason",
    [
        (torch.randn(4, 3), [1, 1, 1, 1], "4 sampled pixels of 1 class;"),
        (torch.zeros(0, 3), [], "0 sampled pixels of 0 classes"),
        (torch.randn(3, 3), [0, 1, 2], "single sampled pixel"),
        (torch.tensor([[1.0, float("nan")]] * 4), [0, 0, 1, 1], "not a number"),
        (torch.ones(4, 3), [0, 0, 1, 1], "collapsed"),
        (torch.zeros(4, 3), [0, 0, 1, 1], "collapsed"),
    ],
)
def test_cluster_scores__undefined_is_nan_with_a_reason(feats, labels, reason):
    got = cluster_scores(feats, torch.tensor(labels, dtype=torch.long))
    assert all(math.isnan(v) for v in got[:3]) and reason in got.reason


def make_maps(num=5, classes=4, seed=0):
    gen = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, classes, (num, 32, 32), generator=gen)
    targets[:, :4] = IGNORE_INDEX
    return torch.randn(num, 3, 8, 8, generator=gen), targets


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 5), st.integers(1, 60), st.sampled_from([None, 0, 2]), st.integers(0, 5))
def test_pixel_sample__independent_of_batches(batch_size, most, without, seed):
    feats, targets = make_maps()
    sample = PixelSample(most, seed, without)
    for i in range(0, 5, batch_size):
        batch = slice(i, i + batch_size)
        sample.update(feats[batch], targets[batch], list(range(5))[batch])
    for a, b in zip(sample.compute(), pixels_per_class(feats, targets, most, seed, without)):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("without", [None, 0, 2])
def test_pixel_sample__takes_the_right_cells(without):
    feats, targets = make_maps()
    rows, labels = pixels_per_class(feats, targets, 10_000, without=without)  # all there are, in order
    expected = cell_labels(targets, (8, 8)).flatten()
    counts = (expected != IGNORE_INDEX) & (expected != (-1 if without is None else without))
    torch.testing.assert_close(rows, feats.permute(0, 2, 3, 1).flatten(0, 2)[counts])
    assert labels.tolist() == expected[counts].tolist()
    few, few_labels = pixels_per_class(feats, targets, 7, without=without)
    assert few_labels.bincount(minlength=4).tolist() == [0 if c == without else 7 for c in range(4)]
    assert {tuple(r.tolist()) for r in few} <= {tuple(r.tolist()) for r in rows}


def test_pixel_sample__a_class_that_is_left_out_changes_no_other():
    feats, targets = make_maps()
    (rows, labels), (some, some_labels) = (pixels_per_class(feats, targets, 7, without=w) for w in (None, 2))
    assert torch.equal(rows[labels != 2], some) and torch.equal(labels[labels != 2], some_labels)


def test_pixel_sample__is_uniform_over_images():
    "Over seeds, each of five images gives a fifth of the sample."
    feats, targets = make_maps()
    targets = torch.ones_like(targets)
    counts = torch.zeros(5)
    for seed in range(40):
        sample = PixelSample(50, seed)
        sample.update(feats, targets, list(range(5)))
        counts += sample.cells.images.bincount(minlength=5)
    assert (counts / counts.sum() - 0.2).abs().max() < 0.03


def test_pixel_sample__never_updated_is_empty():
    feats, labels = PixelSample().compute()
    assert len(feats) == len(labels) == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 6))
def test_lowest_keys__equal_slow_reference(labels, most):
    keys = torch.rand(len(labels), dtype=torch.float64, generator=torch.Generator().manual_seed(len(labels)))
    got = lowest_keys(torch.tensor(labels, dtype=torch.long), keys, most).tolist()
    expected = []
    for c in sorted(set(labels)):
        rows = [i for i, v in enumerate(labels) if v == c]
        expected += sorted(rows, key=keys.__getitem__)[:most]
    assert got == expected


def test_pseudo_label_scores__padding_counts_nowhere():
    pseudo, truth = torch.tensor([[[1, 1, 255, 2, 2]]]), torch.tensor([[[1, 2, 1, 255, 2]]])
    valid = torch.tensor([[[True] * 4 + [False]]])
    got = pseudo_label_scores(pseudo, truth, valid)
    assert got.accuracy.item() == 50 and got.kept.item() == 0.75
    nothing = pseudo_label_scores(pseudo, truth, torch.zeros_like(valid))
    assert nothing.accuracy.isnan() and nothing.kept.isnan()
