"What the notebooks 10-13 do not teach: the published lists, bad input end to end, caches under several processes, damaged files."

import dataclasses
import functools
import hashlib
import json
import logging
import multiprocessing
import os
import tarfile
import threading
from collections import Counter
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from make_bad_data import cityscapes, folder as small_folder, photo, sbd_mask, voc as small_voc
from PIL import Image
from torchvision.datasets import SBDataset
from torchvision.datasets import voc as torchvision_voc

from dgcl_nb.core import InputError
from dgcl_nb.data import digits, files
from dgcl_nb.data.digits import SceneConfig, cache_path, load_part, open_digits, render_part
from dgcl_nb.data.folder import open_folder
from dgcl_nb.data.images import ImageMaskFiles, read_image, read_mask
from dgcl_nb.data.sets import DATA_SETS, DataConfig, open_data
from dgcl_nb.data.published import compare_lists, describe, family_note, known_family, split_hash
from dgcl_nb.data.splits import (
    _FACTS, balanced_order, check_disjoint, find_lists, how_many, image_id, is_nested, line_id,
    nested_split, num_shared, read_list, write_list,
)
from dgcl_nb.predict import _count

# ---------------------------------------------------------------------------------------------------- lists

names = st.lists(st.text("abcXYZ019_-", min_size=1, max_size=8), min_size=1, max_size=8, unique=True)


@settings(max_examples=50, deadline=None)
@given(
    names,
    st.sampled_from(
        [
            "{0}",
            "images/{0}.jpg",
            "a b/{0}.png",
            "im/{0}.jpg masks/{0}.png",
            "a b/{0}.jpg a b/{0}.png",
            "/x/{0}.png\t/y/{0}_gtFine.png",
            "leftImg8bit/train/c/{0}_leftImg8bit.png gtFine/train/c/{0}_gtFine_labelTrainIds.png",
            r"images\{0}.PNG",
        ]
    ),
    st.sampled_from(["\n", "\r\n", "\n\n"]),
    st.booleans(),
    st.booleans(),
)
def test_read_list__every_format_gives_the_same_ids(tmp_path_factory, ids, line, end, last, bom):
    path = tmp_path_factory.mktemp("lists") / "list.txt"
    text = end.join(line.format(i) for i in ids) + (end if last else "")
    path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + text.encode())
    assert read_list(path) == ids


def test_write_list__round_trip_and_lf(tmp_path):
    path = write_list(tmp_path / "new" / "l.txt", ["b", "a"])
    assert path.read_bytes() == b"b\na\n" and read_list(path) == ["b", "a"]


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=30),
    st.sampled_from(["", ".png", ".JPG", "_leftImg8bit.png", "_gtFine_labelIds.png", ".jpg.png"]),
)
def test_image_id__of_an_id_is_the_id(text, ending):
    name = image_id(text + ending)
    assert image_id(name) == name and image_id(f"some folder/{name}.png") == name


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=12),
        min_size=1,
        max_size=6,
    )
)
def test_write_list__what_is_written_is_read(tmp_path_factory, texts):
    ids = list(dict.fromkeys(filter(None, map(image_id, texts))))
    if ids:
        assert read_list(write_list(tmp_path_factory.mktemp("lists") / "l.txt", ids)) == ids


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text("ab./\\ \t\r\n#", max_size=60).map(str.encode)))
def test_read_list__any_bytes_give_ids_or_an_input_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("lists") / "l.txt"
    path.write_bytes(content)
    try:
        ids = read_list(path)
    except InputError as e:
        assert "l.txt" in str(e)
    else:
        assert ids and len(set(ids)) == len(ids) and all(ids)
        assert [line_id(i) for i in ids] == ids


@pytest.fixture(scope="module")
def lists_folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("root") / "data"
    for place in (root, root / "splits" / "u2pl" / "732", root / "splits" / "a"):
        for kind in ("labeled", "unlabeled"):
            write_list(place / f"{kind}.txt", ["x"])
    return root


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from(["..", ".", "", "a", "u2pl", "732", "~", "a b", "\0", "é"]), max_size=4).map(
        "/".join
    )
)
def test_find_lists__never_leaves_the_folder_of_lists(lists_folder, name):
    try:
        found = find_lists(lists_folder, name)
    except InputError as e:
        assert "data.lists is" in str(e) or "no lists" in str(e)
    else:
        assert name == "u2pl/732" and all(
            (lists_folder / "splits").resolve() in path.resolve().parents for path in found.values()
        )


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30000), st.integers(1, 64))
def test_how_many__a_share_is_rounded_up_and_never_too_many(num, part):
    assert (how_many(f"1/{part}", num) - 1) * part < num <= how_many(f"1/{part}", num) * part


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sets(st.integers(0, 5)), min_size=1, max_size=40), st.integers(0, 5))
def test_balanced_order__is_a_permutation_that_shows_each_class_early(classes, seed):
    order = balanced_order(classes, seed)
    assert sorted(order) == list(range(len(classes)))
    present = set().union(*classes)
    assert (
        set().union(*(classes[i] for i in order[: len(present)])) == present
    )  # with as many labels as classes, every class is shown


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
published = pytest.mark.skipif(
    not LISTS,
    reason="DGCL_NB_LISTS does not name a folder with the published lists (u2pl, cps, unimatch); they are not shipped",
)


def published_list(path):
    return read_list(Path(LISTS) / path)


@published
def test_published__every_list_is_read_and_recognised():
    paths = sorted(Path(LISTS).rglob("*.txt"))
    assert len(paths) > 100
    unknown = {str(p.relative_to(LISTS)) for p in paths if known_family(read_list(p)) is None}
    assert unknown <= {"cps/cityscapes/config_new/train_val.txt"}  # train and val in one file: no split


@published
def test_published__families_are_named_alike_across_formats():
    same = [
        ("unimatch/pascal/1_16/labeled.txt", "cps/pascal_voc/662/labeled.txt"),
        ("unimatch/pascal/u2pl_1_8/labeled.txt", "u2pl/pascal/1323/labeled.txt"),
        ("cps/pascal_voc/subset_train_aug/pseudoseg_labeled_1-16.txt", "u2pl/pascal/92/labeled.txt"),
        ("unimatch/cityscapes/1_16/labeled.txt", "cps/cityscapes/186/labeled.txt"),
        ("unimatch/cityscapes/val.txt", "u2pl/cityscapes/val.txt"),
    ]
    for one, other in same:
        assert split_hash(published_list(one)) == split_hash(published_list(other)), (one, other)
    assert (
        known_family(published_list("unimatch/pascal/1_16/labeled.txt"))
        == "VOC blended, labelled (CPS, UniMatch), 662"
    )
    assert (
        known_family(published_list("u2pl/pascal/1323/labeled.txt"))
        == "VOC fine first, labelled (U2PL), 1323"
    )
    assert (
        known_family(published_list("cps/cityscapes/372/labeled.txt"))
        == "Cityscapes, labelled (CPS, DGCL, UniMatch), 372"
    )


@published
def test_published__voc_counts_and_nestedness():
    for labelled, unlabelled in (
        (92, 10490),
        (183, 10399),
        (366, 10216),
        (732, 9850),
        (1464, 9118),
        (662, 9920),
        (1323, 9259),
        (2646, 7936),
        (5291, 5291),
    ):
        pair = [published_list(f"u2pl/pascal/{labelled}/{kind}.txt") for kind in ("labeled", "unlabeled")]
        report = describe(*pair, val=published_list("u2pl/pascal/val.txt"))
        assert (
            report["labelled"]["num"],
            report["unlabelled"]["num"],
            report["overlap"],
            report["val_overlap"],
        ) == (labelled, unlabelled, 0, 0)
        assert report["val"]["num"] == 1449
        check_disjoint(*pair)
    u2pl = {
        n: published_list(f"u2pl/pascal/{n}/labeled.txt")
        for n in (92, 183, 366, 732, 1464, 662, 1323, 2646, 5291)
    }
    assert [num_shared(u2pl[a], u2pl[b]) for a, b in ((92, 183), (183, 366), (366, 732))] == [
        9,
        42,
        188,
    ]  # classic: not nested
    assert all(is_nested(u2pl[n], u2pl[1464]) for n in (92, 183, 366, 732, 662, 1323))
    assert is_nested(u2pl[1464], u2pl[2646]) and is_nested(u2pl[1464], u2pl[5291])
    assert is_nested(u2pl[662], u2pl[1323]) and is_nested(u2pl[1323], u2pl[2646])
    assert num_shared(u2pl[2646], u2pl[5291]) == 1978
    blended = {n: published_list(f"cps/pascal_voc/{n}/labeled.txt") for n in (662, 1323, 2646, 5291)}
    assert [num_shared(blended[n], u2pl[1464]) for n in blended] == [93, 193, 388, 742]
    assert [num_shared(blended[n], u2pl[n]) for n in blended] == [43, 172, 666, 2690]
    assert (
        is_nested(blended[662], blended[1323])
        and is_nested(blended[1323], blended[2646])
        and is_nested(blended[2646], blended[5291])
    )


@published
@pytest.mark.parametrize(
    "fraction, labelled, unlabelled, leaked",
    [
        ("1-16", 92, 1373, "2008_004822"),
        ("1-8", 183, 1282, "2009_001036"),
        ("1-4", 366, 1099, "2007_000032"),
        ("1-2", 732, 733, "2009_000662"),
    ],
)
def test_published__each_pseudoseg_pair_leaks_one_image(fraction, labelled, unlabelled, leaked):
    folder = "cps/pascal_voc/subset_train_aug/pseudoseg"
    pair = [published_list(f"{folder}_{kind}_{fraction}.txt") for kind in ("labeled", "unlabeled")]
    assert [len(p) for p in pair] == [labelled, unlabelled] and set(pair[0]) & set(pair[1]) == {leaked}
    assert all(is_nested(p, published_list("u2pl/pascal/1464/labeled.txt")) for p in pair)
    message = f"1 image is in both the labelled and the unlabelled list: {leaked}; take it out of one list, or set data.allow_overlap"
    with pytest.raises(InputError, match=message):
        check_disjoint(*pair)
    check_disjoint(*pair, allow_overlap=True)
    same = num_shared(pair[0], published_list(f"u2pl/pascal/{labelled}/labeled.txt"))
    assert same == (371 if labelled == 732 else labelled)


@published
def test_published__cityscapes_counts_and_nestedness():
    u2pl, cps = (
        {n: published_list(f"{family}/cityscapes/{n}/labeled.txt") for n in (186, 372, 744, 1488)}
        for family in ("u2pl", "cps")
    )
    for family in ("u2pl", "cps"):
        for labelled, unlabelled in ((186, 2789), (372, 2603), (744, 2231), (1488, 1487)):
            pair = [
                published_list(f"{family}/cityscapes/{labelled}/{kind}.txt")
                for kind in ("labeled", "unlabeled")
            ]
            assert [len(p) for p in pair] == [labelled, unlabelled]
            check_disjoint(*pair, val=published_list("cps/cityscapes/val.txt"))
    assert [num_shared(u2pl[n], cps[n]) for n in u2pl] == [8, 48, 182, 720]
    steps = ((186, 372), (372, 744), (744, 1488))
    assert [num_shared(u2pl[a], u2pl[b]) for a, b in steps] == [28, 81, 388] and all(
        is_nested(cps[a], cps[b]) for a, b in steps
    )
    assert len(published_list("unimatch/cityscapes/1_30/labeled.txt")) == 100


@published
def test_published__unimatch_distributes_the_lists_of_cps_and_of_u2pl():
    same = [
        (f"pascal/{share}", f"cps/pascal_voc/{num}")
        for share, num in (("1_16", 662), ("1_8", 1323), ("1_4", 2646))
    ]
    same += [
        (f"pascal/u2pl_{share}", f"u2pl/pascal/{num}")
        for share, num in (("1_16", 662), ("1_8", 1323), ("1_4", 2646))
    ]
    same += [(f"pascal/{num}", f"u2pl/pascal/{num}") for num in (92, 183, 366, 732, 1464)]
    same += [
        (f"cityscapes/{share}", f"cps/cityscapes/{num}")
        for share, num in (("1_16", 186), ("1_8", 372), ("1_4", 744), ("1_2", 1488))
    ]
    for one, other in same:
        for kind in ("labeled", "unlabeled"):
            assert split_hash(published_list(f"unimatch/{one}/{kind}.txt")) == split_hash(
                published_list(f"{other}/{kind}.txt")
            ), (one, other, kind)


def families_on_disk():
    "{name of a family and its number: ids}"
    return {
        known_family(ids): ids
        for ids in (read_list(p) for p in Path(LISTS).rglob("*.txt"))
        if known_family(ids)
    }


@published
def test_published__the_table_of_facts_is_what_the_files_say():
    found, fine, seen = families_on_disk(), set(published_list("u2pl/pascal/1464/labeled.txt")), 0
    for family, (_, num_fine, rival, shared) in _FACTS.items():
        for number in (name.rpartition(", ")[2] for name in found if name.startswith(f"{family}, ")):
            ids = found[f"{family}, {number}"]
            if num_fine:
                assert _count(num_fine, number) == num_shared(ids, fine)
                seen += 1
            if _count(shared, number) is not None:
                assert _count(shared, number) == num_shared(ids, found[f"{rival}, {number}"])
                seen += 1
            else:
                assert not rival or f"{rival}, {number}" not in found
    assert seen == 4 + 4 + 4 + 4 + 3 + 2 + 1 + 1 + 1 + 8 + 8


@published
def test_published__notes_on_what_must_not_be_compared():
    pair = lambda path: [published_list(f"{path}/{kind}.txt") for kind in ("labeled", "unlabeled")]
    assert describe(*pair("u2pl/pascal/662"))["notes"] == [
        "U2PL 662: all from the 1464 fine images; not comparable with CPS 662 (43 images in common)"
    ]
    assert describe(*pair("cps/pascal_voc/2646"))["notes"] == [
        "CPS 2646: 388 of 2646 are fine images; not comparable with U2PL 2646 (666 images in common)"
    ]
    assert describe(*pair("u2pl/pascal/2646"))["notes"] == [
        "U2PL 2646: all 1464 fine images and 1182 coarser ones; not comparable with CPS 2646 (666 images in common)"
    ]
    assert describe(*pair("cps/pascal_voc/732"))["notes"] == [
        "CPS pseudoseg 732: all from the 1464 fine images; not comparable with U2PL 732 (371 images in common)",
        "CPS pseudoseg unlabelled 732: not comparable with U2PL unlabelled 732 (372 images in common)",
    ]
    assert describe(*pair("u2pl/cityscapes/372"))["notes"] == [
        "U2PL 372: not comparable with CPS 372 (48 images in common)"
    ]
    mixed = describe(
        published_list("u2pl/pascal/732/labeled.txt"), published_list("cps/pascal_voc/732/unlabeled.txt")
    )["notes"]
    assert any(note.startswith("these two lists were not published as a pair") for note in mixed)
    everything = describe(
        published_list("u2pl/pascal/92/labeled.txt"), published_list("unimatch/pascal/train_aug.txt")
    )
    assert everything["overlap"] == 92 and "PseudoSeg's convention" in everything["notes"][-1]


@published
def test_published__every_pair_in_one_folder_is_a_pair():
    for labelled in Path(LISTS).rglob("labeled.txt"):
        report = describe(read_list(labelled), read_list(labelled.with_name("unlabeled.txt")))
        assert not any("not published as a pair" in note for note in report["notes"]), labelled


@published
def test_published__classic_lists_are_compared_two_by_two():
    report = compare_lists({str(n): published_list(f"u2pl/pascal/{n}/labeled.txt") for n in (92, 183, 1464)})
    assert report["pairs"] == [
        "92, 183: 9 in common, not nested",
        "92, 1464: 92 in common, 92 is nested in 1464",
        "183, 1464: 183 in common, 183 is nested in 1464",
    ]
    assert [report[str(n)]["fine"] for n in (92, 183, 1464)] == [92, 183, 1464]
    leak = compare_lists(
        {
            kind: published_list(f"cps/pascal_voc/subset_train_aug/pseudoseg_{kind}_1-16.txt")
            for kind in ("labeled", "unlabeled")
        }
    )
    assert leak["pairs"] == ["labeled, unlabeled: 1 in common (2008_004822), not nested"] and any(
        "is a leak" in note for note in leak["notes"]
    )


@pytest.fixture(scope="module")
def whole_voc(tmp_path_factory):
    "The names of all files of VOC 2012 and SBD that matter here, without content; published lists in splits/."
    tmp_path = tmp_path_factory.mktemp("whole")
    base, train, val = (
        tmp_path / "VOCdevkit/VOC2012",
        published_list("unimatch/pascal/train_aug.txt"),
        published_list("u2pl/pascal/val.txt"),
    )
    fine = published_list("u2pl/pascal/1464/labeled.txt")
    for part in ("JPEGImages", "SegmentationClass", "SBD/cls", "ImageSets/Segmentation"):
        (base / part).mkdir(parents=True)
    for i in [*train, *val]:
        (base / "JPEGImages" / f"{i}.jpg").touch()
    for i in [*fine, *val]:
        (base / "SegmentationClass" / f"{i}.png").touch()
    for i in [*(i for i in train if i not in set(fine[:500])), *val[:700]]:
        (base / "SBD/cls" / f"{i}.mat").touch()  # SBD has some of VOC's, for training and for scoring
    for kind, ids in dict(train=fine, val=val).items():
        write_list(base / "ImageSets/Segmentation" / f"{kind}.txt", ids)
    (tmp_path / "splits").symlink_to(Path(LISTS).resolve())
    return tmp_path


@published
def test_voc__sbd_is_merged_into_the_10582(whole_voc):
    found = files.find_voc(whole_voc)
    assert (
        len(found.train) == files.NUM_TRAIN_AUG == 10582
        and known_family(found.train) == "VOC train_aug, 10582"
        and found.notes == ()
        and len(found.fine) == 1464
    )
    assert (
        Counter(found.mask_of[i].suffix for i in found.train) == {".png": 1464, ".mat": 9118}
        and len(found.val) == 1449
    )
    data = open_data(DataConfig(name="voc", root=str(whole_voc)))
    assert [len(s) for s in (data.labelled, data.unlabelled, data.val)] == [1464, 9118, 1449]
    coarse = next(
        path for i, path in found.mask_of.items() if path.suffix == ".mat" and i in set(found.train)
    )
    other, photograph = (
        coarse.with_stem("2013_000001"),
        whole_voc / "VOCdevkit/VOC2012/JPEGImages/2013_000001.jpg",
    )
    try:
        coarse.rename(other)
        assert files.find_voc(whole_voc).notes == (
            "VOC with SBD has 10582 training images with a mask, here are 10581",
        )
        photograph.touch()
        assert files.find_voc(whole_voc).notes == (
            "VOC with SBD has 10582 training images with a mask, here are 10582, but not the same ones",
        )
    finally:
        other.rename(coarse)
        photograph.unlink(missing_ok=True)


@published
@pytest.mark.parametrize(
    "lists, family, fine",
    [
        ("u2pl/732", "VOC classic, labelled (U2PL, UniMatch), 732", 732),
        ("cps/662", "VOC blended, labelled (CPS, UniMatch), 662", 93),
        ("u2pl/pascal/662", "VOC fine first, labelled (U2PL), 662", 662),
    ],
)
def test_voc__published_pairs_by_name(whole_voc, lists, family, fine):
    data = open_data(DataConfig(name="voc", root=str(whole_voc), lists=lists))
    report = data.report
    assert (
        report["labelled"]["family"],
        report["labelled"]["fine"],
        report["overlap"],
        report["val_overlap"],
    ) == (family, fine, 0, 0)
    assert report["val"]["family"] == "VOC val, 1449" and len(data.labelled) + len(data.unlabelled) == 10582
    assert json.loads(json.dumps(report)) == report


# ---------------------------------------------------------------------------------------------------- the embedded data set


def test_render_part__a_function_of_its_arguments():
    images, targets = render_part("val", 3, SceneConfig(), 5)
    again = render_part("val", 3, SceneConfig(), 5)
    assert torch.equal(images, again[0]) and torch.equal(targets, again[1])
    assert not torch.equal(images, render_part("val", 3, SceneConfig(), 6)[0])
    assert (
        images.dtype == targets.dtype == torch.uint8
        and images.shape == (3, 3, 64, 64)
        and targets.max() <= 10
    )


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
    assert (
        item["image"].shape == (3, 96, 96)
        and item["target"].shape == (96, 96)
        and item["target"].dtype == torch.int64
    )
    assert len(open_digits(num_labelled=40, **few).unlabelled) == 0
    with pytest.raises(
        InputError, match="data.num_labelled is 41; it must be from 1 to 40, the number of training scenes"
    ):
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
    assert torch.equal(
        load_part("train", 11, SceneConfig(size=32), root=tmp_path)[0],
        render_part("train", 11, SceneConfig(size=32))[0],
    )


def test_load_part__read_only_root_is_said(tmp_path, caplog, monkeypatch):
    def refuse(path, data):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(digits, "write_atomic", refuse)
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


# ---------------------------------------------------------------------------------------------------- files: bad input


@pytest.fixture
def folder(tmp_path):
    "Four images of 12x8 pixels; a, b, c have masks of two classes, d has none."
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    (tmp_path / "classes.txt").write_text("background\nthing\n")
    rng = np.random.default_rng(0)
    for name in "abcd":
        Image.fromarray(rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)).save(
            tmp_path / "images" / f"{name}.png"
        )
        if name != "d":
            Image.fromarray(rng.integers(0, 2, (8, 12), dtype=np.uint8)).save(
                tmp_path / "masks" / f"{name}.png"
            )
    for kind, ids in dict(labelled="a b", unlabelled="d", val="c").items():
        (tmp_path / f"{kind}.txt").write_text("\n".join(ids.split()))
    return tmp_path


def all_items(data):
    return [part[i] for part in (data.labelled, data.unlabelled, data.val) for i in range(len(part))]


def test_folder__unlabelled_without_masks_works(folder):
    data = open_data(DataConfig(name="folder", root=str(folder)))
    assert (data.labelled.ids, data.unlabelled.ids, data.val.ids) == (["a", "b"], ["d"], ["c"])
    assert [item["target"] is None for item in all_items(data)] == [False, False, True, False]
    assert all(
        item["image"].shape == (3, 8, 12) and item["image"].dtype == torch.uint8 for item in all_items(data)
    )


def test_folder__wrong_label_value(folder):
    mask = np.zeros((8, 12), np.uint8)
    mask[2, 5] = 7
    Image.fromarray(mask).save(folder / "masks" / "b.png")
    data = open_folder(folder)
    with pytest.raises(
        InputError,
        match=r"masks/b.png holds the label value 7 \(first at row 2, column 5; 1 pixels\); allowed are 0 to 1 and 255 \(ignored\)",
    ):
        data.labelled[1]


def test_folder__image_and_mask_of_different_size(folder):
    Image.fromarray(np.zeros((8, 11), np.uint8)).save(folder / "masks" / "a.png")
    with pytest.raises(
        InputError,
        match="images/a.png has 12x8 pixels, its mask .*masks/a.png 11x8; both must cover the same pixels",
    ):
        open_folder(folder).labelled[0]


def test_folder__exif_turns_the_image_as_viewers_do(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(folder / "images" / "a.png").save(folder / "images" / "a.tif", exif=exif)
    (folder / "images" / "a.png").unlink()
    with pytest.raises(InputError, match="one is turned by 90 degrees"):
        open_folder(folder).labelled[0]  # the mask was drawn on the raw picture
    Image.open(folder / "masks" / "a.png").transpose(Image.Transpose.ROTATE_270).save(
        folder / "masks" / "a.png"
    )
    assert open_folder(folder).labelled[0]["image"].shape == (3, 12, 8)


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "bmp"])
@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_read_image__truncated_anywhere(tmp_path, kind):
    path = tmp_path / f"whole.{kind}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    assert read_image(path).shape == (40, 30, 3)
    for share in (0, 0.02, 0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(
            InputError, match=f"cannot read the image .*whole.{kind} .*damaged, cut off or no picture"
        ):
            read_image(path)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["png", "jpg", "gif", "tif", "bmp"]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
)
@pytest.mark.filterwarnings("ignore")
def test_read__damaged_bytes_give_a_picture_or_an_input_error(tmp_path_factory, kind, changes):
    path = tmp_path_factory.mktemp("damaged") / f"x.{kind}"
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(path)
    data = bytearray(path.read_bytes())
    for place, value in changes:
        data[int(place * len(data))] = value
    path.write_bytes(data)
    for read in (read_image, read_mask):
        try:
            assert read(path).ndim in (2, 3)
        except InputError as e:
            assert path.name in str(e)


def test_folder__empty_labelled_list(folder):
    (folder / "labelled.txt").write_text("\n")
    with pytest.raises(InputError, match="labelled.txt is empty; it must name at least one image"):
        open_folder(folder)
    with pytest.raises(
        InputError, match="the labelled list of folder is empty; it needs at least one image with a mask"
    ):
        open_folder(folder, labelled=[])


def test_folder__no_masks_at_all(folder):
    for kind in ("labelled", "unlabelled", "val"):
        (folder / f"{kind}.txt").unlink()
    for mask in (folder / "masks").iterdir():
        mask.unlink()
    message = "the labelled list of folder is empty; it needs at least one image with a mask: name a list with data.labelled, or add masks"
    with pytest.raises(InputError, match=message):
        open_folder(folder)


@pytest.mark.parametrize(
    "lists, message",
    [
        (
            dict(labelled="a b", unlabelled="b d"),
            "1 image is in both the labelled and the unlabelled list: b; take it out of one list, or set data.allow_overlap",
        ),
        (dict(labelled="a b c"), "1 image is in both the labelled and the val list: c"),
        (dict(unlabelled="c d"), "1 image is in both the unlabelled and the val list: c"),
    ],
)
def test_folder__an_image_in_two_lists(folder, lists, message):
    for kind, ids in lists.items():
        (folder / f"{kind}.txt").write_text("\n".join(ids.split()))
    with pytest.raises(InputError, match=message):
        open_data(DataConfig(name="folder", root=str(folder)))
    assert open_data(DataConfig(name="folder", root=str(folder), allow_overlap=True)).name == "folder"


def test_folder__missing_mask_image_and_name(folder):
    with pytest.raises(
        InputError,
        match="1 of 1 images have no mask file: d; add the masks, or move these images to the unlabelled list",
    ):
        open_folder(folder, labelled=["d"], unlabelled=["a"])
    with pytest.raises(
        InputError, match="1 of 2 images have no image file: zebra; check the list and the data root"
    ):
        open_folder(folder, unlabelled=["d", "zebra"])
    (folder / "images" / "a.jpg").touch()
    with pytest.raises(InputError, match="two files have the id 'a'"):
        open_folder(folder)


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
    assert np.array_equal(data.labelled[0]["target"], numbers) and np.array_equal(
        data.labelled[1]["target"], before
    )


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
    make = lambda label_map: ImageMaskFiles(
        ["x"], dict(x=tmp_path / "i.png"), dict(x=tmp_path / "m.png"), 19, label_map
    )
    assert make(files.cityscapes_label_map())[0]["target"].unique().item() == 18
    with pytest.raises(InputError, match="holds the label value 33"):
        make(None)[0]


# ---------------------------------------------------------------------------------------------------- settings


def test_data_config__unknown_and_idle_settings(tmp_path):
    with pytest.raises(InputError, match="unknown data set 'vocs'; did you mean voc"):
        DataConfig(name="vocs")
    with pytest.raises(
        InputError,
        match="data.size=128 has no effect on the data set 'voc'; leave it at 64, or choose digits with data.name",
    ):
        DataConfig(name="voc", size=128)
    with pytest.raises(InputError, match="data.labelled=x.txt has no effect on the data set 'digits-tune'"):
        DataConfig(name="digits-tune", labelled="x.txt")
    with pytest.raises(InputError, match=f"cannot read the list {tmp_path}/none.txt: No such file"):
        open_data(
            DataConfig(name="folder", root=str(make_empty(tmp_path)), labelled=str(tmp_path / "none.txt"))
        )


def make_empty(root):
    for part in ("images", "masks"):
        (root / part).mkdir()
    (root / "classes.txt").write_text("a\nb\n")
    return root


@settings(max_examples=150, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional=dict(
            name=st.sampled_from([*DATA_SETS, "vocs"]),
            lists=st.sampled_from(["", "make", "u2pl/1", "x", "../x", "own/seed0/2"]),
            num_labelled=st.sampled_from([250, 1, 2, 0, -1, 9]),
            split_seed=st.integers(-1, 1),
            size=st.sampled_from([64, 32]),
            labelled=st.sampled_from([None, "{root}/labelled.txt", "/nowhere.txt"]),
            unlabelled=st.sampled_from([None, "{root}/unlabelled.txt"]),
            val=st.sampled_from([None, "{root}/val.txt"]),
            allow_overlap=st.booleans(),
        ),
    )
)
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
        if cfg.lists == "make":
            assert len(data.labelled) == cfg.num_labelled


def test_data_config__lists_have_an_effect_or_are_refused():
    for name in ("digits", "digits-tune"):
        with pytest.raises(InputError, match="data.lists=make has no effect on the data set"):
            DataConfig(name=name, lists="make")
    with pytest.raises(
        InputError,
        match="data.split_seed=1 has no effect on the data set 'voc' when its split is read from lists; leave it at 0, or set data.lists to make",
    ):
        DataConfig(name="voc", lists="u2pl/732", split_seed=1)
    with pytest.raises(InputError, match="data.unlabelled=u.txt has no effect beside data.lists=make"):
        DataConfig(name="voc", lists="make", unlabelled="u.txt")
    with pytest.raises(InputError, match="data.size=32 has no effect on the data set 'folder'"):
        DataConfig(name="folder", lists="make", size=32)


# ---------------------------------------------------------------------------------------------------- our own draw


@pytest.fixture
def many(tmp_path):
    "Thirty images; class 2 is in every fifth, class 1 in all others; the last four have no mask."
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    (tmp_path / "classes.txt").write_text("background\noften\nseldom\n")
    for n in range(30):
        photo().save(tmp_path / "images" / f"{n:02}.png")
        if n < 26:
            Image.fromarray(
                np.array([[0, 2 if n % 5 == 0 else 1, 255]], np.uint8).repeat(8, 0).repeat(4, 1)
            ).save(tmp_path / "masks" / f"{n:02}.png")
    return tmp_path


def drawn(root, num, seed=0, name="folder"):
    return open_data(DataConfig(name=name, root=str(root), lists="make", num_labelled=num, split_seed=seed))


def test_make__nested_balanced_and_a_function_of_the_seed(many):
    few, more, other = drawn(many, 4), drawn(many, 12), drawn(many, 4, seed=1)
    assert more.labelled.ids[:4] == few.labelled.ids != other.labelled.ids
    assert few.val.ids == more.val.ids == other.val.ids and len(few.val) == 5
    for data, num in ((few, 4), (more, 12)):
        assert (
            sorted(data.labelled.ids + data.unlabelled.ids + data.val.ids) == [f"{n:02}" for n in range(30)]
            and len(data.labelled) == num
        )
        assert {"26", "27", "28", "29"} <= set(data.unlabelled.ids)
    assert (
        sum(int(i) % 5 == 0 for i in few.labelled.ids) == 2
    )  # two of each, though four of five images show class 1
    assert (
        few.report["labelled"]["family"] == "own/seed0"
        and other.report["unlabelled"]["family"] == "own/seed1"
    )


def test_make__ignores_lists_that_lie_there_but_keeps_val(many):
    write_list(many / "labelled.txt", ["00"])
    write_list(many / "unlabelled.txt", ["01"])
    write_list(many / "val.txt", ["02", "03"])
    data = drawn(many, 3)
    assert data.val.ids == ["02", "03"] and (len(data.labelled), len(data.unlabelled)) == (3, 25)


def test_make__masks_are_read_once_and_again_when_they_change(many, monkeypatch, caplog):
    reads = []
    original = ImageMaskFiles.read_target
    monkeypatch.setattr(
        ImageMaskFiles, "read_target", lambda self, name: reads.append(name) or original(self, name)
    )
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

    def refuse(path, data):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(files, "write_atomic", refuse)
    changed.save(many / "masks" / f"{first[1]}.png", compress_level=0)
    with caplog.at_level(logging.WARNING, "dgcl_nb.data"):
        assert len(drawn(many, 4).labelled) == 4
    assert "Read-only file system): the masks are read again at each start" in caplog.text


def test_make__voc_draws_from_fine_and_coarse_and_never_from_val(tmp_path):
    small_voc(tmp_path)
    data = drawn(tmp_path, 2, name="voc")
    assert sorted(data.labelled.ids + data.unlabelled.ids) == [
        "2007_000001",
        "2007_000002",
        "2008_000003",
    ] and data.val.ids == ["2008_000004"]
    assert data.report["labelled"]["family"] == "own/seed0"
    with pytest.raises(InputError, match="data.num_labelled is 4; it must be from 1 to 3"):
        drawn(tmp_path, 4, name="voc")


def test_make__cityscapes(tmp_path):
    cityscapes(tmp_path)
    data = drawn(tmp_path, 1, name="cityscapes")
    assert (len(data.labelled), len(data.unlabelled), data.val.ids) == (
        1,
        1,
        ["lindau_000003_000019"],
    ) and set(data.labelled[0]["target"].flatten().tolist()) == {255, 13}


def test_report__wrong_folder_names_are_remarked_on(many):
    for kind, ids in dict(labeled=["00", "01"], unlabeled=["28"]).items():
        write_list(many / f"splits/cps/3/{kind}.txt", ids)
    data = open_data(DataConfig(name="folder", root=str(many), lists="cps/3"))
    assert data.report["notes"] == ["the folder of the lists is called 3, but 2 images are labelled"]
    assert dataclasses.replace(data, notes=()).report["notes"] == []
    assert family_note(None) == ""


# ---------------------------------------------------------------------------------------------------- fetching


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def archive(path, folder, name):
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as tar:
        tar.add(folder, name)
    return dict(filename=path.name, md5=hashlib.md5(path.read_bytes()).hexdigest())


@pytest.fixture
def archives(tmp_path, monkeypatch):
    "Small archives of the two data sets, laid out as the published ones, at the addresses that torchvision asks: here a server of this test's."
    small_voc(tmp_path / "voc")
    base = tmp_path / "voc/VOCdevkit/VOC2012"
    dataset = tmp_path / "sbd/benchmark_RELEASE/dataset"
    for part in ("cls", "img", "inst"):
        (dataset / part).mkdir(parents=True)
    for part in ("train", "val"):
        (dataset / f"{part}.txt").write_text("2008_000003\n")
    sbd_mask(dataset / "cls/2008_000003.mat")
    for path in sorted((base / "SBD").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (base / "SBD").rmdir()
    served = tmp_path / "served"
    served.mkdir()
    facts = [
        archive(served / "voc.tar", tmp_path / "voc/VOCdevkit", "VOCdevkit"),
        archive(served / "benchmark.tgz", tmp_path / "sbd/benchmark_RELEASE", "benchmark_RELEASE"),
    ]
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(served)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    voc_facts, sbd_facts = (
        f | dict(url=f"http://127.0.0.1:{server.server_port}/{f['filename']}") for f in facts
    )
    monkeypatch.setitem(
        torchvision_voc.DATASET_YEAR_DICT,
        "2012",
        voc_facts | dict(base_dir=os.path.join("VOCdevkit", "VOC2012")),
    )
    for name, value in sbd_facts.items():
        monkeypatch.setattr(SBDataset, name, value)
    yield served
    server.shutdown()
    server.server_close()


def test_download_voc__torchvision_fetches_and_we_merge(archives, tmp_path):
    root = tmp_path / "new"
    assert files.download_voc(root) == root / "VOCdevkit/VOC2012"
    data = open_data(DataConfig(name="voc", root=str(root)))
    assert (data.labelled.ids, data.unlabelled.ids, data.val.ids) == (
        ["2007_000001", "2007_000002"],
        ["2008_000003"],
        ["2008_000004"],
    )
    assert data.unlabelled[0]["target"].max() == 15
    for name in ("voc.tar", "benchmark.tgz"):
        (archives / name).unlink()
    files.download_voc(root)  # all is there: nothing is fetched


def test_download_voc__no_connection_is_one_sentence(archives, tmp_path):
    (archives / "benchmark.tgz").unlink()
    with pytest.raises(
        InputError,
        match="cannot fetch SBD .*; free space, try again, or fetch it by hand and lay it out as data/README.md shows",
    ):
        files.download_voc(tmp_path / "new")
    (archives / "voc.tar").write_bytes(b"another file")
    with pytest.raises(InputError, match="cannot fetch VOC 2012 "):
        files.download_voc(tmp_path / "newer")
