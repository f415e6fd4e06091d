"""Tiles: the very pixels of images and label maps, and what cannot be a label map."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from dgcl_nb.core import IGNORE_INDEX, InputError
from dgcl_nb.looking.tiles import IGNORED_COLOUR, colour_labels, predictions_side_by_side

PALETTE = np.uint8([[0, 0, 0], [128, 0, 0], [0, 128, 0]])
NAMES = ("background", "cat", "dog")


@pytest.fixture
def scenes():
    "Two images (2, 8, 6, 3) and their targets, a row of which is unknown."
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 8, 6, 3), dtype=np.uint8)
    targets = rng.integers(0, 3, (2, 8, 6))
    targets[0, 0] = IGNORE_INDEX
    return images, targets


def column(fig, i):
    "The picture of a column, (height, width, 4)."
    data = fig.data[i].source.split(",")[1]
    return np.array(Image.open(io.BytesIO(base64.b64decode(data))))


def test_predictions__tiles_hold_the_very_pixels(scenes):
    images, targets = scenes
    said = {"right": np.where(targets == IGNORE_INDEX, 0, targets), "none": targets * 0}
    fig = predictions_side_by_side(images, targets, said, PALETTE, NAMES, ["one", "two"])
    pictures, truth = column(fig, 0), column(fig, 1)
    assert (pictures[:8, :, :3] == images[0]).all() and (pictures[9:, :, :3] == images[1]).all()
    assert (pictures[8] == 0).all()
    assert (truth[9:, :, :3] == PALETTE[targets[1]]).all() and (truth[0, :, :3] == IGNORED_COLOUR).all()
    assert "mIoU 100.0 %" in fig.layout.annotations[2].text
    assert list(fig.layout.yaxis.ticktext) == ["one", "two"]
    assert [t.name for t in fig.data if t.type == "scatter"] == [*NAMES, "unknown"]


def test_predictions__what_does_not_fit_is_a_sentence(scenes):
    images, targets = scenes
    with pytest.raises(InputError, match="at least one"):
        predictions_side_by_side(images[:0], targets[:0], {}, PALETTE)
    with pytest.raises(InputError, match=r"'none' has shape \(1, 8, 6\)"):
        predictions_side_by_side(images, targets, {"none": targets[:1]}, PALETTE)
    with pytest.raises(InputError, match="class numbers from 0 and 255"):
        colour_labels(np.array([300]), PALETTE)


@pytest.mark.parametrize("num", [1, 2, 4, 6, 8])
@pytest.mark.parametrize("shape", [(48, 48), (36, 48), (48, 36)])
def test_predictions__few_images_use_the_width_of_a_report(num, shape):
    images = np.zeros((num, *shape, 3), np.uint8)
    fig = predictions_side_by_side(images, images[..., 0], dict(a=images[..., 0], b=images[..., 0]), PALETTE)
    assert fig.layout.width > (800 if shape[0] <= shape[1] else 700)
    assert num > 6 or fig.layout.width <= 1132  # of a report's text
    assert fig.layout.height < 1000
