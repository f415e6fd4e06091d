"""PCR against what was released of it: prototype scores, their update and the choice of pixels.

| case | compared |
|---|---|
| `proto_logits_*` | scores, nearest prototypes, gradient |
| `init` | the order of classes and prototypes in flat rows |
| `update*` | prototypes after one update, with raw means as released |
| `select`, `select_cutout` | the chosen pixels, from the drawn rows and columns |

No loss and no clustering was released, so there is nothing to compare those with.
"""

import pytest
import torch
from released import assert_gradient, case, cases, needs_reference

from dgcl_nb.config import build_method, parse_run
from dgcl_nb.prototypes import Prototypes, at_pixels, feats_at, pixels_of_cells, proto_scores

pytestmark = needs_reference


def as_rows(maps):
    "(B, C, h, w) to (B * h * w, C), image by image."
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def begun(rows, unit=False):
    "Prototypes that stand where a case has them."
    prototypes = Prototypes(*rows.shape, unit=unit)
    prototypes.rows.copy_(rows)
    prototypes.is_ready.fill_(True)
    return prototypes


@pytest.mark.parametrize("name", cases("pcr", "proto_logits"))
def test_scores__of_the_nearest_prototype(name):
    found = case("pcr", name)
    feats = found["feats"].requires_grad_(True)
    scores = proto_scores(feats, found["prototypes"], found["temperature"])
    assert_gradient(scores.logits, found["logits"])
    assert torch.equal(as_rows(scores.nearest), found["nearest"])
    (scores.logits * found["cotangent"]).sum().backward()
    assert_gradient(feats.grad, found["grad_feats"])


def test_init__rows_are_class_by_class():
    found = case("pcr", "init")
    prototypes = begun(torch.zeros_like(found["class_wise"]))
    one_each = torch.ones(len(found["flat"]), 1)
    prototypes.move(torch.cat([found["flat"], one_each], 1), momentum=0)
    assert torch.equal(prototypes.rows, found["class_wise"])


def moved(found, unit):
    "The prototypes of a case after its update by our functions."
    feats, labels = found["feats"], found["labels"]
    pixels = found["select"].nonzero()
    rows = as_rows(feats_at(feats, pixels, labels.shape[-2:]))
    prototypes = begun(found["prototypes_before"], unit)
    chosen = at_pixels(labels, pixels).flatten()
    sums = prototypes.sums(rows, chosen, found["condition"].bool(), found["nearest_selected"])
    prototypes.move(sums, found["momentum"])
    return prototypes.rows


@pytest.mark.parametrize("name", cases("pcr", "update"))
def test_update__raw_means_as_released(name):
    found = case("pcr", name)
    assert_gradient(moved(found, unit=False), found["prototypes_after"])


@pytest.mark.parametrize("name", cases("pcr", "update"))
def test_update__pixels_are_those_of_the_nearest_prototype(name):
    found = case("pcr", name)
    pixels = found["select"].nonzero()
    rows = found["feats"][:, :, None, pixels[:, 0], pixels[:, 1]]
    nearest = begun(found["prototypes_before"]).scores(rows, 0.1).nearest
    assert torch.equal(as_rows(nearest), found["nearest_selected"])


def test_update__ours_where_nothing_may_move():
    found = case("pcr", "update_nothing_allowed")
    assert torch.equal(moved(found, unit=True), found["prototypes_after"])


@pytest.mark.parametrize("name", cases("pcr", "select"))
def test_select__one_pixel_a_cell(name):
    found = case("pcr", name)
    size = found["select"].shape
    pixels = pixels_of_cells(found["row_draws"], found["col_draws"], *size)
    assert len(pixels) == found["granularity"] ** 2
    if "cutout_mask" in found:  # what was cut out does not count
        pixels = pixels[at_pixels(found["cutout_mask"][None], pixels)[0].bool()]
    chosen = torch.zeros(size, dtype=torch.uint8)
    chosen[pixels[:, 0], pixels[:, 1]] = 1
    assert torch.equal(chosen, found["select"].to(torch.uint8))


def test_released__variant_takes_raw_means():
    method = build_method(parse_run(["--method", "pcr", "--variant", "released"]), 3, background=0)
    assert not method.prototypes.unit
