"""Pseudo-labels and filters: a slow reference, ties, nothing valid, processes, a GPU, over 2**24 values."""

import math

import numpy as np
import pytest
import torch
from fakecuda import fake_cuda, on_cuda
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import (
    IGNORE,
    released_drop_for_contrast,
    released_drop_for_labels,
    released_entropy,
    released_pseudo_labels,
)

import dgcl_nb.pseudo_labels as room
from dgcl_nb.core import InputError, generator_for
from dgcl_nb.pseudo_labels import (
    RELEASED_CONTRAST,
    RELEASED_LABELS,
    FilterConfig,
    class_percentiles,
    drop_for_contrast,
    drop_for_labels,
    drop_labels,
    keep_confident,
    keep_mask,
    keep_most_certain,
    percentile,
    most_probable,
    pseudo_label,
    shrink_targets,
)


def scene(seed, size=(2, 13, 11), classes=6):
    gen = generator_for("pseudo", seed)
    return 2 * torch.randn(size[0], classes, *size[1:], generator=gen), torch.rand(size, generator=gen) > 0.2


@pytest.mark.parametrize("kind,start,floor", [(RELEASED_LABELS, 20, 0), (RELEASED_CONTRAST, 80, 10)])
@pytest.mark.parametrize("epoch", [1, 30, 79])
def test_keep_mask__released(kind, start, floor, epoch):
    logits, valid = scene(epoch)
    fraction = (epoch - 1) / (80 - 1)
    drop = max(start * (1 - fraction), floor)
    pseudo = pseudo_label(logits)
    ours = drop_labels(pseudo.labels, keep_mask(pseudo, valid, FilterConfig(**kind), fraction))
    assert np.array_equal(ours.numpy(), released_pseudo_labels(logits.numpy(), valid.numpy(), drop))


def test_pseudo_label__entropy():
    logits, _ = scene(0)
    pseudo = pseudo_label(logits.requires_grad_())
    np.testing.assert_allclose(pseudo.entropy.numpy(), released_entropy(logits.detach().numpy()), atol=1e-5)
    assert not any(x.requires_grad for x in pseudo)


OFF = -math.inf
EXTREMES = [([0.0, 0, 0, 0], math.log(4)), ([1e4, 0, 0, 0], 0.0), ([0.0, OFF, 0, OFF], math.log(2))]


@pytest.mark.parametrize("logits,entropy", EXTREMES)
def test_pseudo_label__extremes(logits, entropy):
    pseudo = pseudo_label(torch.tensor(logits)[None, :, None, None])
    assert pseudo.entropy.item() == pytest.approx(entropy, abs=1e-6) and pseudo.entropy.item() >= 0


def test_pseudo_label__half_precision():
    logits, _ = scene(0)
    pseudo = pseudo_label(logits.half())
    assert pseudo.entropy.dtype == pseudo.confidence.dtype == torch.float32
    torch.testing.assert_close(pseudo.entropy, pseudo_label(logits.half().float()).entropy)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 5, width=32), min_size=1, max_size=40), st.floats(0, 100))
def test_percentile__numpy(values, q):
    theirs = np.percentile(np.array(values, dtype=np.float64), q)
    assert percentile(torch.tensor(values), q).item() == pytest.approx(theirs, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("q", [0.0, 12.3, 80.0, 99.75, 100.0])
def test_percentile__torch_quantile(q):
    values = torch.rand(10_001, generator=generator_for(q))
    torch.testing.assert_close(percentile(values, q), torch.quantile(values.double(), q / 100).float())


def test_percentile__more_than_2_to_24_values():  # where torch.quantile of older releases gives up
    values = torch.arange(2**24 + 5, dtype=torch.int32).remainder(1000).float()
    assert percentile(values, 80).item() == 799  # 0 … 999 in turn


def test_percentile__nothing_and_bad_q():
    assert percentile(torch.zeros(0), 50).isnan()
    with pytest.raises(InputError, match="between 0 and 100"):
        percentile(torch.zeros(3), 101)


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("ties", ["keep", "drop"])
def test_keep_most_certain__nothing_valid(per_class, ties):
    pseudo = pseudo_label(scene(0)[0])
    valid = torch.zeros(pseudo.labels.shape, dtype=torch.bool)
    assert not keep_most_certain(pseudo.entropy, valid, 0.8, pseudo.labels if per_class else None, ties).any()


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("per_class", [False, True])
def test_keep_most_certain__share(keep, per_class):
    logits, valid = scene(1, size=(3, 40, 40))
    pseudo = pseudo_label(logits)
    kept = keep_most_certain(pseudo.entropy, valid, keep, pseudo.labels if per_class else None)
    assert not (kept & ~valid).any()
    groups = [valid & (pseudo.labels == c) for c in range(6)] if per_class else [valid]
    for group in groups:
        assert (kept & group).sum() == pytest.approx(keep * group.sum().item(), abs=1.01)


def test_keep_most_certain__kept_are_more_certain_than_dropped():
    logits, valid = scene(2)
    pseudo = pseudo_label(logits)
    kept = keep_most_certain(pseudo.entropy, valid, 0.6)
    assert pseudo.entropy[kept].max() < pseudo.entropy[valid & ~kept].min()


def test_keep_most_certain__padding_has_no_say():
    logits, valid = scene(3)
    pseudo = pseudo_label(logits)
    other = torch.where(valid, pseudo.entropy, torch.nan)
    assert torch.equal(keep_most_certain(pseudo.entropy, valid, 0.5), keep_most_certain(other, valid, 0.5))


def test_keep_most_certain__all_equally_certain():
    entropy, valid = torch.zeros(1, 4, 4), torch.ones(1, 4, 4, dtype=torch.bool)
    assert keep_most_certain(entropy, valid, 0.8, ties="keep").all()
    # what the released rule does to a saturated network
    assert not keep_most_certain(entropy, valid, 0.8, ties="drop").any()


def test_keep_most_certain__per_class_single_pixel():
    entropy, labels = torch.tensor([[[0.1, 0.2, 0.3, 0.9]]]), torch.tensor([[[0, 0, 0, 4]]])
    kept = keep_most_certain(entropy, torch.ones_like(labels, dtype=torch.bool), 0.5, labels)
    assert kept.tolist() == [[[True, True, False, True]]]


def filter_in_processes(entropy, valid, labels, monkeypatch, there=lambda x: x, **settings):
    "What the filter keeps if each image lies in a process of its own."
    parts = [[None if x is None else there(x[i : i + 1]) for x in (entropy, valid, labels)] for i in range(2)]

    def kept_of(part, gather_rows):
        monkeypatch.setattr(room, "gather_rows", gather_rows)
        entropy, valid, labels = part
        return keep_most_certain(entropy, valid, settings["keep"], labels, settings["ties"], gather=True)

    given = []
    for part in parts:  # what each process has to give
        kept_of(part, lambda rows: given.append(rows) or rows)
    assert len(given) == 2
    return [kept_of(part, lambda rows: torch.cat(given)) for part in parts]


@pytest.mark.parametrize("keep", [0.7, 0.2])
@pytest.mark.parametrize("ties", ["keep", "drop"])
@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("nothing_in_the_first", [False, True])
def test_keep_most_certain__over_processes(per_class, ties, keep, nothing_in_the_first, monkeypatch):
    logits, valid = scene(5, size=(2, 10, 10))
    if nothing_in_the_first:
        valid[0] = False
    pseudo = pseudo_label(logits)
    labels = pseudo.labels if per_class else None
    whole = keep_most_certain(pseudo.entropy, valid, keep, labels, ties)
    tensors, settings = (pseudo.entropy, valid, labels), dict(keep=keep, ties=ties)
    assert torch.equal(torch.cat(filter_in_processes(*tensors, monkeypatch, **settings)), whole)
    with fake_cuda():
        parts = filter_in_processes(*tensors, monkeypatch, there=on_cuda, **settings)
    assert torch.equal(torch.cat([part.elem for part in parts]), whole)


CASES = dict(
    usual=lambda pseudo, valid: (pseudo.entropy, valid),
    nothing_valid=lambda pseudo, valid: (pseudo.entropy, torch.zeros_like(valid)),
    one_valid=lambda pseudo, valid: (pseudo.entropy, torch.arange(valid.numel()).view_as(valid) == 100),
    all_valid=lambda pseudo, valid: (pseudo.entropy, torch.ones_like(valid)),
    ties=lambda pseudo, valid: (pseudo.entropy.mul(4).round(), valid),
    saturated=lambda pseudo, valid: (torch.zeros_like(pseudo.entropy), valid),
    padding_is_nan=lambda pseudo, valid: (torch.where(valid, pseudo.entropy, torch.nan), valid),
)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("ties", ["keep", "drop"])
@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("keep", [0.0, 0.2, 0.337, 0.8, 1.0])
def test_keep_most_certain__a_gpu_keeps_the_same_and_does_not_wait(case, ties, per_class, keep):
    logits, valid = scene(7, size=(2, 21, 17))
    pseudo = pseudo_label(logits)
    entropy, valid = CASES[case](pseudo, valid)
    labels = pseudo.labels if per_class else None
    expected = keep_most_certain(entropy, valid, keep, labels, ties)
    with fake_cuda() as seen:
        moved = None if labels is None else on_cuda(labels)
        kept = keep_most_certain(on_cuda(entropy), on_cuda(valid), keep, moved, ties, gather=True)
    assert torch.equal(kept.elem, expected) and not seen.waits, seen.table()


@pytest.mark.parametrize("kind", ["none", "confidence", "entropy"])
@pytest.mark.parametrize("per_class", [False, True])
def test_pseudo_labels__and_their_filters_do_not_make_a_gpu_wait(kind, per_class):
    logits, valid = scene(8)
    cfg = FilterConfig(kind=kind, per_class=per_class, conf_thresh=0.5)
    pseudo = pseudo_label(logits)
    expected = drop_labels(pseudo.labels, keep_mask(pseudo, valid, cfg, 0.3))
    with fake_cuda() as seen:
        found = pseudo_label(on_cuda(logits))
        labels = drop_labels(found.labels, keep_mask(found, on_cuda(valid), cfg, 0.3))
        on_grid = shrink_targets(labels, (4, 3))
    assert not seen.waits, seen.table()
    assert torch.equal(labels.elem, expected) and torch.equal(on_grid.elem, shrink_targets(expected, (4, 3)))
    assert all(torch.equal(a.elem, b) for a, b in zip(found, pseudo))


@pytest.mark.parametrize("num", [0, 1, 2, 500])
def test_percentiles__of_a_gpu_are_the_same_and_do_not_wait(num):
    gen = generator_for("percentiles", num)
    values, labels = torch.rand(num, generator=gen), torch.randint(0, 5, (num,), generator=gen)
    for q in (0.0, 12.3, 80.0, 100.0):
        with fake_cuda() as seen:
            one = percentile(on_cuda(values), q)
            each = class_percentiles(on_cuda(values), on_cuda(labels), q)
        assert not seen.waits, seen.table()
        torch.testing.assert_close(one.elem, percentile(values, q), rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(
            each.elem, class_percentiles(values, labels, q), rtol=0, atol=0, equal_nan=True
        )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 5, width=32), st.integers(0, 255)), max_size=40), st.floats(0, 100))
def test_class_percentiles__are_those_of_each_class_alone(pairs, q):
    values, labels = (
        torch.tensor([v for v, _ in pairs]),
        torch.tensor([c for _, c in pairs], dtype=torch.long),
    )
    found = class_percentiles(values, labels, q)
    for c in range(256):
        alone = percentile(values[labels == c], q)
        torch.testing.assert_close(found[c], alone, rtol=0, atol=1e-6, equal_nan=True)


def test_keep_confident__threshold_counts():
    confidence, valid = torch.tensor([[[0.7, 0.75, 1.0]]]), torch.tensor([[[True, True, False]]])
    assert keep_confident(confidence, valid, 0.75).tolist() == [[[False, True, False]]]


@pytest.mark.parametrize("kind", ["none", "confidence", "entropy"])
def test_keep_mask__kinds(kind):
    logits, valid = scene(6)
    kept = keep_mask(pseudo_label(logits), valid, FilterConfig(kind=kind, conf_thresh=0.6), 0.0)
    assert (kind == "none") == torch.equal(kept, valid) and not (kept & ~valid).any() and kept.any()


@pytest.mark.parametrize("epoch", [1, 20, 60, 70, 79])
def test_schedules__released(epoch):
    fraction = (epoch - 1) / (80 - 1)
    assert drop_for_labels(fraction) == pytest.approx(released_drop_for_labels(epoch, 80, 1))
    assert drop_for_contrast(fraction) == pytest.approx(released_drop_for_contrast(epoch, 80, 1))


def test_schedules__ends():
    assert drop_for_labels(79 / 80) == pytest.approx(0.25)  # "10" says a comment of the released code
    assert drop_for_contrast(0.875) == pytest.approx(10) and drop_for_contrast(0.87) > 10
    assert drop_for_labels(-1) == 20 and drop_for_labels(2) == 0 and drop_for_contrast(2) == 10


def test_shrink_targets__keeps_classes():
    targets = torch.full((1, 8, 8), IGNORE)
    targets[0, :, 4:] = 3
    assert shrink_targets(targets, (2, 2)).tolist() == [[[IGNORE, 3], [IGNORE, 3]]]
    ramp = torch.arange(8).repeat(1, 8, 1)
    assert shrink_targets(ramp, (2, 2))[0, 0].tolist() == [2, 6]
    assert shrink_targets(ramp, (2, 2), "nearest")[0, 0].tolist() == [0, 4]


@pytest.mark.parametrize(
    "setting,message",
    [
        (dict(kind="entropie"), "did you mean entropy"),
        (dict(drop_start=120.0), "between 0 and 100"),
        (dict(drop_start=5.0, drop_floor=10.0), "drop_floor"),
        (dict(conf_thresh=95.0), "between 0 and 1"),
        (dict(ties="maybe"), "unknown filter.ties"),
    ],
)
def test_config__refuses(setting, message):
    with pytest.raises(InputError, match=message):
        FilterConfig(**setting)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_most_probable__as_pseudo_label_and_argmax_even_where_classes_are_equal(layout):
    logits = torch.randint(0, 3, (2, 7, 9, 5)).float().contiguous(memory_format=layout)
    found, whole = most_probable(logits.softmax(1)), pseudo_label(logits)
    assert torch.equal(found.labels, whole.labels) and torch.equal(found.confidence, whole.confidence)
    assert torch.equal(most_probable(logits).labels, logits.argmax(1))
    assert found.entropy is None
