"results/whose_labels.py: a step of DGCL whose contrast has other labels."

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dgcl_nb.cells import Cells
from dgcl_nb.core import IGNORE_INDEX
from dgcl_nb.methods import dgcl

SCRIPT = Path(__file__).resolve().parent.parent / "results" / "whose_labels.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("whose_labels", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LEFT = dict(
    truth=[0, 1, 1, IGNORE_INDEX],  # the last one's label is wrong
    given=[0, 1, 1, 1],
    labelled=[0, 1, IGNORE_INDEX, IGNORE_INDEX],
    agreed=[0, 1, IGNORE_INDEX, 0],  # the student says 0 of all
)


@pytest.mark.parametrize("kind", LEFT)
def test_labels__of_each_kind(script, monkeypatch, kind):
    rows = dict.fromkeys(Cells._fields)
    cells = Cells(**rows | dict(labels=torch.tensor([0, 1, 1, 0]), truth=torch.tensor([0, 1, 1, 1])))
    monkeypatch.setattr(dgcl, "contrast_cells", lambda batch, labels, outs, *rest: cells)
    one = SimpleNamespace(logits=torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 2))
    one.feats = torch.zeros(1, 3, 1, 2)
    made = script.with_labels(kind)(None, None, [one, one], None, None, None)
    assert made.labels.tolist() == LEFT[kind]
