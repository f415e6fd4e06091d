"""A corpus of broken and odd inputs, each with what is to be said of it.

    python tests/make_bad_data.py FOLDER     write every case to a folder of its own and print the table

`CASES` is that table: a small data set, what is done to it, and a part of the error's message, or "works".
tests/test_bad_data.py opens and reads each.
"""

import os
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

WORKS = "works"
WIDTH, HEIGHT = 12, 8


def photo(size=(WIDTH, HEIGHT)):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def numbers(value=1, kind=np.uint8):
    return np.where(np.arange(WIDTH) < WIDTH // 2, 0, value).astype(kind) * np.ones((HEIGHT, 1), kind)


def mask(value=1, kind=np.uint8):
    return Image.fromarray(numbers(value, kind))


# Three small data sets, all well


def folder(root):
    "a and b are labelled, c is scored, d is unlabelled and has no mask."
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    (root / "classes.txt").write_text("background\nthing\n")
    for name in "abcd":
        photo().save(root / "images" / f"{name}.png")
        if name != "d":
            mask().save(root / "masks" / f"{name}.png")
    for kind, ids in dict(labelled="a\nb\n", unlabelled="d\n", val="c\n").items():
        (root / f"{kind}.txt").write_text(ids)


def voc(root):
    "Two fine training images, one that only SBD has annotated, one for scoring."
    base = root / "VOCdevkit" / "VOC2012"
    for part in ("JPEGImages", "SegmentationClass", "SBD/cls", "ImageSets/Segmentation"):
        (base / part).mkdir(parents=True)
    for name in ("2007_000001", "2007_000002", "2008_000003", "2008_000004"):
        photo().save(base / "JPEGImages" / f"{name}.jpg")
    for name in ("2007_000001", "2007_000002", "2008_000004"):
        mask(15).save(base / "SegmentationClass" / f"{name}.png")
    sbd_mask(base / "SBD/cls/2008_000003.mat")
    (base / "ImageSets/Segmentation/train.txt").write_text("2007_000001\n2007_000002\n")
    (base / "ImageSets/Segmentation/val.txt").write_text("2008_000004\n")


def sbd_mask(path, field_name="GTcls"):
    from scipy.io import savemat

    record = np.zeros((1,), dtype=[("Segmentation", object)])
    record[0]["Segmentation"] = numbers(15)
    savemat(path, {field_name: record})


def cityscapes(root):
    "Two training images of one town, one for scoring."
    for part, town, number in (("train", "ulm", 1), ("train", "ulm", 2), ("val", "lindau", 3)):
        name = f"{town}_{number:06}_000019"
        for kind in ("leftImg8bit", "gtFine"):
            (root / kind / part / town).mkdir(parents=True, exist_ok=True)
        photo().save(root / "leftImg8bit" / part / town / f"{name}_leftImg8bit.png")
        mask(26).save(root / "gtFine" / part / town / f"{name}_gtFine_labelIds.png")
    (root / "labelled.txt").write_text("leftImg8bit/train/ulm/ulm_000001_000019_leftImg8bit.png\n")


BASES = dict(folder=folder, voc=voc, cityscapes=cityscapes)


# What is done to them


def image(make, name="a.png"):
    "Put another file in the place of image a."

    def put(root):
        (root / "images" / "a.png").unlink()
        make(root / "images" / name)

    return put


def labels(make, name="a.png"):
    "Put another file in the place of mask a."

    def put(root):
        (root / "masks" / "a.png").unlink()
        make(root / "masks" / name)

    return put


def saved(picture, **options):
    return lambda path: picture().save(path, **options)


def raw(data):
    return lambda path: path.write_bytes(data)


def link(target):
    return lambda path: path.symlink_to(target)


def text_file(name, text):
    content = text if isinstance(text, bytes) else text.encode()
    return lambda root: (root / name).write_bytes(content)


def labelled(text):
    return text_file("labelled.txt", text)


def classes(text):
    return text_file("classes.txt", text)


def cut(make, share=0.5):
    "The first part of a file."

    def put(path):
        make(path)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])

    return put


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, rows):
    "A PNG file from its parts, to claim what Pillow would not write."
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


BOMB = png(30_000, 30_000, 1, 0, bytes(1000))
DEEP_RGB = png(WIDTH, HEIGHT, 16, 2, b"".join(b"\0" + bytes(6 * WIDTH) for _ in range(HEIGHT)))
EXIF_TURNED = Image.Exif()
EXIF_TURNED[0x0112] = 6


def painted(numbers_to_colours):
    "A palette picture of the numbers 0 and 1."
    picture = mask().convert("P")
    colours = [*numbers_to_colours, *[(0, 0, 0)] * (256 - len(numbers_to_colours))]
    picture.putpalette([value for colour in colours for value in colour])
    return picture


def damaged_in_the_middle(path):
    photo((64, 64)).save(path, quality=90)
    data = bytearray(path.read_bytes())
    start = len(data) * 2 // 3
    data[start : start + 20] = b"\x5a" * 20
    path.write_bytes(data)
    mask().resize((64, 64)).save(path.parent.parent / "masks" / "a.png")


def renamed(new):
    "Image and mask a under another name, and the list with them."

    def put(root):
        for part in ("images", "masks"):
            os.rename(root / part / "a.png", os.fsencode(root / part) + b"/" + new)
        (root / "labelled.txt").write_bytes(new + b"\nb.png\n")

    return put


def other_form(root):
    "The files write u with dots as two characters, as some systems do, the list as one."
    for part in ("images", "masks"):
        (root / part / "a.png").rename(root / part / "gru\u0308n.png")
    (root / "labelled.txt").write_text("gr\u00fcn.png\nb\n", encoding="utf-8")


def away(*names):
    def put(root):
        for name in names:
            for path in root.glob(name):
                path.unlink()

    return put


def both(*steps):
    def put(root):
        for step in steps:
            step(root)

    return put


def circle(root):
    (root / "images" / "again").symlink_to("..")


def far_away(root):
    (root / "elsewhere").mkdir()
    (root / "images" / "a.png").rename(root / "elsewhere" / "a.png")
    (root / "images" / "linked").symlink_to(root / "elsewhere")


def in_place_of(name, make):
    def put(root):
        (root / name).unlink()
        make(root / name)

    return put


def empty_folder(name):
    def put(root):
        for path in (root / name).iterdir():
            path.unlink()

    return put


def file_for_folder(root):
    empty_folder("images")(root)
    (root / "images").rmdir()
    (root / "images").write_text("no folder")


def voc_path(name):
    return lambda make: lambda root: make(root / "VOCdevkit" / "VOC2012" / name)


def pair(name, **texts):
    "A named pair of lists below splits/."

    def put(root):
        place = root / "splits" / name
        place.mkdir(parents=True)
        for kind, text in texts.items():
            (place / f"{kind}.txt").write_text(text)

    return put


# The table


@dataclass(frozen=True)
class Case:
    name: str  # of the case
    break_it: Callable[[Path], None]  # done to the data set
    says: str  # a part of the error's message, or WORKS
    base: str = "folder"  # which data set
    check: bool | None = None  # whether `check` calls the data set good; None: only if it works
    settings: dict = field(default_factory=dict)  # of DataConfig

    @property
    def is_good(self):
        return self.says == WORKS if self.check is None else self.check


DAMAGED = "the file is damaged, cut off or no picture"
NO_IMAGE = "1 of 2 images have no image file: "

IMAGES = [
    Case(
        "truncated JPEG",
        image(cut(saved(lambda: photo((64, 64)))), "a.jpg"),
        "images/a.jpg (image file is truncated",
    ),
    Case("truncated PNG", image(cut(saved(lambda: photo((64, 64))))), "images/a.png ("),
    Case("JPEG with damaged bytes inside", image(damaged_in_the_middle, "a.jpg"), WORKS),
    Case("zero-byte image", image(raw(b"")), "images/a.png (cannot identify image file"),
    Case("web page saved as JPEG", image(raw(b"<html>404</html>"), "a.jpg"), DAMAGED),
    Case("SVG called PNG", image(raw(b'<svg xmlns="http://www.w3.org/2000/svg"/>')), DAMAGED),
    Case("EPS called PNG", image(raw(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")), DAMAGED),
    Case("a format that is not read, called PNG", image(saved(photo, format="PPM")), DAMAGED),
    Case("PNG called JPEG", image(saved(photo, format="PNG"), "a.jpg"), WORKS),
    Case(
        "16-bit grey PNG",
        image(saved(lambda: mask(1000, np.uint16))),
        "a.png has 16- or 32-bit grey values (Pillow mode I;16), whose range is not known",
    ),
    Case(
        "32-bit float TIFF",
        image(saved(lambda: mask(0.5, np.float32)), "a.tif"),
        "a.tif has float grey values (Pillow mode F)",
    ),
    Case("16-bit RGB PNG", image(raw(DEEP_RGB)), WORKS),
    Case("CMYK JPEG", image(saved(lambda: photo().convert("CMYK")), "a.jpg"), WORKS),
    Case("grey image", image(saved(lambda: photo().convert("L"))), WORKS),
    Case("palette image", image(saved(lambda: photo().quantize(4))), WORKS),
    Case("image with transparency", image(saved(lambda: photo().convert("RGBA"))), WORKS),
    Case("black and white image", image(saved(lambda: photo().convert("1"))), WORKS),
    Case(
        "turned by EXIF, mask upright",
        image(saved(lambda: photo((HEIGHT, WIDTH)), exif=EXIF_TURNED), "a.jpg"),
        WORKS,
    ),
    Case(
        "turned by EXIF, mask is not",
        image(saved(photo, exif=EXIF_TURNED), "a.jpg"),
        "one is turned by 90 degrees",
    ),
    Case("nonsense in EXIF", image(saved(photo, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), "a.jpg"), WORKS),
    Case(
        "animated GIF called PNG",
        image(saved(photo, format="GIF", save_all=True, append_images=[mask().convert("RGB")])),
        "a.png holds 2 pictures in one file",
    ),
    Case(
        "animated GIF",
        image(saved(photo, save_all=True, append_images=[mask().convert("RGB")]), "a.gif"),
        f"{NO_IMAGE}a",
        check=False,
    ),
    Case(
        "animated PNG",
        image(saved(photo, save_all=True, append_images=[mask().convert("RGB")])),
        "a.png holds 2 pictures in one file",
    ),
    Case(
        "TIFF of three pages",
        image(saved(photo, save_all=True, append_images=[photo(), photo()]), "a.tif"),
        "a.tif holds 3 pictures in one file",
    ),
    Case(
        "JPEG with a preview behind it",
        image(saved(photo, format="MPO", save_all=True, append_images=[photo((6, 4))]), "a.jpg"),
        WORKS,
    ),
    Case("WebP", image(saved(photo, lossless=True), "a.webp"), WORKS),
    Case(
        "decompression bomb",
        image(raw(BOMB)),
        "a.png has more than 178 million pixels, which may take all memory",
    ),
    Case(
        "image of one pixel",
        both(image(saved(lambda: photo((1, 1)))), labels(saved(lambda: mask().crop((0, 0, 1, 1))))),
        WORKS,
    ),
    Case("folder called a.png", image(lambda path: path.mkdir()), f"{NO_IMAGE}a"),
    Case("pipe called a.png", image(os.mkfifo), "images/a.png (it is a folder or a device)"),
    Case("link to itself", image(link("a.png")), f"{NO_IMAGE}a, e.g. "),
    Case("link that leads nowhere", image(link("nowhere.png")), f"{NO_IMAGE}a, e.g. "),
    Case("circle of linked folders", circle, WORKS),
    Case("linked folder", far_away, WORKS),
    Case(
        "spaces and letters of many scripts",
        renamed("\u4e2d\u6587 \u00fc\u00df \U0001f600.png".encode()),
        WORKS,
    ),
    Case("one name, two Unicode forms", other_form, WORKS),
    Case("a space at the name's end", renamed(b"a .png"), WORKS),
    Case("name of 250 letters", renamed(b"x" * 246 + b".png"), WORKS),
    Case("name that is not UTF-8", renamed(b"\xff\xfe.png"), "has a name that no list can hold; rename it"),
    Case("line break in a name", renamed(b"a\nb.png"), "has a name that no list can hold; rename it"),
    Case("capital ending", both(image(saved(photo), "a.PNG"), labels(saved(mask), "a.PNG")), WORKS),
    Case(
        "two files of one id",
        lambda root: photo().save(root / "images" / "a.jpg"),
        "two files have the id 'a'",
    ),
    Case(
        "hidden files of another system", lambda root: (root / "images" / "._a.png").write_bytes(b"\0"), WORKS
    ),
]

MASKS = [
    Case(
        "label 254",
        labels(saved(lambda: mask(254))),
        "masks/a.png holds the label value 254 (first at row 0, column 6; 48 pixels); "
        "allowed are 0 to 1 and 255",
    ),
    Case(
        "label 70000",
        labels(saved(lambda: Image.fromarray(numbers(70000, np.int32))), "a.tif"),
        "masks/a.tif holds the label value 70000",
    ),
    Case(
        "label -1",
        labels(saved(lambda: Image.fromarray(numbers(-1, np.int32))), "a.tif"),
        "masks/a.tif holds the label value -1",
    ),
    Case(
        "mask of another size",
        labels(saved(lambda: mask().crop((0, 0, 11, 8)))),
        "images/a.png has 12x8 pixels, its mask",
    ),
    Case(
        "mask turned by 90 degrees",
        labels(saved(lambda: mask().transpose(Image.Transpose.ROTATE_90))),
        "one is turned by 90 degrees",
    ),
    Case(
        "RGB mask",
        labels(saved(lambda: mask().convert("RGB"))),
        "masks/a.png has colours (Pillow mode RGB); a mask needs one channel",
    ),
    Case(
        "RGBA mask",
        labels(saved(lambda: mask().convert("RGBA"))),
        "masks/a.png has colours (Pillow mode RGBA)",
    ),
    Case(
        "grey mask with transparency",
        labels(saved(lambda: mask().convert("LA"))),
        "masks/a.png has transparency (Pillow mode LA)",
    ),
    Case(
        "float mask",
        labels(saved(lambda: mask(1, np.float32)), "a.tif"),
        "masks/a.tif has float values (Pillow mode F)",
    ),
    Case(
        "JPEG mask",
        labels(saved(mask), "a.jpg"),
        "masks/a.jpg is a JPEG, whose compression changes label values",
    ),
    Case(
        "JPEG mask called PNG",
        labels(saved(mask, format="JPEG")),
        "masks/a.png is a JPEG, whose compression changes label values; make it anew as PNG",
    ),
    Case(
        "TIFF mask packed as JPEG",
        labels(saved(mask, compression="jpeg"), "a.tif"),
        "masks/a.tif is a JPEG, whose compression changes label values",
    ),
    Case("PNG mask called JPEG", labels(saved(mask, format="PNG"), "a.jpg"), WORKS),
    Case("palette mask, any colours", labels(saved(lambda: painted([(9, 9, 9), (200, 0, 0)]))), WORKS),
    Case("16-bit mask", labels(saved(lambda: mask(1, np.uint16))), WORKS),
    Case("1-bit mask", labels(saved(lambda: Image.fromarray(numbers() > 0))), WORKS),
    Case(
        "animated mask",
        labels(saved(mask, save_all=True, append_images=[mask(0)])),
        "masks/a.png holds 2 pictures in one file",
    ),
    Case("zero-byte mask", labels(raw(b"")), "cannot read the mask"),
    Case("truncated mask", labels(cut(saved(lambda: photo((64, 64)).convert("L")))), "cannot read the mask"),
    Case("mask bomb", labels(raw(BOMB)), "the mask"),
    Case(
        "no mask for a labelled image",
        away("masks/a.png"),
        "1 of 2 images have no mask file: a; add the masks, or move these images to the unlabelled list",
    ),
    Case("mask named after the whole image name", labels(saved(mask), "a.jpg.png"), WORKS),
    Case("mask without an image", lambda root: mask().save(root / "masks" / "z.png"), WORKS),
    Case(
        "mask in which all is ignored",
        labels(saved(lambda: Image.fromarray(np.full((HEIGHT, WIDTH), 255, np.uint8)))),
        WORKS,
    ),
    Case(
        "masks of 0 and 255",
        lambda root: [mask(255).save(root / "masks" / f"{n}.png") for n in "abc"],
        WORKS,
        check=False,
    ),
    Case(
        "a damaged mask that no list needs",
        lambda root: (root / "masks" / "d.png").write_bytes(b"damaged"),
        "cannot read the mask",
    ),
]

LISTS = [
    Case("CRLF", labelled("a\r\nb\r\n"), WORKS),
    Case(
        "one list in two spellings",
        text_file("labeled.txt", "a\n"),
        "labeled.txt are one list in two spellings; keep one of them",
    ),
    Case("byte-order mark", labelled(b"\xef\xbb\xbfa\nb\n"), WORKS),
    Case("no last newline", labelled("a\nb"), WORKS),
    Case("old line ends, blank lines, spaces", labelled("\r\r  a \r\tb\r\r"), WORKS),
    Case(
        "pairs of paths with spaces in them",
        labelled("my images/a.png my masks/a.png\nimages/b.png\tmasks/b.png\n"),
        WORKS,
    ),
    Case("paths of another machine", labelled("C:\\data\\images\\a.png\n/home/x/b.png\n"), WORKS),
    Case(
        "an image twice",
        labelled("a\nimages/a.png\n"),
        "labelled.txt names a more than once; keep one line for each image",
    ),
    Case("an empty list", labelled(""), "labelled.txt is empty; it must name at least one image"),
    Case("a list of blank lines", labelled(b"\xef\xbb\xbf\n \r\n"), "labelled.txt is empty"),
    Case(
        "an image that is not there",
        labelled("a\nzebra\n"),
        f"{NO_IMAGE}zebra; check the list and the data root",
    ),
    Case("path traversal", labelled("a\n../../../etc/passwd\n"), f"{NO_IMAGE}passwd; check the list"),
    Case("path to another file of the machine", labelled("a\n/etc/hostname\n"), f"{NO_IMAGE}hostname"),
    Case(
        "a line that names a folder",
        labelled("a\nimages/\n"),
        "labelled.txt names no image in line 2: 'images/'",
    ),
    Case("a comment", labelled("# mine\na\n"), f"{NO_IMAGE}# mine"),
    Case(
        "a picture in place of a list",
        in_place_of("labelled.txt", saved(photo, format="PNG")),
        "labelled.txt: it is not UTF-8 text",
    ),
    Case("UTF-16", labelled("a\nb\n".encode("utf-16")), "labelled.txt: it is not UTF-8 text"),
    Case(
        "UTF-16 without a mark",
        labelled("a\nb\n".encode("utf-16-le")),
        "labelled.txt: it holds zero bytes and is no text",
    ),
    Case("Latin-1", labelled("gr\u00fcn\n".encode("latin-1")), "labelled.txt: it is not UTF-8 text"),
    Case("a line of a million letters", labelled("a\n" + "x" * 10**6), "has 1000000 characters in line 2"),
    Case(
        "a folder in place of a list",
        in_place_of("labelled.txt", lambda path: path.mkdir()),
        "labelled.txt: it is a folder or a device",
    ),
    Case(
        "a pipe in place of a list",
        in_place_of("labelled.txt", os.mkfifo),
        "labelled.txt: it is a folder or a device",
    ),
    Case(
        "a list that links to itself",
        lambda root: (root / "own.txt").symlink_to("own.txt"),
        "Too many levels of symbolic links",
        check=True,
        settings=dict(labelled="{root}/own.txt"),
    ),
    Case(
        "an endless device as a list",
        lambda root: None,
        "/dev/zero: it is a folder or a device",
        check=True,
        settings=dict(labelled="/dev/zero"),
    ),
    Case(
        "labelled and unlabelled",
        labelled("a\nb\nd\n"),
        "1 image is in both the labelled and the unlabelled list: d; take it out of one list",
        check=False,
    ),
    Case(
        "labelled and scored",
        labelled("a\nc\n"),
        "1 image is in both the labelled and the val list: c",
        check=False,
    ),
    Case("overlap that is meant", labelled("a\nc\n"), WORKS, check=False, settings=dict(allow_overlap=True)),
]

LAYOUTS = [
    Case(
        "no classes.txt",
        away("classes.txt"),
        "classes.txt (No such file or directory); write one class name a line, the first is class 0",
    ),
    Case(
        "classes.txt of one class",
        classes("thing\n"),
        "classes.txt names 1 class; it must name 2 to 255",
    ),
    Case(
        "classes.txt with a class twice",
        classes("sky\nroad\nsky\n"),
        "classes.txt names sky more than once; give each class a name of its own",
    ),
    Case(
        "classes.txt of 300 classes",
        classes("\n".join(map(str, range(300)))),
        "classes.txt names 300 classes",
    ),
    Case("classes.txt is no text", classes(b"\xff\xfe\0"), "classes.txt (it is not UTF-8 text); write one"),
    Case("classes.txt with CRLF and a mark", classes(b"\xef\xbb\xbfbackground\r\nthing\r\n"), WORKS),
    Case(
        "no folder of images",
        lambda root: (root / "images").rename(root / "pictures"),
        "has no folder images/",
        check=False,
    ),
    Case("a file in place of images/", file_for_folder, "has no folder images/"),
    Case(
        "empty folder of images",
        both(empty_folder("images"), away("*led.txt", "val.txt")),
        "the labelled list of folder is empty",
        check=False,
    ),
    Case(
        "no masks at all",
        both(empty_folder("masks"), away("*led.txt", "val.txt")),
        "the labelled list of folder is empty; it needs at least one image with a mask",
        check=False,
    ),
    Case(
        "VOC: nothing there",
        lambda root: (root / "VOCdevkit").rename(root / "x"),
        "no VOC 2012 in",
        base="voc",
        check=False,
    ),
    Case(
        "VOC: palette in another order",
        voc_path("SegmentationClass/2007_000001.png")(saved(lambda: painted([(0, 0, 0), (192, 128, 128)]))),
        "2007_000001.png shows the number 1 in the colour of class 15: its palette is in another order",
        base="voc",
    ),
    Case(
        "VOC: no list of training images",
        away("VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"),
        "train.txt: No such file or directory",
        base="voc",
        check=False,
    ),
    Case(
        "SBD: damaged mask",
        voc_path("SBD/cls/2008_000003.mat")(raw(b"MATLAB 5.0")),
        "expected a MATLAB file of SBD's folder",
        base="voc",
    ),
    Case(
        "SBD: another MATLAB file",
        voc_path("SBD/cls/2008_000003.mat")(lambda path: sbd_mask(path, "GTinst")),
        "('GTcls'); expected a MATLAB file",
        base="voc",
    ),
    Case(
        "SBD: a MATLAB 7.3 file",
        voc_path("SBD/cls/2008_000003.mat")(
            raw(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + b"\x89HDF\r\n\x1a\n")
        ),
        "expected a MATLAB file of SBD's folder",
        base="voc",
    ),
    Case(
        "Cityscapes: no list",
        lambda root: None,
        "cityscapes needs a list of the labelled images",
        base="cityscapes",
    ),
    Case(
        "Cityscapes: unknown label id",
        lambda root: mask(77).save(next(root.glob("gtFine/train/ulm/*1_000019_gtFine_labelIds.png"))),
        "holds the label value 77, which the label map does not know",
        base="cityscapes",
        settings=dict(labelled="{root}/labelled.txt"),
    ),
    Case(
        "Cityscapes: labelled image without labels",
        away("gtFine/train/ulm/*1_000019_gtFine_labelIds.png"),
        "1 of 1 images have no mask file: ulm_000001_000019",
        base="cityscapes",
        settings=dict(labelled="{root}/labelled.txt"),
    ),
]

NAMED = [
    Case(
        "a named pair",
        pair("u2pl/2", labeled="a\nb\n", unlabeled="d\n"),
        WORKS,
        settings=dict(lists="u2pl/2"),
    ),
    Case(
        "a named pair that is not there",
        lambda root: None,
        "splits/u2pl/9 (see data/README.md), or draw our own with --data.lists make",
        check=True,
        settings=dict(lists="u2pl/9"),
    ),
    Case(
        "half of a named pair",
        pair("u2pl/2", labeled="a\nb\n"),
        "put that project's labeled.txt and unlabeled.txt in",
        check=True,
        settings=dict(lists="u2pl/2"),
    ),
    Case(
        "a named pair outside",
        lambda root: None,
        "data.lists is '../u2pl/2'; allowed: make, or the FAMILY/NAME",
        check=True,
        settings=dict(lists="../u2pl/2"),
    ),
    Case(
        "a named pair that leaks",
        pair("u2pl/2", labeled="a\nb\n", unlabeled="b\nd\n"),
        "1 image is in both the labelled and the unlabelled list: b",
        check=True,
        settings=dict(lists="u2pl/2"),
    ),
    Case("a draw", lambda root: None, WORKS, settings=dict(lists="make", num_labelled=2)),
    Case(
        "a draw of none",
        lambda root: None,
        "data.num_labelled is 0; it must be from 1 to 2",
        check=True,
        settings=dict(lists="make", num_labelled=0),
    ),
    Case(
        "a draw of too many",
        lambda root: None,
        "data.num_labelled is 3; it must be from 1 to 2, the number of training images with a mask",
        check=True,
        settings=dict(lists="make", num_labelled=3),
    ),
    Case(
        "a draw from a bad mask",
        labels(saved(lambda: mask(254))),
        "holds the label value 254",
        settings=dict(lists="make", num_labelled=1),
    ),
]

CASES = IMAGES + MASKS + LISTS + LAYOUTS + NAMED


def make(case, root):
    "Write a case to the folder `root`."
    root.mkdir(parents=True, exist_ok=True)
    BASES[case.base](root)
    case.break_it(root)


def main(args):
    if len(args) != 1:
        sys.exit(__doc__)
    for number, case in enumerate(CASES, 1):
        make(case, Path(args[0]) / f"{number:03}")
        print(f"{number:03}  {case.base:10}  {case.name:45}  {case.says}")


if __name__ == "__main__":
    main(sys.argv[1:])
