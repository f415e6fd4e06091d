"""The image overlay: exact values, what snapshots share, every bad input, and traits that refuse nonsense."""

import logging
import zlib
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("anywidget")
from test_snapshots import make

from dgcl_nb.core import IGNORE_INDEX, InputError
from dgcl_nb.run_folder import RunFolder
from dgcl_nb.snapshots import PROBE_FIELDS, save_snapshot, shrink_probes
from dgcl_nb.widgets.maps import (
    MAPS,
    TOP_LEVEL,
    UNKNOWN_LEVEL,
    common_images,
    known_density,
    layer_names,
    layer_picture,
    limits_of,
    nice_range,
    to_levels,
)
from dgcl_nb.widgets.overlay import overlay, overlay_values, read_snapshots
from dgcl_nb.widgets.stills import MOST_BYTES


def snap(step=200, **kwargs):
    return make(step=step, **kwargs)[0]


def steps(*numbers):
    return [snap(step=n, seed=n) for n in numbers]


def unpack(values, name):
    return np.frombuffer(zlib.decompress(values[name]), MAPS[name])


def decoded(values, name):
    "The values of a continuous map as the page reads them."
    low, high, _ = values["meta"]["ranges"][name]
    return low + (high - low) * unpack(values, name).astype(float) / TOP_LEVEL


def all_steps(snaps, name):
    return np.stack([getattr(s, name) for s in snaps])


def test_values__hold_every_map_exactly():
    snaps = steps(10, 20, 30)
    values = overlay_values(snaps)
    for name in ("prediction", "pseudo_label", "kept"):
        wanted = all_steps(snaps, name)
        np.testing.assert_array_equal(unpack(values, name).reshape(wanted.shape), wanted)
    np.testing.assert_array_equal(unpack(values, "image").reshape(snaps[0].image.shape), snaps[0].image)
    for name in ("confidence", "entropy"):
        wanted = all_steps(snaps, name).astype(float)
        low, high, _ = values["meta"]["ranges"][name]
        bound = (high - low) / 131068 + 1e-12
        np.testing.assert_allclose(decoded(values, name).reshape(wanted.shape), wanted, atol=bound)
    assert values["meta"]["steps"] == [10, 20, 30]
    assert values["step_index"] == 2
    assert values["threshold"] == values["meta"]["ranges"]["density"][0]


def test_values__density_mean_and_each_k():
    s = snap()
    values = overlay_values([s])
    assert limits_of(values["meta"], "density_16") == values["meta"]["ranges"]["density"]
    back = decoded(values, "density").reshape(3, 4, 16, 16)
    np.testing.assert_allclose(back[:, 0], s.density.astype(float), atol=1e-5)
    np.testing.assert_allclose(back[:, 1:], s.density_per_k.astype(float), atol=1e-5)


def test_values__unknown_is_not_low():
    s = snap()
    per_k = s.density_per_k.copy()
    per_k[0] = np.nan
    per_k[1, :, 0, 0] = 0
    per_k[1, 0, 1, 1] = 0
    values = overlay_values([replace(s, density_per_k=per_k)])
    is_unknown = unpack(values, "density").reshape(3, 4, 16, 16) == UNKNOWN_LEVEL
    assert is_unknown[0].all()
    assert is_unknown[1, :, 0, 0].all()
    assert is_unknown.sum() == 4 * 256 + 4  # 0 at one k alone is a measurement


def test_values__of_an_empty_bank():
    s = snap()
    unknown = {name: np.full_like(getattr(s, name), np.nan) for name in ("density", "density_per_k")}
    nothing = overlay_values([replace(s, **unknown)])
    assert (unpack(nothing, "density") == UNKNOWN_LEVEL).all()
    assert nothing["meta"]["ranges"]["density"] == [0, 1, 0.01]


@pytest.mark.parametrize("names, wanted", [("sky road tree car", None), ("sky background tree car", 1)])
def test_values__background_is_the_class_of_that_name(names, wanted):
    s = replace(snap(), class_names=tuple(names.split()))
    assert overlay_values([s])["meta"]["background"] == wanted


@pytest.mark.parametrize(
    "low, high", [(0, 1), (0.586, 0.9956), (1e-4, 2.2), (0.5, 0.5), (-0.2, 0.9), (0, 0), (0.999, 1)]
)
def test_nice_range__covers_in_round_steps(low, high):
    a, b, step = nice_range(np.array([low, high, np.nan]))
    assert a <= low <= high <= b
    assert a < b
    assert max(low - a, b - high) <= step * 1.001
    if high > low:
        assert 19 < (b - a) / step <= 103
    assert f"{step:.0e}"[0] in "125"
    assert abs(a / step - round(a / step)) < 1e-6


def test_to_levels__ends_and_beyond():
    known, unknown = [0.0, 1, -1, 2], [np.nan, np.inf]
    levels = to_levels(np.array(known + unknown), [0, 1, 0.01]).tolist()
    assert levels == [0, TOP_LEVEL] * 2 + [UNKNOWN_LEVEL] * 2


def test_one_class_and_unknown_truth__are_fine():
    values = overlay_values([snap(classes=1, unknown=True)])
    assert values["meta"]["class_names"] == ["class 0"]
    assert (unpack(values, "target") == IGNORE_INDEX).all()


def test_common_images__of_snapshots_cut_to_size():
    whole = snap(step=10, side=128, num=4)
    thinned = replace(shrink_probes(whole), step=20)
    fewer = replace(shrink_probes(thinned), step=30)
    cut = common_images([whole, thinned, fewer])
    assert [s.image_id for s in cut] == [fewer.image_id] * 3
    assert [s.target.shape for s in cut] == [(3, 64, 64)] * 3
    np.testing.assert_array_equal(cut[0].image, cut[2].image)


def test_common_images__in_the_order_of_the_first():
    whole = snap(step=10, num=4)
    order = np.array([2, 0, 1, 3])
    ids = tuple(whole.image_id[i] for i in order)
    moved = {name: getattr(whole, name)[order] for name in PROBE_FIELDS}
    shuffled = replace(whole, step=40, image_id=ids, **moved)
    np.testing.assert_array_equal(common_images([whole, shuffled])[1].image, whole.image)


def coarse(s):
    "A snapshot of a network with half as many cells a side."
    cells = dict(density=s.density[:, ::2, ::2], density_per_k=s.density_per_k[..., ::2, ::2])
    return replace(s, **cells, pixel_row=s.pixel_row // 2, pixel_col=s.pixel_col // 2)


@pytest.mark.parametrize("source, kind", [(None, "NoneType"), (3, "int"), (["runs/x"], "str")])
def test_overlay__of_what_is_no_snapshot(source, kind):
    with pytest.raises(InputError, match=f"cannot show a {kind}; give a run's folder, a snapshot"):
        overlay(source)


def test_overlay__of_a_run_folder_and_of_its_path(tmp_path):
    save_snapshot(tmp_path, snap())
    assert overlay(RunFolder(tmp_path)).meta == overlay(tmp_path).meta


@pytest.mark.parametrize(
    "others, message",
    [
        ([], "no snapshot to show; give at least one"),
        ([snap(), snap(classes=3)], "name different classes; give those of one data set"),
        (
            [snap(), replace(snap(step=300), num_neighbors=np.array([4, 8, 16]))],
            r"k = \[8, 16, 32\] at step 200 and \[4, 8, 16\] at step 300; show them in two views",
        ),
        ([snap(), replace(snap(), image_id=("a", "b", "c"))], "share no image"),
        ([snap(num=0)], "share no image; each must hold at least one"),
        ([snap(), coarse(snap(step=300))], r"divided into \(16, 16\) at step 200 and \(8, 8\) at step 300"),
        ([snap(), snap(side=48)], r"snapshots of \(64, 64\) and of \(48, 48\) pixels cannot share a view"),
    ],
)
def test_values__bad_snapshots(others, message):
    with pytest.raises(InputError, match=message):
        overlay_values(others)


@pytest.mark.parametrize(
    "control, value, message",
    [
        ("left", "densty", "unknown layer 'densty'; did you mean density"),
        ("right", "density_7", "unknown layer 'density_7'"),
        ("threshold_of", "target", "unknown continuous layer 'target'; .*"),
        ("image_index", 3, "image_index is 3; the view holds 3: choose 0 to 2"),
        ("step_index", -1, "step_index is -1; the view holds 1: choose 0 to 0"),
        ("alpha", 1.5, "alpha is 1.5; it is the share of the layer in the colour: choose 0 to 1"),
        ("marks", [[1, 2]], r"marks have shape \(1, 2\); give rows of"),
        ("opacity", 1, "unknown control of the overlay 'opacity'"),
    ],
)
def test_overlay__refuses(control, value, message):
    with pytest.raises(InputError, match=message):
        overlay(snap(), **{control: value})
    if control == "opacity":
        return
    view = overlay(snap())
    before = getattr(view, control)
    with pytest.raises(InputError, match=message):
        setattr(view, control, value)
    assert getattr(view, control) == before


def test_layers__of_one_scale():
    wanted = "image target prediction pseudo_label right_wrong density confidence entropy"
    assert layer_names([8]) == wanted.split()
    one = replace(snap(), num_neighbors=np.array([8]), density_per_k=snap().density_per_k[:, :1])
    assert known_density(one).shape == (3, 2, 16, 16)
    assert overlay(one).right == "density"


def test_marks__of_an_array_and_none():
    view = overlay(snap(), marks=np.array([[0, 1, 2]], np.int16))
    assert view.marks == [[0, 1, 2]]
    assert isinstance(view.marks[0][0], int)
    view.marks = np.zeros((0, 3))
    assert view.marks == []


def test_set_snapshot__keeps_what_a_person_set():
    layers = dict(left="confidence", right="density_32", threshold_of="entropy")
    chosen = layers | dict(alpha=0.3, image_index=2, threshold=0.5)
    view = overlay(steps(10, 20), **chosen)
    view.set_snapshot(snap(step=30))
    assert {name: getattr(view, name) for name in chosen} == chosen
    assert (view.meta["steps"], view.step_index) == ([30], 0)
    view.set_snapshot(snap(step=40, num=2))
    assert view.image_index == 0  # that image is gone


def test_set_snapshots__who_looks_at_the_last_step_goes_on():
    view = overlay(steps(10, 20))
    view.set_snapshots(steps(40, 50, 60))
    assert view.step_index == 2
    view.step_index = 1
    view.set_snapshots(steps(40, 50, 60, 70))
    assert view.step_index == 1


def test_set_snapshot__keeps_both_ends_of_the_threshold_within_other_limits():
    view = overlay(snap(), threshold_of="entropy", threshold=0.2, threshold_to=0.6)
    view.set_snapshot(snap(step=30))
    assert (view.threshold, view.threshold_to) == (0.2, 0.6)
    s = snap(step=40)
    view.set_snapshot(replace(s, entropy=s.entropy + np.float16(2)))
    low = limits_of(view.meta, "entropy")[0]
    assert (view.threshold, view.threshold_to) == (low, low)
    view.threshold_to = None
    view.set_snapshot(snap(step=50))
    assert view.threshold_to is None


def test_background__is_what_the_run_says_and_not_only_its_name():
    assert overlay_values([snap()])["meta"]["background"] is None
    assert overlay_values([snap()], background=2)["meta"]["background"] == 2
    view = overlay(snap())
    view.set_snapshots([snap()], 1)
    assert view.meta["background"] == 1


def test_stills__show_the_image_and_both_layers():
    view = overlay(steps(10, 20), left="right_wrong", right="confidence")
    (png,) = view.stills()
    assert png.startswith(b"\x89PNG") and len(png) <= MOST_BYTES
    maps = overlay_values(steps(10, 20))
    s = steps(10, 20)[1]
    said = layer_picture(maps, "prediction", 2, 1)
    np.testing.assert_array_equal(said, s.palette[s.prediction[2]])
    np.testing.assert_array_equal(layer_picture(maps, "image", 2, 1), steps(10)[0].image[2])
    for layer in ("density", "density_16", "entropy", "right_wrong", "target"):
        assert layer_picture(maps, layer, 0, 0).shape == (64, 64, 3)


def test_view__of_images_smaller_than_the_maps():
    s = replace(snap(), shown_size=np.int32([[64, 64], [10, 20], [64, 1]]))
    meta = overlay_values([s])["meta"]
    assert meta["shown_size"] == [[64, 64], [10, 20], [64, 1]]
    assert meta["image_size"] == [[64, 64]] * 3


def test_set_snapshot__where_nothing_was_hidden_nothing_is():
    view = overlay(snap())
    s = snap(step=50)
    denser = {name: getattr(s, name) + np.float16(0.5) for name in ("density", "density_per_k")}
    view.set_snapshot(replace(s, **denser))
    assert view.threshold == limits_of(view.meta, "density")[0] > 0.3


def test_two_views_of_one_run__do_not_share_state(tmp_path):
    save_snapshot(tmp_path, snap())
    a, b = overlay(tmp_path), overlay(tmp_path)
    a.alpha, a.marks = 0.1, [[0, 0, 0]]
    assert (b.alpha, b.marks) == (0.7, [])


def test_folder__empty_missing_broken_or_of_another_version(tmp_path, caplog):
    with pytest.raises(InputError, match="no snapshot in .* yet; .* wait for its first"):
        overlay(tmp_path)
    with pytest.raises(InputError, match="name the folder of a run"):
        overlay(tmp_path / "nowhere")
    (tmp_path / "snapshots").mkdir()
    bad = tmp_path / "snapshots" / "step_0000005.npz"
    bad.write_bytes(b"PK half")
    with pytest.raises(InputError, match="cannot be read as a whole snapshot"):
        overlay(tmp_path)
    np.savez(tmp_path / "snapshots" / "step_0000006.npz", version=np.array(9))
    with pytest.raises(InputError):
        overlay(tmp_path)
    good = save_snapshot(tmp_path, snap(step=10))
    with caplog.at_level(logging.WARNING, "dgcl_nb.widgets.overlay"):
        view = overlay(tmp_path)
    assert view.meta["steps"] == [10]
    assert sum("left out" in message for message in caplog.messages) == 2
    assert "version 9" in caplog.text
    assert overlay(good).meta["steps"] == [10]


def test_read_snapshots__are_put_in_order():
    assert [s.step for s in read_snapshots(steps(9, 3))] == [3, 9]
