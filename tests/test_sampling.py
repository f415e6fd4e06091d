"""Which pixels are chosen: against the slow reference, with ties, with too few, and without bias."""

import numpy as np
import pytest
import torch
from reference import released_selection

from dgcl_nb.core import InputError, generator_for
from dgcl_nb.device import random_order
from dgcl_nb.sampling import (
    RELEASED,
    SamplingConfig,
    choose_entries,
    choose_rows,
    contrast_classes,
    draw_entries,
    first_others,
    negative_counts,
    rank_in_classes,
    ranked_classes,
    split_counts,
)


def scores(n, seed=0):
    return torch.randperm(n, generator=generator_for("scores", n, seed)).float() / max(n, 1)


def anchors_of(choice, g=0):
    return choice.anchors[g][choice.anchors_valid[g]].tolist()


@pytest.mark.parametrize("num_pixels", [33, 100, 249, 250, 1000])
@pytest.mark.parametrize("strategy", ["density", "confidence"])
def test_choice__released(num_pixels, strategy):
    cfg = SamplingConfig(**dict(RELEASED, strategy=strategy))
    ours, stored = scores(num_pixels), scores(300, 1)
    rows = choose_rows(ours, [num_pixels], cfg)
    entries, _ = choose_entries(stored[None], [300], cfg, generator_for(0))
    chosen = anchors_of(rows), rows.positives.tolist(), entries.tolist()
    for got, want in zip(chosen, released_selection(ours.numpy(), stored.numpy())):
        assert np.array_equal(np.sort(got), np.sort(want))


@pytest.mark.parametrize("num_pixels", [1, 5, 32])
def test_choose_rows__released_small_class_takes_all_pixels_twice(num_pixels):
    chosen = choose_rows(scores(num_pixels), [num_pixels], SamplingConfig(**RELEASED))
    assert sorted(anchors_of(chosen)) == sorted(chosen.positives.tolist()) == list(range(num_pixels))


def test_choose_rows__flat_density_leaves_the_random_order_of_the_rows():
    cfg = SamplingConfig(num_anchors=4, num_positives=1, flat_density_at=10)
    flat, ranked = choose_rows(scores(10), [10], cfg), choose_rows(scores(11), [11], cfg)
    assert anchors_of(flat) == [0, 1, 2, 3] and flat.positives.tolist() == [9]
    assert anchors_of(ranked) == scores(11).argsort()[:4].tolist()
    mixed = choose_rows(
        torch.cat([scores(10), scores(11)]), [10, 11], cfg
    )  # a small class beside a large one
    assert anchors_of(mixed, 0) == [0, 1, 2, 3]
    assert anchors_of(mixed, 1) == [10 + i for i in anchors_of(ranked)]


@pytest.mark.parametrize("num_pixels", [1, 2, 5, 100, 249, 250, 251])
def test_choose_rows__no_pixel_is_both(num_pixels):
    for values in (scores(num_pixels), torch.ones(num_pixels), torch.full((num_pixels,), torch.inf)):
        chosen = choose_rows(values, [num_pixels], SamplingConfig())
        both = anchors_of(chosen) + chosen.positives.tolist()
        assert len(set(both)) == len(both) == min(num_pixels, 250)
        assert len(anchors_of(chosen)) >= 1


def test_choose_rows__classes_at_once_as_each_alone():
    counts = [3, 400, 1, 60]
    values = [scores(n, seed) for seed, n in enumerate(counts)]
    together = choose_rows(torch.cat(values), counts, SamplingConfig())
    starts = np.cumsum([0, *counts])
    positives = together.positives.split(together.num_positives)
    for g, (n, alone_values) in enumerate(zip(counts, values)):
        alone = choose_rows(alone_values, [n], SamplingConfig())
        assert anchors_of(together, g) == [starts[g] + i for i in anchors_of(alone)]
        assert positives[g].tolist() == [starts[g] + i for i in alone.positives.tolist()]
    assert together.anchors.shape == (4, 200)


def test_choose_rows__random_moves_any_pixel_to_the_average():
    cfg = SamplingConfig(strategy="random", num_anchors=7)
    chosen = choose_rows(scores(20), [20], cfg)
    assert sorted(chosen.positives.tolist()) == list(range(20)) and len(set(anchors_of(chosen))) == 7
    entries, counts = choose_entries(scores(60).view(2, 30), [30, 4], cfg, generator_for(0))
    assert entries.tolist() == [*range(30), 30, 31, 32, 33] and counts == [30, 4]


def test_choose_rows__the_best_positive_comes_first():
    chosen = choose_rows(scores(100), [100], SamplingConfig())
    assert chosen.positives.tolist() == scores(100).argsort(descending=True)[:20].tolist()


def test_choose_entries__same_generator_same_choice_and_ties_have_no_favourite():
    cfg, same = SamplingConfig(num_bank_positives=5), torch.ones(1, 20)
    a, b = (choose_entries(same, [20], cfg, generator_for("a"))[0] for _ in range(2))
    assert torch.equal(a, b)
    counts = torch.zeros(20)
    for i in range(1500):
        counts[choose_entries(same, [20], cfg, generator_for(i))[0]] += 1
    assert (counts - 375).abs().max() < 90  # 5 standard deviations


def test_choose_entries__nothing_beyond_what_is_held_and_the_unknown_last():
    stored = torch.tensor([[torch.nan, 0.2, 0.9, 0.8], [0.1, torch.nan, 5.0, 5.0]])
    entries, counts = choose_entries(stored, [3, 2], SamplingConfig(num_bank_positives=2), generator_for(0))
    assert entries.tolist() == [2, 1, 4, 5] and counts == [2, 2]
    entries, counts = choose_entries(stored, [3, 2], SamplingConfig(num_bank_positives=0, num_positives=1))
    assert entries.tolist() == [] and counts == [0, 0]


def test_rank__is_a_sort_of_each_class():
    values = torch.cat([scores(50), scores(20, 1)])
    ranked = rank_in_classes(values, [50, 20])
    assert ranked[:50].tolist() == scores(50).argsort().tolist()
    assert (ranked[50:] - 50).tolist() == scores(20, 1).argsort().tolist()


def test_rank__equal_scores_keep_their_order_half_precision_and_gradient():
    assert rank_in_classes(torch.ones(500), [500]).tolist() == list(range(500))
    values = scores(50).requires_grad_()
    assert rank_in_classes(values.bfloat16(), [50]).tolist() != []
    assert not rank_in_classes(values, [50]).requires_grad


@pytest.mark.parametrize("num,length", [(0, 0), (3, 3), (10, 10)])
def test_random_order__no_repeats(num, length):
    drawn = random_order(num, generator_for(0)).tolist()
    assert sorted(drawn) == list(range(length))


def test_first_others__other_classes_only_in_the_order_of_the_draw():
    owners = torch.tensor([0, 1, 2, 1, 2, 0])
    places, valid = first_others(owners, [1, 0], 99)
    assert places[0][valid[0]].tolist() == [0, 2, 4, 5] and places[1][valid[1]].tolist() == [1, 2, 3, 4]
    places, valid = first_others(owners, [1], 3)
    assert places.tolist() == [[0, 2, 4]] and valid.all()
    assert not first_others(torch.ones(5, dtype=torch.long), [1], 3)[1].any()


def test_first_others__uniform():
    labels, counts = torch.arange(12) % 3, torch.zeros(12)
    for i in range(1200):
        shuffled = random_order(12, generator_for("n", i))
        places, _ = first_others(labels[shuffled], [0], 4)
        counts[shuffled[places[0]]] += 1
    assert (counts[labels == 0] == 0).all() and (counts[labels != 0] - 600).abs().max() < 90


def test_draw_entries__every_entry_of_every_ring_and_no_empty_place():
    held = [3, 0, 2, 4]
    places, owners = draw_entries(held, 5, 99, generator_for(0))
    assert sorted(places.tolist()) == [0, 1, 2, 10, 11, 15, 16, 17, 18]
    assert torch.equal(owners, places // 5)
    assert len(draw_entries(held, 5, 4, generator_for(0))[0]) == 4
    assert len(draw_entries([0, 0], 5, 4, generator_for(0))[0]) == 0


def test_contrast_classes__waiting_and_absent():
    counts, held, ours = [1, 1, 0, 2], [9, 9, 9, 3], SamplingConfig()
    assert contrast_classes(counts, held, 5, [1, 2, 3], ours) == ([1], [3])
    assert contrast_classes(counts, held, 5, [0, 1, 2, 3], ours) == ([0, 1], [3])
    assert contrast_classes(counts, held, 5, [1, 2, 3], SamplingConfig(wait_for_all=True)) == ([], [1, 3])
    assert contrast_classes([0] * 4, held, 5, [1, 2, 3], ours) == ([], [])
    held = [9, 9, 0, 9]  # class 2 has no pixel: only the released rule waits for it
    assert contrast_classes(counts, held, 5, [1, 2, 3], ours) == ([1, 3], [])
    assert contrast_classes(counts, held, 5, [1, 2, 3], SamplingConfig(**RELEASED)) == ([], [1, 3])


@pytest.mark.parametrize(
    "background, with_it, classes",
    [
        (0, False, [1, 2]),
        (0, True, [0, 1, 2]),
        (2, False, [0, 1]),
        (None, False, [0, 1, 2]),
    ],
)
def test_ranked_classes__leave_the_background_of_the_data_out(background, with_it, classes):
    assert ranked_classes(3, background, SamplingConfig(background=with_it)) == classes


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
        (dict(num_anchors=0), "1 or more"),
        (dict(num_positives=-1), "0 or more"),
        (dict(num_positives=0, num_bank_positives=0), "no target"),
    ],
)
def test_config__refuses(setting, message):
    with pytest.raises(InputError, match=message):
        SamplingConfig(**setting)
