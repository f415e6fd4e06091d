"""Hue and blur against torchvision's, on images of any size and colour."""

import math

import torch
import torchvision.transforms.v2.functional as VF
from hypothesis import given, settings
from hypothesis import strategies as st

from dgcl_nb.colours import Colours, blur_by, gaussian_weights, recolour, turn_hue


def random_image(height, width, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def nearly_equal(a, b, share):
    return (a.int() - b.int()).abs().max() <= 1 and (a != b).float().mean() <= share


def hue_by_choice(image, part):
    "The formula step by step: angles are chosen by booleans and brought back by the remainder."
    red, green, blue = image.float().unbind(-3)
    highest = torch.maximum(red, green).maximum(blue)
    chroma = highest - torch.minimum(red, green).minimum(blue)
    slope = chroma.clamp(min=1).reciprocal()
    near_green, near_blue = (blue - red) * slope + 2, (red - green) * slope + 4
    not_red = torch.where(highest == green, near_green, near_blue)
    angle = torch.where(highest == red, (green - blue) * slope, not_red)
    angle = (angle + 6 * part).remainder(6)
    lacks = (2 - (angle - 3).abs(), (angle - 2).abs() - 1, (angle - 4).abs() - 1)
    values = [highest - lack.clamp(0, 1) * chroma for lack in lacks]
    return (torch.stack(values) * (255.999 / 255)).to(torch.uint8)


CHANGES_THERE = dict(
    brightness=VF.adjust_brightness_image,
    contrast=VF.adjust_contrast_image,
    saturation=VF.adjust_saturation_image,
    hue=hue_by_choice,
)


def recoloured_in_bytes(image, colours):
    "Step by step on bytes, by torchvision where it has the step."
    for name, factor in colours.steps:
        image = CHANGES_THERE[name](image, factor)
    if colours.is_grey:
        image = VF.rgb_to_grayscale_image(image, num_output_channels=3)
    return blur_by(image, colours.sigma) if colours.sigma else image


@settings(max_examples=60, deadline=None)
@given(
    order=st.permutations(list(CHANGES_THERE)),
    factors=st.lists(st.floats(0, 20), min_size=3, max_size=3),
    part=st.floats(-0.5, 0.5),
    is_grey=st.booleans(),
    sigma=st.sampled_from([0.0, 0.4, 1.7]),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 2**31),
)
def test_recolour__is_its_steps_on_bytes_to_the_bit(order, factors, part, is_grey, sigma, size, seed):
    drawn = dict(zip(("brightness", "contrast", "saturation"), factors)) | dict(hue=part)
    colours = Colours(tuple((name, drawn[name]) for name in order), is_grey, sigma)
    image = random_image(*size, seed)
    before = image.clone()
    assert torch.equal(recolour(image, colours), recoloured_in_bytes(image, colours))
    assert torch.equal(image, before), "what is given stays as it is"


@settings(max_examples=40, deadline=None)
@given(part=st.floats(-0.5, 0.5), seed=st.integers(0, 2**31))
def test_turn_hue__is_torchvisions_to_one_grey_level(part, seed):
    image = random_image(24, 31, seed)
    image[:, :4] = image[:1, :4]  # grey rows: no hue
    assert nearly_equal(turn_hue(image, part), VF.adjust_hue_image(image, part), 0.02)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.1, 3), st.integers(10, 40), st.integers(10, 40), st.integers(0, 2**31))
def test_blur__is_torchvisions_to_one_grey_level(sigma, height, width, seed):
    image, reach = random_image(height, width, seed), math.ceil(3 * sigma)
    theirs = VF.gaussian_blur_image(image, [2 * reach + 1] * 2, [sigma] * 2)
    assert nearly_equal(blur_by(image, sigma), theirs, 0.01)


def test_turn_hue__whole_circle_changes_nothing_and_grey_stays():
    image = random_image(16, 16, 0)
    assert nearly_equal(turn_hue(image, 0.0), image, 0.02)
    assert torch.equal(turn_hue(image, 0.5), turn_hue(image, -0.5))
    grey = image[:1].expand(3, 16, 16)
    assert nearly_equal(turn_hue(grey, 0.3), grey, 0.0)


def test_blur__weights_sum_to_one_and_leave_a_flat_image_as_it_is():
    assert math.isclose(sum(gaussian_weights(1.3, 4)), 1.0, abs_tol=1e-6)
    flat = torch.full((3, 9, 7), 77, dtype=torch.uint8)
    assert torch.equal(blur_by(flat, 2.0), flat)
