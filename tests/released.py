"""Numbers that the released codes returned on small inputs, for parity to the float.

`DGCL_NB_REFERENCE` names the folder of the `.npz` files, one a method; keys are `case/name`. Its README says
what each case holds. Sizes, class counts and settings are read from the files, so that another set of the
same layout can be put in their place.
"""

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

FOLDER = os.environ.get("DGCL_NB_REFERENCE")
needs_reference = pytest.mark.skipif(
    not FOLDER, reason="DGCL_NB_REFERENCE names no folder with numbers of the released codes"
)
LOSS, GRADIENT = 1e-5, 1e-5
"Tolerances: of a loss, relative; of a gradient, of its largest entry."


@cache
def _arrays(method):
    with np.load(Path(FOLDER) / f"{method}.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def as_value(array):
    "A 0-d array as a number or a text, any other as a tensor of its own."
    if array.ndim == 0:
        return array.item()
    if array.dtype.kind in "US":
        return array.tolist()
    return torch.from_numpy(array.copy())


def case(method, name):
    "One case, name -> number or tensor."
    found = {k[len(name) + 1 :]: v for k, v in _arrays(method).items() if k.startswith(f"{name}/")}
    assert found, f"{method}.npz has no case {name}"
    return {k: as_value(v) for k, v in found.items()}


def cases(method, start=""):
    "The names of the cases that begin so; none without the files, so that tests can be collected."
    if not FOLDER:
        return []
    names = dict.fromkeys(k.split("/")[0] for k in _arrays(method))
    return [n for n in names if n.startswith(start)]


def states(values, name):
    "A state dict out of a case: the entries `name.*`, without the name."
    return {k[len(name) + 1 :]: v for k, v in values.items() if k.startswith(f"{name}.")}


def assert_loss(found, expected, tolerance=LOSS):
    "A loss agrees, relative."
    assert float(found) == pytest.approx(float(expected), rel=tolerance, abs=1e-8)


def assert_gradient(found, expected, tolerance=GRADIENT):
    "A gradient, or another map, agrees to a part of its largest entry."
    expected = expected.to(found.dtype)
    assert found.shape == expected.shape
    largest = max(expected.abs().max().item(), 1e-12)
    assert (found - expected).abs().max().item() <= tolerance * largest
