"Files that are broken or odd, end to end; and fetching, on two small archives of our own."

import functools
import hashlib
import os
import pickle
import shutil
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from make_bad_data import photo, sbd_mask, voc
from PIL import Image
from torchvision.datasets import SBDataset
from torchvision.datasets import voc as torchvision_voc

from dgcl_nb.core import InputError
from dgcl_nb.data.cityscapes import cityscapes_label_map
from dgcl_nb.data.folder import open_folder
from dgcl_nb.data.images import ImageMaskFiles, read_image, read_mask, upright_size
from dgcl_nb.data.sets import DataConfig, open_data
from dgcl_nb.data.voc import download_voc


@pytest.fixture
def folder(tmp_path):
    "Four images of 12x8 pixels; a, b, c have masks of two classes, d has none."
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    (tmp_path / "classes.txt").write_text("background\nthing\n")
    rng = np.random.default_rng(0)
    for name in "abcd":
        pixels = rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{name}.png")
        if name != "d":
            classes = rng.integers(0, 2, (8, 12), dtype=np.uint8)
            Image.fromarray(classes).save(tmp_path / "masks" / f"{name}.png")
    for kind, ids in dict(labelled="a b", unlabelled="d", val="c").items():
        (tmp_path / f"{kind}.txt").write_text("\n".join(ids.split()))
    return tmp_path


def all_items(data):
    return [part[i] for part in (data.labelled, data.unlabelled, data.val) for i in range(len(part))]


def test_folder__unlabelled_without_masks_works(folder):
    data = open_data(DataConfig(name="folder", root=str(folder)))
    assert (data.labelled.ids, data.unlabelled.ids, data.val.ids) == (["a", "b"], ["d"], ["c"])
    assert [item["target"] is None for item in all_items(data)] == [False, False, True, False]
    images = [item["image"] for item in all_items(data)]
    assert all(image.shape == (3, 8, 12) and image.dtype == torch.uint8 for image in images)


def test_folder__wrong_label_value(folder):
    mask = np.zeros((8, 12), np.uint8)
    mask[2, 5] = 7
    Image.fromarray(mask).save(folder / "masks" / "b.png")
    data = open_folder(folder)
    value = r"masks/b.png holds the label value 7 \(first at row 2, column 5; 1 pixels\)"
    with pytest.raises(InputError, match=rf"{value}; allowed are 0 to 1 and 255 \(ignored\)"):
        data.labelled[1]


def test_folder__image_and_mask_of_different_size(folder):
    Image.fromarray(np.zeros((8, 11), np.uint8)).save(folder / "masks" / "a.png")
    sizes = "images/a.png has 12x8 pixels, its mask .*masks/a.png 11x8; both must cover the same pixels"
    with pytest.raises(InputError, match=sizes):
        open_folder(folder).labelled[0]


def test_folder__exif_turns_the_image_as_viewers_do(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(folder / "images" / "a.png").save(folder / "images" / "a.tif", exif=exif)
    (folder / "images" / "a.png").unlink()
    with pytest.raises(InputError, match="one is turned by 90 degrees"):
        open_folder(folder).labelled[0]  # the mask was drawn on the raw picture
    mask = folder / "masks" / "a.png"
    Image.open(mask).transpose(Image.Transpose.ROTATE_270).save(mask)
    assert open_folder(folder).labelled[0]["image"].shape == (3, 12, 8)


@pytest.mark.parametrize("entry", [b"\2\0\4\0\0\0abc\0", b"\3\0\2\0\0\0\6\0\6\0", b"\3\0\1\0\0\0\6\0\0\0"])
@pytest.mark.filterwarnings("ignore:Metadata Warning")
def test_upright_size__whatever_stands_in_the_tag(tmp_path, entry):
    exif = b"Exif\0\0II*\0" + bytes([8, 0, 0, 0, 1, 0, 0x12, 1]) + entry + bytes(4)
    photo((30, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert upright_size(tmp_path / "a.jpg") == read_image(tmp_path / "a.jpg").shape[:2]


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "bmp"])
@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_read_image__truncated_anywhere(tmp_path, kind):
    path = tmp_path / f"whole.{kind}"
    photo((30, 40)).save(path)
    whole = path.read_bytes()
    assert read_image(path).shape == (40, 30, 3)
    for share in (0, 0.02, 0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        message = f"cannot read the image .*whole.{kind} .*damaged, cut off or no picture"
        with pytest.raises(InputError, match=message):
            read_image(path)


kinds = st.sampled_from(["png", "jpg", "gif", "tif", "bmp"])
bytes_to_change = st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255))


@settings(max_examples=60, deadline=None)
@given(kinds, st.lists(bytes_to_change, min_size=1, max_size=6))
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


NO_LABELLED = "the labelled list of folder is empty; it needs at least one image with a mask"


def test_folder__empty_labelled_list(folder):
    (folder / "labelled.txt").write_text("\n")
    with pytest.raises(InputError, match="labelled.txt is empty; it must name at least one image"):
        open_folder(folder)
    with pytest.raises(InputError, match=NO_LABELLED):
        open_folder(folder, labelled=[])


def test_folder__no_masks_at_all(folder):
    for kind in ("labelled", "unlabelled", "val"):
        (folder / f"{kind}.txt").unlink()
    for mask in (folder / "masks").iterdir():
        mask.unlink()
    with pytest.raises(InputError, match=f"{NO_LABELLED}: name a list with data.labelled, or add masks"):
        open_folder(folder)


def test_folder__lists_with_one_l_are_read(folder):
    for kind in ("labelled", "unlabelled"):
        (folder / f"{kind}.txt").unlink()
    (folder / "labeled.txt").write_text("b\n")
    (folder / "unlabeled.txt").write_text("a\nd\n")
    data = open_folder(folder)
    assert (data.labelled.ids, data.unlabelled.ids, data.val.ids) == (["b"], ["a", "d"], ["c"])


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", ".thumbnails", "trip/.cache"])
def test_folder__copies_in_hidden_folders_are_no_images(folder, hidden):
    for part in ("images", "masks"):
        (folder / part / hidden).mkdir(parents=True)
        for name in ("a.png", "a-checkpoint.png"):
            shutil.copy(folder / part / "a.png", folder / part / hidden / name)
    for kind in ("labelled", "unlabelled", "val"):
        (folder / f"{kind}.txt").unlink()
    data = open_folder(folder)
    assert sorted(data.labelled.ids + data.unlabelled.ids + data.val.ids) == list("abcd")


def test_folder__may_lie_in_a_hidden_one(folder):
    (folder / ".store").mkdir()
    (folder / "images").rename(folder / ".store" / "images")
    (folder / "images").symlink_to(folder / ".store" / "images")
    assert open_folder(folder / ".store" / "..").labelled.ids == ["a", "b"]


@pytest.mark.parametrize(
    "lists, message",
    [
        (
            dict(labelled="a b", unlabelled="b d"),
            "1 image is in both the labelled and the unlabelled list: b; take it out of one list, "
            "or set data.allow_overlap",
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
    cure = "add the masks, or move these images to the unlabelled list"
    with pytest.raises(InputError, match=f"1 of 1 images have no mask file: d; {cure}"):
        open_folder(folder, labelled=["d"], unlabelled=["a"])
    cure = "check the list and the data root"
    with pytest.raises(InputError, match=f"1 of 2 images have no image file: zebra; {cure}"):
        open_folder(folder, unlabelled=["d", "zebra"])
    (folder / "images" / "a.jpg").touch()
    with pytest.raises(InputError, match="two files have the id 'a'"):
        open_folder(folder)


def test_folder__a_class_without_a_pixel_is_no_error(folder):
    (folder / "classes.txt").write_text("background\nthing\nnever seen\n")
    data = open_folder(folder)
    assert data.num_classes == 3 and data.labelled[0]["target"].max() <= 1


def test_folder__palette_and_16_bit_masks(folder):
    deep, coloured = folder / "masks" / "a.png", folder / "masks" / "b.png"
    numbers = [np.array(Image.open(path)) for path in (deep, coloured)]
    Image.fromarray(numbers[0].astype(np.uint16)).save(deep)
    palette_mask = Image.fromarray(numbers[1]).convert("P")
    palette_mask.putpalette([9, 9, 9, 200, 0, 0] + [0] * 762)
    palette_mask.save(coloured)
    data = open_folder(folder)
    for i in range(2):
        assert np.array_equal(data.labelled[i]["target"], numbers[i])


@pytest.mark.parametrize("kind", ["grey", "palette", "two", "16 bits", "32 bits"])
def test_masks__stay_bytes(folder, kind):
    path = folder / "masks" / "a.png"
    numbers = np.array(Image.open(path))
    wide = {"16 bits": np.uint16, "32 bits": np.int32}
    mask = Image.fromarray(numbers.astype(wide.get(kind, np.uint8)))
    if kind == "32 bits":
        path = folder / "masks" / "a.tif"
        (folder / "masks" / "a.png").unlink()
    mask.convert({"palette": "P", "two": "1"}.get(kind, mask.mode)).save(path)
    if kind == "two":
        numbers = np.array(Image.open(path)).astype(np.uint8)
    assert read_mask(path).dtype == np.uint8
    target = open_folder(folder).labelled[0]["target"]
    assert target.dtype == torch.uint8 and np.array_equal(target, numbers)


def test_masks__a_value_that_is_no_byte_is_named(tmp_path):
    Image.fromarray(np.full((4, 4), 256 + 1, np.uint16)).save(tmp_path / "m.png")  # 1, if cut to a byte
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "i.png")
    image_of, mask_of = dict(x=tmp_path / "i.png"), dict(x=tmp_path / "m.png")
    for label_map in (None, {1: 1}):
        with pytest.raises(InputError, match="label value 257"):
            ImageMaskFiles(["x"], image_of, mask_of, 2, label_map)[0]


def test_masks__are_checked_at_each_reading(folder):
    data = open_folder(folder)
    path = folder / "masks" / "a.png"
    before = data.labelled[0]["target"], path.stat()
    Image.fromarray(np.full((8, 12), 7, np.uint8)).save(path)
    os.utime(path, ns=(before[1].st_atime_ns, before[1].st_mtime_ns))
    with pytest.raises(InputError, match="holds the label value 7"):
        data.labelled[0]


def test_files__items_are_fresh_and_survive_pickling(folder):
    data = open_folder(folder)
    data.labelled[0]["image"].zero_()
    assert data.labelled[0]["image"].any()
    again = pickle.loads(pickle.dumps(data.labelled))
    assert torch.equal(again[1]["image"], data.labelled[1]["image"])


def test_files__label_map_applies_before_the_check(tmp_path):
    Image.fromarray(np.full((4, 4), 33, np.uint8)).save(tmp_path / "m.png")
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "i.png")
    image_of, mask_of = dict(x=tmp_path / "i.png"), dict(x=tmp_path / "m.png")
    mapped = ImageMaskFiles(["x"], image_of, mask_of, 19, cityscapes_label_map())
    assert mapped[0]["target"].unique().item() == 18
    with pytest.raises(InputError, match="holds the label value 33"):
        ImageMaskFiles(["x"], image_of, mask_of, 19)[0]


# Fetching


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def archive(path, folder, name):
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as tar:
        tar.add(folder, name)
    return dict(filename=path.name, md5=hashlib.md5(path.read_bytes()).hexdigest())


def voc_archive(folder, path):
    "An archive of a small VOC, without SBD; what torchvision has to know of it."
    voc(folder)
    shutil.rmtree(folder / "VOCdevkit/VOC2012/SBD")
    return archive(path, folder / "VOCdevkit", "VOCdevkit")


def sbd_archive(folder, path):
    "An archive of a small SBD; what torchvision has to know of it."
    dataset = folder / "benchmark_RELEASE/dataset"
    for part in ("cls", "img", "inst"):
        (dataset / part).mkdir(parents=True)
    for part in ("train", "val"):
        (dataset / f"{part}.txt").write_text("2008_000003\n")
    sbd_mask(dataset / "cls/2008_000003.mat")
    return archive(path, folder / "benchmark_RELEASE", "benchmark_RELEASE")


@pytest.fixture
def archives(tmp_path, monkeypatch):
    "Small archives like the published ones, at the addresses that torchvision asks: a server of our own."
    served = tmp_path / "served"
    served.mkdir()
    voc_facts = voc_archive(tmp_path / "voc", served / "voc.tar")
    sbd_facts = sbd_archive(tmp_path / "sbd", served / "benchmark.tgz")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(served)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for facts in (voc_facts, sbd_facts):
        facts["url"] = f"http://127.0.0.1:{server.server_port}/{facts['filename']}"
    voc_facts["base_dir"] = os.path.join("VOCdevkit", "VOC2012")
    monkeypatch.setitem(torchvision_voc.DATASET_YEAR_DICT, "2012", voc_facts)
    for name, value in sbd_facts.items():
        monkeypatch.setattr(SBDataset, name, value)
    yield served
    server.shutdown()
    server.server_close()


def test_download_voc__torchvision_fetches_and_we_merge(archives, tmp_path):
    root = tmp_path / "new"
    assert download_voc(root) == root / "VOCdevkit/VOC2012"
    data = open_data(DataConfig(name="voc", root=str(root)))
    assert data.labelled.ids == ["2007_000001", "2007_000002"]
    assert (data.unlabelled.ids, data.val.ids) == (["2008_000003"], ["2008_000004"])
    assert data.unlabelled[0]["target"].max() == 15
    for name in ("voc.tar", "benchmark.tgz"):
        (archives / name).unlink()
    download_voc(root)  # all is there: nothing is fetched


def test_download_voc__what_was_unpacked_in_part_is_unpacked_again(archives, tmp_path, monkeypatch):
    extractall = tarfile.TarFile.extractall

    def stopped(tar, *args, **kwargs):
        extractall(tar, *args, **kwargs)
        for path in tmp_path.glob("new/VOCdevkit/VOC2012/SegmentationClass/*"):
            path.unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(tarfile.TarFile, "extractall", stopped)
    with pytest.raises(KeyboardInterrupt):
        download_voc(tmp_path / "new")
    assert (tmp_path / "new/VOCdevkit/VOC2012/JPEGImages").is_dir()
    monkeypatch.undo()
    monkeypatch.setattr(torchvision_voc, "download_and_extract_archive", unpack_again(archives))
    monkeypatch.setattr(SBDataset, "__init__", lambda *_, **__: None)
    download_voc(tmp_path / "new")
    assert len(list(tmp_path.glob("new/VOCdevkit/VOC2012/SegmentationClass/*.png"))) == 3


def unpack_again(archives):
    "What torchvision does with an archive that it has fetched before."

    def unpack(url, root, filename=None, md5=None):
        with tarfile.open(archives / "voc.tar") as tar:
            tar.extractall(root, filter="data")

    return unpack


def test_download_voc__no_connection_is_one_sentence(archives, tmp_path):
    (archives / "benchmark.tgz").unlink()
    cure = "free space, try again, or fetch it by hand and lay it out as data/README.md shows"
    with pytest.raises(InputError, match=f"cannot fetch SBD .*; {cure}"):
        download_voc(tmp_path / "new")
    (archives / "voc.tar").write_bytes(b"another file")
    with pytest.raises(InputError, match="cannot fetch VOC 2012 "):
        download_voc(tmp_path / "newer")
