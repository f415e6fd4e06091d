"""Which pixels are chosen: against the slow reference, with ties, with too few, and without bias."""

import numpy as np
import pytest
import torch
from reference import released_selection

from dgcl_nb.core import IGNORE_INDEX, InputError, generator_for
from dgcl_nb.sampling import (
    RELEASED,
    SamplingConfig,
    choose_pixels,
    contrast_classes,
    draw_subset,
    negative_counts,
    sample_bank_negatives,
    sample_class,
    sample_negatives,
    split_counts,
)


def scores(n, seed=0):
    return torch.randperm(n, generator=generator_for("scores", n, seed)).float() / max(n, 1)


@pytest.mark.parametrize("num_pixels", [33, 100, 249, 250, 1000])
@pytest.mark.parametrize("strategy", ["density", "confidence"])
def test_sample_class__released(num_pixels, strategy):
    cfg = SamplingConfig(**dict(RELEASED, strategy=strategy))
    ours, stored, noise = scores(num_pixels), scores(300, 1), torch.rand(num_pixels)
    args = (ours, noise, stored, None) if strategy == "density" else (noise, ours, None, stored)
    chosen = sample_class(*args, cfg, generator_for(0))
    for got, want in zip(chosen, released_selection(ours.numpy(), stored.numpy())):
        assert np.array_equal(np.sort(got.numpy()), np.sort(want))


@pytest.mark.parametrize("num_pixels", [1, 5, 32])
def test_sample_class__released_small_class_takes_all_pixels_twice(num_pixels):
    chosen = sample_class(
        scores(num_pixels), None, scores(99), None, SamplingConfig(**RELEASED), generator_for(0)
    )
    assert sorted(chosen.anchors.tolist()) == sorted(chosen.positives.tolist()) == list(range(num_pixels))


def test_sample_class__flat_density_is_a_random_choice():
    cfg = SamplingConfig(num_anchors=4, num_positives=1, flat_density_at=10)
    seen = {
        tuple(sample_class(scores(10), None, scores(9), None, cfg, generator_for(i)).anchors.tolist())
        for i in range(8)
    }
    assert len(seen) > 1
    assert (
        len(
            {
                tuple(sample_class(scores(11), None, scores(9), None, cfg, generator_for(i)).anchors.tolist())
                for i in range(8)
            }
        )
        == 1
    )


@pytest.mark.parametrize("num_pixels", [0, 1, 2, 5, 100, 249, 250, 251])
def test_sample_class__no_pixel_is_both(num_pixels):
    cfg = SamplingConfig()
    for values in (scores(num_pixels), torch.ones(num_pixels), torch.full((num_pixels,), torch.inf)):
        chosen = sample_class(values, None, scores(60), None, cfg, generator_for(0))
        both = chosen.anchors.tolist() + chosen.positives.tolist()
        assert len(set(both)) == len(both) == min(num_pixels, 250)
        assert num_pixels == 0 or len(chosen.anchors) >= 1


def test_sample_class__empty_bank():
    chosen = sample_class(scores(100), None, scores(0), None, SamplingConfig(), generator_for(0))
    assert len(chosen.bank_positives) == 0 and len(chosen.positives) == 20 and len(chosen.anchors) == 80


def test_sample_class__random_moves_any_pixel_to_the_average():
    cfg = SamplingConfig(strategy="random", num_anchors=7)
    chosen = sample_class(None, scores(20), None, scores(30), cfg, generator_for(0))
    assert chosen.positives.tolist() == list(range(20)) and chosen.bank_positives.tolist() == list(range(30))
    assert len(set(chosen.anchors.tolist())) == 7
    again = sample_class(scores(20), None, scores(30), None, cfg, generator_for(0))
    assert torch.equal(again.anchors, chosen.anchors)


def test_sample_class__same_generator_same_choice():
    a, b = (
        sample_class(torch.ones(500), None, torch.ones(80), None, SamplingConfig(), generator_for("a", 3))
        for _ in range(2)
    )
    assert all(torch.equal(x, y) for x, y in zip(a, b))


def test_choose_pixels__ties_have_no_favourite():
    counts = torch.zeros(20)
    for i in range(1500):
        counts[choose_pixels(torch.ones(20), 5, generator=generator_for(i))] += 1
    assert (counts - 375).abs().max() < 90  # 5 standard deviations


@pytest.mark.parametrize("largest", [True, False])
def test_choose_pixels__is_a_sort(largest):
    values = scores(50)
    assert torch.equal(
        choose_pixels(values, 9, largest, generator_for(0)), values.argsort(descending=largest)[:9]
    )
    assert len(choose_pixels(values, 99, largest)) == 50 and len(choose_pixels(values[:0], 3, largest)) == 0


def test_choose_pixels__half_precision_and_gradient():
    values = scores(50).requires_grad_()
    assert choose_pixels(values.bfloat16(), 3).tolist() != [] and not choose_pixels(values, 3).requires_grad


@pytest.mark.parametrize("total,num,length", [(0, 3, 0), (3, 5, 3), (10, 4, 4)])
def test_draw_subset__no_repeats(total, num, length):
    drawn = draw_subset(total, num, generator_for(0)).tolist()
    assert len(set(drawn)) == len(drawn) == length and all(0 <= i < total for i in drawn)


def test_sample_negatives__other_classes_only():
    labels = torch.tensor([0, 1, 2, 1, IGNORE_INDEX, 2, 0])
    assert sorted(sample_negatives(labels, 1, 99, generator_for(0)).tolist()) == [0, 2, 5, 6]
    assert len(sample_negatives(labels, 1, 3, generator_for(0))) == 3
    assert len(sample_negatives(torch.full((5,), IGNORE_INDEX), 1, 3)) == 0
    assert len(sample_negatives(torch.ones(5, dtype=torch.long), 1, 3)) == 0


def test_sample_negatives__uniform():
    labels, counts = torch.arange(12) % 3, torch.zeros(12)
    for i in range(1200):
        counts[sample_negatives(labels, 0, 4, generator_for("n", i))] += 1
    assert (counts[labels == 0] == 0).all() and (counts[labels != 0] - 600).abs().max() < 90


def test_sample_bank_negatives__every_entry_of_other_classes():
    filled = torch.tensor([3, 0, 2, 4])
    ((classes, rows),) = sample_bank_negatives(filled, [3], 99, generator_for(0))
    assert sorted(zip(classes.tolist(), rows.tolist())) == [(0, 0), (0, 1), (0, 2), (2, 0), (2, 1)]
    assert all(len(x) == 0 for x in sample_bank_negatives(torch.tensor([0, 7]), [1], 5, generator_for(0))[0])
    for c, (classes, rows) in zip(
        (0, 2, 3), sample_bank_negatives(filled, [0, 2, 3], 4, generator_for(1))
    ):  # one draw for several classes
        assert (
            len({*zip(classes.tolist(), rows.tolist())}) == 4
            and c not in classes.tolist()
            and (rows < filled[classes]).all()
        )
    assert torch.equal(filled, torch.tensor([3, 0, 2, 4]))


def test_contrast_classes__waiting_and_absent():
    labels, ready = torch.tensor([0, 1, 3, 3, IGNORE_INDEX]), torch.tensor([True, True, True, False])
    assert contrast_classes(labels, ready, SamplingConfig()) == ([1], [3])
    assert contrast_classes(labels, ready, SamplingConfig(background=True)) == ([0, 1], [3])
    assert contrast_classes(labels, ready, SamplingConfig(wait_for_all=True)) == ([], [1, 3])
    assert contrast_classes(labels[4:], ready, SamplingConfig()) == ([], [])
    absent = torch.tensor(
        [True, True, False, True]
    )  # class 2 has no pixel: only the released rule waits for it
    assert contrast_classes(labels, absent, SamplingConfig()) == ([1, 3], [])
    assert contrast_classes(labels, absent, SamplingConfig(**RELEASED)) == ([], [1, 3])


@pytest.mark.parametrize("where,counts", [("batch", (9, 0)), ("bank", (0, 9)), ("both", (5, 4))])
def test_negative_counts__sum(where, counts):
    assert negative_counts(SamplingConfig(negatives=where, num_negatives=9)) == counts


def test_split_counts__released_and_ours_agree_from_250():
    ours, theirs = SamplingConfig(), SamplingConfig(overlap=True)
    for n in (250, 251, 10_000):
        assert split_counts(n, ours) == split_counts(n, theirs) == (200, 50)
    assert split_counts(100, ours) == (80, 20) and split_counts(100, theirs) == (100, 50)
    assert split_counts(1, ours) == (1, 0) and split_counts(1, theirs) == (1, 1)


@pytest.mark.parametrize(
    "setting,message",
    [
        (dict(strategy="densty"), "did you mean density"),
        (dict(negatives="banks"), "did you mean bank"),
        (dict(num_anchors=0), "at least 1"),
        (dict(num_positives=-1), "must not be negative"),
        (dict(num_positives=0, num_bank_positives=0), "no target"),
    ],
)
def test_config__refuses(setting, message):
    with pytest.raises(InputError, match=message):
        SamplingConfig(**setting)
