"""The made-up run: the same each time, with the fields of a real one, and what it cannot be."""

import time

import numpy as np
import pytest
from helpers import few_images, tiny_run

from dgcl_nb import engine
from dgcl_nb.core import InputError
from dgcl_nb.engine import fit
from dgcl_nb.looking.demo_run import demo_fill, demo_snapshot, make_demo_run
from dgcl_nb.looking.runs import open_run
from dgcl_nb.snapshots import MAX_BYTES


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return make_demo_run(tmp_path_factory.mktemp("runs") / "demo", steps=300, snapshots=3, num_images=2)


def test_demo__is_the_same_each_time_and_small(tmp_path, demo):
    start = time.perf_counter()
    again = make_demo_run(tmp_path / "again", steps=300, snapshots=3, num_images=2)
    assert time.perf_counter() - start < 20
    for name in ("metrics.jsonl", "timings.jsonl", "result.json"):
        assert (again / name).read_bytes() == (demo / name).read_bytes()
    for a, b in zip(open_run(again).load_all(), open_run(demo).load_all()):
        np.testing.assert_array_equal(a.feats, b.feats)
        np.testing.assert_array_equal(a.density, b.density)
    assert all(p.stat().st_size < MAX_BYTES / 10 for p in open_run(demo).snapshots)


@pytest.mark.parametrize("method", ["dgcl", "self_training", "supervised"])
def test_demo__has_the_fields_of_a_real_run(tmp_path, monkeypatch, method):
    monkeypatch.setattr(engine, "build_data", few_images)
    fit(tiny_run(method, out=str(tmp_path / "real"), steps=8, loop__sup_only_fraction=0.25), callbacks=[])
    make_demo_run(tmp_path / "demo", steps=100, method=method, snapshots=1, num_images=2)
    real, demo = open_run(tmp_path / "real"), open_run(tmp_path / "demo")
    assert demo.is_made_up and demo.config["method"] == method
    written, made_up = set().union(*real.records), set().union(*demo.records)
    assert made_up <= written | {"inactive"}
    both = ("loss_", "miou_")
    assert {n for n in written if n.startswith(both)} == {n for n in made_up if n.startswith(both)}
    assert set(demo.result) - {"miou"} <= set(real.result)
    assert list(demo.miou) == list(real.miou)
    assert set(demo.timings[0]) == set(real.timings[0])


def test_demo__density_is_unknown_where_the_bank_holds_too_little():
    snaps = [demo_snapshot(step, 1000, num_images=2) for step in (250, 300, 1000)]
    unknown = [np.isnan(s.density).mean() for s in snaps]
    assert unknown[0] == 1 > unknown[1] > 0 == unknown[2]
    assert not any((s.density == 0).any() for s in snaps)
    fill = np.array(demo_fill(300, 1000))
    rare = np.flatnonzero(fill < 0.25)  # the classes that have no density yet
    young = snaps[1]
    dark = np.isin(young.pixel_pseudo, rare)
    assert dark.any() and np.isnan(young.pixel_density[dark]).all()
    assert not young.pixel_role[np.isnan(young.pixel_density)].any()
    assert not np.isnan(demo_snapshot(300, 1000, "self_training", num_images=2).density).any()


def test_demo__clusters_tighten(demo):
    def compactness(snap):
        x = snap.feats.astype(np.float32)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        centre = np.zeros((11, x.shape[1]))
        for c in np.unique(snap.pixel_pseudo):
            centre[c] = x[snap.pixel_pseudo == c].mean(0)
        return float((x * centre[snap.pixel_pseudo]).sum(1).mean())

    found = [compactness(s) for s in open_run(demo).load_all()]
    assert found == sorted(found) and found[-1] > found[0] + 0.05


def test_demo__says_what_cannot_be(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(InputError, match="is not empty and holds no made-up run"):
        make_demo_run(tmp_path / "mine")
    with pytest.raises(InputError, match="choose dgcl, self_training or supervised"):
        make_demo_run(tmp_path / "x", method="gct")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.tex"]
