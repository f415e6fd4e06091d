"The published lists, where they are at hand: counts, nestedness, leaks, and that every one is recognised."

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from dgcl_nb.core import InputError
from dgcl_nb.data.published import (
    _FAMILIES,
    _FINE,
    _RIVALS,
    _pairs,
    compare_lists,
    describe,
    known_family,
    num_fine,
    split_hash,
)
from dgcl_nb.data.sets import DataConfig, open_data
from dgcl_nb.data.splits import check_disjoint, is_nested, num_shared, read_list, write_list
from dgcl_nb.data.voc import NUM_TRAIN_AUG, find_voc

LISTS = os.environ.get("DGCL_NB_LISTS")
pytestmark = pytest.mark.skipif(
    not LISTS,
    reason="DGCL_NB_LISTS names no folder with the lists of u2pl, cps and unimatch; they are not shipped",
)


def published_list(path):
    return read_list(Path(LISTS) / path)


def published_pair(folder):
    "Labelled and unlabelled ids of a project's folder."
    return [published_list(f"{folder}/{kind}.txt") for kind in ("labeled", "unlabeled")]


def labelled_lists(folder, numbers):
    "{number: ids} of the labelled lists of a project."
    return {n: published_list(f"{folder}/{n}/labeled.txt") for n in numbers}


def test_published__every_list_is_read_and_recognised():
    paths = sorted(Path(LISTS).rglob("*.txt"))
    assert len(paths) > 100
    unknown = {str(p.relative_to(LISTS)) for p in paths if known_family(read_list(p)) is None}
    assert unknown <= {"cps/cityscapes/config_new/train_val.txt"}  # train and val in one file: no split


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


@pytest.mark.parametrize(
    "path, family",
    [
        ("unimatch/pascal/1_16", "VOC blended, labelled (CPS, UniMatch), 662"),
        ("u2pl/pascal/1323", "VOC fine first, labelled (U2PL), 1323"),
        ("cps/cityscapes/372", "Cityscapes, labelled (CPS, DGCL, UniMatch), 372"),
    ],
)
def test_published__families_are_named(path, family):
    assert known_family(published_list(f"{path}/labeled.txt")) == family


@pytest.mark.parametrize("labelled", [92, 183, 366, 732, 1464, 662, 1323, 2646, 5291])
def test_published__voc_counts(labelled):
    pair = published_pair(f"u2pl/pascal/{labelled}")
    report = describe(*pair, val=published_list("u2pl/pascal/val.txt"))
    numbers = [report[kind]["num"] for kind in ("labelled", "unlabelled", "val")]
    assert numbers == [labelled, 10582 - labelled, 1449]
    assert (report["overlap"], report["val_overlap"]) == (0, 0)
    check_disjoint(*pair)


def test_published__voc_nestedness():
    u2pl = labelled_lists("u2pl/pascal", (92, 183, 366, 732, 1464, 662, 1323, 2646, 5291))
    classic = [num_shared(u2pl[a], u2pl[b]) for a, b in ((92, 183), (183, 366), (366, 732))]
    assert classic == [9, 42, 188]  # not nested
    assert all(is_nested(u2pl[n], u2pl[1464]) for n in (92, 183, 366, 732, 662, 1323))
    assert is_nested(u2pl[1464], u2pl[2646]) and is_nested(u2pl[1464], u2pl[5291])
    assert is_nested(u2pl[662], u2pl[1323]) and is_nested(u2pl[1323], u2pl[2646])
    assert num_shared(u2pl[2646], u2pl[5291]) == 1978
    blended = labelled_lists("cps/pascal_voc", (662, 1323, 2646, 5291))
    assert [num_shared(blended[n], u2pl[1464]) for n in blended] == [93, 193, 388, 742]
    assert [num_shared(blended[n], u2pl[n]) for n in blended] == [43, 172, 666, 2690]
    for few, more in ((662, 1323), (1323, 2646), (2646, 5291)):
        assert is_nested(blended[few], blended[more])


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
    message = f"1 image is in both the labelled and the unlabelled list: {leaked}; take it out of one list"
    with pytest.raises(InputError, match=f"{message}, or set data.allow_overlap"):
        check_disjoint(*pair)
    check_disjoint(*pair, allow_overlap=True)
    same = num_shared(pair[0], published_list(f"u2pl/pascal/{labelled}/labeled.txt"))
    assert same == (371 if labelled == 732 else labelled)


def test_published__cityscapes_counts_and_nestedness():
    numbers = (186, 372, 744, 1488)
    u2pl, cps = (labelled_lists(f"{family}/cityscapes", numbers) for family in ("u2pl", "cps"))
    for family in ("u2pl", "cps"):
        for labelled in numbers:
            pair = published_pair(f"{family}/cityscapes/{labelled}")
            assert [len(p) for p in pair] == [labelled, 2975 - labelled]
            check_disjoint(*pair, val=published_list("cps/cityscapes/val.txt"))
    assert [num_shared(u2pl[n], cps[n]) for n in u2pl] == [8, 48, 182, 720]
    steps = ((186, 372), (372, 744), (744, 1488))
    assert [num_shared(u2pl[a], u2pl[b]) for a, b in steps] == [28, 81, 388]
    assert all(is_nested(cps[a], cps[b]) for a, b in steps)
    assert len(published_list("unimatch/cityscapes/1_30/labeled.txt")) == 100


def test_published__unimatch_distributes_the_lists_of_cps_and_of_u2pl():
    objects = dict(zip(("1_16", "1_8", "1_4"), (662, 1323, 2646)))
    streets = dict(zip(("1_16", "1_8", "1_4", "1_2"), (186, 372, 744, 1488)))
    same = [(f"pascal/{share}", f"cps/pascal_voc/{num}") for share, num in objects.items()]
    same += [(f"pascal/u2pl_{share}", f"u2pl/pascal/{num}") for share, num in objects.items()]
    same += [(f"pascal/{num}", f"u2pl/pascal/{num}") for num in (92, 183, 366, 732, 1464)]
    same += [(f"cityscapes/{share}", f"cps/cityscapes/{num}") for share, num in streets.items()]
    for one, other in same:
        for here, there in zip(published_pair(f"unimatch/{one}"), published_pair(other), strict=True):
            assert split_hash(here) == split_hash(there), (one, other)


def families_on_disk():
    "{name of a family and its number: ids}"
    lists = [read_list(path) for path in Path(LISTS).rglob("*.txt")]
    return {known_family(ids): ids for ids in lists if known_family(ids)}


def test_published__the_numbers_of_fine_images_are_what_the_files_say():
    found, fine = families_on_disk(), set(published_list("u2pl/pascal/1464/labeled.txt"))
    told = {name: num_fine(name) for name in found if num_fine(name) is not None}
    assert told == {name: num_shared(found[name], fine) for name in told}
    assert len(told) == 4 + 4 + 3 + 2 + 1
    of_known_families = [name for name in found if name.rpartition(", ")[0] in _FINE]
    assert sorted(told) == sorted(of_known_families)


def test_published__what_two_families_share_is_what_the_files_say():
    found, seen = families_on_disk(), 0
    for (one, other), shared in _RIVALS.items():
        told = _pairs(shared)
        for number in _FAMILIES[one].keys() | _FAMILIES[other].keys():
            names = (f"{one}, {number}", f"{other}, {number}")
            if number in told:
                assert int(told[number]) == num_shared(*(found[name] for name in names))
                seen += 2  # a fact of either family
            else:
                assert not all(name in found for name in names)
    assert seen == 4 + 4 + 1 + 1 + 8 + 8


def test_published__notes_on_what_must_not_be_compared():
    notes = {
        "u2pl/pascal/662": [
            "U2PL 662: all from the 1464 fine images; not comparable with CPS 662 (43 images in common)"
        ],
        "cps/pascal_voc/2646": [
            "CPS 2646: 388 of 2646 are fine images; not comparable with U2PL 2646 (666 images in common)"
        ],
        "u2pl/pascal/2646": [
            "U2PL 2646: all 1464 fine images and 1182 coarser ones; "
            "not comparable with CPS 2646 (666 images in common)"
        ],
        "cps/pascal_voc/732": [
            "CPS pseudoseg 732: all from the 1464 fine images; "
            "not comparable with U2PL 732 (371 images in common)",
            "CPS pseudoseg unlabelled 732: not comparable with U2PL unlabelled 732 (372 images in common)",
        ],
        "u2pl/cityscapes/372": ["U2PL 372: not comparable with CPS 372 (48 images in common)"],
    }
    for folder, said in notes.items():
        assert describe(*published_pair(folder))["notes"] == said


def test_published__notes_on_odd_pairs():
    labelled, unlabelled = published_pair("u2pl/pascal/732")[0], published_pair("cps/pascal_voc/732")[1]
    said = describe(labelled, unlabelled)["notes"]
    assert any(note.startswith("these two lists were not published as a pair") for note in said)
    few, all_images = (
        published_list(p) for p in ("u2pl/pascal/92/labeled.txt", "unimatch/pascal/train_aug.txt")
    )
    everything = describe(few, all_images)
    assert everything["overlap"] == 92 and "PseudoSeg's convention" in everything["notes"][-1]


def test_published__every_pair_in_one_folder_is_a_pair():
    for labelled in Path(LISTS).rglob("labeled.txt"):
        report = describe(read_list(labelled), read_list(labelled.with_name("unlabeled.txt")))
        assert not any("not published as a pair" in note for note in report["notes"]), labelled


def test_published__classic_lists_are_compared_two_by_two():
    classic = labelled_lists("u2pl/pascal", (92, 183, 1464))
    report = compare_lists({str(n): ids for n, ids in classic.items()})
    assert report["pairs"] == [
        "92, 183: 9 in common, not nested",
        "92, 1464: 92 in common, 92 is nested in 1464",
        "183, 1464: 183 in common, 183 is nested in 1464",
    ]
    assert [report[str(n)]["fine"] for n in (92, 183, 1464)] == [92, 183, 1464]
    place = "cps/pascal_voc/subset_train_aug/pseudoseg"
    pair = {kind: published_list(f"{place}_{kind}_1-16.txt") for kind in ("labeled", "unlabeled")}
    leak = compare_lists(pair)
    assert leak["pairs"] == ["labeled, unlabeled: 1 in common (2008_004822), not nested"]
    assert any("is a leak" in note for note in leak["notes"])


@pytest.fixture(scope="module")
def whole_voc(tmp_path_factory):
    "The names of all files of VOC 2012 and SBD that matter, without content; published lists in splits/."
    tmp_path = tmp_path_factory.mktemp("whole")
    base = tmp_path / "VOCdevkit/VOC2012"
    train, val = published_list("unimatch/pascal/train_aug.txt"), published_list("u2pl/pascal/val.txt")
    fine = published_list("u2pl/pascal/1464/labeled.txt")
    # SBD has some of VOC's, for training and for scoring
    of_sbd = [*(i for i in train if i not in set(fine[:500])), *val[:700]]
    for part in ("JPEGImages", "SegmentationClass", "SBD/cls", "ImageSets/Segmentation"):
        (base / part).mkdir(parents=True)
    for i in [*train, *val]:
        (base / "JPEGImages" / f"{i}.jpg").touch()
    for i in [*fine, *val]:
        (base / "SegmentationClass" / f"{i}.png").touch()
    for i in of_sbd:
        (base / "SBD/cls" / f"{i}.mat").touch()
    for kind, ids in dict(train=fine, val=val).items():
        write_list(base / "ImageSets/Segmentation" / f"{kind}.txt", ids)
    (tmp_path / "splits").symlink_to(Path(LISTS).resolve())
    return tmp_path


def test_voc__sbd_is_merged_into_the_10582(whole_voc):
    found = find_voc(whole_voc)
    assert len(found.train) == NUM_TRAIN_AUG == 10582
    assert known_family(found.train) == "VOC train_aug, 10582" and found.notes == ()
    assert (len(found.fine), len(found.val)) == (1464, 1449)
    assert Counter(found.mask_of[i].suffix for i in found.train) == {".png": 1464, ".mat": 9118}
    data = open_data(DataConfig(name="voc", root=str(whole_voc)))
    assert [len(s) for s in (data.labelled, data.unlabelled, data.val)] == [1464, 9118, 1449]


def test_voc__sbd_that_is_not_whole_is_remarked_on(whole_voc):
    found = find_voc(whole_voc)
    coarse = next(found.mask_of[i] for i in found.train if found.mask_of[i].suffix == ".mat")
    other = coarse.with_stem("2013_000001")
    photograph = whole_voc / "VOCdevkit/VOC2012/JPEGImages/2013_000001.jpg"
    note = "VOC with SBD has 10582 training images with a mask, here are"
    try:
        coarse.rename(other)
        assert find_voc(whole_voc).notes == (f"{note} 10581",)
        photograph.touch()
        assert find_voc(whole_voc).notes == (f"{note} 10582, but not the same ones",)
    finally:
        other.rename(coarse)
        photograph.unlink(missing_ok=True)


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
    assert (report["labelled"]["family"], report["labelled"]["fine"]) == (family, fine)
    assert (report["overlap"], report["val_overlap"]) == (0, 0)
    assert report["val"]["family"] == "VOC val, 1449" and report["background"] == "class 0 (background)"
    assert len(data.labelled) + len(data.unlabelled) == 10582
    assert json.loads(json.dumps(report)) == report
