"From what is seen of a data set to settings for a first run: each rule, hostile data, odd files."

import json
import os
import stat
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from helpers import TINY, flags
from make_bad_data import folder
from PIL import Image
from sync_gate import ROOT

from dgcl_nb.config import METHODS, parse_run
from dgcl_nb.core import InputError
from dgcl_nb.data import __main__ as command
from dgcl_nb.data.check import check_data, what_was_seen
from dgcl_nb.data.proposal import (
    BUDGET,
    LARGEST_BATCH,
    SMALLEST_SCALE,
    Machine,
    Seen,
    choose_sizes,
    propose,
    seconds_of,
    side_of_most,
)
from dgcl_nb.sections import Line, write_section
from dgcl_nb.settings import preset_layers
from dgcl_nb.train import main as train

CPU, GPU = Machine(2), Machine(16, 80)


def seen(**changes):
    "A folder of 100 images of 200x200, three classes, ten of them labelled."
    usual = dict(
        name="folder",
        root="photos",
        class_names=("a", "b", "c"),
        background=None,
        sizes={(200, 200): 100},
        pixels=np.array([40, 30, 30, 0]),
        num_labelled=10,
        num_unlabelled=90,
        num_val=5,
    )
    return Seen(**usual | changes)


def values(machine=CPU, **changes):
    return {line.name: line.value for line in propose(seen(**changes), machine)}


THINGS = dict(background=0)
"What makes of the usual folder, a scene, things on a background."


def test_propose__every_line_has_a_reason_that_fits_in_one():
    for machine in (CPU, GPU):
        for line in propose(seen(), machine):
            assert line.reason and "\n" not in line.reason and line.reason.isprintable()


SIDES = [(16, 16), (40, 90), (64, 64), (480, 360), (2048, 1024), (20_000, 20_000)]
MACHINES = [Machine(1), Machine(64), Machine(4, 6), GPU]


@pytest.mark.parametrize(
    "size, machine", [(size, CPU) for size in SIDES] + [((200, 200), m) for m in MACHINES]
)
def test_propose__is_valid_for_every_size_and_machine(size, machine, tmp_path):
    write_section(tmp_path / "settings.ini", "auto", propose(seen(sizes={size: 100}), machine))
    run = parse_run(["--preset", "auto"], tmp_path)
    assert run.views.crop % 32 == 0 and (run.data.name, run.method) == ("folder", "dgcl")
    sizes = choose_sizes(seen(sizes={size: 100}), machine)
    assert sizes.crop <= max(32, min(size) * sizes.factor) and sizes.factor >= SMALLEST_SCALE
    assert 1 <= sizes.batch <= LARGEST_BATCH


@pytest.mark.parametrize("method", METHODS)
def test_propose__is_valid_for_every_method(method, tmp_path):
    write_section(tmp_path / "settings.ini", "auto", propose(seen(), CPU))
    assert parse_run(["--preset", "auto", "--method", method], tmp_path).method == method


@pytest.mark.parametrize(
    "sizes, side",
    [
        ({(30, 20): 1, (100, 100): 9}, 100),
        ({(30, 20): 2, (100, 100): 8}, 20),
        ({(30, 20): 1}, 20),
        ({(300, 20): 50, (20, 300): 50}, 20),
        (Counter({(k, 500): 1 for k in range(1, 101)}), 11),
    ],
)
def test_side_of_most__fits_nine_images_of_ten(sizes, side):
    assert side_of_most(sizes) == side


def test_crop_and_scale__large_images_are_shown_smaller():
    steel, streets = values(**THINGS), values(sizes={(480, 360): 100})
    assert (steel["views.crop"], steel["views.scale"]) == ("128", "0.64 1.56") and "eval.scales" not in steel
    assert (streets["views.crop"], streets["eval.scales"]) == ("160", "0.5")
    things = values(sizes={(480, 360): 100}, **THINGS)
    low, high = map(float, things["views.scale"].split())
    assert things["views.crop"] == "128"
    assert low < 0.5 < high and 360 * low >= 127, "the smallest view still fills the crop"
    assert "eval.scales" not in values(GPU, sizes={(480, 360): 100})
    assert values(sizes={(64, 64): 100})["views.scale"] == "0.8 1.25"


def test_batch__no_more_than_there_are():
    few = values(num_labelled=1, num_unlabelled=2)
    assert (few["batch.labelled"], few["batch.unlabelled"]) == ("1", "2")
    assert values()["batch.labelled"] == "4" and values(GPU)["batch.labelled"] == "8"


def test_method__nothing_to_label_is_supervised(tmp_path):
    lines = propose(seen(num_unlabelled=0), CPU)
    write_section(tmp_path / "settings.ini", "auto", lines)
    run = parse_run(["--preset", "auto"], tmp_path)
    assert (run.method, run.batch.unlabelled) == ("supervised", 0)


def test_flip__names_of_sides():
    assert values()["views.flip"] == "True"
    assert values(class_names=("x", "left_lung", "Right Lung"))["views.flip"] == "False"
    assert values(class_names=("bright", "cleft", "upright"))["views.flip"] == "True"


@pytest.mark.parametrize(
    "pixels, named, background",
    [
        ([40, 30, 30, 0], None, "none"),
        ([71, 20, 9, 0], None, "0"),
        ([71, 20, 9, 200], None, "0"),  # ignored pixels are no share
        ([9, 20, 71, 0], None, "none"),  # another class of that share is a thing
        ([1, 50, 49, 0], 0, "0"),
    ],
)
def test_background__called_so_or_most_of_all(pixels, named, background):
    assert values(pixels=np.array(pixels), background=named)["data.background"] == background


@pytest.mark.parametrize(
    "pixels, per_class", [([100, 10, 10, 0], "False"), ([101, 10, 10, 0], "True"), ([9, 9, 0, 0], "False")]
)
def test_filter__by_class_where_shares_differ_by_ten(pixels, per_class):
    got = values(pixels=np.array(pixels))
    assert got["semi.filter.per_class"] == got["dgcl.contrast_filter.per_class"] == per_class


def test_steps__epochs_within_the_budget():
    few = int(values(num_labelled=4)["steps"])  # a hundred passes over four images would be a hundred steps
    assert 1400 < few <= 1500
    for changes in (dict(num_labelled=5000), dict(num_val=10**6), dict(sizes={(64, 64): 9}, num_val=10**5)):
        step, score = seconds_of(seen(**changes), choose_sizes(seen(**changes), CPU), CPU)
        got = values(**changes)
        took = int(got["steps"]) * step + int(got["loop.evaluations"]) * score
        assert took <= BUDGET or got["steps"] == "200"
    assert values(GPU, num_labelled=5000)["steps"] == "40000"
    assert values(GPU, num_labelled=5000)["semi.ema_decay"] == "0.999"


def test_rate__small_sets_learn_slower():
    rates = [values(num_labelled=num, **THINGS)["optim.lr"] for num in (499, 500)]
    assert rates == ["0.001", "0.003"]
    assert [values(num_labelled=num)["optim.lr"] for num in (499, 500)] == ["0.002", "0.003"]


def test_stride__finer_for_small_crops():
    assert values()["model.output_stride"] == "16"
    assert values(sizes={(64, 64): 100})["model.output_stride"] == "8"


def test_colours__none_where_all_is_grey():
    grey = values(num_grey=100)
    assert grey["views.hue"] == grey["views.grey_prob"] == "0" and grey["views.brightness"] == "0.25"
    assert values(num_grey=99)["views.hue"] == "0.1"
    assert "views.hue" not in values(num_grey=99, **THINGS)
    assert values(num_grey=100, **THINGS)["views.hue"] == "0"


def test_scene__what_a_search_on_streets_found():
    "Where no class is background; each line once, and what things on a background do not get."
    names = [line.name for line in propose(seen(), CPU)]
    assert len(names) == len(set(names))
    scene, things = values(), values(**THINGS)
    assert (scene["sup.ohem"], scene["sup.ohem_min_kept"]) == ("True", "8500")
    assert "sup.ohem" not in things and "semi.filter.drop_floor" not in things
    assert (scene["dgcl.contrast_view"], things["dgcl.contrast_view"]) == ("mixed", "clean")
    assert int(values(num_labelled=1)["sup.ohem_min_kept"]) == pytest.approx(160**2 / 12, rel=0.03)


def test_scene__a_run_within_the_budget():
    step, score = seconds_of(seen(), choose_sizes(seen(), CPU), CPU)
    things = seen(**THINGS)
    slower, _ = seconds_of(things, choose_sizes(things, CPU), CPU)
    assert 0.1 < step < slower < 1
    got = values(num_labelled=46)
    assert int(got["steps"]) * step + int(got["loop.evaluations"]) * score <= BUDGET


@pytest.mark.parametrize(
    "changes, said",
    [
        (dict(num_labelled=0), "takes a labelled and a scored image"),
        (dict(num_val=0), "takes a labelled and a scored image"),
        (dict(sizes={}), "no training image can be read"),
        (dict(pixels=np.array([5, 0, 0, 9])), "show 1 of 3 classes"),
        (dict(pixels=np.zeros(4)), "show 0 of 3 classes"),
        (dict(sizes={(2, 2): 9}), "sides of 2 pixels or less"),
        (dict(sizes={(10_000, 3): 9}), "sides of 3 pixels or less"),
    ],
)
def test_propose__refuses_what_it_cannot_know(changes, said):
    with pytest.raises(InputError, match=said):
        propose(seen(**changes), CPU)


# From a folder to a file


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def check(capsys):
    "`data check` in this process: (exit status, what it printed, what it complained of)."

    def call(*args):
        with pytest.raises(SystemExit) as ended:
            command.main(["check", *map(str, args)])
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return call


def photos(root, num=12, masked=8, size=(96, 80)):
    "Photographs of two classes, some with masks."
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    (root / "classes.txt").write_text("paper\nink\n")
    rng = np.random.default_rng(0)
    for i in range(num):
        pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{i}.png")
        if i < masked:
            Image.fromarray((pixels[..., 0] > 128).astype(np.uint8)).save(root / "masks" / f"{i}.png")


def test_what_was_seen__masks_of_val_are_not_looked_at(here):
    photos(here / "own")
    (here / "own" / "labelled.txt").write_text("0\n")
    (here / "own" / "val.txt").write_text("1\n2\n")
    Image.fromarray(np.zeros((80, 96), np.uint8)).save(here / "own" / "masks" / "0.png")
    found = what_was_seen(check_data("own"))
    assert found.pixels.tolist() == [96 * 80, 0, 0] and found.sizes == {(96, 80): 10}
    assert (found.num_labelled, found.num_unlabelled, found.num_val) == (1, 9, 2)


def test_what_was_seen__grey_photographs(here):
    photos(here / "own")
    assert what_was_seen(check_data("own")).num_grey == 0
    for path in (here / "own" / "images").iterdir():
        Image.open(path).convert("L").save(path)
    assert what_was_seen(check_data("own")).num_grey == 10


def test_check__ends_with_a_proposal_and_writes_nothing(here, check):
    photos(here / "own")
    status, out, err = check("own")
    assert (status, err) == (0, "") and "all is well\n\nproposal: 6 labelled, 4 unlabelled and 2 val" in out
    assert "views.crop = 64 " in out and out.rstrip().endswith("python -m dgcl_nb.train --preset auto")
    assert not (here / "settings.ini").exists()


def test_check__says_why_nothing_is_written(here, check):
    photos(here / "own")
    for path in (here / "own" / "masks").iterdir():
        Image.fromarray(np.full((80, 96), 2, np.uint8)).save(path)
    status, out, err = check("own", "--write", "settings.ini")
    assert status == 2 and "nothing was written, as there is no proposal" in err
    assert "0.png holds the label value 2" in out
    assert not (here / "settings.ini").exists()


def test_check__written_and_taken(here, check, capsys):
    photos(here / "own")
    status, out, _ = check("own", "--write", "settings.ini")
    assert status == 0 and "added [auto] to settings.ini" in out
    run = parse_run(["--preset", "auto", "--data.root", "own"])
    assert (run.views.crop, run.data.name, run.data.root, run.method) == (64, "folder", "own", "dgcl")
    status, out, _ = check("own", "--write", "settings.ini")
    assert "replaced [auto] in settings.ini: no value of it has changed" in out
    small = {k: v for k, v in TINY.items() if k.startswith(("model", "loop", "eval.b", "steps", "device"))}
    words = [
        "--preset",
        "auto",
        "--data.root",
        "own",
        *flags(small | {"batch.labelled": 2, "batch.unlabelled": 2}),
    ]
    train([*words, "--views.crop", "48", "--method", "self_training"])
    config = json.loads((here / "runs" / "own-self_training-s0" / "config.json").read_text())
    assert config["preset"] == "auto" and config["views"]["crop"] == 48 and config["views"]["flip"] is True
    (here / "settings.ini").unlink()
    train(["--out", "runs/own-self_training-s0", "--resume"])
    assert "own-self_training-s0" in capsys.readouterr().out, "a run needs its section no more"


def test_check__who_writes_into_the_shipped_file_is_told(here):
    assert command.note_on_shipped("settings.ini") == ""
    said = command.note_on_shipped(ROOT / "settings.ini")
    assert "is the shipped one" in said and "--write FOLDER/settings.ini" in said


def test_check__from_another_folder_the_root_is_absolute(here, check):
    photos(here / "own")
    (here / "work").mkdir()
    _, out, _ = check("own", "--write", "work/settings.ini")
    assert f"data.root = {here / 'own'} " in out and "started in work" in out
    run = parse_run(["--preset", "auto"], here / "work")
    assert run.data.root == str(here / "own")


def test_check__lists_that_are_named(here, check):
    photos(here / "own")
    folder = here / "own" / "splits" / "mine" / "2"
    folder.mkdir(parents=True)
    (folder / "labelled.txt").write_text("0\n1\n")
    (folder / "unlabelled.txt").write_text("8\n9\n10\n")
    _, out, _ = check("own", "--lists", "mine/2", "--write", "settings.ini")
    assert "proposal: 2 labelled, 3 unlabelled" in out
    assert parse_run(["--preset", "auto"]).data.lists == "mine/2"


def empty(root):
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    (root / "classes.txt").write_text("a\nb\n")


def one_image(root):
    photos(root, num=1, masked=1)


def one_class(root):
    photos(root)
    for path in (root / "masks").iterdir():
        Image.fromarray(np.zeros((80, 96), np.uint8)).save(path)


def tiny(root):
    photos(root, size=(2, 2))


def no_labels(root):
    photos(root, masked=0)


def no_masks(root):
    photos(root)
    for path in (root / "masks").iterdir():
        path.unlink()
    (root / "masks").rmdir()


def other_sizes(root):
    photos(root)
    for path in (root / "masks").iterdir():
        Image.open(path).resize((48, 40)).save(path)


def a_huge_header(root):
    "All images claim 20000x20000 pixels: more than Pillow opens."
    photos(root)
    for path in (root / "images").iterdir():
        raw = bytearray(path.read_bytes())
        raw[16:24] = (20_000).to_bytes(4, "big") * 2
        path.write_bytes(raw)


@pytest.mark.parametrize(
    "make, said",
    [
        (empty, "no image has a mask"),
        (one_image, "the labelled list of folder is empty"),
        (one_class, "show 1 of 2 classes"),
        (tiny, "sides of 2 pixels or less"),
        (no_labels, "the labelled list of folder is empty"),
        (no_masks, "own has no folder masks/"),
        (other_sizes, "show 0 of 2 classes"),
        (a_huge_header, "no training image can be read"),
    ],
)
def test_check__hostile_folders_get_a_sentence_and_no_file(make, said, here, check):
    make(here / "own")
    _, out, err = check("own")
    told = out.splitlines()[-1]
    assert told.startswith("no proposal: ") and said in told and err == "", out
    status, _, err = check("own", "--write", "settings.ini")
    assert status == 2 and said in err and len(err.splitlines()) == 1 and not (here / "settings.ini").exists()


def test_check__bad_files_are_no_reason_against_a_proposal(here, check):
    photos(here / "own")
    (here / "own" / "images" / "11.png").write_bytes(b"")
    status, out, _ = check("own", "--write", "settings.ini")
    assert status == 1 and "1 bad" in out and "added [auto]" in out


# Odd files

LINES = [Line("views.crop", "96", "why"), Line("views.flip", "True", "why")]
OWN = """# mine
[digits]
steps = 20  # 40 % more

; old style
[auto]
steps = 9
views.crop = 64

# of the last
[z]
steps = 1"""


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_write__keeps_the_rest_to_the_byte(tmp_path, encoding, end):
    path = tmp_path / "settings.ini"
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    raw = mark + OWN.replace("mine", "Müll ≥ 1").replace("\n", end).encode(encoding)
    path.write_bytes(raw)
    said = write_section(path, "auto", LINES)
    assert said.endswith("steps was 9; views.crop was 64")
    plain = (
        encoding.replace("-sig", "")
        if not encoding.startswith("utf-16")
        else "utf-16-be"
        if mark
        else "utf-16-le"
    )
    before, rest = (part.encode(plain) for part in (f"[auto]{end}", f"{end}# of the last"))
    written = path.read_bytes()
    assert written[: raw.index(before)] == raw[: raw.index(before)]
    assert written[written.index(rest) :] == raw[raw.index(rest) :]
    assert write_section(path, "auto", LINES).endswith("no value of it has changed")
    assert path.read_bytes() == written


@pytest.mark.parametrize(
    "text", ["", "\n", "[a]\nsteps = 1", "[a]\nsteps = 1\n", "# only a remark", "[auto]\n", "[auto]"]
)
def test_write__appends_or_fills(tmp_path, text):
    path = tmp_path / "settings.ini"
    path.write_text(text)
    write_section(path, "auto", LINES)
    assert path.read_text().startswith(text)
    assert dict(preset_layers(tmp_path)[1][1])["auto"] == {"views.crop": "96", "views.flip": "True"}


def test_write__a_missing_file_is_made(tmp_path):
    assert write_section(tmp_path / "settings.ini", "auto", LINES).startswith("added [auto]")
    assert (tmp_path / "settings.ini").read_text().startswith("[auto]\nviews.crop = 96 ")


def test_write__a_link_stays_a_link_and_rights_stay(tmp_path):
    real = tmp_path / "kept" / "mine.ini"
    real.parent.mkdir()
    real.write_text("[a]\nsteps = 1\n")
    real.chmod(0o600)
    link = tmp_path / "settings.ini"
    link.symlink_to(real)
    write_section(link, "auto", LINES)
    assert link.is_symlink() and "[auto]" in real.read_text() and stat.S_IMODE(real.stat().st_mode) == 0o600


def a_folder(path):
    path.mkdir()


def a_pipe(path):
    os.mkfifo(path)


def read_only(path):
    path.write_text("[a]\nsteps = 1\n")
    path.chmod(0o444)


def a_link_to_nowhere(path):
    path.symlink_to(path.parent / "nowhere.ini")


def a_circle(path):
    path.symlink_to(path)


def twice(path):
    path.write_text("[auto]\nsteps = 1\n[auto]\nsteps = 2\n")


def latin(path):
    path.write_bytes("[a]\nout = Müll\n".encode("latin-1"))


def broken(path):
    path.write_text("steps = 1\n[a]\n")


def huge(path):
    path.write_bytes(b"#" * (2**20 + 1))


@pytest.mark.parametrize(
    "make, said",
    [
        (a_folder, "it is a folder or a device"),
        (a_pipe, "it is a folder or a device"),
        (read_only, "it is read-only"),
        (a_link_to_nowhere, "the link leads nowhere"),
        (a_circle, "cannot write"),
        (twice, "section 'auto' already exists"),
        (latin, "line 2 is not UTF-8 text"),
        (broken, "cannot be read"),
        (huge, "is larger than 1024 KiB"),
    ],
)
def test_write__odd_files_are_left_alone(tmp_path, make, said):
    path = tmp_path / "settings.ini"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(InputError, match=said):
        write_section(path, "auto", LINES)
    assert before is None or path.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"settings.ini"}, "nothing is left behind"


@pytest.mark.parametrize("name", ["mine.ini", "settings.ini\n", "a\0b/settings.ini", ".", "settings.ini/x"])
def test_write__odd_paths_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="is not read by any run"):
        write_section(f"{tmp_path}/{name}", "auto", LINES)


def test_write__a_full_disk_changes_nothing(tmp_path, monkeypatch):
    path = tmp_path / "settings.ini"
    path.write_text(OWN)

    def refuse(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dgcl_nb.sections.write_atomic", refuse)
    with pytest.raises(InputError, match="No space left on device; nothing was changed"):
        write_section(path, "auto", LINES)
    assert path.read_text() == OWN


@pytest.mark.parametrize("root", ["my photos", "it's", 'a "b"', "100 %", "a#b", "ä", "x;y", "$HOME"])
def test_write__roots_of_any_name_come_back(tmp_path, root):
    write_section(tmp_path / "settings.ini", "auto", propose(seen(root=root), CPU))
    assert parse_run(["--preset", "auto"], tmp_path).data.root == root


@pytest.mark.parametrize("root", ["my #1", "a\nb", "--x"])
def test_write__roots_that_no_line_can_hold(tmp_path, root):
    with pytest.raises(InputError):
        write_section(tmp_path / "settings.ini", "auto", propose(seen(root=root), CPU))
    assert not (tmp_path / "settings.ini").exists()


# Settings that are meant for other data


def test_preset__data_of_ones_own_need_one(here, capsys):
    folder(here / "own")
    with pytest.raises(SystemExit) as ended:
        train(["--data.name", "folder", "--data.root", "own", "--steps", "1"])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and len(said.splitlines()) == 1 and not (here / "runs").exists()
    assert "python -m dgcl_nb.data check own --write settings.ini proposes settings" in said
    for name in ("voc", "cityscapes"):
        with pytest.raises(InputError, match=f"that of the digits is not for {name}"):
            parse_run(["--data.name", name])
    assert parse_run(["--data.name", "digits-tune"]).data.name == "digits-tune"


def test_preset__auto_must_be_written_and_is_for_one_folder(here):
    with pytest.raises(InputError, match="has no section .auto.: python -m dgcl_nb.data check ROOT"):
        parse_run(["--preset", "auto", "--data.root", "own"])
    write_section("settings.ini", "auto", propose(seen(), CPU))
    (here / "same").symlink_to("photos")
    (here / "photos").mkdir()
    for root in ("photos", "./photos", here / "photos", "same"):
        parse_run(["--preset", "auto", "--data.root", str(root)])
    with pytest.raises(InputError, match="is for the images in photos, and data.root is others"):
        parse_run(["--preset", "auto", "--data.root", "others"])


def test_preset__defaults_of_the_digits_are_said(here, caplog):
    own = ["--preset", "digits", "--data.name", "folder", "--data.root", "own"]
    parse_run(own)
    assert "views.crop 64 and views.flip False: defaults that were made for digits" in caplog.text
    caplog.clear()
    parse_run([*own, "--views.crop", "96", "--views.flip=True"])
    parse_run(["--preset", "voc-732"])
    write_section("settings.ini", "auto", propose(seen(), CPU))
    parse_run(["--preset", "auto"])
    assert "made for digits" not in caplog.text


def test_preset__shares_nothing_with_the_val_part():
    one, other = propose(seen(num_val=5), GPU), propose(seen(num_val=500), GPU)
    differ = [a.name for a, b in zip(one, other) if a.value != b.value]
    assert differ == [] and replace(seen(), num_val=3).shares.sum() == 1
