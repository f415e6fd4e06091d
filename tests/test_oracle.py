"results/make_oracle.py: runs whose contrast is told the truth, beside rows of the bench's table."

import importlib.util
import json
from pathlib import Path

import pytest

from dgcl_nb.core import InputError

SCRIPT = Path(__file__).resolve().parent.parent / "results" / "make_oracle.py"
SCORES = dict(miou=60.0, silhouette=0.5, calinski_harabasz=1000.0, davies_bouldin=0.5)


@pytest.fixture
def oracle(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("make_oracle", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    table = tmp_path / "results" / "plates"
    table.mkdir(parents=True)
    rows = [bench_row(label, gain) for label, gain in (("self_training", 0), ("dgcl", 2))]
    (table / "bench-tiny.json").write_text(json.dumps(dict(rows=rows)))
    for kind, gain in dict(given=5, truth=3).items():
        for seed in (0, 1):
            write_run(tmp_path / "runs" / f"tiny-{kind}-s{seed}", seed, gain)
    return module


def bench_row(label, gain):
    "A row of three seeds, each a point above the one before."
    values = {name: [value + gain + seed for seed in range(3)] for name, value in SCORES.items()}
    classes = dict(iou_per_class=dict(dent=dict(values=values["miou"])))
    return dict(label=label, seeds=[0, 1, 2]) | {n: dict(values=v) for n, v in values.items()} | classes


def write_run(folder, seed, gain, **other):
    "The result of a run."
    miou = SCORES["miou"] + gain + seed
    scores = SCORES | dict(
        predictor="teacher", miou=dict(teacher=miou, student=1.0), iou_per_class=dict(dent=miou)
    )
    folder.mkdir(parents=True)
    result = dict(method="dgcl", preset="tiny", seed=seed) | scores | other
    (folder / "result.json").write_text(json.dumps(result))


def call(oracle, monkeypatch, *words):
    runs = str(oracle.ROOT / "runs")
    monkeypatch.setattr("sys.argv", ["make_oracle.py", "--preset", "tiny", "--runs", runs, *words])
    oracle.main()
    folder = oracle.ROOT / "results" / "plates"
    return json.loads((folder / "oracle.json").read_text()), (folder / "oracle.md").read_text()


def test_table__compares_the_same_seeds(oracle, monkeypatch):
    found, text = call(oracle, monkeypatch, "--seeds", "2")
    assert [row["seeds"] for row in found["rows"]] == 4 * [[0, 1]]
    assert [row["miou"]["values"] for row in found["rows"]] == [[60, 61], [62, 63], [65, 66], [63, 64]]
    told = next(line.split(" | ") for line in text.splitlines() if line.startswith("| dgcl, contrast told"))
    assert [told[1].strip(), told[-1].strip(" |")] == ["65.5 ± 0.7", "+3.0 ± 0.0"]
    assert "--preset tiny --seeds 2 --kinds given truth`" in text
    dent = text.splitlines()[-1].strip("| ").split(" | ")
    assert [cell.strip() for cell in dent] == [
        "dent",
        *(f"{mean} ± 0.7" for mean in (60.5, 62.5, 65.5, 63.5)),
    ]


def test_table__lacks_a_seed(oracle, monkeypatch):
    for kind in ("given", "truth"):
        for seed in (2, 3):
            write_run(oracle.ROOT / "runs" / f"tiny-{kind}-s{seed}", seed, 0)
    with pytest.raises(InputError, match=r"no self_training of seeds \[3\]"):
        call(oracle, monkeypatch, "--seeds", "4")


def test_run__of_something_else_is_refused(oracle, monkeypatch):
    write_run(oracle.ROOT / "runs" / "tiny-given-s2", 2, 0, preset="other")
    with pytest.raises(InputError, match="is of preset other, not tiny"):
        call(oracle, monkeypatch, "--seeds", "3")
