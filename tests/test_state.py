"""The explorer's state against slow references, and what it says of little, of nothing and of nonsense."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dgcl_nb.core import IGNORE_INDEX, InputError
from dgcl_nb.snapshot_schema import ROLES
from dgcl_nb.snapshots import every_nth, keep_pixels, load_snapshot, make_snapshot, save_snapshot
from dgcl_nb.widgets.state import COLUMNS, ExplorerState, all_neighbours, csv_text, write_table

RUN = Path(__file__).parent / "older" / "run-0.1"
NAMES = ("ground", "cat, black", 'the "dog"')


def state(n=60, seed=0, **fields):
    "Random points: three classes, some truth unknown, some density unknown, some images not kept."
    rng = np.random.default_rng(seed)
    label, pseudo = rng.integers(0, 3, n), rng.integers(0, 3, n)
    label[rng.random(n) < 0.1] = IGNORE_INDEX
    density = rng.uniform(0.2, 1, n).astype(np.float32)
    density[rng.random(n) < 0.1] = np.nan
    made = dict(
        xy=rng.normal(size=(n, 2)).astype(np.float32),
        label=label,
        pseudo=pseudo,
        density=density,
        confidence=rng.uniform(0, 1, n).astype(np.float32),
        image=rng.integers(-1, 2, n),
        row=rng.integers(0, 8, n),
        col=rng.integers(0, 8, n),
        role=rng.integers(0, 3, n).astype(np.uint8),
        feats=rng.normal(size=(n, 5)).astype(np.float32),
        class_names=NAMES,
        palette=np.zeros((3, 3), np.uint8),
        image_ids=("a", "b"),
        step=7,
        grid=(8, 8),
        image_size=(32, 64),
    )
    return ExplorerState(**made | fields)


def part(s, rows):
    return replace(s, **{name: getattr(s, name)[rows] for name in COLUMNS})


def numbers(given, names):
    "Names and numbers as a set of numbers; None stays None."
    return None if given is None else {names.index(x) if isinstance(x, str) else x for x in given}


@pytest.mark.parametrize("density", [None, (0.3, 0.7), (-1, 1)])
@pytest.mark.parametrize("confidence", [None, (0.5, 1)])
@pytest.mark.parametrize("classes", [None, [0, 2], ["ground"], []])
@pytest.mark.parametrize("images", [None, ["b"], [-1, 0]])
def test_mask__equals_one_point_at_a_time(density, confidence, classes, images):
    s = state()
    wanted = numbers(classes, s.class_names)
    places = numbers(images, s.image_ids)

    def shown(i):
        kind = s.pseudo[i] if s.label[i] == IGNORE_INDEX else s.label[i]
        return (
            (density is None or density[0] <= s.density[i] <= density[1])
            and (confidence is None or confidence[0] <= s.confidence[i] <= confidence[1])
            and (wanted is None or kind in wanted)
            and (places is None or s.image[i] in places)
        )

    assert s.mask(density, confidence, classes, images).tolist() == [shown(i) for i in range(len(s))]


@pytest.mark.parametrize(
    "given, message",
    [
        (dict(density=(0.8, 0.2)), "the density range 0.8 to 0.2 holds nothing; put the lower bound first"),
        (dict(confidence=(np.nan, 1)), "the confidence range nan"),
        (dict(classes=["grund"]), "unknown class 'grund'; did you mean ground"),
        (dict(classes=[3]), "no class number 3; there are 3: 0 to 2"),
        (dict(images=["c"]), "unknown image 'c'"),
        (dict(images=[9]), "no image number 9"),
    ],
)
def test_mask__refuses(given, message):
    with pytest.raises(InputError, match=message):
        state().mask(**given)


def test_mask__unknown_density_is_in_while_no_density_is_asked_for():
    s = state()
    unknown = np.isnan(s.density)
    assert 0 < unknown.sum() < len(s)
    assert s.mask().all() and s.mask(density=None).all()
    for limits in ((-1, 1), (-np.inf, np.inf)):  # an explicit range, as wide as it may be
        assert s.mask(density=limits).tolist() == (~unknown).tolist()
    dark = replace(s, density=np.full(len(s), np.nan, np.float32))
    assert dark.mask().all() and not dark.mask(density=(-1, 1)).any()
    low_confidence = s.mask(confidence=(0, 0.5))  # other conditions let them in
    assert (low_confidence & unknown).any()


def test_neighbours__equal_brute_force_and_leave_the_point_out():
    s = state(50)
    unit = s.feats / np.linalg.norm(s.feats, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -9)
    for i in (0, 17, 49):
        rows, found = s.neighbours(i, 8)
        assert rows.tolist() == np.argsort(-cosines[i])[:8].tolist()
        assert np.allclose(found, cosines[i][rows], atol=1e-6)
        assert i not in rows
    rows, found = all_neighbours(s.feats, 8)
    assert rows.shape == (50, 8) and (rows == np.argsort(-cosines, 1)[:, :8]).all()


def test_neighbours__of_a_twin_is_the_twin():
    s = state(10)
    feats = s.feats.copy()
    feats[4] = feats[2] * 3
    rows, cosines = replace(s, feats=feats).neighbours(2, 1)
    assert rows.tolist() == [4] and cosines[0] == pytest.approx(1)


@pytest.mark.parametrize("n, k, found", [(1, 8, 0), (2, 8, 1), (5, 8, 4), (9, 8, 8)])
def test_neighbours__fewer_points_than_asked_for(n, k, found):
    rows, cosines = state(n).neighbours(0, k)
    assert len(rows) == len(cosines) == found


def test_neighbours__refuse():
    with pytest.raises(InputError, match="no point 60; there are 60: 0 to 59"):
        state().neighbours(60)
    with pytest.raises(InputError, match="no point -1"):
        state().neighbours(-1)
    with pytest.raises(InputError, match="k is 0; ask for at least one neighbour"):
        state().neighbours(0, 0)


def test_state__refuses_nan_and_uneven_columns():
    s = state()
    feats = s.feats.copy()
    feats[[3, 4], 1] = np.nan, np.inf
    said = "the features of 2 of the 60 points of step 7 are NaN or infinite; training has diverged"
    with pytest.raises(InputError, match=said):
        replace(s, feats=feats)
    with pytest.raises(InputError, match="'row' has 59 rows and 'label' has 60"):
        replace(s, row=s.row[1:])
    with pytest.raises(InputError, match="the layout places some of the 60 points"):
        replace(s, xy=s.xy * np.nan)


def test_pixels__centre_of_the_cell():
    s = state()
    where = s.pixels([5])
    assert where["y"][0] == (s.row[5] + 0.5) * 4 and where["x"][0] == (s.col[5] + 0.5) * 8
    assert s.pixels(np.flatnonzero(s.image == -1)[:1])["image_id"] == [""]


def test_summary__equals_sums_by_hand():
    s, rows = state(), [1, 2, 3, 30, 44, 59]
    got = s.summary(rows)
    kind = [int(s.pseudo[i] if s.label[i] == IGNORE_INDEX else s.label[i]) for i in rows]
    assert got["count"] == 6 and got["classes"] == {NAMES[c]: kind.count(c) for c in sorted(set(kind))}
    assert got["confidence"] == pytest.approx(float(np.mean(s.confidence[rows])))
    assert got["density"] == pytest.approx(float(np.nanmean(s.density[rows])))
    known = [i for i in rows if s.label[i] != IGNORE_INDEX]
    assert got["right_known"] == len(known)
    assert got["right"] == pytest.approx(float(np.mean(s.label[known] == s.pseudo[known])))


def test_summary__one_class_unknown_truth_and_nothing():
    nowhere = np.full(60, np.nan, np.float32)
    s = state(label=np.full(60, IGNORE_INDEX), pseudo=np.zeros(60, int), density=nowhere)
    got = s.summary(range(60))
    assert (got["count"], got["classes"]) == (60, {"ground": 60})
    assert (got["density"], got["density_known"]) == (None, 0)
    assert (got["right"], got["right_known"]) == (None, 0)
    assert set(got) == {"count", "classes", "density", "density_known", "confidence", "right", "right_known"}
    assert s.summary([])["count"] == 0 and s.summary([])["density"] is None


def test_csv__reads_back_with_awkward_names(tmp_path):
    s = state()
    rows = range(60)
    text = s.save_selection(rows, tmp_path / "all.csv").read_bytes().decode()
    records = list(csv.DictReader(io.StringIO(text)))
    assert len(records) == 60 and {r["pseudo_label"] for r in records} == set(NAMES)
    for i, r in enumerate(records):
        assert r["true_class"] == ("" if s.label[i] == IGNORE_INDEX else NAMES[s.label[i]])
        assert r["role"] == ROLES[s.role[i]]
        assert int(r["point"]) == i
        if np.isnan(s.density[i]):
            assert r["density"] == ""
        else:
            assert float(r["density"]) == pytest.approx(float(s.density[i]), rel=1e-5)
        assert r["right"] == {1: "yes", 0: "no", -1: ""}[int(s.right[i])]
    assert csv_text(s.table([])).count("\n") == 1


def test_parquet__reads_back(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    s = state()
    back = parquet.read_table(s.save_selection([3, 1], tmp_path / "two.parquet"))
    assert back.column("point").to_pylist() == [3, 1]
    assert back.column("density").to_pylist()[0] == pytest.approx(float(s.density[3]), nan_ok=True)


def test_save__refuses(tmp_path, monkeypatch):
    s = state()
    said = "cannot tell the format of 'a.xlsx'; end its name with .csv or .parquet"
    with pytest.raises(InputError, match=said):
        s.save_selection([0], tmp_path / "a.xlsx")
    with pytest.raises(InputError, match="name a folder that exists and can be written"):
        s.save_selection([0], tmp_path / "no" / "a.csv")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    said = r"needs pyarrow: pip install 'dgcl_nb\[looking\]', or name a .csv file"
    with pytest.raises(InputError, match=said):
        write_table(s.table([0]), tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []


def test_from_snapshot__survives_the_file(tmp_path):
    g = torch.Generator().manual_seed(0)
    maps = dict(images=torch.randint(0, 255, (2, 3, 64, 64), generator=g).to(torch.uint8))
    maps["kept"] = torch.ones(2, 64, 64, dtype=torch.bool)
    for name in ("targets", "predictions", "pseudo_labels"):
        maps[name] = torch.randint(0, 3, (2, 64, 64), generator=g)
    for name in ("confidence", "entropy"):
        maps[name] = torch.rand(2, 64, 64, generator=g)
    maps |= dict(density_per_k=torch.rand(2, 1, 16, 16), feats=torch.rand(2, 6, 16, 16))
    snap = make_snapshot(30, NAMES, np.zeros((3, 3), np.uint8), (8,), ("a", "b"), **maps)
    back = ExplorerState.from_snapshot(load_snapshot(save_snapshot(tmp_path, snap)))
    assert (back.step, back.grid, back.image_size) == (30, (16, 16), (64, 64))
    assert len(back) == len(snap.feats) and back.xy.shape == (len(back), 2)
    assert back.feats.dtype == back.density.dtype == np.float32 and back.label.dtype == np.int64


def test_from_snapshot__without_a_point():
    snap = load_snapshot(RUN)
    empty = ExplorerState.from_snapshot(keep_pixels(snap, 0))
    assert len(empty) == 0
    assert empty.mask().tolist() == []
    assert len(part(empty, [])) == 0


def test_from_snapshot__unknown_density_stays_unknown():
    snap = load_snapshot(RUN)
    half = np.arange(len(snap.pixel_density)) % 2 == 0
    dark = np.where(half, np.nan, snap.pixel_density).astype(np.float16)
    s = ExplorerState.from_snapshot(replace(snap, pixel_density=dark))
    assert np.isnan(s.density).tolist() == half.tolist()
    assert s.summary(range(len(s)))["density_known"] == (~half).sum()


def test_pixels__are_unknown_without_a_size_and_those_of_the_file_when_maps_are_thinned():
    s = state(image=np.zeros(60, int), image_size=(0, 0))
    assert np.isnan(s.pixels([0, 1])["x"]).all() and np.isnan(s.pixels([0])["y"]).all()
    run = RUN / "snapshots"
    snap = load_snapshot(sorted(run.glob("*.npz"))[-1])
    sized = replace(snap, image_size=np.tile(np.int32(snap.image.shape[1:3]), (len(snap.image_id), 1)))
    whole, thinned = (ExplorerState.from_snapshot(x) for x in (sized, every_nth(sized, 2, 2)))
    rows = range(20)
    np.testing.assert_array_equal(thinned.pixels(rows)["x"], whole.pixels(rows)["x"])
    assert thinned.image_size == whole.image_size


def test_pixels__of_images_of_two_sizes_are_those_of_each_file():
    run = RUN / "snapshots"
    snap = load_snapshot(sorted(run.glob("*.npz"))[-1])
    height, width = snap.image.shape[1:3]
    sizes = np.tile(np.int32([height, width]), (len(snap.image_id), 1))
    sizes[1] *= 3
    s = ExplorerState.from_snapshot(replace(snap, image_size=sizes))
    lost = np.flatnonzero(s.image == -1)
    for image, scale in ((0, 1), (1, 3)):
        row = int(np.flatnonzero(s.image == image)[0])
        wanted = (s.col[row] + 0.5) * scale * width / s.grid[1]
        assert s.pixels([row])["x"][0] == pytest.approx(wanted)
    assert np.isnan(s.pixels(lost)["x"]).all()
