"The commands of python -m dgcl_nb.data: what they print, what they write, how they end."

import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers import ROOT, clean_environment, tiny_run
from make_bad_data import cityscapes, folder, photo, voc
from PIL import Image

from dgcl_nb.core import InputError
from dgcl_nb.data import __main__ as command
from dgcl_nb.data import published
from dgcl_nb.data.check import check_data
from dgcl_nb.data.sets import LAYOUTS
from dgcl_nb.data.splits import read_list, write_list
from dgcl_nb.engine import fit


@pytest.fixture
def run(capsys):
    "Call the command in this process: (exit status, what it printed, what it complained of)."

    def call(*args):
        with pytest.raises(SystemExit) as ended:
            command.main(list(map(str, args)))
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return call


@pytest.fixture
def numbers_ought_to_be(monkeypatch):
    "Let a small data set be whole: other numbers are known of it."

    def set_numbers(name, **known):
        known = {what.replace("_", " "): number for what, number in known.items()}
        monkeypatch.setitem(LAYOUTS, name, replace(LAYOUTS[name], known_numbers=known))

    return set_numbers


def test_command__in_a_process_of_its_own(tmp_path):
    folder(tmp_path)
    (tmp_path / "images" / "b.png").write_bytes(b"")
    call = [sys.executable, "-m", "dgcl_nb.data", "check", str(tmp_path)]
    place = dict(env=clean_environment(), cwd=ROOT / "tests")
    done = subprocess.run(call, capture_output=True, text=True, **place)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"cannot read the image {tmp_path}/images/b.png" in done.stdout


def test_check__a_healthy_folder(run, tmp_path):
    folder(tmp_path)
    status, out, err = run("check", tmp_path)
    assert (status, err) == (0, "") and "4 images, 3 with a mask" in out and "\nall is well\n" in out
    assert "1 different, from 12x8 to 12x8; most often 12x8 (4 images)" in out
    rows = [line.split() for line in out.splitlines()]
    assert ["0", "background", "3", "50.000"] in rows and ["1", "thing", "3", "50.000"] in rows
    assert ["255", "(ignored)", "0.000"] in rows


def test_check__says_which_class_is_background(run, tmp_path):
    folder(tmp_path / "own")
    assert "background: class 0 (background)" in run("check", tmp_path / "own")[1]
    (tmp_path / "own" / "classes.txt").write_text("road\nthing\n")
    assert "background: no class" in run("check", tmp_path / "own")[1]
    voc(tmp_path / "voc")
    assert "background: class 0 (background)" in run("check", tmp_path / "voc")[1]
    cityscapes(tmp_path / "streets")
    assert "background: no class" in run("check", tmp_path / "streets")[1]


def test_check__files_that_are_passed_over_are_said(run, tmp_path):
    folder(tmp_path)
    (tmp_path / "images" / "e.HEIC").write_bytes(b"")
    for name in "abc":
        Image.open(tmp_path / "masks" / f"{name}.png").save(tmp_path / "masks" / f"{name}.gif")
        (tmp_path / "masks" / f"{name}.png").unlink()
    status, out, _ = run("check", tmp_path)
    assert status == 1 and "MISSING  no image has a mask" in out
    assert "note     images/ holds files that are not read (.HEIC); read are .png, .jpg" in out
    assert "note     masks/ holds files that are not read (.gif); read are .png, .jpg" in out


def test_check__masks_of_0_and_255_in_a_folder_of_three_classes(run, tmp_path):
    folder(tmp_path)
    (tmp_path / "classes.txt").write_text("background\nthing\nother\n")
    for name in "abc":
        numbers = np.array(Image.open(tmp_path / "masks" / f"{name}.png"))
        Image.fromarray(numbers * np.uint8(255)).save(tmp_path / "masks" / f"{name}.png")
    status, out, _ = run("check", tmp_path)
    assert status == 1 and "all is well" not in out
    assert "MISSING  no mask shows any class but 0 (background), yet 50% of all pixels are 255" in out


def test_check__a_folder_that_cannot_be_opened_is_not_well(run, tmp_path):
    folder(tmp_path)
    for name in ("labelled.txt", "unlabelled.txt", "val.txt", "masks/b.png", "masks/c.png"):
        (tmp_path / name).unlink()
    status, out, _ = run("check", tmp_path)  # the one mask that is left is set aside for scoring
    assert status == 1 and "all is well" not in out
    assert "MISSING  the labelled list of folder is empty; it needs at least one image with a mask" in out


def test_make__few_masks_among_many_images(run, tmp_path):
    folder(tmp_path)
    for name in ("labelled.txt", "unlabelled.txt", "val.txt"):
        (tmp_path / name).unlink()
    for number in range(17):
        photo().save(tmp_path / "images" / f"more {number}.png")
    status, out, err = run("make", tmp_path)  # by itself: a sixteenth to a half of 20 images
    assert (status, err) == (0, "")
    assert "no list for --num_labelled 1/8 is 3 of 20 training images: 2 of them have a mask" in out
    lists = sorted(path.name for path in (tmp_path / "splits/own/seed0").iterdir())
    assert lists == ["2"] and f"--data.root {tmp_path} --data.lists own/seed0/2" in out
    shutil.rmtree(tmp_path / "splits")
    status, _, err = run("make", tmp_path, "--num_labelled", "1", "1/2")  # somebody asked
    assert status == 2 and "--num_labelled 1/2 is 10 of 20 training images, and 2 of them have a mask" in err
    assert not (tmp_path / "splits").exists()  # nothing is half done


def test_check__counts_are_of_all_pixels(tmp_path):
    folder(tmp_path)
    Image.fromarray(np.full((8, 12), 255, np.uint8)).save(tmp_path / "masks" / "a.png")
    photo((24, 8)).save(tmp_path / "images" / "d.png")
    health = check_data(tmp_path)
    assert (health.pixels.tolist(), health.images.tolist()) == ([96, 96, 96], [2, 2])
    assert health.sizes == {(12, 8): 3, (24, 8): 1} and health.is_good


def test_check__voc_numbers_and_sbd(run, tmp_path, numbers_ought_to_be):
    voc(tmp_path)
    status, out, _ = run("check", tmp_path)
    assert status == 1 and "MISSING  fine training images: 2, and not 1464" in out
    assert "MISSING  val images: 1, and not 1449" in out
    assert "MISSING  VOC with SBD has 10582 training images with a mask, here are 3" in out
    numbers_ought_to_be("voc", fine_training_images=2, val_images=1)
    (tmp_path / "VOCdevkit/VOC2012/SBD/cls/2008_000003.mat").unlink()
    status, out, _ = run("check", tmp_path)
    with_it = "with it, VOC has 10582 training images (python -m dgcl_nb.data download)"
    assert status == 0 and f"note     SBD is not there; {with_it}" in out


def test_check__cityscapes_numbers_and_label_files(run, tmp_path, numbers_ought_to_be):
    cityscapes(tmp_path)
    numbers_ought_to_be("cityscapes", training_images=2, val_images=1)
    assert run("check", tmp_path)[0] == 0
    next(tmp_path.glob("gtFine/train/ulm/*2_000019_gtFine_labelIds.png")).unlink()
    status, out, _ = run("check", tmp_path)
    assert status == 1 and "MISSING  no label file for 1 image: ulm_000002_000019" in out


def test_check__lists_are_read_and_named(run, tmp_path):
    folder(tmp_path)
    write_list(tmp_path / "splits/own/seed0/1/labelled.txt", ["a"])
    write_list(tmp_path / "splits/u2pl/2/labeled.txt", ["a", "d", "zebra"])
    (tmp_path / "splits/u2pl/2/unlabeled.txt").write_text("a\na\n")
    status, out, _ = run("check", tmp_path)
    assert status == 1 and "splits/own/seed0/1/labelled.txt: 1 image, not a published list" in out
    assert "labeled.txt: no image here for 1 name: zebra" in out
    assert "labeled.txt: no mask here for 2 names: d, zebra" in out
    assert "unlabeled.txt names a more than once" in out


def test_check__long_lists_of_faults_are_cut(run, tmp_path):
    folder(tmp_path)
    for name in "abcd":
        (tmp_path / "images" / f"{name}.png").write_bytes(b"")
    status, out, _ = run("check", tmp_path, "--show", 1)
    assert status == 1 and out.count("cannot read the image") == 1
    assert "… and 3 more (--show)" in out and "bad files: 4" in out


@pytest.mark.parametrize(
    "args, message",
    [
        (["check", "/nowhere"], "error: there is no folder /nowhere; name the folder of a data set"),
        (
            ["check", ROOT / "tests"],
            "is no data set that is known: expected VOCdevkit/VOC2012/ (voc), leftImg8bit/ (cityscapes), "
            "train/ and trainannot/ (camvid), images/training/ and annotations/training/ (neu_seg) "
            "or images/ (a folder of your own); see data/README.md",
        ),
        (["describe"], "error: no list is named; give one or more list files"),
        (["describe", "/nowhere.txt"], "error: cannot read the list /nowhere.txt: No such file or directory"),
        (["check", "{root}", "--show", "-1"], "error: --show is -1; allowed: 0 or more bad files"),
        (["make", "/nowhere"], "error: there is no folder /nowhere"),
        (
            ["make", "{root}", "--num-labelled", "most"],
            "error: 'most' is no number of images; write a number such as 92, or a share such as 1/16",
        ),
        (
            ["make", "{root}", "--num-labelled", "3"],
            "3 is 3 of 3 training images, and 2 of them have a mask; take numbers from 1 to 2",
        ),
        (["make", "{root}", "--name", "voc"], "error: no VOC 2012 in"),
    ],
)
def test_command__errors_are_one_sentence_and_status_2(run, tmp_path, args, message):
    folder(tmp_path)
    status, _, err = run(*(str(a).format(root=tmp_path) for a in args))
    assert status == 2 and message in err and len(err.splitlines()) == 1


def test_make__lists_are_nested_whole_and_not_overwritten(run, tmp_path):
    folder(tmp_path)
    status, out, _ = run("make", tmp_path, "--num-labelled", "1", "2", "--seed", "3")
    base = tmp_path / "splits/own/seed3"
    assert status == 0 and "--data.lists own/seed3/1" in out
    assert "own/seed3: drawn here, not comparable with published lists" in out
    one, two = read_list(base / "1/labelled.txt"), read_list(base / "2/labelled.txt")
    assert one == two[:1] and sorted(two) == ["a", "b"]
    assert read_list(base / "2/unlabelled.txt") == ["d"] and read_list(base / "2/val.txt") == ["c"]
    before = {p: p.read_bytes() for p in base.rglob("*.txt")}
    assert run("make", tmp_path, "--num-labelled", "1", "2", "--seed", "3")[0] == 0
    assert before == {p: p.read_bytes() for p in base.rglob("*.txt")} and len(before) == 6
    write_list(base / "1/labelled.txt", ["zebra"])
    status, _, err = run("make", tmp_path, "--num-labelled", "1", "--seed", "3")
    assert status == 2 and read_list(base / "1/labelled.txt") == ["zebra"]
    assert "labelled.txt is there and differs: the data has changed since it was drawn" in err


def test_make__shares_are_of_the_training_images(run, tmp_path):
    voc(tmp_path)
    status, _, _ = run("make", tmp_path, "--num-labelled", "1/3", "2/3")
    assert status == 0 and sorted(p.name for p in (tmp_path / "splits/own/seed0").iterdir()) == ["1", "2"]


def test_make__a_read_only_place_is_said(run, tmp_path, monkeypatch):
    def refuse(path, ids):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(command, "write_list", refuse)
    folder(tmp_path)
    status, _, err = run("make", tmp_path, "--num-labelled", "1")
    assert status == 2
    assert "labelled.txt: Read-only file system; free space, or correct the permissions" in err


def test_describe__counts_overlap_nestedness_and_fine_labels(run, tmp_path):
    few = write_list(tmp_path / "x/labeled.txt", "ab")
    more = write_list(tmp_path / "y/labeled.txt", "abcde")
    fine = write_list(tmp_path / "train.txt", "ace")
    status, out, _ = run("describe", few, more, "--fine", fine)
    nested = "2 in common (a, b), x/labeled.txt is nested in y/labeled.txt"
    assert status == 0 and f"x/labeled.txt, y/labeled.txt: {nested}" in out
    first, second, *_ = out.splitlines()
    assert first.startswith("x/labeled.txt ") and first.endswith("not a published list, 1 of 2 fine")
    assert second.endswith("3 of 5 fine")


def test_describe__a_leak(run, tmp_path):
    for kind, ids in dict(labeled="ab", unlabeled="bc").items():
        write_list(tmp_path / f"{kind}.txt", ids)
    status, out, _ = run("describe", tmp_path / "labeled.txt", tmp_path / "unlabeled.txt")
    assert status == 0 and "1 in common (b), not nested" in out
    assert "is a leak: training refuses such a pair" in out


def test_describe__says_which_class_is_background(run, tmp_path, monkeypatch):
    folder(tmp_path / "own")
    listed = write_list(tmp_path / "labeled.txt", "ab")
    assert "background: not known here (--root names the data set)" in run("describe", listed)[1]
    assert "background: class 0 (background)" in run("describe", listed, "--root", tmp_path / "own")[1]
    for family, said in {
        "VOC val, 1449": "class 0 (background) of VOC",
        "Cityscapes val, 500": "no class of Cityscapes",
    }.items():
        monkeypatch.setattr(published, "known_family", lambda ids, family=family: family)
        assert f"background: {said}" in run("describe", listed)[1]


def test_training__stops_at_a_bad_file_with_one_sentence(tmp_path):
    data = tmp_path / "data"
    folder(data)
    (data / "images" / "d.png").write_bytes((data / "images" / "a.png").read_bytes()[:90])
    own = dict(data__name="folder", data__root=str(data), data__num_labelled=250)
    small = dict(batch__labelled=1, batch__unlabelled=1, batch__workers=1)
    run = tiny_run("self_training", out=tmp_path / "run", **own, **small)
    with pytest.raises(InputError) as caught:
        fit(run, callbacks=[])
    said = str(caught.value)
    assert said.startswith(f"cannot read the image {data}/images/d.png") and "\n" not in said
