"""Snapshots: round trips, the size limit, and files that are missing, cut, foreign or of other versions."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dgcl_nb.core import IGNORE_INDEX, InputError
from dgcl_nb.snapshot_schema import describe_images
from dgcl_nb.snapshots import (
    MAX_BYTES,
    PIXEL_FIELDS,
    PROBE_FIELDS,
    SHAPES,
    fit_budget,
    list_snapshots,
    load_snapshot,
    make_snapshot,
    sample_balanced,
    save_snapshot,
    shrink_probes,
)


def make(num=3, side=64, dim=16, classes=4, max_per_class=50, step=200, unknown=False, seed=0, **kwargs):
    gen = torch.Generator().manual_seed(seed)
    grid = side // 4

    def ints(*shape):
        return torch.randint(0, classes, shape, generator=gen)

    def floats(*shape):
        return torch.rand(shape, generator=gen)

    targets = torch.full((num, side, side), IGNORE_INDEX) if unknown else ints(num, side, side)
    maps = dict(
        images=torch.randint(0, 256, (num, 3, side, side), generator=gen, dtype=torch.uint8),
        targets=targets,
        predictions=ints(num, side, side),
        pseudo_labels=ints(num, side, side),
        kept=floats(num, side, side) > 0.5,
        confidence=floats(num, side, side),
        entropy=floats(num, side, side),
        density_per_k=floats(num, 3, grid, grid),
        feats=floats(num, dim, grid, grid),
        roles=torch.randint(0, 3, (num, grid, grid), generator=gen),
    )
    maps |= kwargs
    names = [f"class {c}" for c in range(classes)]
    ids = [f"val-{i:05}" for i in range(num)]
    palette = np.zeros((classes, 3), np.uint8)
    return make_snapshot(step, names, palette, (8, 16, 32), ids, max_per_class=max_per_class, **maps), maps


def assert_same(a, b):
    for name in SHAPES:
        x, y = getattr(a, name), getattr(b, name)
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)
    for name in ("step", "version", "class_names", "image_id", "protocol"):
        assert getattr(a, name) == getattr(b, name)


def cells_of(snap):
    "Image, row and column of the sampled cells."
    return {tuple(r) for r in np.stack([snap.pixel_image, snap.pixel_row, snap.pixel_col], 1).tolist()}


def test_save_load__is_exact(tmp_path):
    snap, _ = make()
    path = save_snapshot(tmp_path, snap)
    assert path == tmp_path / "snapshots" / "step_0000200.npz" and path.stat().st_size <= MAX_BYTES
    assert_same(load_snapshot(path), snap)
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # nothing is left beside it


def test_file__is_read_by_numpy_alone(tmp_path):
    snap, _ = make()
    with np.load(save_snapshot(tmp_path, snap), allow_pickle=False) as file:
        assert set(file.files) == set(SHAPES) | {"version", "step", "class_names", "image_id", "protocol"}
        assert int(file["version"]) == 2


def test_make__pixels_come_from_their_cells():
    snap, maps = make()
    i, r, c = (getattr(snap, f"pixel_{n}").astype(int) for n in ("image", "row", "col"))
    np.testing.assert_array_equal(snap.feats, maps["feats"].half().numpy()[i, :, r, c])
    np.testing.assert_array_equal(snap.pixel_role, maps["roles"].numpy()[i, r, c])
    np.testing.assert_array_equal(snap.pixel_density, snap.density[i, r, c])
    centre = i, 4 * r + 2, 4 * c + 2  # the pixel nearest to the cell's centre
    np.testing.assert_array_equal(snap.pixel_class, snap.target[centre])
    np.testing.assert_array_equal(snap.pixel_pseudo, snap.pseudo_label[centre])
    np.testing.assert_array_equal(snap.pixel_confidence, snap.confidence[centre])
    assert np.bincount(snap.pixel_class).tolist() == [50] * 4


def test_make__unknown_truth_is_balanced_by_pseudo_labels():
    snap, _ = make(unknown=True)
    assert (snap.pixel_class == IGNORE_INDEX).all() and np.bincount(snap.pixel_pseudo).tolist() == [50] * 4


def test_make__takes_bfloat16_nan_and_no_roles(tmp_path):
    gen = torch.Generator().manual_seed(0)
    feats = (torch.rand(3, 16, 16, 16, generator=gen) * 1e6).bfloat16()
    nothing = torch.full((3, 3, 16, 16), float("nan"))
    snap, _ = make(feats=feats, density_per_k=nothing, roles=None)
    back = load_snapshot(save_snapshot(tmp_path, snap))
    assert np.isfinite(back.feats).all()
    assert np.isnan(back.density).all()
    assert np.isnan(back.pixel_density).all()
    assert not back.pixel_role.any()


@pytest.mark.parametrize(
    "options",
    [
        dict(dim=384, side=96, max_per_class=4000, num=8),
        dict(num=8, side=256, dim=64),
        dict(num=40, side=96, dim=8),
    ],
    ids=["pixels", "maps", "images"],
)
def test_save__a_megabyte_at_most(tmp_path, caplog, options):
    snap, _ = make(classes=11, **options)
    with caplog.at_level(logging.WARNING, logger="dgcl_nb.snapshots"):
        path = save_snapshot(tmp_path, snap)
    back = load_snapshot(path)
    assert path.stat().st_size <= MAX_BYTES
    assert len(back.feats) > 0
    assert len(back.image_id) > 0
    assert f"kept {len(back.feats)} of {len(snap.feats)} pixels" in caplog.text
    assert f"{len(back.image_id)} of {len(snap.image_id)} images" in caplog.text
    if len(back.feats) < len(snap.feats):
        assert path.stat().st_size > 0.8 * MAX_BYTES  # no more is cut than must be
    counts = np.bincount(back.pixel_class, minlength=11)
    assert counts.max() - counts.min() <= max(1, 0.2 * counts.max())
    assert back.pixel_image.max() < len(back.image_id)


def test_fit_budget__keeps_whole_images_while_pixels_give_way():
    snap, _ = make(dim=384, max_per_class=4000, num=8)
    fitted, data = fit_budget(snap, 800_000)
    assert len(data) <= 800_000
    assert all(np.array_equal(getattr(fitted, n), getattr(snap, n)) for n in PROBE_FIELDS)
    assert cells_of(fitted) <= cells_of(snap)
    assert len({len(getattr(fitted, n)) for n in PIXEL_FIELDS}) == 1


def test_fit_budget__ends_even_where_nothing_fits():
    _, data = fit_budget(make()[0], 1000)
    assert len(data) < 10_000


def test_save__a_class_without_a_pixel_and_no_pixel_at_all(tmp_path):
    snap, _ = make(targets=torch.ones(3, 64, 64, dtype=torch.long))
    assert_same(load_snapshot(save_snapshot(tmp_path, snap)), snap)
    blank = torch.full((3, 64, 64), IGNORE_INDEX)
    empty, _ = make(targets=blank, pseudo_labels=blank)
    assert len(load_snapshot(save_snapshot(tmp_path, empty)).feats) == 0


def test_save__replaces_a_step_taken_again(tmp_path):
    save_snapshot(tmp_path, make(seed=0)[0])
    path = save_snapshot(tmp_path, make(seed=1)[0])
    assert_same(load_snapshot(path), make(seed=1)[0])
    assert len(list_snapshots(tmp_path)) == 1


def test_save__a_crash_leaves_the_old_file(tmp_path, monkeypatch):
    path = save_snapshot(tmp_path, make(seed=0)[0])
    old = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    said = "cannot write the snapshot of step 200 to .*No space left on device; free space"
    with pytest.raises(InputError, match=said):
        save_snapshot(tmp_path, make(seed=1)[0])
    assert path.read_bytes() == old and [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(kept=np.zeros((3, 64, 64), np.uint8)), "'kept' is uint8; the schema says bool"),
        (dict(entropy=np.zeros((2, 64, 64), np.float16)), r"'entropy' has shape \(2, 64, 64\)"),
        (dict(pixel_role=np.zeros(3, np.uint8)), "'pixel_role' has shape"),
        (dict(class_names=("one",)), "'palette' has shape"),
        (
            dict(entropy=np.full((3, 64, 64), np.nan, np.float16)),
            "'entropy' holds NaN, as only a density may",
        ),
        (dict(density=np.full((3, 16, 16), np.inf, np.float16)), "'density' holds infinity"),
        (dict(feats=np.full((200, 16), -np.inf, np.float16)), "'feats' holds infinity"),
        (
            dict(shown_size=np.full((3, 2), 65, np.int32)),
            "'shown_size' holds a height of 65; allowed: 1 to 64",
        ),
        (dict(shown_size=np.int32([[9, 9], [9, 0], [9, 9]])), "'shown_size' holds a width of 0"),
        (dict(shown_size=np.full((3, 3), 9, np.int32)), r"'shown_size' has shape \(3, 3\)"),
        (dict(image_size=np.int32([[9, 9], [-1, 9], [9, 9]])), "'image_size' holds a height of -1"),
    ],
)
def test_save__refuses_what_is_not_the_schema(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        save_snapshot(tmp_path, replace(make()[0], **change))


def test_save__unknown_density_is_nan_and_comes_back_as_nan(tmp_path):
    _, maps = make()
    per_k = maps["density_per_k"].clone()
    per_k[0, 1, :8] = torch.nan  # not known for one number of neighbours: the mean is not known either
    snap, _ = make(density_per_k=per_k)
    back = load_snapshot(save_snapshot(tmp_path, snap))
    assert_same(back, snap)
    assert np.isnan(back.density[0, :8]).all()
    assert np.isfinite(back.density[0, 8:]).all()
    unknown = np.isnan(back.pixel_density)
    np.testing.assert_array_equal(unknown, (back.pixel_image == 0) & (back.pixel_row < 8))
    assert 0 < unknown.sum() < len(unknown)


def test_load__those_of_an_older_run():
    snaps = [load_snapshot(p) for p in list_snapshots(Path(__file__).parent / "older" / "run-0.1")]
    assert [s.step for s in snaps] == [4, 8, 12]
    assert all(len(s.feats) > 0 for s in snaps)
    for s in snaps:  # nothing is known of the images that it cut its own from
        assert not s.image_size.any() and s.protocol == ""
        np.testing.assert_array_equal(s.shown_size, [s.image.shape[1:3]] * len(s.image_id))
        assert "as an older version kept them" in describe_images(s)


def test_load__a_protocol_that_is_no_text(tmp_path):
    path = save_snapshot(tmp_path, make()[0])
    with np.load(path) as file:
        arrays = dict(file)
    for protocol in (np.array(["a", "b"]), np.array(3), np.array("x" * 10_000)):
        np.savez(path, **arrays | dict(protocol=protocol))
        with pytest.raises(InputError, match="its protocol is no text of at most 200 letters"):
            load_snapshot(path)


def test_shrink__the_shown_part_shrinks_with_the_maps():
    snap, _ = make(side=128)
    snap = replace(snap, shown_size=np.int32([[128, 128], [101, 77], [1, 2]]))
    half = shrink_probes(snap)
    assert half.shown_size.tolist() == [[64, 64], [51, 39], [1, 1]]
    assert half.image.shape[1:3] == (64, 64)


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.9, 0.999])
def test_load__half_written(tmp_path, share):
    path = save_snapshot(tmp_path, make()[0])
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match="cannot be read as a whole snapshot .*copy it again, or delete it"):
        load_snapshot(path)


@pytest.mark.parametrize("at", [0.2, 0.5, 0.8])
def test_load__damaged_in_the_middle(tmp_path, at):
    path = save_snapshot(tmp_path, make()[0])
    data = bytearray(path.read_bytes())
    i = int(at * len(data))
    data[i : i + 200] = bytes(200)
    path.write_bytes(data)
    with pytest.raises(InputError, match="step_0000200.npz"):
        load_snapshot(path)


@pytest.mark.parametrize(
    "write",
    [
        lambda p: p.write_text("hello"),
        lambda p: np.save(open(p, "wb"), np.ones(3)),
        lambda p: torch.save({"a": 1}, p),
    ],
    ids=["text", "npy", "pt"],
)
def test_load__no_snapshot_at_all(tmp_path, write):
    path = tmp_path / "step_0000001.npz"
    write(path)
    with pytest.raises(InputError, match="step_0000001.npz"):
        load_snapshot(path)


def test_load__other_versions(tmp_path):
    path = save_snapshot(tmp_path, replace(make()[0], version=3))
    said = "has snapshot version 3, and this dgcl_nb reads versions 1 to 2; update dgcl_nb"
    with pytest.raises(InputError, match=said):
        load_snapshot(path)
    np.savez(path, feats=np.ones(3))
    with pytest.raises(InputError, match="has snapshot version 0"):
        load_snapshot(path)
    np.savez(path, version=1, step=3)
    with pytest.raises(InputError, match="lacks class_names, palette"):
        load_snapshot(path)


def test_load__missing_file_and_folders(tmp_path):
    with pytest.raises(InputError, match="no folder .*nowhere; name the folder of a run"):
        list_snapshots(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no snapshot in .* yet; .*wait for its first"):
        list_snapshots(tmp_path)
    with pytest.raises(InputError, match="no snapshot in .* yet"):
        load_snapshot(tmp_path)
    assert list_snapshots(tmp_path, allow_empty=True) == []
    assert list_snapshots(tmp_path / "nowhere", allow_empty=True) == []
    save_snapshot(tmp_path, make()[0])
    with pytest.raises(InputError, match="no snapshot .*step_0000300.npz; present there: step_0000200.npz"):
        load_snapshot(tmp_path / "snapshots" / "step_0000300.npz")


def test_list__by_step_whatever_the_folder_is_called(tmp_path):
    for step in (100_000_000, 20, 9_999_999):
        save_snapshot(tmp_path, make(step=step)[0])
    (tmp_path / "snapshots" / ".step_0000030.npz.tmp").touch()
    (tmp_path / "snapshots" / "notes.txt").touch()
    steps = ["step_0000020.npz", "step_9999999.npz", "step_100000000.npz"]
    for folder in (tmp_path, tmp_path / "snapshots"):
        assert [p.name for p in list_snapshots(folder)] == steps
    assert load_snapshot(tmp_path).step == 100_000_000
    (tmp_path / "snapshots").rename(tmp_path / "copied")
    assert len(list_snapshots(tmp_path / "copied")) == 3


def test_sample_balanced__is_seeded_and_nested():
    labels = np.random.default_rng(0).integers(0, 5, 500)
    labels[::7] = IGNORE_INDEX
    few, many = sample_balanced(labels, 10), sample_balanced(labels, 30)
    assert set(few) < set(many)
    assert np.bincount(labels[many]).tolist() == [30] * 5
    assert (np.diff(many) > 0).all()
    np.testing.assert_array_equal(few, sample_balanced(labels, 10))
    assert set(few) != set(sample_balanced(labels, 10, seed=1))
    assert len(sample_balanced(labels, 10_000)) == (labels != IGNORE_INDEX).sum()
