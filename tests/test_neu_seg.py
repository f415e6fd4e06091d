"""NEU-Seg: the committed list, the split for choosing settings, the test part; made up, and the real one."""

import io
import re
import zlib
from http.client import IncompleteRead

import numpy as np
import pytest
from PIL import Image
from real import linked, needs_real
from test_camvid import archive_of

from dgcl_nb.core import InputError
from dgcl_nb.data.archives import fetch_source
from dgcl_nb.data.check import check_data, kind_of
from dgcl_nb.data.neu_seg import NEU_SEG_SOURCE, NUM_TUNE, NUM_VAL, find_neu_seg, hashed_first, val_ids
from dgcl_nb.data.sets import DataConfig, open_data

OWN = [f"x{i}" for i in range(8)]
SCORED = list(val_ids()[:3])


def neu_seg(root, suffix="jpg", test=("y0", "y1")):
    "Eight plates to train on, three of the list of those that are scored, two of the test part."
    for part, names in dict(training=[*OWN, *SCORED], test=test).items():
        for kind in ("images", "annotations"):
            (root / kind / part).mkdir(parents=True)
        for i, name in enumerate(names):
            numbers = np.zeros((8, 8), np.uint8)
            numbers[2:5] = 1 + i % 3
            Image.fromarray(40 * numbers + 60).save(root / "images" / part / f"{name}.{suffix}")
            Image.fromarray(numbers).save(root / "annotations" / part / f"{name}.png")
    return root


def opened(root, name="neu_seg", num=3, **settings):
    return open_data(DataConfig(name=name, root=str(root), lists="make", num_labelled=num, **settings))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_neu_seg__the_list_says_what_is_scored(tmp_path, suffix):
    data = opened(neu_seg(tmp_path, suffix))
    assert data.val.ids == SCORED and data.background == 0
    assert {*data.labelled.ids, *data.unlabelled.ids} == set(OWN)
    assert data.labelled[0]["image"].shape == (3, 8, 8)  # grey is read as three channels
    shown = {k for i in range(3) for k in data.labelled[i]["target"].unique().tolist()}
    assert shown == {0, 1, 2, 3}  # class-balanced: three images show three defects


def test_neu_seg__is_known_before_a_folder_of_ones_own(tmp_path):
    neu_seg(tmp_path)
    assert kind_of(tmp_path) == "neu_seg"
    with pytest.raises(InputError, match="no NEU-Seg in"):
        opened(tmp_path / "images")


def test_neu_seg__the_list_is_the_draw():
    assert len(set(val_ids())) == NUM_VAL
    assert hashed_first(val_ids(), 10, "neu_seg val") == hashed_first(reversed(val_ids()), 10, "neu_seg val")


def test_neu_seg__for_choosing_settings_nothing_of_val_is_seen(tmp_path, monkeypatch):
    from dgcl_nb.data import neu_seg as room

    monkeypatch.setattr(room, "NUM_TUNE", 2)
    data = opened(neu_seg(tmp_path), "neu_seg-tune")
    seen = {*data.labelled.ids, *data.unlabelled.ids, *data.val.ids}
    assert len(data.val) == 2 and seen == set(OWN)


def test_neu_seg__test_part_only_where_asked_for(tmp_path):
    neu_seg(tmp_path)
    assert opened(tmp_path, val="test").val.ids == ["y0", "y1"]
    health = check_data(tmp_path)
    assert "test images: 2" in health.there
    assert {"training images: 8, and not 3085", "test images: 2, and not 840"} <= set(health.missing)


def test_neu_seg__download(tmp_path):
    packed = archive_of(neu_seg(tmp_path / "published"), "NEU_Seg-main")
    root = fetch_source(NEU_SEG_SOURCE, tmp_path / "new", agreed=True, opener=lambda _: io.BytesIO(packed))
    assert opened(root).val.ids == SCORED
    with pytest.raises(InputError, match="none is stated"):
        fetch_source(NEU_SEG_SOURCE, tmp_path / "newer")


LOST = [OSError("no route to host"), IncompleteRead(b"half"), zlib.error("invalid distance code")]


@pytest.mark.parametrize("lost", LOST, ids=repr)
def test_download__no_connection_is_one_sentence(tmp_path, lost):
    def opener(address):
        raise lost

    said = re.escape(f"cannot fetch NEU-Seg ({lost}); try again, or fetch")
    with pytest.raises(InputError, match=said):
        fetch_source(NEU_SEG_SOURCE, tmp_path / "new", agreed=True, opener=opener)
    assert list((tmp_path / "new").iterdir()) == []


@needs_real
def test_neu_seg__the_real_one(tmp_path):
    root = linked("neu_seg", tmp_path / "neu_seg")
    found = find_neu_seg(root)
    assert (len(found.train), len(found.val)) == (3085, NUM_VAL)
    assert hashed_first([*found.train, *found.val], NUM_VAL, "neu_seg val") == list(val_ids())
    tune = find_neu_seg(root, tune=True)
    assert (len(tune.train), len(tune.val)) == (3085 - NUM_TUNE, NUM_TUNE)
    assert not {*tune.train, *tune.val} & set(val_ids())
    data = opened(root, num=77)
    assert data.report["val"]["family"] == "NEU-Seg val, 545"
    assert data.val[0]["target"].shape == (200, 200)
