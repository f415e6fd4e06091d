"""The command that scores a run: the figures of training, other data and protocols, errors, two processes."""

import json
import math
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import clean_environment, few_images, tiny_run
from PIL import Image

from dgcl_nb import engine, evaluate
from dgcl_nb.config import build_data
from dgcl_nb.run_folder import RunFolder, read_torch, write_torch
from dgcl_nb.data.digits import CLASS_NAMES
from dgcl_nb.data.sets import DataConfig
from dgcl_nb.engine import fit
from dgcl_nb.evaluate import evaluate_run, main, parse_evaluate
from dgcl_nb.predict import predict
from dgcl_nb.trained import open_trained
from dgcl_nb.windows import EvalConfig

SIZES = [(40, 56), (40, 56), (33, 64), (64, 33), (20, 90), (51, 51), (40, 56)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    "A finished run, scored on 12 images, whose best weights are not its last."
    place, patch = tmp_path_factory.mktemp("runs"), pytest.MonkeyPatch()
    patch.setattr(engine, "build_data", few_images)
    short = dict(steps=6, loop__sup_only_fraction=0.5, loop__evaluations=3)
    result = fit(tiny_run("self_training", out=str(place / "run"), **short), callbacks=[])
    patch.undo()
    return place, result


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(evaluate, "open_data", lambda cfg: few_images(tiny_run(data__num_labelled=125)))


@pytest.fixture
def run(runs, tmp_path):
    "A copy that a test may spoil."
    return Path(shutil.copytree(runs[0] / "run", tmp_path / "run"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "A folder of images of several sizes, with masks of which some pixels do not count."
    root, draw = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    scenes = build_data(tiny_run()).val
    for part in ("images", "masks"):
        (root / part).mkdir()
    for i, (height, width) in enumerate(SIZES):
        cells = np.ix_(np.arange(height) % 64, np.arange(width) % 64)
        image = scenes[i]["image"].permute(1, 2, 0).numpy()[cells]
        target = scenes[i]["target"].numpy()[cells].astype(np.uint8)
        target[draw.random(target.shape) < 0.1] = 255
        Image.fromarray(image).save(root / "images" / f"{i}.png")
        Image.fromarray(target).save(root / "masks" / f"{i}.png")
    (root / "classes.txt").write_text("\n".join(CLASS_NAMES))
    (root / "all.txt").write_text("".join(f"{i}\n" for i in range(len(SIZES))))
    return root


def on_folder(root):
    listed = f"--data.labelled {root / 'all.txt'} --data.val {root / 'all.txt'} --data.allow_overlap True"
    return ["--data.name", "folder", "--data.root", str(root), *listed.split()]


def one_line(text):
    "What was complained, in one line however wide the terminal is."
    assert "Traceback" not in text
    return " ".join(text.split())


@pytest.fixture
def command(capsys):
    "Run the command in this process: (exit status, what it printed, what it complained)."

    def call(*args):
        try:
            main([str(a) for a in args])
            status = 0
        except SystemExit as e:
            status = e.code or 0
        return status, *capsys.readouterr()

    return call


def test_evaluate__gives_the_figures_of_training(runs, few):
    "Best weights, last weights, student, teacher, each class, clusters and protocol, to the last digit."
    place, result = runs
    scores = evaluate_run(place / "run", clusters=True, device="cpu")
    best, teacher, student = scores["networks"]
    found = [tuple(r[k] for k in ("network", "weights", "step", "is_predictor")) for r in scores["networks"]]
    assert found == [
        ("teacher", "best", result["best_step"], True),
        ("teacher", "last", 6, True),
        ("student", "last", 6, False),
    ]
    assert best["miou"] == result["best_miou"]
    assert teacher["miou"] == result["miou_teacher"]
    assert student["miou"] == result["miou_student"]
    assert teacher["iou_per_class"] == result["iou_per_class"]
    assert scores["protocol"] == result["protocol"]
    for name in ("silhouette", "calinski_harabasz", "davies_bouldin"):
        assert teacher[name] == result[name]
    assert "silhouette" not in evaluate_run(place / "run", "last", device="cpu")["networks"][0]


def test_evaluate__best_and_last_of_one_step_are_scored_once(run, few, command, monkeypatch):
    for path in (run / "checkpoints").glob("best.pt"):
        saved = read_torch(path)
        last = read_torch(run / "checkpoints" / "step_0000006.pt")["method"]
        own = {name: last[f"teacher.network.{name}"] for name in saved["predictor"]}
        write_torch(path, saved | dict(predictor=own, step=6))
    scored, count = [], evaluate.evaluate
    monkeypatch.setattr(evaluate, "evaluate", lambda *a, **k: scored.append(a[0]) or count(*a, **k))
    status, said, errors = command(run, "--device", "cpu")
    assert status == 0 and len(scored) == 2, errors
    assert said.count("teacher*") == 1 and "best, last" in said
    rows = json.loads((run / "evaluation.json").read_text())["networks"]
    assert [(r["network"], r["weights"]) for r in rows] == [
        ("teacher", "best"),
        ("teacher", "last"),
        ("student", "last"),
    ]
    assert rows[0] | dict(weights="last") == rows[1], "for programs both are there"


@pytest.mark.parametrize(
    "cfg", [EvalConfig(), EvalConfig(mode="slide", crop=32, scales=(0.75, 1.25), flip=True)], ids=str
)
def test_evaluate__a_folder_counted_pixel_by_pixel(runs, folder, cfg):
    listed = str(folder / "all.txt")
    data = DataConfig(name="folder", root=str(folder), labelled=listed, val=listed, allow_overlap=True)
    scores = evaluate_run(runs[0] / "run", "last", data=data, cfg=cfg, device="cpu")
    trained, counts = open_trained(runs[0] / "run", "last", "cpu"), np.zeros((11, 11), int)
    for p in predict(trained, folder / "images", cfg):
        truth = np.asarray(Image.open(folder / "masks" / p.name))
        for t, s in zip(truth.ravel().tolist(), p.labels.ravel().tolist()):
            if t != 255:
                counts[t, s] += 1
    row = next(r for r in scores["networks"] if r["network"] == trained.predictor)
    assert row["confusion"] == counts.tolist()
    assert scores["list"]["num"] == len(SIZES)
    unions = counts.sum(0) + counts.sum(1) - counts.diagonal()
    ious = {n: 100 * counts[c, c] / unions[c] if unions[c] else None for c, n in enumerate(CLASS_NAMES)}
    assert row["iou_per_class"] == pytest.approx(ious)
    assert row["miou"] == pytest.approx(np.mean([v for v in ious.values() if v is not None]))
    assert row["left_out"] == [n for n, v in ious.items() if v is None]


def test_main__prints_and_writes(command, run, few):
    words = "--device cpu --clusters True --eval.scales 0.5 1 --eval.flip True"
    status, said, complained = command(run, *words.split())
    written = json.loads((run / "evaluation.json").read_text())
    assert status == 0 and "Traceback" not in complained
    assert "scales 0.5, 1, each also mirrored, mean of logits; 12 images" in said
    assert "selected on the run's own val images" in said
    assert f"written to  {run}/evaluation.json" in said
    assert written["eval"]["scales"] == [0.5, 1.0]
    assert len(written["networks"]) == 3
    for row in written["networks"]:
        assert f"{row['miou']:.1f}" in said and math.isfinite(row["calinski_harabasz"] or 0.0)
    for name in CLASS_NAMES:
        assert f" {name} " in said
    del written["data"]
    assert str(run.parent) not in json.dumps(written), "the place of the run is nobody's business"


def test_main__writes_where_nothing_is(command, run, few):
    (run / "evaluation.json").write_text("mine")
    assert command(run, "--device", "cpu", "--weights", "last")[0] == 0
    assert (run / "evaluation.json").read_text() == "mine"
    assert len(json.loads((run / "evaluation-2.json").read_text())["networks"]) == 2
    out = run.parent / "deep" / "er" / "x.json"
    assert command(run, "--device", "cpu", "--weights", "best", "--out", out)[0] == 0
    assert len(json.loads(out.read_text())["networks"]) == 1


def test_parse__data_of_the_run_or_of_another_set(runs):
    run = str(runs[0] / "run")
    own = open_trained(run, device="cpu").run.data
    assert parse_evaluate([run]).data == own and own.num_labelled == 125
    assert parse_evaluate([run, "--data.split_seed", "3"]).data.num_labelled == 125
    other = parse_evaluate([run, "--data.name=folder", "--data.root=x"])
    assert other.data == DataConfig(name="folder", root="x")


def test_main__runs_without_some_of_their_weights(command, run, few):
    (run / "checkpoints" / "best.pt").rename(run / "best.pt")
    status, said, _ = command(run, "--device", "cpu")
    assert status == 0 and "selected on" not in said
    assert "take --weights last" in command(run, "--device", "cpu", "--weights", "best")[2]
    for p in engine.checkpoints_of(RunFolder(run)):
        p.unlink()
    status, _, complained = command(run, "--device", "cpu")
    assert status == 2 and "has no weights in checkpoints/" in complained
    (run / "best.pt").rename(run / "checkpoints" / "best.pt")
    assert command(run, "--device", "cpu")[0] == 0
    assert "take --weights best" in command(run, "--device", "cpu", "--weights", "last")[2]


@pytest.mark.parametrize(
    "words, message",
    [
        (
            ["--data.name", "folder", "--data.root", "two"],
            "tell 11 classes apart (background, 0, 1, 2 …), the data set folder has 2 (sea, land)",
        ),
        (["--out", "there.json"], "--out there.json exists; name another file"),
        (["--out", "there.json/x.json"], "cannot write there.json/x.json"),
        (["--eval.crop", "64"], "eval.crop is 64, which has no effect on whole images"),
        (["--data.name", "digit"], "unknown data.name 'digit'; did you mean digits"),
        (["--data.name", "voc", "--data.root", "nowhere"], "no VOC 2012 in nowhere"),
        (["--part", "vall"], "vall"),
        (["--device", "cdua"], "unknown device 'cdua'; did you mean cuda"),
        (["--data.name", "folder", "--data.root", "wrong"], "holds the label value"),
        (
            ["--data.name", "folder", "--data.root", "wrong", "--part", "unlabelled"],
            "has no target; evaluation needs a mask",
        ),
    ],
)
def test_main__wrong_words(command, run, folder, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "there.json").write_text("{}")
    for name in ("two", "wrong"):
        shutil.copytree(folder, name)
    Path("two/classes.txt").write_text("sea\nland\n")
    Path("wrong/masks/6.png").unlink()
    Path("wrong/val.txt").write_text("0\n1\n")
    Image.fromarray(np.full(SIZES[0], 99, np.uint8)).save("wrong/masks/0.png")
    status, said, complained = command("run", "--device", "cpu", *words)
    assert status == 2 and message in one_line(complained)
    assert not list(run.glob("evaluation*"))


@pytest.mark.parametrize(
    "words, message",
    [
        (["nowhere"], "there is no folder nowhere"),
        (["."], ". is no run folder"),
        ([], "run"),
        (["--device", "cpu"], "run"),
    ],
)
def test_main__no_run(command, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    status, said, complained = command(*words)
    assert status == 2 and message in complained.lower() and "Traceback" not in complained


def test_evaluate__other_names_of_as_many_classes_are_said(runs, folder, tmp_path, caplog):
    shutil.copytree(folder, tmp_path / "data")
    (tmp_path / "data" / "classes.txt").write_text("\n".join(["ground", *CLASS_NAMES[1:]]))
    data = DataConfig(name="folder", root=str(tmp_path / "data"))
    evaluate_run(runs[0] / "run", "best", data=data, device="cpu")
    assert "1 classes have other names in the run and in the data: background / ground" in caplog.text


def test_evaluate__images_read_at_another_size_than_the_run_s_are_said(runs, folder, caplog):
    own, half = (DataConfig(name="folder", root=str(folder), shrink=by) for by in (1, 2))
    evaluate_run(runs[0] / "run", "best", data=own, device="cpu")
    assert "of their size" not in caplog.text
    scores = evaluate_run(runs[0] / "run", "best", data=half, device="cpu")
    assert "the run read images at 1/1 of their size, here they are read at 1/2" in caplog.text
    assert "--data.shrink 1 reads them alike" in caplog.text and "read at 1/2" in scores["protocol"]


def two_processes(tmp_path, *words):
    "Run the command as torchrun would, with two processes: (exit statuses, what each printed)."
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = str(s.getsockname()[1])
    net = dict(WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    logs, started = [tmp_path / f"{rank}.txt" for rank in (0, 1)], []
    for rank, log in enumerate(logs):
        program = [sys.executable, "-m", "dgcl_nb.evaluate", *map(str, words)]
        environment = clean_environment(RANK=str(rank), LOCAL_RANK=str(rank), **net)
        how = dict(cwd=tmp_path, env=environment, stderr=subprocess.STDOUT)
        started.append(subprocess.Popen(program, stdout=log.open("w"), **how))
    end = time.time() + 240
    while time.time() < end and any(c.poll() is None for c in started):
        time.sleep(0.2)
    for c in started:
        c.kill()
        c.wait()
    return [c.returncode for c in started], [log.read_text() for log in logs]


@pytest.mark.slow
def test_main__a_bad_mask_on_one_process_ends_both(runs, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "data")
    Image.fromarray(np.full(SIZES[1], 99, np.uint8)).save(tmp_path / "data" / "masks" / "1.png")
    words = ("--device", "cpu", "--out", "two.json", *on_folder(tmp_path / "data"))
    (zero, one), logs = two_processes(tmp_path, runs[0] / "run", *words)
    assert one == 2 and "holds the label value 99" in logs[1]
    assert zero == 1 and "another process has ended" in logs[0]
    assert "Traceback" not in logs[0] + logs[1]
    assert not (tmp_path / "two.json").exists()


def test_main__two_processes_count_as_one(runs, folder, tmp_path, command):
    "Seven images over two processes, of different sizes, at two scales and mirrored, as under torchrun."
    how = "--device cpu --clusters True --weights last --eval.scales 0.75 1 --eval.flip True"
    words = [runs[0] / "run", *how.split(), *on_folder(folder)]
    statuses, logs = two_processes(tmp_path, *words, "--out", "two.json")
    assert statuses == [0, 0], "\n".join(logs)
    assert "mIoU" in logs[0] and "mIoU" not in logs[1], "the first process alone speaks"
    assert command(*words, "--out", tmp_path / "one.json")[0] == 0
    two, one = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("two", "one"))
    assert two["processes"] == 2 and one["processes"] == 1
    assert one["protocol"] == two["protocol"]
    for a, b in zip(two["networks"], one["networks"], strict=True):
        assert all(a[k] == b[k] for k in ("network", "confusion", "miou", "iou_per_class"))
        assert a["silhouette"] == pytest.approx(b["silhouette"], rel=1e-3)
    masks = [np.asarray(Image.open(p)) for p in (folder / "masks").iterdir()]
    assert np.array(one["networks"][0]["confusion"]).sum() == sum((m != 255).sum() for m in masks)


@pytest.mark.parametrize("background", [None, 0, 2])
def test_evaluate__clusters_without_the_background_that_the_data_name(runs, few, background):
    trained, data = open_trained(runs[0] / "run", device="cpu"), evaluate.open_data(None)
    object.__setattr__(data, "background", background)
    targets = [data.val[i]["target"] for i in range(len(data.val))]
    (found,) = evaluate.score_networks(trained, data, "val", EvalConfig(), clusters=True).values()
    present = set(torch.stack(targets)[..., 2::4, 2::4].unique().tolist()) - {255, background}
    assert found.clusters.num_clusters == len(present)
    assert ("incl. background" in found.protocol) == (background is not None)


def test_evaluate__one_network_is_left_as_it_is(runs, few):
    trained = open_trained(runs[0] / "run", device="cpu")
    before = {k: v.clone() for k, v in trained.network.state_dict().items()}
    evaluate.score_networks(trained, evaluate.open_data(None), "val", EvalConfig())
    assert all(torch.equal(v, before[k]) for k, v in trained.network.state_dict().items())
    assert not trained.network.training
