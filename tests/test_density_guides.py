"What results/make_density_guides.py says of cells whose answers are known."

import importlib.util
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "results" / "make_density_guides.py"
NAMES = ["sheet", "scratch"]


@pytest.fixture(scope="module")
def guides():
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def asked(guides, wrong: np.ndarray, seed: int = 0):
    "400 cells of 20 images: the first half are sheet; densities and confidences are drawn."
    rng = np.random.default_rng(seed)
    num = len(wrong)
    truth = (np.arange(num) >= num // 2).astype(int)
    return guides.Asked(
        image=np.arange(num) % 20,
        truth=truth,
        prediction=np.where(wrong, 1 - truth, truth),
        confidence=rng.uniform(0.5, 1, num),
        density=rng.uniform(0, 1, (num, 2)),
    )


def test_moved__counts_cells_that_were_sparse_before(guides):
    wrong = np.zeros(400, bool)
    before = asked(guides, wrong)
    sparse = guides.rank_in_class(before) < guides.SPARSE
    after = asked(guides, wrong | sparse)
    found = guides.moved(before, after, np.ones(400, bool))
    assert found["sparse"] == dict(before=0, after=100, cells=80)
    assert found["others"] == dict(before=0, after=0, cells=320)


def test_compare__with_another_seed_as_control(guides):
    rng = np.random.default_rng(1)
    runs = [asked(guides, rng.random(400) < share, seed) for seed, share in enumerate((0.2, 0.1, 0.2))]
    alone = guides.compare(runs[0], runs[1], None, NAMES)
    assert "control" not in alone and "control" not in alone["classes"]["scratch"]
    pair = guides.compare(*runs, NAMES)
    assert pair["control"] == guides.moved(runs[0], runs[2], np.ones(400, bool))
    text = guides.page("neu-77", ("self_training", "dgcl"), 2, [pair, pair])
    assert "--seeds 2 --first 2 --before" in text
    head = "| true class | share of pixels, % | sparse cells, after | sparse cells, before, next seed |"
    assert head in text
    assert all(line.count("|") == 7 for line in text.splitlines() if line.startswith("| scratch"))
    assert "before, next seed" not in guides.page("neu-77", ("self_training", "dgcl"), 0, [alone])


def test_compare__of_other_cells_is_refused(guides):
    wrong = np.arange(400) % 7 == 0
    other = asked(guides, wrong)
    other.truth = 1 - other.truth
    with pytest.raises(SystemExit, match="different cells"):
        guides.compare(asked(guides, wrong), other, None, NAMES)


def test_ranking__classes_of_other_densities_are_not_mixed(guides):
    "Within each class the sparsest are wrong; one class lies denser as a whole, and is wrong more often."
    base = asked(guides, np.zeros(400, bool))
    rank = guides.rank_in_class(base)
    wrong = rank < np.where(base.truth == 1, 0.3, 0.1)
    base.density[base.truth == 1] += 5
    base.prediction, base.truth = base.truth, np.where(wrong, 1 - base.truth, base.truth)
    found = guides.ranking_of(base)
    assert found["density"] > 0.9 and found["both"] > 0.9 and found["confidence"] < 0.6
