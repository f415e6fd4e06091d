"""Density as figures: shares that sum to one, and what is unknown left out, and counted."""

import numpy as np
import pytest

from dgcl_nb.core import IGNORE_INDEX, InputError
from dgcl_nb.looking.density_figures import confidence_density, density_histograms

PALETTE = np.uint8([[0, 0, 0], [128, 0, 0], [0, 128, 0]])
NAMES = ("background", "cat", "dog")


@pytest.fixture
def pixels():
    "Density and labels (90,); the density of the last class is unknown."
    density = np.random.default_rng(0).uniform(0.5, 1, 90).astype(np.float16)
    labels = np.arange(90) % 3
    density[labels == 2] = np.nan
    density[0] = 0
    return density, labels


def test_histograms__shares_sum_to_one_and_unknown_is_left_out(pixels):
    density, labels = pixels
    fig = density_histograms(density, labels, PALETTE, NAMES, before=(density[:30], labels[:30]))
    assert [round(float(t.y.sum()), 6) for t in fig.data if t.type == "bar"] == [1, 1, 0]
    assert fig.layout.annotations[2].text == "<b>dog</b>  none → none"
    assert "unknown: 10 → 30 cells" in fig.layout.title.text
    with pytest.raises(InputError, match=r"density has shape \(9,\) and labels \(90,\)"):
        density_histograms(density[:9], labels, PALETTE)


def test_histograms__say_nothing_of_unknown_ones_where_all_are_known(pixels):
    density, labels = pixels
    fig = density_histograms(np.nan_to_num(density), labels, PALETTE, before=density[::-1] * 0 + 1)
    assert "unknown: 30 → 0" in fig.layout.title.text
    assert "unknown" not in density_histograms(np.nan_to_num(density), labels, PALETTE).layout.title.text


def test_histograms__of_two_classes_have_a_heading_and_ticks_that_fit(pixels):
    density, labels = pixels
    few = np.where(labels == 2, 0, labels)
    fig = density_histograms(
        density, few, PALETTE, NAMES, before=density[::-1] * 1, names=("step 500", "step 1000")
    )
    lines = fig.layout.title.text.split("<br>")
    assert max(map(len, lines)) * 7 <= fig.layout.width - 40, lines
    assert "outline = step 500" in " ".join(lines) and fig.layout.margin.t > 70
    inside = fig.layout.width - fig.layout.margin.l - fig.layout.margin.r
    gap = fig.layout.xaxis2.domain[0] - fig.layout.xaxis.domain[1]
    assert gap * inside > 20, "half of the tick 1 and half of the tick 0.7, in pixels"


def test_claim__headings_keep_clear_of_the_uppermost_tick():
    rng = np.random.default_rng(0)
    fig = confidence_density(rng.random(500), rng.random(500), rng.random(500) < 0.2)
    assert all(head.yshift >= 6 for head in fig.layout.annotations[:3])


def test_histograms__with_a_class_without_any_and_without_pixels(pixels):
    density, labels = pixels
    cases = [(density, labels), (density[:0], labels[:0]), (density, labels * 0 + IGNORE_INDEX)]
    assert [len(density_histograms(d, y, PALETTE).data) for d, y in cases] == [3, 0, 0]


def test_claim__figure_counts_each_known_pixel_once():
    rng = np.random.default_rng(0)
    confidence, density = rng.random((2, 500))
    density[:50] = np.nan
    wrong = rng.random(500) < 0.2
    groups, images = rng.integers(0, 3, 500), rng.integers(0, 9, 500)
    fig = confidence_density(confidence, density, wrong, groups, images)
    assert fig.data[0].customdata.sum() == 450 and fig.data[0].colorscale[0][1] == "#00224e"
    assert fig.layout.annotations[0].text == "number of cells (50 unknown left out)"
    assert fig.layout.uirevision == "claim"
    reach = fig.data[2].error_y
    assert np.isfinite(reach.array).all() and (np.array(reach.arrayminus) >= 0).all()


def test_claim__nothing_to_show_and_what_does_not_fit():
    rng = np.random.default_rng(0)
    confidence, density, wrong = rng.random(500), rng.random(500), rng.random(500) < 0.2
    nothing = confidence_density(confidence[:0], density[:0], wrong[:0])
    assert "no cell" in nothing.layout.annotations[-1].text
    with pytest.raises(InputError, match="a value a pixel"):
        confidence_density(confidence, density, wrong[:3])
