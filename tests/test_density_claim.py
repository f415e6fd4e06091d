"""The claim about sparse features, as statistics: equal confidence, honest intervals, rare false alarms."""

import subprocess
import sys

import numpy as np
import pytest
from helpers import clean_environment

from dgcl_nb.looking.density_claim import (
    Halves,
    matched_halves,
    ranges_by_image,
    split_halves,
    verdict_line,
)


def test_room__needs_numbers_only():
    code = "import sys, dgcl_nb.looking.density_claim; print(*{'plotly', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean_environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_halves__have_equal_confidence_and_split_at_the_median_of_density():
    rng = np.random.default_rng(0)
    confidence, density = rng.random((2, 1003))
    groups = rng.integers(0, 3, 1003)
    sparse, dense = split_halves(confidence, density, groups)
    assert len(sparse) == len(dense) and not set(sparse) & set(dense) and len(sparse) > 480
    assert (groups[sparse] == groups[dense]).all()
    assert confidence[sparse].mean() == pytest.approx(confidence[dense].mean(), abs=0.002)
    assert density[sparse].mean() < density[dense].mean() - 0.2


def test_halves__verdicts_of_a_teacher_that_errs_by_confidence_alone_are_rarely_wrong():
    said = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        confidence = rng.beta(4, 1, 1500)
        density = 0.5 * confidence + rng.normal(0, 0.1, 1500)
        wrong = rng.random(1500) < 1 - confidence
        said.append(matched_halves(confidence, density, wrong).verdict)
    assert said.count("undecided") >= 53


def pixels_that_err_together(seed):
    "Confidence, density, wrong and image (1200,) of 20 images: density and errors depend on the image only."
    rng = np.random.default_rng(seed)
    images = np.repeat(np.arange(20), 60)
    shift = rng.normal(0, 1, 20)[images]
    density = shift + rng.normal(0, 0.3, 1200)
    draw = rng.random(1200)
    wrong = draw < np.where(rng.random(20) < 0.3, 0.8, 0.02)[images]
    return rng.uniform(0.89, 0.91, 1200), density, wrong, images


def test_halves__pixels_that_err_together_need_intervals_over_images():
    false_alarms = dict(pixels=0, images=0)
    for seed in range(40):
        *pixels, images = pixels_that_err_together(seed)
        for name, given in dict(pixels=None, images=images).items():
            false_alarms[name] += matched_halves(*pixels, images=given).verdict != "undecided"
    assert false_alarms["images"] <= 6 < 20 < false_alarms["pixels"]


def test_halves__nothing_to_ask():
    h = matched_halves([0.9, 0.9], [np.nan, 0.5], [True, False], conf_thresh=0.5)
    assert h.count == 0 and h.verdict == "undecided"
    assert verdict_line(h) == "no cell to ask: density is unknown, or none is that confident"
    refuted = Halves(0.1, 0.5, (0.05, 0.2), (0.4, 0.6), (-0.5, -0.3), 100)
    assert "the claim is refuted" in verdict_line(refuted)
    assert ranges_by_image([np.ones(3, bool)] * 2, [np.arange(3)] * 2)[2] == (0, 0)


def test_halves__one_image_says_nothing_of_others():
    wrong, density = np.arange(40) % 10 < 5, np.arange(40)  # of each ten of like confidence the sparser half
    known = [np.full(40, 0.9), density, wrong]
    assert matched_halves(*known, images=np.arange(40)).verdict == "shown"
    h = matched_halves(*known, images=np.zeros(40, int))
    assert (h.gap_range, h.verdict) == ((-1, 1), "undecided")


def test_halves__unknown_density_is_no_low_density():
    rng = np.random.default_rng(0)
    confidence, density, wrong = rng.random(600), rng.random(600), rng.random(600) < 0.3
    known = rng.random(600) < 0.8
    some = matched_halves(confidence, np.where(known, density, np.nan), wrong)
    assert some == matched_halves(confidence[known], density[known], wrong[known])
