"What the notebooks 10-13 do not teach: the published lists, bad input end to end, caches under several processes, damaged files."
import logging
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dgcl_nb.core import InputError
from dgcl_nb.data import digits, files
from dgcl_nb.data.digits import SceneConfig, cache_path, load_part, open_digits, render_part
from dgcl_nb.data.files import ImageMaskFiles, open_folder, read_image, read_mask
from dgcl_nb.data.sets import DataConfig, open_data
from dgcl_nb.data.splits import balanced_order, check_disjoint, describe, is_nested, known_family, nested_split, num_shared, read_list, split_hash, write_list

# ---------------------------------------------------------------------------------------------------- lists

names = st.lists(st.text("abcXYZ019_-", min_size=1, max_size=8), min_size=1, max_size=8, unique=True)


@settings(max_examples=50, deadline=None)
@given(names, st.sampled_from(["{0}", "images/{0}.jpg", "a b/{0}.png", "im/{0}.jpg masks/{0}.png", "a b/{0}.jpg a b/{0}.png", "/x/{0}.png\t/y/{0}_gtFine.png",
                               "leftImg8bit/train/c/{0}_leftImg8bit.png gtFine/train/c/{0}_gtFine_labelTrainIds.png", r"images\{0}.PNG"]),
       st.sampled_from(["\n", "\r\n", "\n\n"]), st.booleans(), st.booleans())
def test_read_list__every_format_gives_the_same_ids(tmp_path_factory, ids, line, end, last, bom):
    path = tmp_path_factory.mktemp("lists") / "list.txt"
    text = end.join(line.format(i) for i in ids) + (end if last else "")
    path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + text.encode())
    assert read_list(path) == ids


def test_write_list__round_trip_and_lf(tmp_path):
    path = write_list(tmp_path / "new" / "l.txt", ["b", "a"])
    assert path.read_bytes() == b"b\na\n" and read_list(path) == ["b", "a"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sets(st.integers(0, 5)), min_size=1, max_size=40), st.integers(0, 5))
def test_balanced_order__is_a_permutation_that_shows_each_class_early(classes, seed):
    order = balanced_order(classes, seed)
    assert sorted(order) == list(range(len(classes)))
    present = set().union(*classes)
    assert set().union(*(classes[i] for i in order[:len(present)])) == present       # with as many labels as classes, every class is shown


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 3))
def test_nested_split__fewer_labels_are_a_prefix(few, more, seed):
    few, more = sorted((few, more))
    rng = np.random.default_rng(seed)
    ids, classes = [f"i{n}" for n in range(30)], [set(rng.integers(0, 8, 3).tolist()) for _ in range(30)]
    short, rest = nested_split(ids, classes, few, seed)
    assert nested_split(ids, classes, more, seed)[0][:few] == short
    assert sorted(short + rest) == sorted(ids) and not set(short) & set(rest)


LISTS = os.environ.get("DGCL_NB_LISTS")
published = pytest.mark.skipif(not LISTS, reason="DGCL_NB_LISTS does not name a folder with the published lists (u2pl, cps, unimatch); they are not shipped")


def published_list(path): return read_list(Path(LISTS) / path)


@published
def test_published__every_list_is_read_and_recognised():
    paths = sorted(Path(LISTS).rglob("*.txt"))
    assert len(paths) > 100
    unknown = {str(p.relative_to(LISTS)) for p in paths if known_family(read_list(p)) is None}
    assert unknown <= {"cps/cityscapes/config_new/train_val.txt"}                      # train and val in one file: no split


@published
def test_published__families_are_named_alike_across_formats():
    same = [("unimatch/pascal/1_16/labeled.txt", "cps/pascal_voc/662/labeled.txt"),
            ("unimatch/pascal/u2pl_1_8/labeled.txt", "u2pl/pascal/1323/labeled.txt"),
            ("cps/pascal_voc/subset_train_aug/pseudoseg_labeled_1-16.txt", "u2pl/pascal/92/labeled.txt"),
            ("unimatch/cityscapes/1_16/labeled.txt", "cps/cityscapes/186/labeled.txt"), ("unimatch/cityscapes/val.txt", "u2pl/cityscapes/val.txt")]
    for one, other in same: assert split_hash(published_list(one)) == split_hash(published_list(other)), (one, other)
    assert known_family(published_list("unimatch/pascal/1_16/labeled.txt")) == "VOC blended, labelled (CPS, UniMatch), 662"
    assert known_family(published_list("u2pl/pascal/1323/labeled.txt")) == "VOC fine first, labelled (U2PL), 1323"
    assert known_family(published_list("cps/cityscapes/372/labeled.txt")) == "Cityscapes, labelled (CPS, DGCL, UniMatch), 372"


@published
def test_published__voc_counts_and_nestedness():
    for labelled, unlabelled in ((92, 10490), (183, 10399), (366, 10216), (732, 9850), (1464, 9118), (662, 9920), (1323, 9259), (2646, 7936), (5291, 5291)):
        pair = [published_list(f"u2pl/pascal/{labelled}/{kind}.txt") for kind in ("labeled", "unlabeled")]
        report = describe(*pair, val=published_list("u2pl/pascal/val.txt"))
        assert (report["labelled"]["num"], report["unlabelled"]["num"], report["overlap"], report["val_overlap"]) == (labelled, unlabelled, 0, 0)
        assert report["val"]["num"] == 1449
        check_disjoint(*pair)
    u2pl = {n: published_list(f"u2pl/pascal/{n}/labeled.txt") for n in (92, 183, 366, 732, 1464, 662, 1323, 2646, 5291)}
    assert [num_shared(u2pl[a], u2pl[b]) for a, b in ((92, 183), (183, 366), (366, 732))] == [9, 42, 188]             # classic: not nested
    assert all(is_nested(u2pl[n], u2pl[1464]) for n in (92, 183, 366, 732, 662, 1323))
    assert is_nested(u2pl[1464], u2pl[2646]) and is_nested(u2pl[1464], u2pl[5291])
    assert is_nested(u2pl[662], u2pl[1323]) and is_nested(u2pl[1323], u2pl[2646])
    assert num_shared(u2pl[2646], u2pl[5291]) == 1978
    blended = {n: published_list(f"cps/pascal_voc/{n}/labeled.txt") for n in (662, 1323, 2646, 5291)}
    assert [num_shared(blended[n], u2pl[1464]) for n in blended] == [93, 193, 388, 742]
    assert [num_shared(blended[n], u2pl[n]) for n in blended] == [43, 172, 666, 2690]
    assert is_nested(blended[662], blended[1323]) and is_nested(blended[1323], blended[2646]) and is_nested(blended[2646], blended[5291])


@published
@pytest.mark.parametrize("fraction, labelled, unlabelled, leaked",
                         [("1-16", 92, 1373, "2008_004822"),
                          ("1-8", 183, 1282, "2009_001036"), ("1-4", 366, 1099, "2007_000032"), ("1-2", 732, 733, "2009_000662")])
def test_published__each_pseudoseg_pair_leaks_one_image(fraction, labelled, unlabelled, leaked):
    folder = "cps/pascal_voc/subset_train_aug/pseudoseg"
    pair = [published_list(f"{folder}_{kind}_{fraction}.txt") for kind in ("labeled", "unlabeled")]
    assert [len(p) for p in pair] == [labelled, unlabelled] and set(pair[0]) & set(pair[1]) == {leaked}
    assert all(is_nested(p, published_list("u2pl/pascal/1464/labeled.txt")) for p in pair)
    message = f"1 image is in both the labelled and the unlabelled list: {leaked}; take it out of one list, or set data.allow_overlap"
    with pytest.raises(InputError, match=message): check_disjoint(*pair)
    check_disjoint(*pair, allow_overlap=True)
    same = num_shared(pair[0], published_list(f"u2pl/pascal/{labelled}/labeled.txt"))
    assert same == (371 if labelled == 732 else labelled)


@published
def test_published__cityscapes_counts_and_nestedness():
    u2pl, cps = ({n: published_list(f"{family}/cityscapes/{n}/labeled.txt") for n in (186, 372, 744, 1488)} for family in ("u2pl", "cps"))
    for family in ("u2pl", "cps"):
        for labelled, unlabelled in ((186, 2789), (372, 2603), (744, 2231), (1488, 1487)):
            pair = [published_list(f"{family}/cityscapes/{labelled}/{kind}.txt") for kind in ("labeled", "unlabeled")]
            assert [len(p) for p in pair] == [labelled, unlabelled]
            check_disjoint(*pair, val=published_list("cps/cityscapes/val.txt"))
    assert [num_shared(u2pl[n], cps[n]) for n in u2pl] == [8, 48, 182, 720]
    steps = ((186, 372), (372, 744), (744, 1488))
    assert [num_shared(u2pl[a], u2pl[b]) for a, b in steps] == [28, 81, 388] and all(is_nested(cps[a], cps[b]) for a, b in steps)
    assert len(published_list("unimatch/cityscapes/1_30/labeled.txt")) == 100


# ---------------------------------------------------------------------------------------------------- the embedded data set

def test_render_part__a_function_of_its_arguments():
    images, targets = render_part("val", 3, SceneConfig(), 5)
    again = render_part("val", 3, SceneConfig(), 5)
    assert torch.equal(images, again[0]) and torch.equal(targets, again[1])
    assert not torch.equal(images, render_part("val", 3, SceneConfig(), 6)[0])
    assert images.dtype == targets.dtype == torch.uint8 and images.shape == (3, 3, 64, 64) and targets.max() <= 10


def test_render_part__draws_only_from_its_pool(monkeypatch):
    grey, shown = digits.digit_images()
    start, end = digits.DIGIT_POOLS["val"]
    blanked, other = grey.copy(), np.full_like(shown, 100)       # digits of all other parts are made unmistakable
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
    assert item["image"].shape == (3, 96, 96) and item["target"].shape == (96, 96) and item["target"].dtype == torch.int64
    assert len(open_digits(num_labelled=40, **few).unlabelled) == 0
    with pytest.raises(InputError, match="data.num_labelled is 41; it must be from 1 to 40, the number of training scenes"):
        open_digits(num_labelled=41, **few)


def test_load_part__two_processes_render_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    start = context.Barrier(2)

    def render():
        start.wait()
        for n in range(8): load_part("train", 4 + n, SceneConfig(size=32), root=tmp_path)

    both = [context.Process(target=render) for _ in range(2)]
    for process in both: process.start()
    for process in both: process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert len(list((tmp_path / "digits").iterdir())) == 8                             # no temporary file is left
    assert torch.equal(load_part("train", 11, SceneConfig(size=32), root=tmp_path)[0], render_part("train", 11, SceneConfig(size=32))[0])


def test_load_part__read_only_root_is_said(tmp_path, caplog, monkeypatch):
    def refuse(path, data): raise OSError(30, "Read-only file system")
    monkeypatch.setattr(digits, "write_atomic", refuse)
    with caplog.at_level(logging.WARNING, "dgcl_nb.data"): images, _ = load_part("val", 2, SceneConfig(), root=tmp_path)
    assert torch.equal(images, render_part("val", 2, SceneConfig())[0])
    assert "Read-only file system): they stay in memory, and each start renders them again" in caplog.text


def test_load_part__damaged_cache_is_rendered_again(tmp_path, caplog):
    images, _ = load_part("val", 2, SceneConfig(), root=tmp_path)
    path = cache_path(tmp_path, "val", 2, SceneConfig(), 0)
    whole = path.read_bytes()
    for damaged in (b"", whole[:len(whole) // 2], b"x" * 100):
        path.write_bytes(damaged)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "dgcl_nb.data"): again, _ = load_part("val", 2, SceneConfig(), root=tmp_path)
        assert torch.equal(images, again) and "cannot be read" in caplog.text and path.read_bytes() == whole


def test_load_part__cache_of_another_shape_is_rendered_again(tmp_path):
    path = cache_path(tmp_path, "val", 2, SceneConfig(), 0)
    path.parent.mkdir()
    np.savez(path, images=np.zeros((1, 3, 64, 64), np.uint8), targets=np.zeros((1, 64, 64), np.uint8))
    assert load_part("val", 2, SceneConfig(), root=tmp_path)[0].shape == (2, 3, 64, 64)


# ---------------------------------------------------------------------------------------------------- files: bad input

@pytest.fixture
def folder(tmp_path):
    "Four images of 12x8 pixels; a, b, c have masks of two classes, d has none."
    for part in ("images", "masks"): (tmp_path / part).mkdir()
    (tmp_path / "classes.txt").write_text("background\nthing\n")
    rng = np.random.default_rng(0)
    for name in "abcd":
        Image.fromarray(rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)).save(tmp_path / "images" / f"{name}.png")
        if name != "d": Image.fromarray(rng.integers(0, 2, (8, 12), dtype=np.uint8)).save(tmp_path / "masks" / f"{name}.png")
    for kind, ids in dict(labelled="a b", unlabelled="d", val="c").items(): (tmp_path / f"{kind}.txt").write_text("\n".join(ids.split()))
    return tmp_path


def all_items(data): return [part[i] for part in (data.labelled, data.unlabelled, data.val) for i in range(len(part))]


def test_folder__unlabelled_without_masks_works(folder):
    data = open_data(DataConfig(name="folder", root=str(folder)))
    assert (data.labelled.ids, data.unlabelled.ids, data.val.ids) == (["a", "b"], ["d"], ["c"])
    assert [item["target"] is None for item in all_items(data)] == [False, False, True, False]
    assert all(item["image"].shape == (3, 8, 12) and item["image"].dtype == torch.uint8 for item in all_items(data))


def test_folder__wrong_label_value(folder):
    mask = np.zeros((8, 12), np.uint8)
    mask[2, 5] = 7
    Image.fromarray(mask).save(folder / "masks" / "b.png")
    data = open_folder(folder)
    with pytest.raises(InputError, match=r"masks/b.png holds the label value 7 \(first at row 2, column 5; 1 pixels\); allowed are 0 to 1 and 255 \(ignored\)"):
        data.labelled[1]


def test_folder__image_and_mask_of_different_size(folder):
    Image.fromarray(np.zeros((8, 11), np.uint8)).save(folder / "masks" / "a.png")
    with pytest.raises(InputError, match="images/a.png has 12x8 pixels, its mask .*masks/a.png 11x8; both must cover the same pixels"):
        open_folder(folder).labelled[0]


def test_folder__exif_turns_the_image_as_viewers_do(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(folder / "images" / "a.png").save(folder / "images" / "a.tif", exif=exif)
    (folder / "images" / "a.png").unlink()
    with pytest.raises(InputError, match="one is turned by 90 degrees"): open_folder(folder).labelled[0]          # the mask was drawn on the raw picture
    Image.open(folder / "masks" / "a.png").transpose(Image.Transpose.ROTATE_270).save(folder / "masks" / "a.png")
    assert open_folder(folder).labelled[0]["image"].shape == (3, 12, 8)


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "bmp"])
@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_read_image__truncated_anywhere(tmp_path, kind):
    path = tmp_path / f"whole.{kind}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    assert read_image(path).shape == (40, 30, 3)
    for share in (0, .02, .1, .5, .9):
        path.write_bytes(whole[:int(share * len(whole))])
        with pytest.raises(InputError, match=f"cannot read the image .*whole.{kind} .*damaged, cut off or no picture"): read_image(path)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["png", "jpg", "gif", "tif", "bmp"]),
       st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6))
@pytest.mark.filterwarnings("ignore")
def test_read__damaged_bytes_give_a_picture_or_an_input_error(tmp_path_factory, kind, changes):
    path = tmp_path_factory.mktemp("damaged") / f"x.{kind}"
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(path)
    data = bytearray(path.read_bytes())
    for place, value in changes: data[int(place * len(data))] = value
    path.write_bytes(data)
    for read in (read_image, read_mask):
        try: assert read(path).ndim in (2, 3)
        except InputError as e: assert path.name in str(e)


def test_folder__empty_labelled_list(folder):
    (folder / "labelled.txt").write_text("\n")
    with pytest.raises(InputError, match="labelled.txt is empty; it must name at least one image"): open_folder(folder)
    with pytest.raises(InputError, match="the labelled list of folder is empty; it needs at least one image with a mask"): open_folder(folder, labelled=[])


def test_folder__no_masks_at_all(folder):
    for kind in ("labelled", "unlabelled", "val"): (folder / f"{kind}.txt").unlink()
    for mask in (folder / "masks").iterdir(): mask.unlink()
    message = "the labelled list of folder is empty; it needs at least one image with a mask: name a list with data.labelled, or add masks"
    with pytest.raises(InputError, match=message): open_folder(folder)


@pytest.mark.parametrize("lists, message", [
    (dict(labelled="a b", unlabelled="b d"), "1 image is in both the labelled and the unlabelled list: b; take it out of one list, or set data.allow_overlap"),
    (dict(labelled="a b c"), "1 image is in both the labelled and the val list: c"),
    (dict(unlabelled="c d"), "1 image is in both the unlabelled and the val list: c")])
def test_folder__an_image_in_two_lists(folder, lists, message):
    for kind, ids in lists.items(): (folder / f"{kind}.txt").write_text("\n".join(ids.split()))
    with pytest.raises(InputError, match=message): open_data(DataConfig(name="folder", root=str(folder)))
    assert open_data(DataConfig(name="folder", root=str(folder), allow_overlap=True)).name == "folder"


def test_folder__missing_mask_image_and_name(folder):
    with pytest.raises(InputError, match="1 of 1 images have no mask file: d; add the masks, or move these images to the unlabelled list"):
        open_folder(folder, labelled=["d"], unlabelled=["a"])
    with pytest.raises(InputError, match="1 of 2 images have no image file: zebra; check the list and the data root"):
        open_folder(folder, unlabelled=["d", "zebra"])
    (folder / "images" / "a.jpg").touch()
    with pytest.raises(InputError, match="two files have the id 'a'"): open_folder(folder)


def test_folder__a_class_without_a_pixel_is_no_error(folder):
    (folder / "classes.txt").write_text("background\nthing\nnever seen\n")
    data = open_folder(folder)
    assert data.num_classes == 3 and data.labelled[0]["target"].max() <= 1


def test_folder__palette_and_16_bit_masks(folder):
    numbers = np.array(Image.open(folder / "masks" / "a.png"))
    Image.fromarray(numbers.astype(np.uint16)).save(folder / "masks" / "a.png")
    coloured = Image.fromarray(np.array(Image.open(folder / "masks" / "b.png"))).convert("P")
    coloured.putpalette([9, 9, 9, 200, 0, 0] + [0] * 762)
    before = np.array(coloured)
    coloured.save(folder / "masks" / "b.png")
    data = open_folder(folder)
    assert np.array_equal(data.labelled[0]["target"], numbers) and np.array_equal(data.labelled[1]["target"], before)


def test_files__items_are_fresh_and_survive_pickling(folder):
    import pickle
    data = open_folder(folder)
    data.labelled[0]["image"].zero_()
    assert data.labelled[0]["image"].any()
    again = pickle.loads(pickle.dumps(data.labelled))
    assert torch.equal(again[1]["image"], data.labelled[1]["image"])


def test_files__label_map_applies_before_the_check(tmp_path):
    Image.fromarray(np.full((4, 4), 33, np.uint8)).save(tmp_path / "m.png")
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "i.png")
    make = lambda label_map: ImageMaskFiles(["x"], dict(x=tmp_path / "i.png"), dict(x=tmp_path / "m.png"), 19, label_map)
    assert make(files.cityscapes_label_map())[0]["target"].unique().item() == 18
    with pytest.raises(InputError, match="holds the label value 33"): make(None)[0]


# ---------------------------------------------------------------------------------------------------- settings

def test_data_config__unknown_and_idle_settings(tmp_path):
    with pytest.raises(InputError, match="unknown data set 'vocs'; did you mean voc"): DataConfig(name="vocs")
    with pytest.raises(InputError, match="data.size=128 has no effect on the data set 'voc'; leave it at 64, or choose digits with data.name"):
        DataConfig(name="voc", size=128)
    with pytest.raises(InputError, match="data.labelled=x.txt has no effect on the data set 'digits-tune'"): DataConfig(name="digits-tune", labelled="x.txt")
    with pytest.raises(InputError, match=f"cannot read the list {tmp_path}/none.txt: No such file"):
        open_data(DataConfig(name="folder", root=str(make_empty(tmp_path)), labelled=str(tmp_path / "none.txt")))


def make_empty(root):
    for part in ("images", "masks"): (root / part).mkdir()
    (root / "classes.txt").write_text("a\nb\n")
    return root
