"The embedded data set and its cache, the settings of data, our own draws, and which class is background."

import dataclasses
import logging
import multiprocessing
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from make_bad_data import cityscapes, photo
from make_bad_data import folder as small_folder
from make_bad_data import voc as small_voc
from PIL import Image

from dgcl_nb.core import InputError
from dgcl_nb.data import digits, files
from dgcl_nb.data.digits import SceneConfig, cache_path, load_part, open_digits, render_part
from dgcl_nb.data.images import ImageMaskFiles
from dgcl_nb.data.published import family_note
from dgcl_nb.data.sets import DATA_SETS, DataConfig, open_data
from dgcl_nb.data.splits import write_list


def refuse_to_write(path, data):
    raise OSError(30, "Read-only file system")


# The embedded data set


def test_render_part__a_function_of_its_arguments():
    images, targets = render_part("val", 3, SceneConfig(), 5)
    again = render_part("val", 3, SceneConfig(), 5)
    assert torch.equal(images, again[0]) and torch.equal(targets, again[1])
    assert not torch.equal(images, render_part("val", 3, SceneConfig(), 6)[0])
    assert images.dtype == targets.dtype == torch.uint8
    assert images.shape == (3, 3, 64, 64) and targets.max() <= 10


def test_render_part__draws_only_from_its_pool(monkeypatch):
    grey, shown = digits.digit_images()
    start, end = digits.DIGIT_POOLS["val"]
    blanked, other = grey.copy(), np.full_like(shown, 100)  # digits of all other parts are made unmistakable
    blanked[:start], other[start:end] = 1, shown[start:end]
    monkeypatch.setattr(digits, "digit_images", lambda: (blanked, other))
    _, targets = render_part("val", 40, SceneConfig())
    assert targets.max() <= 10


def test_open_digits__sizes_sets_and_tuning(tmp_path):
    few = dict(root=tmp_path, num_train=40, num_val=6)
    data, tune = open_digits(num_labelled=10, **few), open_digits(tune=True, num_labelled=10, **few)
    assert (len(data.labelled), len(data.unlabelled), len(data.val)) == (10, 30, 6) and data.num_classes == 11
    assert data.labelled.ids == open_digits(num_labelled=20, **few).labelled.ids[:10]
    assert data.labelled.ids != open_digits(num_labelled=10, split_seed=1, **few).labelled.ids
    assert tune.name == "digits-tune" and not torch.equal(tune.val[0]["image"], data.val[0]["image"])
    item = open_digits(num_labelled=1, size=96, **few).unlabelled[3]
    assert item["image"].shape == (3, 96, 96)
    assert item["target"].shape == (96, 96) and item["target"].dtype == torch.int64
    assert len(open_digits(num_labelled=40, **few).unlabelled) == 0
    too_many = "data.num_labelled is 41; it must be from 1 to 40, the number of training scenes"
    with pytest.raises(InputError, match=too_many):
        open_digits(num_labelled=41, **few)


def test_load_part__two_processes_render_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    start = context.Barrier(2)

    def render():
        start.wait()
        for n in range(8):
            load_part("train", 4 + n, SceneConfig(size=32), root=tmp_path)

    both = [context.Process(target=render) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert len(list((tmp_path / "digits").iterdir())) == 8  # no temporary file is left
    kept, _ = load_part("train", 11, SceneConfig(size=32), root=tmp_path)
    assert torch.equal(kept, render_part("train", 11, SceneConfig(size=32))[0])


def test_load_part__read_only_root_is_said(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(digits, "write_atomic", refuse_to_write)
    with caplog.at_level(logging.WARNING, "dgcl_nb.data"):
        images, _ = load_part("val", 2, SceneConfig(), root=tmp_path)
    assert torch.equal(images, render_part("val", 2, SceneConfig())[0])
    assert "Read-only file system): they stay in memory, and each start renders them again" in caplog.text


def test_load_part__damaged_cache_is_rendered_again(tmp_path, caplog):
    images, _ = load_part("val", 2, SceneConfig(), root=tmp_path)
    path = cache_path(tmp_path, "val", 2, SceneConfig(), 0)
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"x" * 100):
        path.write_bytes(damaged)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "dgcl_nb.data"):
            again, _ = load_part("val", 2, SceneConfig(), root=tmp_path)
        assert torch.equal(images, again) and "cannot be read" in caplog.text and path.read_bytes() == whole


def test_load_part__cache_of_another_shape_is_rendered_again(tmp_path):
    path = cache_path(tmp_path, "val", 2, SceneConfig(), 0)
    path.parent.mkdir()
    np.savez(path, images=np.zeros((1, 3, 64, 64), np.uint8), targets=np.zeros((1, 64, 64), np.uint8))
    assert load_part("val", 2, SceneConfig(), root=tmp_path)[0].shape == (2, 3, 64, 64)


# Settings


def test_data_config__unknown_and_idle_settings(tmp_path):
    with pytest.raises(InputError, match="unknown data.name 'vocs'; did you mean voc"):
        DataConfig(name="vocs")
    no_size = "data.size=128 has no effect on the data set 'voc'; leave it at 64, or choose digits"
    with pytest.raises(InputError, match=f"{no_size} with data.name"):
        DataConfig(name="voc", size=128)
    with pytest.raises(InputError, match="data.labelled=x.txt has no effect on the data set 'digits-tune'"):
        DataConfig(name="digits-tune", labelled="x.txt")
    cfg = DataConfig(name="folder", root=str(make_empty(tmp_path)), labelled=f"{tmp_path}/none.txt")
    with pytest.raises(InputError, match=f"cannot read the list {tmp_path}/none.txt: No such file"):
        open_data(cfg)


def test_open_data__a_list_lies_here_or_below_the_root(tmp_path, monkeypatch):
    "The working folder goes first; a list that is nowhere is called by both places."
    small_folder(tmp_path / "photos")
    (tmp_path / "photos" / "labelled.txt").write_text("a\n")
    (tmp_path / "photos" / "test.txt").write_text("b\n")
    monkeypatch.chdir(tmp_path)
    cfg = DataConfig(name="folder", root="photos", val="test.txt")
    assert open_data(cfg).val.ids == ["b"]
    (tmp_path / "test.txt").write_text("c\n")
    assert open_data(cfg).val.ids == ["c"]
    with pytest.raises(InputError, match="list tset.txt: there is neither tset.txt nor photos/tset.txt"):
        open_data(dataclasses.replace(cfg, val="tset.txt"))


def make_empty(root):
    for part in ("images", "masks"):
        (root / part).mkdir()
    (root / "classes.txt").write_text("a\nb\n")
    return root


ANY = dict(
    name=st.sampled_from([*DATA_SETS, "vocs"]),
    lists=st.sampled_from(["", "make", "u2pl/1", "x", "../x", "own/seed0/2"]),
    num_labelled=st.sampled_from([250, 1, 2, 0, -1, 9]),
    split_seed=st.integers(-1, 1),
    size=st.sampled_from([64, 32]),
    labelled=st.sampled_from([None, "{root}/labelled.txt", "/nowhere.txt"]),
    unlabelled=st.sampled_from([None, "{root}/unlabelled.txt"]),
    val=st.sampled_from([None, "{root}/val.txt"]),
    allow_overlap=st.booleans(),
    background=st.sampled_from(["auto", "none", "0", "1", "2", "-1", "thing", "zebra", ""]),
)


@settings(max_examples=150, deadline=None)
@given(st.fixed_dictionaries({}, optional=ANY))
def test_data_config__any_settings_open_a_data_set_or_give_an_input_error(tmp_path_factory, values):
    root = tmp_path_factory.mktemp("any")
    small_folder(root)
    values = {k: v.format(root=root) if isinstance(v, str) else v for k, v in values.items()}
    try:
        cfg = DataConfig(**values, root=str(root))
    except InputError as e:
        assert str(e)
        return
    if not cfg.name.startswith("digits"):
        try:
            data = open_data(cfg)
        except InputError as e:
            assert str(e) and "\n" not in str(e)
            return
        assert data.name == cfg.name == "folder" and not set(data.labelled.ids) & set(data.val.ids)
        assert data.background in (None, 0, 1)
        if cfg.lists == "make":
            assert len(data.labelled) == cfg.num_labelled


def test_data_config__lists_have_an_effect_or_are_refused():
    for name in ("digits", "digits-tune"):
        with pytest.raises(InputError, match="data.lists=make has no effect on the data set"):
            DataConfig(name=name, lists="make")
    no_draw = "data.split_seed=1 has no effect on the data set 'voc' when its split is read from lists"
    with pytest.raises(InputError, match=f"{no_draw}; leave it at 0, or set data.lists to make"):
        DataConfig(name="voc", lists="u2pl/732", split_seed=1)
    with pytest.raises(InputError, match="data.unlabelled=u.txt has no effect beside data.lists=make"):
        DataConfig(name="voc", lists="make", unlabelled="u.txt")
    with pytest.raises(InputError, match="data.size=32 has no effect on the data set 'folder'"):
        DataConfig(name="folder", lists="make", size=32)


# Which class is background


@pytest.fixture
def street(tmp_path):
    "A folder whose class 0 is a road."
    small_folder(tmp_path)
    (tmp_path / "classes.txt").write_text("road\nthing\n")
    return tmp_path


def background_of(name, root, **settings):
    return open_data(DataConfig(name=name, root=str(root), **settings)).background


def test_background__digits_have_one(tmp_path, monkeypatch):
    monkeypatch.setattr(digits, "render_part", render_nothing)
    assert [background_of(name, tmp_path) for name in ("digits", "digits-tune")] == [0, 0]
    assert background_of("digits", tmp_path, background="none") is None
    assert background_of("digits", tmp_path, background="3") == 3, (
        "a number is a number, and not a digit's name"
    )


def render_nothing(part, num, cfg, split_seed=0):
    "In place of scenes, which take seconds: all is background."
    images = torch.zeros(num, 3, cfg.size, cfg.size, dtype=torch.uint8)
    return images, images[:, 0]


def test_background__voc_has_one_and_cityscapes_has_none(tmp_path):
    small_voc(tmp_path / "voc")
    cityscapes(tmp_path / "streets")
    assert background_of("voc", tmp_path / "voc") == 0
    drawn_here = dict(lists="make", num_labelled=1)
    assert background_of("cityscapes", tmp_path / "streets", **drawn_here) is None
    assert background_of("cityscapes", tmp_path / "streets", **drawn_here, background="sky") == 10


@pytest.mark.parametrize(
    "first, background", [("background", 0), ("BackGround", 0), ("road", None), ("back", None)]
)
def test_background__of_a_folder_by_the_name_of_class_0(street, first, background):
    (street / "classes.txt").write_text(f"{first}\nthing\n")
    assert background_of("folder", street) == background
    (street / "classes.txt").write_text("thing\nbackground\n")
    assert background_of("folder", street) is None, "another class of that name is none by itself"


@pytest.mark.parametrize("said, background", [("none", None), ("0", 0), ("1", 1), ("road", 0), ("thing", 1)])
def test_background__by_number_or_name(street, said, background):
    assert background_of("folder", street, background=said) == background


@pytest.mark.parametrize("wrong", ["2", "-1", "Thing", "zebra", "", "1.0"])
def test_background__anything_else_is_an_error_that_lists_the_classes(street, wrong):
    allowed = "allowed: auto, none, or a class by number or name: 0 road, 1 thing"
    with pytest.raises(InputError, match=f"data.background is '{wrong}'; {allowed}"):
        background_of("folder", street, background=wrong)


def test_background__stands_in_the_report(street):
    cfg = DataConfig(name="folder", root=str(street))
    assert "background: no class" in str(open_data(cfg).report)
    named = dataclasses.replace(cfg, background="thing")
    assert "background: class 1 (thing)" in str(open_data(named).report)


# Our own draw


@pytest.fixture
def many(tmp_path):
    "Thirty images; class 2 is in every fifth, class 1 in all others; the last four have no mask."
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    (tmp_path / "classes.txt").write_text("background\noften\nseldom\n")
    for n in range(30):
        photo().save(tmp_path / "images" / f"{n:02}.png")
        stripes = np.array([[0, 2 if n % 5 == 0 else 1, 255]], np.uint8)
        if n < 26:
            Image.fromarray(stripes.repeat(8, 0).repeat(4, 1)).save(tmp_path / "masks" / f"{n:02}.png")
    return tmp_path


def drawn(root, num, seed=0, name="folder"):
    return open_data(DataConfig(name=name, root=str(root), lists="make", num_labelled=num, split_seed=seed))


def test_make__nested_balanced_and_a_function_of_the_seed(many):
    few, more, other = drawn(many, 4), drawn(many, 12), drawn(many, 4, seed=1)
    assert more.labelled.ids[:4] == few.labelled.ids != other.labelled.ids
    assert few.val.ids == more.val.ids == other.val.ids and len(few.val) == 5
    for data, num in ((few, 4), (more, 12)):
        everything = data.labelled.ids + data.unlabelled.ids + data.val.ids
        assert sorted(everything) == [f"{n:02}" for n in range(30)] and len(data.labelled) == num
        assert {"26", "27", "28", "29"} <= set(data.unlabelled.ids)
    # two of each, though four of five images show class 1
    assert sum(int(i) % 5 == 0 for i in few.labelled.ids) == 2
    assert few.report["labelled"]["family"] == "own/seed0"
    assert other.report["unlabelled"]["family"] == "own/seed1"


def test_make__ignores_lists_that_lie_there_but_keeps_val(many):
    write_list(many / "labelled.txt", ["00"])
    write_list(many / "unlabelled.txt", ["01"])
    write_list(many / "val.txt", ["02", "03"])
    data = drawn(many, 3)
    assert data.val.ids == ["02", "03"] and (len(data.labelled), len(data.unlabelled)) == (3, 25)


def test_make__masks_are_read_once_and_again_when_they_change(many, monkeypatch):
    reads = []
    original = ImageMaskFiles.read_target

    def noted(self, name):
        reads.append(name)
        return original(self, name)

    monkeypatch.setattr(ImageMaskFiles, "read_target", noted)
    first = drawn(many, 4).labelled.ids
    assert len(reads) == 21
    assert drawn(many, 6).labelled.ids[:4] == first and len(reads) == 21
    changed = Image.fromarray(np.full((8, 12), 2, np.uint8))
    changed.save(many / "masks" / f"{first[0]}.png")
    drawn(many, 4)
    assert len(reads) == 42
    os.utime(many / "masks" / f"{first[1]}.png", (0, 0))
    drawn(many, 4)
    assert len(reads) == 63


def test_make__a_read_only_folder_is_said(many, monkeypatch, caplog):
    monkeypatch.setattr(files, "write_atomic", refuse_to_write)
    with caplog.at_level(logging.WARNING, "dgcl_nb.data"):
        assert len(drawn(many, 4).labelled) == 4
    assert "Read-only file system): the masks are read again at each start" in caplog.text


def test_make__voc_draws_from_fine_and_coarse_and_never_from_val(tmp_path):
    small_voc(tmp_path)
    data = drawn(tmp_path, 2, name="voc")
    assert sorted(data.labelled.ids + data.unlabelled.ids) == ["2007_000001", "2007_000002", "2008_000003"]
    assert data.val.ids == ["2008_000004"]
    assert data.report["labelled"]["family"] == "own/seed0"
    with pytest.raises(InputError, match="data.num_labelled is 4; it must be from 1 to 3"):
        drawn(tmp_path, 4, name="voc")


def test_make__cityscapes(tmp_path):
    cityscapes(tmp_path)
    data = drawn(tmp_path, 1, name="cityscapes")
    assert (len(data.labelled), len(data.unlabelled)) == (1, 1)
    assert data.val.ids == ["lindau_000003_000019"]
    assert set(data.labelled[0]["target"].flatten().tolist()) == {255, 13}


def test_report__wrong_folder_names_are_remarked_on(many):
    for kind, ids in dict(labeled=["00", "01"], unlabeled=["28"]).items():
        write_list(many / f"splits/cps/3/{kind}.txt", ids)
    data = open_data(DataConfig(name="folder", root=str(many), lists="cps/3"))
    assert data.report["notes"] == ["the folder of the lists is called 3, but 2 images are labelled"]
    assert dataclasses.replace(data, notes=()).report["notes"] == []
    assert family_note(None) == ""
