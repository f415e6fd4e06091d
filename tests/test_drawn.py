"Masks that were drawn in CVAT or label-studio: what is read, what is refused, and that nothing is lost."

import json
import random
import zipfile

import numpy as np
import pytest
from fuzz_files import change_bytes, change_value
from PIL import Image

from dgcl_nb.core import IGNORE_INDEX, InputError
from dgcl_nb.data import __main__ as command
from dgcl_nb.data.drawn import write_masks
from dgcl_nb.data.sets import DataConfig, open_data

NAMES = ("background", "scratch", "dent")
COLOURS = dict(background=(0, 0, 0), scratch=(200, 0, 0), dent=(0, 0, 200))
LABELMAP = "# label:color_rgb:parts:actions\n" + "".join(
    f"{name}:{','.join(map(str, colour))}::\n" for name, colour in COLOURS.items()
)
SIZE = (6, 8)


@pytest.fixture
def root(tmp_path):
    "A folder with four photographs and class names, and no mask."
    place = tmp_path / "plates"
    (place / "images").mkdir(parents=True)
    for name in "abcd":
        Image.new("RGB", SIZE[::-1], (90, 90, 90)).save(place / "images" / f"{name}.jpg")
    (place / "classes.txt").write_text("\n".join(NAMES))
    return place


def picture(*colours):
    "Columns of colours, of the photographs' size."
    columns = np.array([COLOURS.get(c, c) for c in colours], np.uint8)
    return np.repeat(columns[np.arange(SIZE[1]) * len(colours) // SIZE[1]][None], SIZE[0], 0)


def cvat(tmp_path, pictures, labelmap=LABELMAP, folder="SegmentationClass"):
    "A folder as CVAT's archive unpacks."
    place = tmp_path / "task"
    (place / folder).mkdir(parents=True, exist_ok=True)
    (place / "labelmap.txt").write_text(labelmap)
    for name, pixels in pictures.items():
        path = place / folder / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    return place


def packed(tmp_path, place):
    "The same as a ZIP file."
    path = tmp_path / "task.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(place.rglob("*")):
            archive.write(file, file.relative_to(place))
    return path


def polygon(name, **other):
    "The left half, as label-studio exports it."
    points = [[0, 0], [50, 0], [50, 100], [0, 100]]
    value = dict(points=points, closed=True, polygonlabels=[name])
    found = dict(type="polygonlabels", original_width=SIZE[1], original_height=SIZE[0], image_rotation=0)
    return found | dict(value=value) | other


def label_studio(tmp_path, *tasks):
    "An export in the format JSON: of (image, results) each."
    path = tmp_path / "project.json"
    content = [
        dict(
            id=i, data=dict(image=f"/data/upload/1/0123abcd-{image}.jpg"), annotations=[dict(result=results)]
        )
        for i, (image, results) in enumerate(tasks)
    ]
    path.write_text(json.dumps(content))
    return path


def mask(root, name):
    return np.array(Image.open(root / "masks" / f"{name}.png"))


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_cvat__in_a_folder_and_packed(root, tmp_path, kind):
    place = cvat(
        tmp_path, dict(a=picture("background", "dent"), b=picture("scratch"), c=picture("background"))
    )
    written = write_masks(place if kind == "folder" else packed(tmp_path, place), root)
    assert sorted(written.masks) == ["a", "b"] and written.nothing == ["c"]
    assert np.unique(mask(root, "a")).tolist() == [2, IGNORE_INDEX] and (mask(root, "b") == 1).all()
    assert "25.0%" in str(written) and "--rest CLASS" in str(written)
    data = open_data(DataConfig(name="folder", root=str(root)))
    assert len(data.labelled) == 1 and len(data.val) == 1 and len(data.unlabelled) == 2


def test_cvat__palette_pictures_and_subfolders(root, tmp_path):
    place = cvat(tmp_path, {"sub/a": picture("scratch", "dent")})
    path = place / "SegmentationClass" / "sub" / "a.png"
    Image.open(path).quantize(8).save(path)
    assert Image.open(path).mode == "P"
    write_masks(place, root)
    assert np.unique(mask(root, "a")).tolist() == [1, 2]


@pytest.mark.parametrize(
    "labelmap, said",
    [
        (LABELMAP.replace("dent", "dnt"), "dent"),
        (LABELMAP.replace("0,0,200", "0,0,201"), r"\(0, 0, 200\)"),
        (LABELMAP.replace("0,0,200", "200,0,0"), "one colour"),
        (LABELMAP.replace("0,0,200", "0,0,2000"), "name:red,green,blue"),
        (LABELMAP.replace("0,0,200", "0,0,999"), "name:red,green,blue"),
        ("no map", "name:red,green,blue"),
    ],
)
def test_labelmap__that_is_wrong(root, tmp_path, labelmap, said):
    place = cvat(tmp_path, dict(b=picture("scratch"), a=picture("dent", "scratch")), labelmap)
    with pytest.raises(InputError, match=said):
        write_masks(place, root)
    assert not list((root / "masks").iterdir())  # of b neither


def test_cvat__label_with_a_colon(root, tmp_path):
    (root / "classes.txt").write_text("steel: plain\nscratch\ndent")
    labelmap = LABELMAP.replace("background", "steel: plain").replace("0,0,0", "1,1,1")
    write_masks(cvat(tmp_path, dict(a=picture((1, 1, 1), "dent")), labelmap), root)
    assert np.unique(mask(root, "a")).tolist() == [0, 2]


def test_zip__that_is_none_of_cvats(root, tmp_path):
    path = tmp_path / "task.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("annotations.xml", "<annotations/>")
    with pytest.raises(InputError, match="Segmentation mask 1.1"):
        write_masks(path, root)


def test_zip__stays_in_its_folder(root, tmp_path):
    path = packed(tmp_path, cvat(tmp_path, dict(a=picture("dent"))))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../stray.png", b"no picture")
        archive.writestr("/stray.png", b"no picture")
    write_masks(path, root)
    assert not [p for p in tmp_path.rglob("stray.png")] and (mask(root, "a") == 2).all()


def test_zip__that_is_cut_off(root, tmp_path):
    path = packed(tmp_path, cvat(tmp_path, dict(a=picture("dent"), b=picture("scratch"))))
    whole = bytearray(path.read_bytes())
    whole[70:120] = bytes(50)
    path.write_bytes(whole)
    with pytest.raises(InputError, match="task.zip|no label map|0 label maps"):
        write_masks(path, root)


def test_label_studio__names_and_newest(root, tmp_path):
    path = label_studio(tmp_path, ("a", [polygon("scratch")]), ("b", []))
    tasks = json.loads(path.read_text())
    tasks[0]["annotations"] = [
        dict(result=[polygon("dent")], updated_at="2026-02-01T10:00:00Z"),
        dict(result=[polygon("scratch")], updated_at="2026-01-01T10:00:00Z"),
        dict(result=[polygon("scratch")], updated_at="2026-03-01T10:00:00Z", was_cancelled=True),
    ]
    path.write_text(json.dumps(tasks))
    written = write_masks(path, root, rest="background")
    assert mask(root, "a").tolist() == 6 * [4 * [2] + 4 * [0]] and written.nothing == ["b"]
    assert "background now" in str(written)


@pytest.mark.parametrize(
    "result, said",
    [
        (polygon("dnt"), "dent"),
        (polygon("dent", image_rotation=90), "turn the image back"),
        (polygon("dent", original_width=9), "drawn on 9x6 pixels"),
        (polygon("dent", original_width=10**9, original_height=10**9), "drawn on 1000000000x1000000000"),
        (polygon("dent", type="ellipselabels"), "ellipselabels"),
        (polygon("dent", value=dict(points=[[0, 0], [1, 1], [2, 1e999]], polygonlabels=["dent"])), "JSON"),
        (polygon("dent", value=dict(points=[[0, 0], [1, 1]], polygonlabels=["dent"])), "three corners"),
        (polygon("dent", value=dict(points=3, polygonlabels=["dent"])), "points"),
        (polygon("dent", value=dict(points=[], polygonlabels=["dent", "scratch"])), "several"),
        (polygon("dent", value=[]), "'value'"),
        (polygon("dent", original_height=-1), "original_height"),
        (polygon("dent", type="brushlabels", value=dict(rle=[1, 2], brushlabels=["dent"])), "too early"),
        (polygon("dent", type="brushlabels", value=dict(rle=[255] * 99, brushlabels=["dent"])), "values"),
    ],
)
def test_label_studio__that_is_wrong(root, tmp_path, result, said):
    path = label_studio(tmp_path, ("b", [polygon("scratch")]), ("a", [result]))
    with pytest.raises(InputError, match=said):
        write_masks(path, root)
    assert not list((root / "masks").iterdir()) and not list(root.glob(".drawn*"))


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "cannot read"),
        ("{}", "no list of tasks"),
        ("[1]", "no list of tasks"),
        ('[{"id": 1}]', "no data"),
        ('[{"data": {"image": "a.jpg"}}]', "JSON-MIN"),
        ('[{"data": {"image": "a.jpg", "mask": "b.png"}, "annotations": []}]', "names 2 pictures"),
        ("[" * 100_000, "cannot read"),
        ('[{"data": {"image": "a.jpg"}, "annotations": [{"result": [7, {"type": []}]}]}]', "no drawing"),
    ],
)
def test_label_studio__no_export(root, tmp_path, text, said):
    path = tmp_path / "project.json"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        write_masks(path, root)


def test_masks__that_are_there_stay(root, tmp_path):
    (root / "masks" / "old").mkdir(parents=True)
    there = root / "masks" / "old" / "a.png"
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(there)
    place = cvat(tmp_path, dict(a=picture("dent"), b=picture("scratch")))
    with pytest.raises(InputError, match="--existing overwrite"):
        write_masks(place, root)
    assert not np.array(Image.open(there)).any() and not (root / "masks" / "b.png").exists()
    write_masks(place, root, existing="overwrite")
    assert (np.array(Image.open(there)) == 2).all() and not (root / "masks" / "a.png").exists()
    there.rename(there.with_suffix(".tif"))
    with pytest.raises(InputError, match="is no PNG"):
        write_masks(place, root, existing="overwrite")


def test_images__that_the_folder_lacks(root, tmp_path):
    with pytest.raises(InputError, match="copy it there"):
        write_masks(cvat(tmp_path, dict(z=picture("dent"))), root)
    with pytest.raises(InputError, match="does not exist"):
        write_masks(tmp_path / "nothing.zip", root)
    with pytest.raises(InputError, match="has no folder images/"):
        write_masks(cvat(tmp_path, {}), tmp_path)


def test_masks__is_a_file(root, tmp_path):
    (root / "masks").write_text("")
    with pytest.raises(InputError, match="cannot write masks into"):
        write_masks(cvat(tmp_path, dict(a=picture("dent"))), root)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_exports__are_read_or_are_a_sentence(root, tmp_path, seed):
    rng = random.Random(seed)
    box = dict(x=1, y=2, width=50, height=30, rotation=12, rectanglelabels=["scratch"])
    results = [polygon("dent"), polygon("scratch", type="rectanglelabels", value=box)]
    project = label_studio(tmp_path, ("a", results), ("b", []))
    archive = packed(tmp_path, cvat(tmp_path, dict(a=picture("background", "dent"), b=picture("scratch"))))
    export = rng.choice([project, archive])
    if export == project and rng.random() < 0.7:
        export.write_text(json.dumps(change_value(json.loads(export.read_text()), rng)))
    else:
        export.write_bytes(change_bytes(export.read_bytes(), rng))
    try:
        assert write_masks(export, root).masks
    except InputError as e:
        assert str(e)
    assert not list(root.glob(".drawn*"))


def test_command(root, tmp_path, capsys):
    path = label_studio(tmp_path, *((name, [polygon("dent")]) for name in "abcd"))
    with pytest.raises(SystemExit) as ended:
        command.main(["masks", str(path), str(root), "--rest", "background"])
    said = capsys.readouterr().out
    assert ended.value.code == 0 and "4 masks written (pixels: nobody drew 50.0%, dent 50.0%)" in said
    assert f"data check {root}" in said
    with pytest.raises(SystemExit) as ended:
        command.main(["masks", str(path), str(root)])
    assert ended.value.code == 2 and "--existing overwrite" in capsys.readouterr().err
