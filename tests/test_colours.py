"""Hue and blur against torchvision's, on images of any size and colour."""

import math

import torch
import torchvision.transforms.v2.functional as VF
from hypothesis import given, settings
from hypothesis import strategies as st

from dgcl_nb.colours import blur_by, gaussian_weights, turn_hue


def random_image(height, width, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def nearly_equal(a, b, share):
    return (a.int() - b.int()).abs().max() <= 1 and (a != b).float().mean() <= share


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
