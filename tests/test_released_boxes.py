"""The boxes of CutMix against those of the released codes, from the numbers that were drawn there.

| case | compared |
|---|---|
| `cutmix/box_cutmix_default`, `box_cutout_default`, `box_three` | masks from draws; mean, spread of our own |
| `cps/box` | the same |
| `cutmix/box_not_inverted` | the complement: our boxes say where the partner shows |
| `cutmix/box_fixed_aspect`, `box_by_size` | the masks, from sides that our rules do not draw |
| `cutmix/box_outside_bounds` | no: no released script sets it; its negative rows wrap round |
| `ps_mt/cutmix_voc` | corners from the centres that the stored corners show; the mix |
| `ps_mt/cutmix_city` | the mix from corners and sources; size of the boxes of our own draws |
| `unimatch/box` | masks from the draws; share without a box, mean and spread of our own draws |
| `u2pl/cutmix*` | each box from the numbers that mean it; the mix of images, labels, confidences |
"""

import math
import random

import numpy as np
import pytest
import torch
from released import case, cases, needs_reference

from dgcl_nb.boxes import (
    RATIOS,
    BoxDraws,
    box_masks,
    box_sides,
    centred_boxes,
    draw_kept,
    first_fit,
    flip_boxes,
    flip_masks,
    layer_boxes,
    layered_boxes,
    place_boxes,
    rare_boxes,
)
from dgcl_nb.views import CutMix, ViewConfig, box_at, next_image

pytestmark = needs_reference
OWN_RULE = ("box_cutmix_default", "box_cutout_default", "box_three", "box_not_inverted")
OTHER_SIDES = ("box_fixed_aspect", "box_by_size")


def drawn_by_numpy(values, seed):
    "The draws of some cases, in the order of the released code, and the generator behind them."
    numpy = np.random.RandomState(values[seed])
    shape = (len(values["masks"]), values["n_boxes"])
    draws = [numpy.uniform(size=size) for size in (shape, shape, (*shape, 2))]
    return BoxDraws(*map(torch.from_numpy, draws))


def pasted(values):
    "The stored masks as ours: True where the partner shows."
    masks = values["masks"][:, 0].bool()
    return masks if values.get("invert", True) else ~masks


def assert_same_spread(inside, mean, std, num):
    "Mean and spread of the pasted share agree with those of `num` masks there, as far as chance allows."
    shares = inside.float().mean((1, 2))
    noise = max(shares.std().item(), std) * math.sqrt(1 / len(shares) + 1 / num)
    assert shares.mean().item() == pytest.approx(mean, abs=5 * noise + 1e-3)
    assert shares.std(correction=0).item() == pytest.approx(std, rel=0.15, abs=1e-3)


@pytest.mark.parametrize(
    "method, name", [("cutmix", name) for name in OWN_RULE] + [("cps", "box")], ids=lambda x: x
)
def test_flip_boxes__equal_the_released_masks(method, name):
    values = case(method, name)
    height, width = values["shape"].tolist()
    area = tuple(values["prop_range"].tolist())
    draws = drawn_by_numpy(values, "seed" if method == "cutmix" else "numpy_seed")
    sides = box_sides(draws, area)
    inside = flip_masks(place_boxes(sides, draws.place, height, width), height, width)
    assert torch.equal(inside, pasted(values))

    gen = torch.Generator().manual_seed(1)
    ours = flip_boxes(2000, height, width, ViewConfig(), gen, values["n_boxes"], area).inside
    mean = values["mean_fraction_of_ones"]
    mean = mean if values.get("invert", True) else 1 - mean
    assert_same_spread(ours, mean, values["std_fraction_of_ones"], 2000)


@pytest.mark.parametrize("name", OTHER_SIDES)
def test_place_boxes__equals_the_released_masks_of_other_sides(name):
    values = case("cutmix", name)
    height, width = values["shape"].tolist()
    low, high = values["prop_range"].tolist()
    numpy = np.random.RandomState(values["seed"])
    shape = (len(values["masks"]), values["n_boxes"])
    if name == "box_fixed_aspect":  # both sides are one array there, and are scaled twice
        share = np.sqrt(numpy.uniform(low, high, shape)) / values["n_boxes"]
        sides = np.stack([share, share], -1)
    else:
        axes = [numpy.uniform(low, high, shape) for _ in range(1 + values["random_aspect_ratio"])]
        sides = np.stack([axes[0], axes[-1]], -1) * math.sqrt(1 / values["n_boxes"])
    place = torch.from_numpy(numpy.uniform(size=(*shape, 2)))
    corners = place_boxes(torch.from_numpy(sides), place, height, width)
    assert torch.equal(flip_masks(corners, height, width), pasted(values))


def corners_of(values):
    "The stored corners, (B, n, 4) in our order."
    names = ("rows_0", "cols_0", "rows_1", "cols_1")
    stored = torch.stack([torch.atleast_2d(values[name]) for name in names], -1)
    return stored.transpose(0, 1)


def assert_mixed(mix, values, *names):
    for name in names:
        assert torch.equal(mix.mix(values[name]), values[f"{name}_out"])


def test_beta_boxes__equal_the_released_ones():
    values = case("ps_mt", "cutmix_voc")
    height, width = values["images"].shape[-2:]
    corners = corners_of(values)
    half = torch.tensor([int(n * math.sqrt(1 - values["lam"])) // 2 for n in (height, width)])
    first, behind = corners[:, 0, :2], corners[:, 0, 2:]
    centres = torch.where(first > 0, first + half, behind - half)
    found = centred_boxes(centres, values["lam"], height, width)
    assert torch.equal(found, corners)
    mix = CutMix(box_masks(found, height, width)[:, 0], values["permutation"])
    assert_mixed(mix, values, "images", "logits")


def test_draw_kept__is_beta_4_4():
    gen = torch.Generator().manual_seed(0)
    ours = np.sort([draw_kept(gen) for _ in range(4000)])
    theirs = np.sort(np.random.default_rng(0).beta(4, 4, 4000))
    assert np.abs(ours - theirs).max() < 0.08 and np.abs(ours - theirs).mean() < 0.01


def test_layered_boxes__equal_the_released_ones():
    values = case("ps_mt", "cutmix_city")
    height, width = values["images"].shape[-2:]
    corners, sources = corners_of(values), values["source_image"].T
    shown = layer_boxes(corners, sources, height, width)
    own = torch.arange(len(shown))[:, None, None]
    assert_mixed(CutMix(shown != own, shown), values, "images", "logits")

    gen = torch.Generator().manual_seed(1)
    many = 500
    area = tuple(values["prop_range"].tolist())
    inside = layered_boxes(many, height, width, ViewConfig(), gen, values["n_boxes"], area).inside
    num = values["n_boxes"]
    largest = sum(area) / 2  # none overlaps another
    smallest = 1 - (1 - largest / num) ** num  # as if boxes knew nothing of one another
    assert smallest - 0.06 < inside.float().mean().item() < largest


def test_rare_boxes__equal_the_released_ones():
    values = case("unimatch", "box")
    size = values["size"]
    python, numpy = random.Random(values["seed"]), np.random.RandomState(values["seed"])

    def tries():
        while True:
            yield numpy.uniform(*RATIOS), (corner := numpy.randint(0, size, 2))[1], corner[0]

    for mask in values["masks"].bool():
        found = torch.zeros(1, 1, 4, dtype=torch.int64)
        if python.random() <= 0.5:
            found[0, 0] = torch.tensor(first_fit(numpy.uniform(0.02, 0.4), tries(), size, size))
        assert torch.equal(box_masks(found, size, size)[0, 0], mask)

    inside = rare_boxes(3000, size, size, ViewConfig(), torch.Generator().manual_seed(1)).inside
    has_box = inside.flatten(1).any(1)
    assert 1 - has_box.float().mean().item() == pytest.approx(values["fraction_without_box"], abs=0.05)
    shares = inside[has_box].float().mean((1, 2))
    assert shares.mean().item() == pytest.approx(values["mean_fraction"], abs=0.02)
    assert shares.std().item() == pytest.approx(values["std_fraction"], rel=0.1)
    assert shares.min() >= values["min_fraction"] - 0.01 and shares.max() <= values["max_fraction"] + 0.01


@pytest.mark.parametrize("name", cases("u2pl", "cutmix"))
def test_cutmix_boxes__equal_u2pls(name):
    values = case("u2pl", name)
    inside = values["keep_mask"] == 0
    height, width = inside.shape[1:]
    area = ViewConfig().cutmix_area
    for mask in inside:
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        box_width, narrowest = len(columns), math.ceil(area * width)
        w = (box_width - narrowest + 0.5) / (width - narrowest + 1)
        y = (rows[0].item() + 0.5) / (height - len(rows) + 1)
        x = (columns[0].item() + 0.5) / (width - box_width + 1)
        box = torch.zeros_like(mask)
        box[box_at((w, y, x), height, width, area)] = True
        assert torch.equal(box, mask)
    mix = CutMix(inside, next_image(len(inside)))
    assert_mixed(mix, values, "images", "labels", "confidence")
