"""An audit: damaged masks come first, no image vouches for itself, and what is written and refused."""

import csv
import dataclasses
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from helpers import First, few_images, tiny_run
from PIL import Image

from dgcl_nb import audit, audited, engine, folds
from dgcl_nb.audit import ask, main, parse_audit, why_failed
from dgcl_nb.audit_page import outlined, write_number
from dgcl_nb.audited import AuditResult, Part, audit_images
from dgcl_nb.config import build_data, parse_run
from dgcl_nb.core import IGNORE_INDEX, InputError
from dgcl_nb.data.damage import KINDS, MIXTURE, damage_some, write_damaged
from dgcl_nb.data.digits import CLASS_NAMES
from dgcl_nb.data.segdata import SegData, distinct_palette
from dgcl_nb.data.sets import DataConfig
from dgcl_nb.density import unit_rows
from dgcl_nb.disagreement import RANKING, RANKING_UNSEEN, SCORES, entry_weights, hear
from dgcl_nb.engine import Stopped, fit
from dgcl_nb.processes import RunFailed
from dgcl_nb.reference import ImageCells, build_banks
from dgcl_nb.run_folder import RunFolder
from dgcl_nb.suspects import (
    Finding,
    Region,
    cleanlab_findings,
    enlarge_cells,
    find_regions,
    finding_of,
    image_precision,
    region_precision,
)
from dgcl_nb.trained import read_config

GRID, CLASSES, DIM = 12, 4, 8
EVIL = "<script>alert(1)</script>"


def scene(i):
    "A mask of 12×12 cells: background, and two objects of other classes."
    draw = np.random.default_rng(i)
    target = np.zeros((GRID, GRID), np.uint8)
    for top, left in ((1, 1), (7, 6)):
        target[top : top + 4, left : left + 4] = draw.integers(1, CLASSES)
    return target


def cells_of_scene(name, truth, given):
    "Cells whose features show the truth, whatever the mask says."
    draw = np.random.default_rng(sum(map(ord, name)))
    centres = np.eye(CLASSES, DIM)
    feats = torch.from_numpy(centres[truth.ravel()] + draw.normal(0, 0.15, (truth.size, DIM))).float()
    probs = (feats[:, :CLASSES] * 5).softmax(1)
    top = probs.topk(2).values
    said = dict(
        prediction=probs.argmax(1), confidence=top[:, 0], entropy=top[:, 1], margin=top[:, 0] - top[:, 1]
    )
    labels = torch.from_numpy(given.astype(np.int64)).flatten()
    image = torch.zeros(3, *truth.shape, dtype=torch.uint8)
    return ImageCells(name, image, truth.shape, unit_rows(feats), labels, **said, probs=probs)


class Scenes:
    "Made-up images of one cell a pixel."

    def __init__(self, targets):
        self.targets, self.ids = targets, list(targets)

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        target = torch.from_numpy(self.targets[self.ids[i]])
        return dict(id=self.ids[i], image=torch.zeros(3, *target.shape, dtype=torch.uint8), target=target)


@pytest.fixture
def easy(monkeypatch):
    "Forty scenes of which a tenth is damaged: (data, ids of the damaged ones, cells whose label is wrong)."
    truth = {f"scene-{i}": scene(i) for i in range(40)}
    done = damage_some(list(truth), truth.get, 0.1, MIXTURE, CLASSES, 0, seed=1)
    given = truth | {name: damage.target for name, damage in done.items()}
    images = Scenes(given)
    names = tuple("abcd")
    data = SegData(
        "easy", images, Scenes({}), images, CLASSES, names, distinct_palette(CLASSES), background=0
    )

    def made_up(trained, some, *_, **__):
        return (cells_of_scene(name, truth[name], some.targets[name]) for name in some.ids)

    monkeypatch.setattr(audited, "cells_of", made_up)
    return data, set(done), {name: damage.changed for name, damage in done.items()}


def test_audit__damaged_images_come_first(easy):
    data, damaged, wrong = easy
    assert {"swap", "shift", "drop", "polygon"} == set(KINDS) and len(damaged) == 4
    part = Part("labelled", data.labelled, frozenset(data.labelled.ids))
    result = audit_images(None, data, [part], num=5)
    for name in SCORES:
        assert image_precision(result.findings[name], damaged) == 1.0, name
        assert region_precision(result.findings[name], wrong) > 0.6, name
    assert {s.finding.image for s in result.suspects[:4]} == damaged and len(result.suspects) == 5
    assert [f.image for f in result.ranked()[:5]] == [s.finding.image for s in result.suspects]
    swaps = [f for f in result.ranked() if f.score > 0.5]
    assert swaps and all(r.proposed != r.given for f in swaps for r in f.regions)


def test_hear__entries_of_the_own_image_never_vote():
    "Eight wrong cells would vouch for each other, as they are each other's nearest."
    truth = {f"image-{i}": scene(i) for i in range(6)}
    target = truth["image-3"]
    wrong = np.where(target == target[1, 1], (target % 3) + 1, target)
    images = [cells_of_scene(name, y, wrong if name == "image-3" else y) for name, y in truth.items()]
    for one in images[3:4]:  # its object looks a little different from all others, as objects do
        one.feats[torch.from_numpy(target.ravel() == target[1, 1]), DIM - 1] = 0.9
        one.feats.copy_(unit_rows(one.feats))
    banks = build_banks(images, CLASSES)
    said = hear(images[3], banks, entry_weights(banks), num_neighbors=8)
    changed = torch.from_numpy((wrong != target).ravel())
    for name in ("neighbours", "unweighted", "density"):
        assert (said[name].suspicion[changed] > 0.5).all(), name
    vouched = hear(dataclasses.replace(images[3], id="another"), banks, entry_weights(banks), 8)
    assert (vouched["unweighted"].suspicion[changed] < 0.5).all()


def test_audit__an_image_without_a_label_and_a_rare_class(easy):
    data, *_ = easy
    data.labelled.targets["scene-0"] = np.full((GRID, GRID), IGNORE_INDEX, np.uint8)
    part = Part("labelled", data.labelled, frozenset())
    result = audit_images(None, data, [part])
    by_id = {f.image: f for f in result.findings["neighbours"]}
    assert (by_id["scene-0"].judged, by_id["scene-0"].score) == (0, 0.0)
    [line] = [x for x in audit.image_lines(result) if x[1] == "scene-0"]
    assert line[2] == "" and line[8:] == [""] * (1 + len(SCORES)), "no score, and not a good one"


def test_audit__one_class_alone(easy):
    data, *_ = easy
    for name in data.labelled.ids:
        data.labelled.targets[name] = np.ones((GRID, GRID), np.uint8)
    with pytest.raises(InputError, match="show class 1 alone.*an audit needs two classes"):
        audit_images(None, data, [Part("labelled", data.labelled, frozenset())])


# The command, on a tiny run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    place, tried = tmp_path_factory.mktemp("runs"), pytest.MonkeyPatch()
    tried.setattr(engine, "build_data", few_images)
    fit(tiny_run("supervised", out=str(place / "run"), steps=4), callbacks=[])
    tried.undo()
    return place / "run"


@pytest.fixture
def run(trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture(scope="module")
def scenes():
    data = build_data(tiny_run())
    sets = {kind: First(getattr(data, kind), 10) for kind in ("labelled", "unlabelled", "val")}
    return dataclasses.replace(data, **sets)


@pytest.fixture
def folder(scenes, tmp_path):
    "The same scenes as files; a class has a name that is no name."
    root = tmp_path / "data of mine"
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for i, name in enumerate(scenes.labelled.ids):
        sample = scenes.labelled[i]
        Image.fromarray(sample["image"].permute(1, 2, 0).numpy()).save(root / "images" / f"{name}.png")
        Image.fromarray(sample["target"].numpy().astype(np.uint8)).save(root / "masks" / f"{name}.png")
    (root / "classes.txt").write_text("\n".join(("background", EVIL, *CLASS_NAMES[2:])))
    return root


@pytest.fixture
def command(capsys):
    "Run the command in this process: (exit status, what it printed, what it complained)."

    def call(*args):
        try:
            main([str(a) for a in (*args, "--device", "cpu")])
            status = 0
        except SystemExit as e:
            status = e.code or 0
        printed, complained = capsys.readouterr()
        assert "Traceback" not in complained
        return status, printed, " ".join(complained.split())

    return call


def on_folder(root):
    return ["--data.name", "folder", "--data.root", root]


def rows_of(path):
    return list(csv.DictReader(path.open(encoding="utf-8")))


def test_command__writes_page_tables_and_proposals_and_leaves_masks_alone(run, folder, command):
    before = {p.name: p.read_bytes() for p in (folder / "masks").iterdir()}
    (run / "report.html").write_text("a report")
    status, printed, complained = command(run, *on_folder(folder), "--num", "3", "--split", "all")
    assert status == 0, complained
    out = run / "audit"
    assert str(out / "index.html") in printed
    images, regions = rows_of(out / "images.csv"), rows_of(out / "regions.csv")
    assert len(images) == 10 and [int(r["rank"]) for r in images] == list(range(1, 11))
    scores = [float(r["score"]) for r in images]
    assert scores == [float(r[f"score_{RANKING}"]) for r in images], "some were trained on: by region"
    assert scores == sorted(scores, reverse=True) and 0 <= min(scores) <= max(scores) < 1
    assert {r["trained_on"] for r in images if r["list"] == "val"} == {"False"}
    assert {r["trained_on"] for r in images if r["list"] == "labelled"} == {"True"}
    assert {r["image"] for r in regions} <= {r["image"] for r in images}
    page = (out / "index.html").read_text(encoding="utf-8")
    assert EVIL not in page and "&lt;script&gt;" in page and "<script" not in page
    assert "http:" not in page and "https:" not in page
    assert 'href="../report.html#features"' in page
    assert page.count('class="suspect"') == 3
    for path in (out / "proposed").iterdir():
        mask, old = (np.asarray(Image.open(p)) for p in (path, folder / "masks" / path.name))
        assert mask.shape == old.shape and mask.max() < len(CLASS_NAMES) and (mask != old).any()
        assert f"cp -- {path}" in page and "data of mine/masks" in page
    assert before == {p.name: p.read_bytes() for p in (folder / "masks").iterdir()}


@pytest.mark.parametrize(
    "words, witness",
    [
        (dict(), RANKING),
        (dict(split="val"), RANKING_UNSEEN),
        (dict(split="all"), RANKING),
        (dict(folds=2), RANKING_UNSEEN),
        (dict(folds=2, score="margin"), "margin"),
    ],
)
def test_score__is_the_better_one_for_what_the_network_was_shown(run, scenes, words, witness):
    asked = ask(run, **words)
    assert audit.score_for(asked, audit.parts_of(scenes, asked.split)) == witness


def test_ask__is_about_the_data_of_the_run(run):
    own = read_config(run)
    assert own.data.num_labelled == 125 != DataConfig().num_labelled
    asked = ask(run, num=3)
    assert (asked.data, asked.eval, asked.num) == (own.data, own.eval, 3)
    assert parse_audit([str(run), "--num", "3"]) == asked


@pytest.mark.parametrize("number", [1, 4, 10])
def test_write_number__is_wholly_inside_wherever_a_region_begins(number):
    def drawn(row, column):
        picture = Image.new("L", (96, 96), 128)
        write_number(picture, number, row, column)
        pixels = np.asarray(picture)
        return (pixels == 0).sum(), (pixels > 128).sum()

    in_the_middle = drawn(40, 40)
    assert all(in_the_middle)
    for place in ((0, 0), (0, 95), (95, 0), (95, 95), (88, 40), (40, 88)):
        assert drawn(*place) == in_the_middle, place


def region_of_cell(row, column, *shape):
    cells = np.zeros(shape, bool)
    cells[row, column] = True
    return Region("a", 0, 1, cells, 0.9)


def test_outlined__a_region_smaller_than_a_pixel_of_the_picture():
    "Of a photo with more cells than the picture has pixels, no region is lost."
    image, far = np.full((300, 4000, 3), 128, np.uint8), region_of_cell(70, 997, 75, 1000)
    picture = np.asarray(outlined(image, [region_of_cell(5, 701, 75, 1000), far]))
    assert picture.shape == (43, 572, 3) and (picture == 255).any() and (picture == 0).any()
    outlined(image[:1, :1], [far])  # of which no pixel is left


def test_region__its_box_holds_its_pixels_and_no_other():
    for length, count in ((50, 13), (64, 16), (97, 13)):
        for cell in range(count):
            region = region_of_cell(cell, 0, count, 1)
            rows = np.flatnonzero(enlarge_cells(region.cells, length, 8)[:, 0])
            assert region.box(length, 8) == (rows[0], 0, rows[-1] + 1, 8)


def test_regions__a_class_of_which_nothing_is_known_is_not_proposed():
    said = np.full((4, 4, 3), [-0.9, -0.5, np.nan])
    [region] = find_regions("a", np.zeros((4, 4), int), said, np.full((4, 4), 0.7))
    assert region.proposed == 1, "densities may be negative"


def test_command__tables_are_there_though_the_page_fails(run, scenes, command, monkeypatch):
    monkeypatch.setattr(audit, "open_data", lambda cfg: scenes)
    monkeypatch.setattr(audit, "suspect_html", lambda *_: (_ for _ in ()).throw(InputError("no picture")))
    status, _, complained = command(run, "--num", "1")
    assert status == 2 and "no picture" in complained
    assert len(rows_of(run / "audit" / "images.csv")) == 10 and (run / "audit" / "regions.csv").is_file()


def test_command__a_proposal_replaces_masks_of_its_own_kind_alone(run, folder, command):
    for path in (folder / "masks").iterdir():
        with Image.open(path) as mask:
            mask.save(path.with_suffix(".tif"))
        path.unlink()
    status, _, complained = command(run, *on_folder(folder), "--num", "3")
    page = (run / "audit" / "index.html").read_text(encoding="utf-8")
    assert status == 0 and "cp --" not in page and page.count("The proposed mask: ") == 3, complained


def test_command__status_for_scripts_and_folders_that_are_taken(run, scenes, command, monkeypatch):
    monkeypatch.setattr(audit, "open_data", lambda cfg: scenes)
    status, _, complained = command(run, "--fail_above", "0")
    assert status == 1 and "above 0.0 in score: 10 of 10 masks: exit status 1" in complained
    assert command(run, "--fail-above", "1")[0] == 0
    assert [p.name for p in sorted(run.glob("audit*"))] == ["audit", "audit-2"]
    status, _, complained = command(run, "--out", run / "audit")
    assert status == 2 and "is there already; name another folder, as nothing is replaced" in complained
    images = {r["image"] for r in rows_of(run / "audit" / "images.csv")}
    assert images == set(scenes.labelled.ids)
    assert "cp --" not in (run / "audit" / "index.html").read_text(encoding="utf-8"), "there is no mask file"


def test_why_failed__a_limit_that_nothing_was_held_against_is_no_pass():
    void = Finding("void", [], judged=0, mean=0.0)
    nobody = AuditResult("both", dict(both=[void]))
    assert why_failed(nobody, 0.95) == "no mask could be judged, so none is known to score 0.95 or less"
    assert why_failed(nobody, None) == ""


def test_command__masks_that_the_run_has_not_seen(run, scenes, command, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(audit, "open_data", lambda cfg: scenes)
    masks = tmp_path / "masks"
    masks.mkdir()
    name = scenes.unlabelled.ids[4]
    target = scenes.unlabelled[4]["target"].numpy().astype(np.uint8)
    Image.fromarray(target).save(masks / f"{name}.png")
    Image.fromarray(target).save(masks / "stranger.png")
    with caplog.at_level("WARNING"):
        status, printed, _ = command(run, "--masks", masks, "--out", tmp_path / "out")
    assert sum("of no image of the data" in r.message for r in caplog.records) == 1
    assert status == 0 and "1 mask judged" in printed and "(not trained on)" in printed
    [row] = rows_of(tmp_path / "out" / "images.csv")
    assert (row["image"], row["list"], row["trained_on"]) == (name, "masks", "False")
    assert "was not trained on this mask" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    for wrong, said in ((target[:40], "has 64x40 pixels"), (target + 90, "holds the label value")):
        Image.fromarray(wrong).save(masks / f"{name}.png")
        status, _, complained = command(run, "--masks", masks, "--out", tmp_path / "again")
        assert status == 2 and said in complained and not (tmp_path / "again").exists()
    status, _, complained = command(run, "--masks", tmp_path / "nowhere")
    assert status == 2 and "there is no folder" in complained


def test_command__boxes_are_those_of_the_files_where_images_are_read_smaller(run_on_folder, command):
    assert command(run_on_folder, "--data.shrink", "2")[0] == 0
    ends = [(int(r["bottom"]), int(r["right"])) for r in rows_of(run_on_folder / "audit" / "regions.csv")]
    assert 32 < max(max(pair) for pair in ends) <= 64, "of images of 64 pixels"


def test_told__what_the_network_was_shown_and_what_could_not_be_judged():
    mask, says = np.zeros((2, 2), int), np.full((2, 2, 2), [0.9, 0.1])
    found = [finding_of("a", mask, says, says[..., 1]), finding_of("b", mask, says, np.full((2, 2), np.nan))]
    parts = dict(a="labelled", b="val")
    result = AuditResult("margin", dict(margin=found), parts, frozenset("a"), [None] * 2)
    lines = audit.told(result, Path("page"), can_fold=False).splitlines()
    assert len(lines) == 5 and "  a" in lines[1]
    assert lines[2] == "the network was trained on 1 of 2 masks"
    assert lines[3].startswith("1 mask not judged") and lines[4].startswith(
        "1 mask judged (--score margin --order"
    )


def test_damage__where_too_few_masks_can_be_damaged_nothing_is_written(scenes, tmp_path):
    void = Scenes({f"void {i}": np.zeros((64, 64), np.uint8) for i in range(3)})
    with pytest.raises(InputError, match="masks can be damaged by swap"):
        write_damaged(dataclasses.replace(scenes, unlabelled=void), tmp_path / "new", 0.5, "swap")
    assert not (tmp_path / "new").exists()


def test_command__an_empty_folder_of_a_person_stays(run, scenes, command, monkeypatch, tmp_path):
    monkeypatch.setattr(audit, "open_data", lambda cfg: scenes)
    (tmp_path / "mine").mkdir()
    for out, said in ((tmp_path / "mine", "there is no folder"), (tmp_path / ("x" * 300), "cannot make")):
        status, _, complained = command(run, "--masks", tmp_path / "nowhere", "--out", out)
        assert status == 2 and said in complained
    assert (tmp_path / "mine").is_dir()


def test_command__features_that_are_no_numbers(run, scenes, command, monkeypatch):
    monkeypatch.setattr(audit, "open_data", lambda cfg: scenes)
    whole = audit.open_trained

    def broken(*args):
        found = whole(*args)
        network = found.network
        forward = network.forward
        network.forward = lambda x: (lambda o: o._replace(feats=o.feats * torch.nan))(forward(x))
        return found

    monkeypatch.setattr(audit, "open_trained", broken)
    status, _, complained = command(run)
    assert status == 2 and "the network says NaN or infinity of it" in complained
    assert not (run / "audit").exists(), "an audit that failed leaves nothing"


@pytest.mark.parametrize(
    "words, said",
    [
        ("--num 0", "--num is 0; allowed: 1 or more"),
        ("--neighbors 1001", "--neighbors is 1001; allowed: 1 to 1000, twice --bank_size"),
        ("--fail_above 2", "--fail_above is 2.0; allowed: 0 to 1"),
        ("--masks x --split val", "--split val has no effect beside --masks"),
        ("--folds 2 --masks x", "--folds asks about the labelled images; leave --masks and --split out"),
        ("--folds 1", "--folds is 1; allowed: 0, or 2 and more"),
    ],
)
def test_command__settings_that_mean_nothing(run, command, words, said):
    status, _, complained = command(run, *words.split())
    assert status == 2 and said in complained


# Out of fold: networks that were not shown the masks


def fast(root, *more):
    "Two steps of a tiny run on a folder, and where its data are."
    words = "--preset digits --method supervised --steps 2 --device cpu --views.crop 64 --views.flip False"
    words += (
        " --batch.labelled 2 --batch.unlabelled 0 --loop.evaluations 1 --loop.snapshots 1 --loop.num_probes 1"
    )
    return parse_run([*words.split(), *map(str, on_folder(root)), *map(str, more)])


@pytest.fixture
def run_on_folder(folder, tmp_path):
    run = tmp_path / "mine"
    fit(fast(folder, "--out", run), callbacks=[])
    return run


def ids_in(path):
    return path.read_text().split()


def test_folds__each_mask_is_judged_by_a_network_that_was_not_shown_it(run_on_folder, command):
    run, data = run_on_folder, build_data(read_config(run_on_folder))
    status, printed, complained = command(run, "--folds", "2", "--num", "2")
    assert status == 0, complained
    rows = rows_of(run / "audit" / "images.csv")
    assert {r["image"] for r in rows} == set(data.labelled.ids) and len(rows) == len(data.labelled)
    assert {(r["list"], r["trained_on"]) for r in rows} == {("out of fold", "False")}
    shown = [set(ids_in(run / "folds-2" / n / "labelled.txt")) for n in "12"]
    assert shown[0].isdisjoint(shown[1]) and shown[0] | shown[1] == set(data.labelled.ids)
    for n, kept in zip("12", shown):
        fold = read_config(run / "folds-2" / n / "run")
        own = build_data(fold)
        assert set(own.labelled.ids) == kept and fold.steps == 2
        assert set(own.unlabelled.ids) == {*data.unlabelled.ids, *data.labelled.ids} - kept
        assert own.val.ids == data.val.ids
    page = (run / "audit" / "index.html").read_text(encoding="utf-8")
    assert "judged out of fold, by a network that was trained on the masks of the other folds" in page
    assert "fold 1 of 2: 2 steps on" in printed and "--folds 2 asks" not in printed
    assert "proposed" in page and "cp --" in page, "a mask of a fold has a file that can be mended"


def test_folds__a_second_audit_trains_nothing(run_on_folder, command, monkeypatch):
    first = command(run_on_folder, "--folds", "2")
    monkeypatch.setattr(folds, "fit", lambda run: pytest.fail("trained again"))
    second = command(run_on_folder, "--folds", "2", "--score", "density")
    assert first[0] == second[0] == 0 and "fold 2 of 2 is trained already" in second[1]
    one, two = (rows_of(run_on_folder / name / "images.csv") for name in ("audit", "audit-2"))
    by_image = [{r["image"]: r["score_density"] for r in rows} for rows in (one, two)]
    assert by_image[0] == by_image[1]


def test_folds__of_another_run_are_not_taken_for_these(run_on_folder, command):
    assert command(run_on_folder, "--folds", "2")[0] == 0
    config = run_on_folder / "folds-2" / "2" / "run" / "config.json"
    config.write_text(config.read_text().replace('"seed": 0', '"seed": 7'))
    status, _, complained = command(run_on_folder, "--folds", "2")
    assert status == 2 and "seed is 7 there, 0 is asked for" in complained
    assert not (run_on_folder / "audit-2").exists()


def test_folds__move_with_their_run_and_know_their_images(run_on_folder, command, tmp_path, monkeypatch):
    assert command(run_on_folder, "--folds", "2")[0] == 0
    moved = run_on_folder.rename(tmp_path / "elsewhere")
    with monkeypatch.context() as patched:
        patched.setattr(folds, "fit", lambda run: pytest.fail("trained again"))
        assert command(moved, "--folds", "2")[0] == 0
    config = json.loads((moved / "folds-2" / "1" / "run" / "config.json").read_text())
    config["images"]["labelled"][1] = "0" * 16
    (moved / "folds-2" / "1" / "run" / "config.json").write_text(json.dumps(config))
    status, _, complained = command(moved, "--folds", "2")
    assert status == 2 and "the run was begun with other images" in complained


def test_folds__know_the_masks_that_they_learnt_from(run_on_folder, folder, command):
    assert command(run_on_folder, "--folds", "2")[0] == 0
    corrected = ids_in(run_on_folder / "folds-2" / "2" / "labelled.txt")[0]
    with Image.open(folder / "masks" / f"{corrected}.png") as mask:
        mask.transpose(Image.Transpose.ROTATE_180).save(folder / "masks" / f"{corrected}.png")
    status, _, complained = command(run_on_folder, "--folds", "2")
    assert status == 2 and f"masks that have changed since, of {corrected}; remove" in complained
    shutil.rmtree(run_on_folder / "folds-2")
    assert command(run_on_folder, "--folds", "2")[0] == 0


def test_folds__are_as_they_were_where_the_lists_have_changed(run_on_folder, folder, command):
    assert command(run_on_folder, "--folds", "2")[0] == 0
    before = {p: p.read_bytes() for p in run_on_folder.rglob("folds-2/*/*.txt")}
    labelled = build_data(read_config(run_on_folder)).labelled.ids
    (folder / "labelled.txt").write_text("".join(f"{name}\n" for name in labelled[1:]))
    status, _, complained = command(run_on_folder, "--folds", "2")
    assert status == 2 and f"remove {run_on_folder / 'folds-2'}, and the folds are trained" in complained
    assert "--out" not in complained and len(before) == 8
    assert before == {p: p.read_bytes() for p in run_on_folder.rglob("folds-2/*/*.txt")}


def test_folds__of_lists_that_overlap(run_on_folder, tmp_path):
    run = read_config(run_on_folder)
    data = build_data(run)
    both = dataclasses.replace(data, unlabelled=data.labelled)
    fold = folds.plan_fold(run, both, data.labelled.ids[:2], tmp_path / "1")
    assert fold.lists["unlabelled"] == list(data.labelled.ids)


def test_hear__of_a_small_bank_all_entries_vote():
    images = [cells_of_scene(f"image-{i}", scene(i), scene(i)) for i in range(4)]
    banks = build_banks(images, CLASSES)
    said = hear(images[0], banks, entry_weights(banks), num_neighbors=10**4)
    assert not said["unweighted"].suspicion[images[0].labels == 0].isnan().any()


def test_folds__of_digits_and_of_too_few_images(run, run_on_folder, scenes, command, monkeypatch):
    status, _, complained = command(run_on_folder, "--folds", "99")
    assert status == 2 and "--folds is 99; allowed: 2 to" in complained
    monkeypatch.setattr(audit, "open_data", lambda cfg: scenes)
    status, _, complained = command(run, "--folds", "2")
    assert status == 2 and "needs lists of images, and digits has none" in complained


def test_folds__stopped_in_the_middle(run_on_folder, command, monkeypatch):
    def stop(asked):
        raise Stopped(SimpleNamespace(folder=RunFolder(asked.out), step=1, run=asked))

    monkeypatch.setattr(folds, "fit", stop)
    status, _, complained = command(run_on_folder, "--folds", "2")
    assert status == 130 and "folds that are trained are kept" in complained
    assert not (run_on_folder / "audit").exists()


def test_folds__a_training_that_fails_is_no_wrong_mask(run_on_folder, command, monkeypatch):
    def fail(asked):
        raise RunFailed("the loss is NaN")

    monkeypatch.setattr(folds, "fit", fail)
    status, _, complained = command(run_on_folder, "--folds", "2")
    assert status == 2 and "fold 1 of 2 failed: the loss is NaN" in complained


def test_cleanlab__is_an_extra(run, command):
    with patch.dict(sys.modules, {"cleanlab": None, "cleanlab.segmentation": None}):
        status, _, complained = command(run, "--cleanlab", "True")
    assert status == 2 and "pip install 'dgcl_nb[audit]'" in complained


def test_cleanlab__is_the_soft_minimum_of_self_confidence():
    pytest.importorskip("cleanlab", reason="cleanlab's score: pip install 'dgcl_nb[audit]'")
    draw = np.random.default_rng(0)
    labels = [draw.integers(0, 3, (6, 6)) for _ in range(4)]
    labels[0][0] = IGNORE_INDEX
    labels.append(np.full((6, 6), IGNORE_INDEX))
    probs = [draw.dirichlet([0.3] * 3, (6, 6)) for _ in range(5)]
    scores, findings = cleanlab_findings(list("abcde"), labels, probs)
    for name, y, p in zip("abcd", labels, probs):
        known = y != IGNORE_INDEX
        own = p[known][np.arange(known.sum()), y[known]]
        weights = np.exp((1 - own) / 0.1)
        assert scores[name] == pytest.approx(1 - (own * weights).sum() / weights.sum())
    assert scores["e"] == 0 and not findings[4].regions and findings[0].regions


# The trial


@pytest.fixture
def unseen(monkeypatch, tmp_path):
    "The trial, with forty clean scenes as val and as labelled images, and two runs that are finished."
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "results"))
    import make_audit_trial as trial

    truth = {f"scene-{i}": scene(i) for i in range(40)}
    images, names = Scenes(truth), tuple("abcd")
    data = SegData(
        "easy", images, Scenes({}), images, CLASSES, names, distinct_palette(CLASSES), background=0
    )

    def made_up(trained, some, *_, **__):
        return (cells_of_scene(name, truth[name], truth[name]) for name in some.ids)

    asked = []

    def opened(run, *weights):
        asked.append((run.name, *weights))
        return SimpleNamespace(run=SimpleNamespace(data=None), step=7)

    for name, value in dict(cells_of=made_up, open_trained=opened, open_data=lambda _: data).items():
        monkeypatch.setattr(trial, name, value)
    monkeypatch.setattr(trial, "has_cleanlab", lambda: False)
    some = ("swap", "shift", "drop", MIXTURE)  # a square is its own polygon
    monkeypatch.setitem(trial.UNSEEN, "neu_seg", ("neu-77", 0.1, some))
    for seed in (0, 1):
        run = tmp_path / "runs" / f"neu-77-self_training-s{seed}"
        run.mkdir(parents=True)
        (run / "result.json").write_text("{}")
    return trial, asked, tmp_path


def test_trial__masks_that_no_run_has_seen(unseen):
    trial, asked, place = unseen
    trial.run_unseen(["neu_seg"], place / "runs", [0], place / "out")
    trial.run_unseen(["neu_seg"], place / "runs", [0, 1], place / "out")
    assert asked == [(f"neu-77-self_training-s{seed}", "last", "cpu") for seed in (0, 1)], (
        "none is asked twice"
    )
    rows = json.loads((place / "out" / "neu_seg" / "audit_unseen.json").read_text())
    assert {(r["kind"], r["seed"], r["score"]) for r in rows} == {
        (kind, seed, score)
        for kind in trial.UNSEEN["neu_seg"][2]
        for seed in (0, 1)
        for score in (*SCORES, trial.CELLS)
    }
    assert all(r["damaged"] == 4 and r["images"] == 40 and r["pieces"] >= 4 for r in rows)
    assert all(r["image_ap"] == 1.0 for r in rows), "these cells show the truth whatever the mask says"
    table = (place / "out" / "neu_seg" / "audit_unseen.md").read_text()
    assert "| mixture | 10% |" in table and "--seeds 0 1" in table and "Nothing was trained" in table


def test_trial__a_run_that_is_not_finished(unseen):
    trial, asked, place = unseen
    with pytest.raises(SystemExit, match="neu-77-self_training-s2 is no finished run"):
        trial.run_unseen(["neu_seg"], place / "runs", [2], place / "out")
    assert not asked and not (place / "out" / "neu_seg" / "audit_unseen.json").exists()


def test_trial__goes_on_where_it_was_stopped(unseen, monkeypatch):
    trial, _, place = unseen
    asked = []

    def one(name, kind, seed, where, more):
        asked.append((kind, seed))
        if len(asked) == 2:
            raise KeyboardInterrupt
        about = dict(masks="labelled", images=40, damaged=4, score="density")
        return [dict(kind=kind, seed=seed, **about, image_ap=0.5, region_ap=0.25)]

    monkeypatch.setattr(trial, "trial", one)
    monkeypatch.setattr(trial, "ROOT", place)
    with pytest.raises(KeyboardInterrupt):
        trial.run_trials(["neu_seg"], [0, 1], place, [], False)
    table = place / "results" / "neu_seg" / "audit.md"
    assert "--seeds 0`" in table.read_text() and "(2 are planned)" in table.read_text()
    assert "Out of fold" not in table.read_text(), "nothing was asked out of fold"
    trial.run_trials(["neu_seg"], [0, 1], place, [], False)
    assert asked == [(MIXTURE, 0), (MIXTURE, 1), (MIXTURE, 1)]
    assert "--seeds 0 1`" in table.read_text() and "are planned" not in table.read_text()
    folded = []

    def of_folds(name, kind, seed, where, num):
        folded.append((seed, num))
        about = dict(masks="out of fold", images=40, damaged=4, score="density")
        return [dict(kind=kind, seed=seed, **about, image_ap=0.75, region_ap=0.5, folds=num)]

    monkeypatch.setattr(trial, "trial_of_folds", of_folds)
    for _ in range(2):
        trial.run_trials(["neu_seg"], [0, 1], place, [], False, num_folds=2)
    assert folded == [(0, 2), (1, 2)] and len(asked) == 3, "runs that are there are not trained again"
    assert "| out of fold | mixture | 10% | density | 75 (75, 75) | 50 (50, 50) |" in table.read_text()
    assert "--seeds 0 1 --folds 2`" in table.read_text() and "(`--folds 2`): each mask" in table.read_text()
    trial.run_trials(["neu_seg"], [0, 1], place, [], False, num_folds=3)
    assert folded[2:] == [(0, 3), (1, 3)], "of other folds nothing was there"
    assert "| out of fold, 3 folds | mixture |" in table.read_text()
    table.write_text("old")
    trial.write_tables(["neu_seg", "camvid"])
    assert "| out of fold, 2 folds | mixture |" in table.read_text()


def test_trial__masks_that_were_half_written_are_written_anew(unseen, monkeypatch):
    trial, _, place = unseen
    half, made = place / "half", []

    def write(*about):
        assert not half.exists(), "write_damaged wants a new folder"
        made.append(about)
        half.mkdir()
        (half / "truth.csv").touch()

    monkeypatch.setattr(trial, "damage_preset", write)
    (half / "images").mkdir(parents=True)
    for _ in range(2):
        trial.damage_once("neu-308", MIXTURE, 0.1, 0, half)
    assert made == [("neu-308", MIXTURE, 0.1, 0, half)]
