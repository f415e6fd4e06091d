"results/make_orders.py: the order of methods on one set against that on another."

import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "results" / "make_orders.py"
ROWS = ("supervised", "self_training", "cutmix", "dgcl")
TOY = (50.0, 60.0, 62.0, 65.0)


def write_table(root, name, scores):
    "A table of two seeds, the second one half a point above the first."
    rows = [
        dict(label=label, seeds=[0, 1], miou=dict(values=[score, score + 0.5]))
        for label, score in scores.items()
    ]
    path = root / "results" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(rows=rows)))


@pytest.fixture
def orders(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("make_orders", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "DRAWS", 500)
    write_table(tmp_path, module.TABLES["digits"], dict(zip(ROWS, TOY)))
    return module


def written(orders):
    orders.main()
    folder = orders.ROOT / "results"
    return json.loads((folder / "orders.json").read_text()), (folder / "orders.md").read_text()


def test_orders__reversed_on_the_other_set(orders):
    "The winner of the toy is the last one there."
    write_table(orders.ROOT, orders.TABLES["steel"], dict(zip(ROWS, reversed(TOY))))
    found, text = written(orders)
    pair = found["pairs"][0]
    assert (pair["first"], pair["second"], pair["rho"]) == ("digits", "steel", -1)
    assert (pair["winner"], pair["best"], pair["lost"]) == ("dgcl", "supervised", 15)
    # of the 24 orders of four rows two are as far from 0: the same and the reverse
    assert 0.03 < pair["by_chance"] < 0.2
    assert "| digits → steel" in text and "| -1.00" in text
    picture = (orders.ROOT / "results" / "orders.svg").read_text()
    assert "on digits, and on steel: rank correlation -1.00" in picture


def test_orders__only_rows_that_both_have(orders):
    write_table(orders.ROOT, orders.TABLES["streets"], dict(zip(ROWS[1:], TOY[1:])))
    found, _ = written(orders)
    pair = next(p for p in found["pairs"] if p["second"] == "streets")
    assert pair["rows"] == ["cutmix", "dgcl", "self_training"] and pair["rho"] == pytest.approx(1)


def test_orders__seeds_that_agree_and_a_set_alone(orders):
    found, text = written(orders)
    assert found["seeds"]["digits"]["rho"] == pytest.approx(1) and found["pairs"] == []
    assert found["published"]["digits"][0]["n"] == 3
    assert not (orders.ROOT / "results" / "orders.svg").exists()
    assert "62.2 (2)" in text
