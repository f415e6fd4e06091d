"Lists of images: every format, any bytes, nested and balanced draws, names that stay in their folder."

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgcl_nb.core import InputError
from dgcl_nb.data.splits import (
    balanced_order,
    find_lists,
    how_many,
    image_id,
    line_id,
    nested_split,
    read_list,
    write_list,
)

names = st.lists(st.text("abcXYZ019_-", min_size=1, max_size=8), min_size=1, max_size=8, unique=True)
LINES = [
    "{0}",
    "images/{0}.jpg",
    "a b/{0}.png",
    "im/{0}.jpg masks/{0}.png",
    "a b/{0}.jpg a b/{0}.png",
    "/x/{0}.png\t/y/{0}_gtFine.png",
    "leftImg8bit/train/c/{0}_leftImg8bit.png gtFine/train/c/{0}_gtFine_labelTrainIds.png",
    r"images\{0}.PNG",
]
ends = st.sampled_from(["\n", "\r\n", "\n\n"])


@settings(max_examples=50, deadline=None)
@given(names, st.sampled_from(LINES), ends, st.booleans(), st.booleans())
def test_read_list__every_format_gives_the_same_ids(tmp_path_factory, ids, line, end, last, bom):
    path = tmp_path_factory.mktemp("lists") / "list.txt"
    text = end.join(line.format(i) for i in ids) + (end if last else "")
    path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + text.encode())
    assert read_list(path) == ids


def test_write_list__round_trip_and_lf(tmp_path):
    path = write_list(tmp_path / "new" / "l.txt", ["b", "a"])
    assert path.read_bytes() == b"b\na\n" and read_list(path) == ["b", "a"]


ENDINGS = ["", ".png", ".JPG", "_leftImg8bit.png", "_gtFine_labelIds.png", ".jpg.png"]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30), st.sampled_from(ENDINGS))
def test_image_id__of_an_id_is_the_id(text, ending):
    name = image_id(text + ending)
    assert image_id(name) == name and image_id(f"some folder/{name}.png") == name


letters = st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp"))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(letters, min_size=1, max_size=12), min_size=1, max_size=6))
def test_write_list__what_is_written_is_read(tmp_path_factory, texts):
    ids = list(dict.fromkeys(filter(None, map(image_id, texts))))
    if ids:
        assert read_list(write_list(tmp_path_factory.mktemp("lists") / "l.txt", ids)) == ids


texts_of_lists = st.text("ab./\\ \t\r\n#", max_size=60).map(str.encode)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=60), texts_of_lists))
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


parts = st.sampled_from(["..", ".", "", "a", "u2pl", "732", "~", "a b", "\0", "é"])


@settings(max_examples=100, deadline=None)
@given(st.lists(parts, max_size=4).map("/".join))
def test_find_lists__never_leaves_the_folder_of_lists(lists_folder, name):
    try:
        found = find_lists(lists_folder, name)
    except InputError as e:
        assert "data.lists is" in str(e) or "no lists" in str(e)
    else:
        assert name == "u2pl/732"
        splits = (lists_folder / "splits").resolve()
        assert all(splits in path.resolve().parents for path in found.values())


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30000), st.integers(1, 64))
def test_how_many__a_share_is_rounded_up_and_never_too_many(num, part):
    share = how_many(f"1/{part}", num)
    assert (share - 1) * part < num <= share * part


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sets(st.integers(0, 5)), min_size=1, max_size=40), st.integers(0, 5))
def test_balanced_order__is_a_permutation_that_shows_each_class_early(classes, seed):
    order = balanced_order(classes, seed)
    assert sorted(order) == list(range(len(classes)))
    present = set().union(*classes)
    first = order[: len(present)]
    # with as many labels as classes, every class is shown
    assert set().union(*(classes[i] for i in first)) == present


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 3))
def test_nested_split__fewer_labels_are_a_prefix(few, more, seed):
    few, more = sorted((few, more))
    rng = np.random.default_rng(seed)
    ids = [f"i{n}" for n in range(30)]
    classes = [set(rng.integers(0, 8, 3).tolist()) for _ in range(30)]
    short, rest = nested_split(ids, classes, few, seed)
    assert nested_split(ids, classes, more, seed)[0][:few] == short
    assert sorted(short + rest) == sorted(ids) and not set(short) & set(rest)


HOSTILE = [
    "a.png " * 40_000 + "x",
    "a" + ".png" * 60_000,
    " ".join(["a.png"] * 40_000),
    ".png " * 48_000 + "\t",
    "a.png" + " " * 240_000 + "x",
    "a" + "_gtFine" * 34_000,
]


@pytest.mark.parametrize("line", HOSTILE, ids=range(len(HOSTILE)))
def test_line_id__in_linear_time(line, tmp_path):
    "240 KB in one line took more than a minute."
    began = time.process_time()
    line_id(line)
    path = tmp_path / "list.txt"
    path.write_text(f"good.png\n{line}\n")
    with pytest.raises(InputError, match="characters in line 2, and no path is that long"):
        read_list(path)
    assert time.process_time() - began < 5
    path.write_text("".join(f"{line[i : i + 8000]}{i}\n" for i in range(0, len(line), 8000)))
    assert read_list(path)
    assert time.process_time() - began < 10
