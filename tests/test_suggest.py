"""What to annotate next: cells, banks, five scores, the files of a choice, bad input, the whole loop once."""

import argparse
import csv
import json
import math
import re
import shlex
import shutil
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import First, tiny_args, tiny_run
from PIL import Image
from sync_gate import ROOT

from dgcl_nb import reference, suggest
from dgcl_nb.acquisition import (
    SCORES,
    Known,
    Measured,
    Region,
    cell_scores,
    choose,
    know,
    measure,
    region_of,
    sparsity,
    worth_and_unlike,
)
from dgcl_nb.config import parse_run, run_to_dict
from dgcl_nb.core import IGNORE_INDEX, InputError, generator_for
from dgcl_nb.data.digits import CLASS_NAMES, open_digits
from dgcl_nb.data.segdata import SomeImages
from dgcl_nb.data.sets import open_data
from dgcl_nb.data.splits import read_list
from dgcl_nb.engine import fit
from dgcl_nb.forwards import Forwards, Passes
from dgcl_nb.prediction import NamedImages
from dgcl_nb.reference import ImageCells, NothingLabelled, build_banks, cells_of, class_density
from dgcl_nb.suggest import Seen, check_score, main
from dgcl_nb.suggestions import Suggestion, cvat_manifest, write_tasks
from dgcl_nb.trained import open_trained
from dgcl_nb.windows import EvalConfig

EVIL = "<img src=x onerror=alert(1)>&\"'"
NUM, LABELLED, MASKED = 24, 8, 12
"Images of the folder; the first ones are labelled, those behind them scored, the rest unlabelled."


def save_scene(scenes, i, place, with_mask):
    Image.fromarray(scenes[i]["image"].permute(1, 2, 0).numpy()).save(place / "images" / f"{i:02}.png")
    if with_mask:
        mask = Image.fromarray(scenes[i]["target"].numpy().astype(np.uint8))
        mask.save(place / "masks" / f"{i:02}.png")


@pytest.fixture(scope="module")
def scenes():
    return open_digits(num_labelled=125, root=ROOT / "data").unlabelled


@pytest.fixture(scope="module")
def place(tmp_path_factory, scenes):
    "A folder of scenes, and a tiny run that was trained on it."
    place = tmp_path_factory.mktemp("suggest")
    for part in ("images", "masks"):
        (place / "photos" / part).mkdir(parents=True)
    for i in range(NUM):
        save_scene(scenes, i, place / "photos", with_mask=i < MASKED)
    names = [*CLASS_NAMES[:-1], EVIL]
    (place / "photos" / "classes.txt").write_text("\n".join(names) + "\n")
    ids = [f"{i:02}\n" for i in range(MASKED)]
    (place / "photos" / "labelled.txt").write_text("".join(ids[:LABELLED]))
    (place / "photos" / "val.txt").write_text("".join(ids[LABELLED:]))
    settings = dict(data__name="folder", data__root=str(place / "photos"), data__num_labelled=250)
    fit(tiny_run("self_training", out=str(place / "run"), steps=4, **settings), callbacks=[])
    return place


@pytest.fixture(scope="module")
def trained(place):
    return open_trained(place / "run", device="cpu")


@pytest.fixture(scope="module")
def data(trained):
    return open_data(trained.run.data)


@pytest.fixture
def command(capsys):
    "The command: (exit status, what it printed, what it complained of)."

    def run(*words):
        status = 0
        try:
            main([str(w) for w in words])
        except SystemExit as e:
            status = e.code
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def made_up(name, kinds, entropy=0.5, labels=None):
    "An image whose cells lie near the directions `kinds`, one of eight each."
    own = torch.tensor(kinds)
    noise = 0.2 * torch.rand(len(own), 8, generator=generator_for(name))
    feats = torch.nn.functional.normalize(torch.eye(8)[own] + noise, dim=1)
    same, image = torch.full((len(own),), float(entropy)), torch.zeros(3, 8, 8, dtype=torch.uint8)
    labels = own.clamp(max=3) if labels is None else torch.tensor(labels)
    return ImageCells(
        name, image, (2, len(own) // 2), feats, labels, own.clamp(max=3), 1 - same, same, 1 - same
    )


# Cells and banks


def test_density__is_that_of_the_formula_without_the_own_image():
    images = [made_up(str(i), [0, 1, 2, 3] * 4) for i in range(5)]
    banks = build_banks(images, 4, size=7, seed=3)
    assert banks.counts() == [7] * 4 and banks.offered == (20,) * 4
    found = class_density(images[2].feats, banks.without("2"), (2, 4))
    for c in range(4):
        keep = (banks.labels == c) & (banks.images != 2)
        cosines = np.sort(images[2].feats.numpy() @ banks.feats[keep].numpy().T)[:, ::-1]
        expected = (cosines[:, :2].mean(1) + cosines[:, :4].mean(1)) / 2
        np.testing.assert_allclose(found[:, c], expected, atol=1e-5)


def test_banks__of_one_class_leave_the_others_unknown():
    banks = build_banks([made_up("a", [1] * 8), made_up("b", [1] * 8)], 4)
    assert banks.counts() == [0, 16, 0, 0]
    found = class_density(banks.feats, banks)
    assert found.isnan().all(0).tolist() == [True, False, True, True]
    assert measure(made_up("c", [1, 7] * 4), 4, know(banks)).worth > 0


def test_cells__of_an_image_without_a_label_enter_no_bank():
    nothing = made_up("none", [1] * 8, labels=[IGNORE_INDEX] * 8)
    banks = build_banks([nothing, made_up("some", [2] * 8)], 4)
    assert banks.counts() == [0, 0, 8, 0] and banks.ids == ("none", "some")
    with pytest.raises(InputError, match="none of 1 images has a labelled cell"):
        build_banks([nothing], 4)


def test_cells__any_size_and_any_protocol(trained, scenes):
    pixel = NamedImages({"pixel": np.zeros((1, 1, 3), np.uint8), "line": np.zeros((1, 50, 3), np.uint8)})
    one, line = cells_of(trained, pixel)
    assert len(one) >= 1 and len(line) >= 1
    ways = (EvalConfig(), EvalConfig(mode="slide", crop=32), EvalConfig(scales=(0.5, 1.0), flip=True))
    found = [next(cells_of(trained, First(scenes, 1), cfg, with_maps=True)) for cfg in ways]
    for cells in found:
        assert cells.grid == found[0].grid and cells.label_map.shape == (64, 64)
        middle = cells.label_map[64 // cells.grid[0] // 2, 64 // cells.grid[1] // 2]
        assert middle == cells.prediction[0]
    assert torch.equal(found[0].feats, found[2].feats), "features are those of the image as it is"


def test_cells__features_that_are_no_numbers_are_named(trained, scenes, monkeypatch):
    real = reference.cells_of_batch

    def broken(*args, **more):
        found = real(*args, **more)
        return [replace(found[0], feats=found[0].feats * math.nan), *found[1:]]

    monkeypatch.setattr(reference, "cells_of_batch", broken)
    failed = {}
    left = list(cells_of(trained, First(scenes, 3), on_error=failed.__setitem__))
    assert len(left) == 2 and list(failed) == [scenes.ids[0]] and "NaN" in failed[scenes.ids[0]]
    with pytest.raises(InputError, match=f"{scenes.ids[0]}: the network says NaN"):
        list(cells_of(trained, First(scenes, 3)))


# Scores


def test_scores__do_what_they_say():
    labelled = [made_up(f"known {i}", [0, 1, 2, 3] * 2) for i in range(6)]
    known = know(build_banks(labelled, 4))
    crowd = [made_up(f"seen {i}", [0, 1, 2, 3] * 2, 0.5 + i / 100) for i in range(4)]
    crowd += [made_up(f"new {i}", [5] * 8, 0.48) for i in range(3)] + [made_up("other", [6] * 8, 0.48)]
    images, means = [measure(c, 4, known) for c in crowd], torch.stack([measure(c, 4).mean for c in labelled])
    ranked = {name: [m.id for m, _ in choose(images, name, 3, means)] for name in SCORES}
    assert ranked["entropy"] == ranked["margin"] == ["seen 3", "seen 2", "seen 1"]
    for name in ("density", "coreset"):
        assert {i.split()[0] for i in ranked[name][:2]} == {"new", "other"}, "no two alike"
    for name in SCORES:
        assert [m.id for m, _ in choose(images[::-1], name, 3, means)] == ranked[name]
        assert (
            len(choose(images, name, 99, means))
            == len({m.id for m, _ in choose(images, name, 99, means)})
            == 8
        )


def test_sparsity__is_the_share_of_labelled_cells_that_are_denser():
    known = Known(None, torch.tensor([0.1, 0.2, 0.3, 0.4]))
    found = sparsity(torch.tensor([0.0, 0.2, 0.25, 0.9]), known)
    assert found.tolist() == [1.0, 0.5, 0.5, 0.0]


def test_region__holds_the_best_cells_and_nothing_beyond_the_image():
    cells = replace(made_up("a", [0] * 64), grid=(8, 8), image=torch.zeros(3, 61, 64, dtype=torch.uint8))
    scores = torch.zeros(64)
    scores[63] = 1.0
    assert region_of(scores, cells) == (45, 48, 61, 64, 1.0)
    assert region_of(torch.zeros(64), cells) is None
    assert cell_scores(cells, "random") is None


def test_check_score__what_a_run_cannot_give():
    one = build_banks([made_up("a", [0] * 8)], 1)
    alone = Seen(know(one), torch.zeros(1, 8))
    for score in ("density", "margin", "entropy"):
        with pytest.raises(InputError, match="tells one class apart.*take --score coreset or random"):
            check_score(score, alone)
    check_score("coreset", alone)
    with pytest.raises(InputError, match="1 labelled image .* label a second one, or take --score entropy"):
        check_score("density", Seen(know(build_banks([made_up("a", [0, 1] * 4)], 4)), torch.zeros(1, 8)))


# The command


@pytest.fixture(scope="module")
def written(place):
    "What the command writes: its folder, and what it printed."
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as said:
        main([str(place / "run"), "--num", "5", "--device", "cpu", "--out", str(place / "out")])
    return place / "out", said.getvalue()


def test_command__table_and_page(written):
    folder, said = written
    lines = list(csv.DictReader((folder / "suggest.csv").open()))
    assert [line["rank"] for line in lines] == list("12345") and len({line["image"] for line in lines}) == 5
    shares = [[float(v) for k, v in line.items() if k.startswith("share of")] for line in lines]
    assert all(len(s) == 11 and sum(s) == pytest.approx(1, abs=1e-3) for s in shares)
    assert all("of its cells are sparser" in line["why"] for line in lines)
    page = (folder / "suggest.html").read_text()
    assert EVIL not in page and "<img src=x" not in page and "&lt;img src=x" in page
    assert "default-src 'none'" in page and not re.search(r"https?:|<script|url\(", page)
    assert page.count('src="data:image/png;base64,') == page.count("<img ") == 20
    assert "5 of 12 images are suggested by density" in said


def test_command__lists_make_the_next_run(written, place, scenes):
    folder, said = written
    suggested = read_list(folder / "lists" / "suggested.txt")
    words = shlex.split(said.partition("train again with: ")[2])
    with_masks = place / "with_masks"
    shutil.copytree(place / "photos", with_masks, dirs_exist_ok=True)
    for name in suggested:
        save_scene(scenes, int(name), with_masks, with_mask=True)
    base = ["--preset", "digits", "--data.name", "folder", "--data.root", str(with_masks)]
    data = open_data(parse_run([*base, *words], folder=place).data)
    assert list(data.labelled.ids) == [f"{i:02}" for i in range(LABELLED)] + suggested
    assert list(data.val.ids) == [f"{i:02}" for i in range(LABELLED, MASKED)]
    assert len(data.unlabelled) == NUM - MASKED - 5 and not set(suggested) & set(data.unlabelled.ids)


def test_command__tasks_of_two_programs(written):
    folder, _ = written
    suggested = read_list(folder / "lists" / "suggested.txt")
    tasks = json.loads((folder / "label_studio.json").read_text())
    assert [t["data"]["id"] for t in tasks] == suggested
    images = folder / "suggested_images"
    assert [t["data"]["image"].rpartition("/")[2] for t in tasks] == [f"{i}.png" for i in suggested]
    for task in tasks:
        (box,) = task["predictions"][0]["result"]
        assert 0 <= box["value"]["x"] <= 100 - box["value"]["width"]
    interface = ET.fromstring((folder / "label_studio.xml").read_text())
    names = [label.get("value") for label in interface.find("BrushLabels")]
    assert names[-1] == EVIL and len(names) == 11
    labels = json.loads((folder / "cvat_labels.json").read_text())
    assert [x["name"] for x in labels] == names and re.fullmatch("#[0-9a-f]{6}", labels[0]["color"])
    manifest = [json.loads(line) for line in (images / "manifest.jsonl").read_text().splitlines()]
    assert [x["name"] for x in manifest[2:]] == suggested and manifest[2]["width"] == 64
    assert all((images / f"{name}.png").is_file() for name in suggested)


def test_command__is_the_same_again_and_never_mixes(written, place, command):
    folder, _ = written
    words = [place / "run", "--num", "5", "--device", "cpu"]
    status, _, complained = command(*words, "--out", folder)
    assert status == 2 and "holds suggestions already; name another --out" in complained
    before = {p.name: p.read_bytes() for p in folder.rglob("*.*")}
    assert command(*words, "--out", folder, "--existing", "overwrite")[0] == 0
    assert {p.name: p.read_bytes() for p in folder.rglob("*.*")} == before
    strange = place / "strange"
    (strange / "lists").mkdir(parents=True)
    status, _, complained = command(*words, "--out", strange, "--existing", "overwrite")
    assert status == 2 and "may be another program's" in complained and (strange / "lists").is_dir()


def test_command__older_suggestions_stay_until_there_are_others(
    written, place, command, tmp_path, monkeypatch
):
    folder = tmp_path / "kept"
    shutil.copytree(written[0], folder)
    before = {p.name: p.read_bytes() for p in folder.rglob("*.*")}
    words = [place / "run", "--device", "cpu", "--out", folder, "--existing", "overwrite"]

    def interrupted(*args, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(suggest, "rank_images", interrupted)
    status, _, complained = command(*words)
    assert status == 130 and "nothing that was there is lost" in complained
    nothing = suggest.Ranking([], None, {"a": "cannot be read"})
    monkeypatch.setattr(suggest, "rank_images", lambda *args, **settings: nothing)
    assert command(*words)[0] == 1
    assert {p.name: p.read_bytes() for p in folder.rglob("*.*")} == before


def test_command__a_folder_with_broken_files(place, scenes, command, tmp_path):
    "What is broken is named, what the run knows is left out, the rest is ranked."
    photos = tmp_path / "new"
    (photos / "deep").mkdir(parents=True)
    save = Image.fromarray(scenes[3]["image"].permute(1, 2, 0).numpy()).save
    save(photos / "deep" / f"{EVIL.replace('/', '')}.png")
    save(photos / "plain.png")
    save(photos / "00.png")  # of the id of a labelled image
    (photos / "empty.png").write_bytes(b"")
    (photos / "text.jpg").write_text("no picture")
    words = (place / "run", photos, "--device", "cpu", "--out", tmp_path / "out")
    status, said, complained = command(*words)
    assert status == 1 and "2 of 4 images are suggested by density, as there are no more" in said
    assert "and 2 could not be ranked" in said
    assert complained.count("error: ") == 2 and "empty.png" in complained and "text.jpg" in complained
    page = (tmp_path / "out" / "suggest.html").read_text()
    assert "text.jpg" in page and EVIL not in page
    assert (tmp_path / "out" / "suggested_images" / "deep" / f"{EVIL}.png").is_file()
    for path in photos.rglob("*.png"):
        path.unlink()
    status, said, complained = command(*words[:-1], tmp_path / "other")
    assert status == 1 and "text.jpg" in complained and not said


@pytest.mark.parametrize(
    "words,message",
    [
        (["RUN", "--num", "0"], "--num is 0; allowed: 1 or more"),
        (["RUN", "--bank_size", "0"], "--bank_size is 0; allowed: 1 or more"),
        (["RUN", "nowhere"], "there is no image or folder nowhere"),
        (["RUN", "PHOTOS/masks"], "images of .* are labelled or scored in this run already"),
        (["RUN", "--out", "RUN/config.json"], "config.json is a file; name a folder"),
        (["nowhere"], "there is no folder nowhere"),
        (["RUN", "--weights", "worst"], "worst"),
    ],
)
def test_command__bad_input(place, command, words, message):
    put = {"RUN": place / "run", "PHOTOS": place / "photos"}
    words = [re.sub("RUN|PHOTOS", lambda found: str(put[found[0]]), word) for word in words]
    status, _, complained = command(*words, "--device", "cpu")
    assert status == 2 and re.search(message, " ".join(complained.split())) and "Traceback" not in complained


def photos_of(scenes, folder, *names):
    "A folder of a few scenes under these names."
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scenes[i]["image"].permute(1, 2, 0).numpy()).save(folder / name)
    return folder


def test_command__a_refusal_leaves_older_suggestions(written, place, scenes, command, tmp_path):
    folder = tmp_path / "kept"
    shutil.copytree(written[0], folder)
    before = {p.name: p.read_bytes() for p in folder.rglob("*.*")}
    words = ("--num", "2", "--device", "cpu", "--out", folder, "--existing", "overwrite")
    for names, said in (
        (("a/x1.png", "b/x1.png"), "two files have the id 'x1'"),
        (("20.png",), "has the id '20' of another picture"),
        (("two\nlines.png",), "has a name that no list can hold; rename it"),
        (("\udcff.png",), "has a name that no list can hold; rename it"),
    ):
        photos = photos_of(scenes, tmp_path / f"photos {len(names[0])}", *names)
        status, _, complained = command(place / "run", photos, *words)
        assert status == 2 and said in " ".join(complained.split())
    assert {p.name: p.read_bytes() for p in folder.rglob("*.*")} == before


def test_command__in_a_folder_with_a_space_what_is_left_out_and_what_comes_next(
    place, scenes, command, tmp_path, monkeypatch
):
    photos = photos_of(scenes, tmp_path / "my photos", "00.png", "new.png")
    monkeypatch.chdir(place / "run")
    status, said, _ = command(".", photos, "--device", "cpu", "--num", "1", "--out", tmp_path / "my choice")
    assert status == 0 and "1 image of" in said and "left out, labelled or scored by name: 00.png" in said
    assert "with their images and masks in the data set, train again with: " in said
    words = shlex.split(said.partition("train again with: ")[2])
    assert words[1] == str(tmp_path / "my choice" / "lists" / "labelled.txt")
    assert "<title>What to annotate next: run<" in (tmp_path / "my choice" / "suggest.html").read_text()


def test_command__all_that_is_unlabelled_is_suggested(place, command, tmp_path):
    "Neither the run's own list nor the folder's may name what is labelled now."
    photos = tmp_path / "photos"
    shutil.copytree(place / "photos", photos)
    ids = [f"{i:02}\n" for i in range(MASKED, NUM)]
    settings = dict(data__name="folder", data__root=str(photos), data__num_labelled=250)
    (tmp_path / "rest.txt").write_text("".join(ids))
    settings["data__unlabelled"] = str(tmp_path / "rest.txt")
    fit(tiny_run("self_training", out=str(tmp_path / "run"), steps=2, **settings), callbacks=[])
    (photos / "unlabelled.txt").write_text("".join(ids))
    status, said, _ = command(tmp_path / "run", "--device", "cpu", "--num", "99")
    assert status == 0 and "--data.unlabelled None" in said
    assert f"before that, remove {photos / 'unlabelled.txt'}" in said
    assert f"python -m dgcl_nb.data masks EXPORT {photos}\n" in said
    (photos / "unlabelled.txt").unlink()
    for name in (i.strip() for i in ids):
        shutil.copy(photos / "masks" / "00.png", photos / "masks" / f"{name}.png")
    words = shlex.split(said.partition("train again with: ")[2].splitlines()[0])
    base = ["--preset", "digits", "--data.name", "folder", "--data.root", str(photos)]
    data = open_data(parse_run([*base, *words], folder=place).data)
    assert len(data.labelled) == LABELLED + NUM - MASKED and not len(data.unlabelled)


def test_command__masks_that_are_void_leave_the_scores_that_need_none(place, command, tmp_path, monkeypatch):
    def void(cells, *_):
        list(cells)
        raise NothingLabelled("none")

    monkeypatch.setattr(suggest, "build_banks", void)
    words = (place / "run", "--device", "cpu", "--num", "2", "--out", tmp_path / "out")
    words = (*words, "--existing", "overwrite")
    for score in ("entropy", "coreset", "random"):
        assert command(*words, "--score", score)[0] == 0, score
    status, _, complained = command(*words)
    assert status == 2 and "density compares with such cells; take --score coreset" in " ".join(
        complained.split()
    )


def test_choose__means_of_zeros_and_images_that_have_nothing_beside_the_mean(recwarn):
    ways = np.eye(3)
    alike = np.stack([0 * ways[0], 0 * ways[0], ways[1]])
    assert [place for place, _ in worth_and_unlike(np.array([0.9, 0.8, 0.1]), alike, 2)] == [0, 2]
    images = [measure(made_up(f"{i}", [i] * 8), 4) for i in range(3)]
    images = [m._replace(worth=0.5) for m in images]
    found = choose(images, "density", 3, torch.zeros(2, 8))
    assert not recwarn.list and all(math.isfinite(value) for _, value in found)


def test_command__an_out_folder_is_as_it_was_where_nothing_comes_out(place, command, tmp_path, monkeypatch):
    nothing = suggest.Ranking([], None, {"a": "cannot be read"})
    monkeypatch.setattr(suggest, "rank_images", lambda *args, **settings: nothing)
    (tmp_path / "mine").mkdir()
    for name in ("mine", "new"):
        assert command(place / "run", "--device", "cpu", "--out", tmp_path / name)[0] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    status, _, complained = command(place / "run", "--device", "cpu", "--out", tmp_path / ("x" * 300))
    assert status == 2 and "name another folder with --out" in complained


def test_tasks__of_a_photo_on_its_side_and_of_images_read_smaller(place, data, tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (60, 40)).save(tmp_path / "lying.jpg", exif=exif)
    lines = cvat_manifest([tmp_path / "lying.jpg"], tmp_path).splitlines()
    found = json.loads(lines[2])
    assert (found["width"], found["height"]) == (40, 60), "as CVAT shows it"
    nothing = torch.zeros(1)
    measured = Measured("lying.jpg", 0.5, 0.5, 0.5, 0.5, nothing, nothing, (1.0,))
    one = Suggestion(1, measured, 0.5, "entropy", (30, 20), Region(0, 0, 10, 10, 0.5))
    home = tmp_path / "out" / "suggested_images"
    home.mkdir(parents=True)
    shutil.copy(tmp_path / "lying.jpg", home)
    write_tasks([one], {"lying.jpg": "lying.jpg"}, ["a"], np.zeros((1, 3), np.uint8), "x", tmp_path / "out")
    [task] = json.loads((tmp_path / "out" / "label_studio.json").read_text())
    box = task["predictions"][0]["result"][0]
    assert (box["original_width"], box["original_height"], box["value"]["width"]) == (40, 60, 50)


def test_images__of_overlapping_lists_what_is_labelled_is_left_out(data):
    both = replace(data, labelled=SomeImages(data.unlabelled, data.unlabelled.ids[:3]))
    assert list(suggest.images_of_run(both).ids) == list(data.unlabelled.ids[3:])


def test_why__is_about_the_outlined_part():
    worth, nearest = torch.full((8, 8), 0.1), torch.zeros(8, 8, dtype=torch.long)
    worth[6:, 6:], nearest[6:, 6:] = 0.9, 3
    assert suggest.likest(nearest.flatten(), worth.flatten(), (8, 8)) == 3


def test_command__a_run_without_unlabelled_images(place, data, command, monkeypatch):
    none = replace(data, unlabelled=SomeImages(data.unlabelled, []))
    monkeypatch.setattr(suggest, "open_data", lambda cfg: none)
    status, _, complained = command(place / "run", "--device", "cpu", "--out", place / "none")
    assert status == 2 and "name a folder of images after the run" in complained


def test_folder__is_shrunk_as_the_run_shrinks_its_images(data, place):
    found = suggest.images_of_folder(place / "photos" / "images", data, shrink=2)
    assert found[0]["image"].shape == (3, 32, 32) and len(found) == NUM - MASKED


# The trial


def test_trial__the_loop_once_and_nothing_twice(place, scenes, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "results"))
    import make_suggest_trial as trial

    photos = tmp_path / "photos"
    shutil.copytree(place / "photos", photos)
    for i in range(NUM):
        save_scene(scenes, i, photos, with_mask=True)
    made = []

    def fit_here(jobs, *_, keep, **__):
        for job in (j for j in jobs if not j.is_finished):
            fit(replace(job.asked, out=str(job.folder.path)), callbacks=[])
            made.append(job.name)
            keep(job)
        return {}

    monkeypatch.setattr(trial, "run_jobs", fit_here)
    forwards = Forwards(None, Passes(4, 0, 2, 0))
    monkeypatch.setattr(trial, "count_forwards", lambda run: forwards)  # what it counts is tested elsewhere
    tiny = tiny_args("self_training", steps=2, data__root=photos, data__num_labelled=250, loop__snapshots=0)
    first = ("--data.labelled", str(photos / "labelled.txt"))
    words = ("--preset", "digits", *tiny[2:], "--data.name", "folder")
    plan = trial.Plan("made_up", words, first, (), (LABELLED, 10, 12), ("density", "random"), 1)
    places = trial.Places(tmp_path / "runs", trial.Store(tmp_path / "store"), tmp_path / "lists")
    ask = argparse.Namespace(first=0, jobs=1, threads=0, device="cpu")
    found = trial.run_plan(plan, places, ask)
    assert sorted(made) == sorted(
        ["drawn-8-s0", "density-10-s0", "random-10-s0", "density-12-s0", "random-12-s0"]
    )
    for score in plan.scores:
        ten, twelve = (read_list(trial.list_of(places, score, 0, n)) for n in (10, 12))
        assert len(ten) == 10 and len(twelve) == 12 and twelve[:10] == ten
    assert found["density"][LABELLED] == found["random"][LABELLED]
    shutil.rmtree(tmp_path / "runs")
    assert trial.run_plan(plan, places, ask) == found and len(made) == 5, "records are enough"
    trial.write_results(plan, found, tmp_path / "results")
    table = (tmp_path / "results" / "suggest.md").read_text()
    assert "| density |" in table and "12, to random" in table
    assert "--sets made_up --seeds 1`" in table and "are planned" not in table
    assert "1 seed(s) of 3 that are planned" in trial.table_of(replace(plan, seeds=3), found)
    assert (tmp_path / "results" / "suggest.svg").read_text().startswith("<?xml")


def test_trial__its_plans_are_runs():
    sys.path.insert(0, str(ROOT / "results"))
    try:
        import make_suggest_trial as trial
    finally:
        sys.path.pop(0)
    for plan in trial.PLANS:
        for own in (plan.drawn, ("--data.labelled", "x.txt", *plan.listed)):
            run = parse_run([*plan.words, "--method", trial.METHOD, *own], folder="/nowhere")
            assert run_to_dict(run)["data"]["name"] == plan.data
        assert set(plan.scores) <= set(SCORES) and trial.BASELINE in plan.scores
