"""The command: its help, its errors, what it prints and leaves, and how it goes on."""

import json
import logging
import math
import re
import shutil
import subprocess
import sys
import tempfile

import pytest
from help_texts import explained
from helpers import (
    ROOT,
    TINY,
    clean_environment,
    few_images,
    metrics_of,
    state_of,
    tiny_args,
    tiny_run,
    train_command,
)

import dgcl_nb
from dgcl_nb import config, dry_run, engine
from dgcl_nb.batches import BatchConfig
from dgcl_nb.config import METHODS, config_record, parse_run, run_class
from dgcl_nb.core import InputError
from dgcl_nb.methods import protocol
from dgcl_nb.run_folder import RunFolder
from dgcl_nb.dry_run import Cost, Measured, copied_bytes, grown, held_bytes, take_step
from dgcl_nb.processes import Control, pick_folder
from dgcl_nb.settings import setting_names
from dgcl_nb.train import main


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    "An empty working folder, few val images, a screen of one column of help."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setattr(engine, "build_data", few_images)


@pytest.fixture
def command(capsys):
    "Run the command in this process: (exit status, what it printed, what it complained)."

    def run(*args):
        try:
            main([str(a) for a in args])
            status = 0
        except SystemExit as e:
            status = e.code or 0
        return status, *capsys.readouterr()

    return run


def squeeze(text):
    return re.sub(r"[\s│╭╮╰╯─]+", "", text)


# Help and version


def settings_of(method):
    "Every setting of a method with its comment."
    return {name: text for name, text, _ in explained(run_class(method))}


@pytest.mark.parametrize("method", list(METHODS))
def test_help_all__explains_every_setting_of_the_method(command, method):
    status, said, errors = command("--method", method, "--help-all")
    assert status == 0 and not errors
    told, settings = squeeze(said), settings_of(method)
    assert set(settings) == set(setting_names(run_class(method)))
    flags = set(re.findall(r"--([\w.]+)", said))
    assert not [n for n in settings if n not in flags], "each setting has a flag"
    assert not [n for n, text in settings.items() if not text], "each setting has a comment"
    assert not [n for n, text in settings.items() if squeeze(text) not in told], "each comment is in the help"
    others = {f"{m}." for m in METHODS} - {f"{method}."}
    assert not [f for f in flags if f.startswith(tuple(others))], "settings of other methods are left out"


@pytest.mark.parametrize("method", list(METHODS))
def test_help__groups_and_methods_explain_every_setting(command, method):
    "What --help and --help GROUP say together, for every setting."
    groups = {name.partition(".")[0] for name in setting_names(run_class(method)) if "." in name}
    pages = [command("--help", topic) for topic in {*groups, method}] + [command("--help")]
    assert all(status == 0 and not errors for status, _, errors in pages)
    told = squeeze("".join(said for _, said, _ in pages))
    missing = [name for name, text in settings_of(method).items() if f"--{name}" not in told]
    assert not missing
    dotted = {name: text for name, text in settings_of(method).items() if "." in name}
    assert not [name for name, text in dotted.items() if squeeze(text) not in told]


def test_help__is_short_and_names_methods_and_presets(command):
    status, said, _ = command("--steps", "20", "-h")
    lines = said.splitlines()
    assert status == 0 and len(lines) < 90 and max(map(len, lines)) <= 80
    assert not [name for name in METHODS if f"\n  {name} " not in said]
    assert "voc-732" in said and said.count("  python -m dgcl_nb.train") == 3
    status, said, errors = command("--help", "dta")
    assert status == 2 and not said and errors == "error: unknown topic 'dta'; did you mean data?\n"
    assert command("--help", "optim.lr") == command("--help", "optim")


COMMANDS = [
    "train",
    "evaluate",
    "predict",
    "suggest",
    "audit",
    "bench",
    "report",
    "explore",
    "data",
    "data check",
]


def test_help__parts_no_word_between_lines():
    text = (ROOT / "dgcl_nb" / "help.txt").read_text()
    assert not re.findall(r"\{\w+\n.*", text), "a choice that goes on in the next line"


@pytest.mark.parametrize("words", COMMANDS)
def test_help__comes_before_the_imports(words):
    "Within a second: neither torch nor anything else that takes seconds is imported."
    command = [sys.executable, "-X", "importtime", "-m", *f"dgcl_nb.{words}".split(), "--help"]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith(f"usage: python -m dgcl_nb.{words}")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "dgcl_nb" in imported and not imported & {"torch", "numpy", "tyro", "dgcl_nb.core"}


def test_version__in_a_process_of_its_own():
    done = train_command("--version")
    assert done.returncode == 0 and not done.stderr
    assert done.stdout.strip() == f"dgcl_nb {dgcl_nb.__version__}"


# Errors: exit status 2, the nearest valid names, no traceback

NO_ENCODER = "unknown encoder 'tf_efficientnet_lit0'; did you mean tf_efficientnet_lite0"
BANK_TOO_SMALL = "bank.min_fill is 2000.* bank.size = 1000; lower the one or raise the other"
WRONG = [
    (["--preset", "digit"], "unknown preset 'digit'; did you mean digits"),
    (["--method", "dgcll"], "unknown method 'dgcll'; did you mean dgcl"),
    (["--variant", "releasd"], "unknown variant 'releasd'"),
    (["--model.encoder", "tf_efficientnet_lit0"], NO_ENCODER),
    (["--data.name", "digts"], "unknown data.name 'digts'; did you mean digits"),
    (["--device", "cdua"], "unknown device 'cdua'; did you mean cuda"),
    (["--optim.optimizer", "adam"], "unknown optim.optimizer 'adam'; did you mean adamw"),
    (["--optim.lrr", "1"], "--optim.lr"),
    (["--self_training.unsup_weight", "1"], "--self_training.unsup_weight"),
    (["--steps", "many"], "many"),
    (["--steps", "0"], "--steps is 0; allowed: 1 or more"),
    (["--dgcl.bank.min_fill", "2000"], BANK_TOO_SMALL),
    (["--init_from", "nowhere"], "--init_from nowhere: no checkpoints/best.pt"),
]


@pytest.mark.parametrize("args,message", WRONG, ids=[a[0].strip("-") + "=" + a[1] for a, _ in WRONG])
def test_main__wrong_name_or_value(command, tmp_path, args, message):
    status, said, errors = command("--data.root", TINY["data.root"], "--model.pretrained", "none", *args)
    assert status == 2 and re.search(squeeze(message), squeeze(errors)), errors
    assert "Traceback" not in errors + said
    assert not list(tmp_path.glob("runs/*")), "what was wrong leaves nothing behind"


def test_main__error_in_a_process_of_its_own(tmp_path):
    done = train_command("--preset", "digit", cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: unknown preset 'digit'; did you mean")


WRONG_LINES = [
    ("optim.lrr = 1", r"settings.ini \[digits\]: unknown setting 'optim.lrr'; did you mean optim.lr"),
    ("steps = many", r"settings.ini \[digits\]: 'steps = many' is not valid"),
    ("optim.lr = -1", r"settings.ini \[digits\]: .*optim.lr is -1"),
    ("inherit = nowhere", "unknown preset 'nowhere'"),
    ("steps", "settings.ini"),
]


@pytest.mark.parametrize("line,message", WRONG_LINES)
def test_main__wrong_line_in_settings_ini(command, tmp_path, line, message):
    (tmp_path / "settings.ini").write_text(f"[digits]\n{line}\n")
    status, _, errors = command()
    assert status == 2 and re.search(squeeze(message), squeeze(errors)), errors


def test_parse_run__lines_of_a_preset_are_read_together(tmp_path):
    (tmp_path / "settings.ini").write_text("[digits]\ndgcl.bank.size = 32\ndgcl.bank.min_fill = 8\n")
    bank = parse_run(folder=tmp_path).dgcl.bank
    assert (bank.size, bank.min_fill) == (32, 8), "an order of lines that passes a forbidden state is fine"


def test_parse_run__order_of_layers(tmp_path):
    mine = "[mine]\ninherit = digits\nmethod = supervised\nsteps = 44\n"
    (tmp_path / "settings.ini").write_text(f"[digits]\nsteps = 33\nseed = 5\n{mine}")
    assert parse_run(folder=tmp_path).steps == 33 and parse_run(["--steps", "7"], tmp_path).steps == 7
    run = parse_run(["--preset=mine"], tmp_path)
    assert (run.method, run.steps, run.seed, run.data.num_labelled) == ("supervised", 44, 5, 250)


def test_parse_run__own_lines_win_over_shipped_ones_for_a_method(tmp_path, caplog):
    shipped = parse_run(folder=tmp_path)
    (tmp_path / "settings.ini").write_text("[digits]\ndgcl.contrast_weight = 0.5\nsemi.unsup_weight = 0.3\n")
    assert shipped.dgcl.contrast_weight == 0.03, "the shipped file has a section [digits for dgcl]"
    assert parse_run(folder=tmp_path).dgcl.contrast_weight == 0.5
    assert parse_run(["--method", "self_training"], tmp_path).semi.unsup_weight == 0.3
    (tmp_path / "settings.ini").write_text("[digits for dgcl]\ndgcl.contrast_weight = 0.2\n")
    assert parse_run(folder=tmp_path).dgcl.contrast_weight == 0.2 and not caplog.messages
    run = parse_run(["--method", "cps"], tmp_path)
    assert run.method == "cps" and "is not used" in caplog.text, "nothing in it is for cps"


def test_parse_run__a_variant_may_name_its_method(tmp_path, caplog):
    lines = "[variant mine]\nmethod = supervised\noptim.lr = 0.001\n[digits for supervised]\nsteps = 9\n"
    (tmp_path / "settings.ini").write_text(lines)
    run = parse_run(["--variant", "mine"], tmp_path)
    assert (run.method, run.optim.lr, run.steps) == ("supervised", 0.001, 9) and not caplog.messages
    assert parse_run(["--variant", "mine", "--method", "dgcl"], tmp_path).method == "dgcl"


def test_parse_run__a_section_for_no_method_is_told(tmp_path, caplog):
    (tmp_path / "settings.ini").write_text("[digits]\n[digits for self-training]\nsteps = 9\n")
    parse_run(["--method", "self_training"], tmp_path)
    (said,) = caplog.messages
    assert "section [digits for self-training] is not used" in said and "did you mean self_training?" in said
    (tmp_path / "settings.ini").write_text("[digits for dgcl]\nmethod = cps\n")
    with pytest.raises(InputError, match=r"\[digits for dgcl\]: 'method' has no place"):
        parse_run(folder=tmp_path)


def test_run_class__of_a_method_that_is_written_again(monkeypatch):
    "In a notebook a method is defined again and again, each time with other settings."
    dgcl, supervised = METHODS["dgcl"], METHODS["supervised"]
    for method in (supervised, dgcl, supervised):
        monkeypatch.setitem(METHODS, "mine", method)
        assert hasattr(run_class("mine")(), "dgcl") == (method is dgcl)
    assert run_class("dgcl") is run_class("dgcl")


# A run and how it goes on


SAID = [
    "dgcl on digits",
    "125 labelled and 1875 unlabelled images (split seed 0)",
    "seed 0",
    "8 steps, 0.0 epochs",
    "the first 2 supervised only",
    "run folder runs/digits-dgcl-s0; computing on cpu",
    "background",
    "mIoU student",
    "mIoU teacher",
    "silhouette",
    "Calinski-Harabasz",
    "Davies-Bouldin",
    "selected on val",
    "a step, peak memory",
]
"What a run of DGCL prints."


def test_main__a_run_says_what_it_did_and_leaves_it(command, tmp_path):
    status, said, errors = command(*tiny_args("dgcl"))
    assert status == 0, errors
    assert not [words for words in SAID if words not in said]
    log = [line for line in said.splitlines() if re.match(r" *\d/8 ", line)]
    assert len(log) == 6 and re.match(r" *8/8  +\d\.\d+  +\d\.\d+  +\d+%, \d+%  +\d+$", log[-2])
    assert "step  loss_sup  loss_unsup  kept, right   mIoU, %  images/s" in said
    names = "loss_contrast confidence bank_fill"
    assert all(name in metrics_of("runs/digits-dgcl-s0")[-2] for name in names.split())
    result = json.loads((tmp_path / "runs" / "digits-dgcl-s0" / "result.json").read_text())
    own = [result[k] for k in ("method", "preset", "seed", "steps")]
    assert own == ["dgcl", "digits", 0, 8]
    assert result["peak_rss_mb"] > 0 and result["peak_gpu_mb"] is None
    status, said, _ = command(*tiny_args("dgcl", steps=1))
    assert status == 0 and "run folder runs/digits-dgcl-s0-2" in said, "the next free folder"


def test_pick_folder__data_of_ones_own_has_a_name_of_its_own(tmp_path):
    own = ["--preset", "digits", "--data.name", "folder", "--data.root", "photos"]
    assert str(pick_folder(parse_run(own)).path) == "runs/photos-dgcl-s0"
    assert str(pick_folder(parse_run()).path) == "runs/digits-dgcl-s0"
    (tmp_path / "settings.ini").write_text("[mine]\ninherit = digits\ndata.name = folder\n")
    mine = parse_run(["--preset", "mine", "--data.root", "photos"])
    assert str(pick_folder(mine).path) == "runs/mine-dgcl-s0", "a preset that means these data names them"
    (tmp_path / "settings.ini").unlink()
    assert str(pick_folder(mine).path) == "runs/mine-dgcl-s0-2", "the preset is not read again"


def last_line(text):
    return text.strip().splitlines()[-1]


REFUSED = [
    ("--seed", 4, "--seed 4 differs from 0"),
    ("--steps", 6, "--steps 6 differs from 8"),
    ("--optim.lr", 0.1, "--optim.lr 0.1 differs from 0.003"),
    ("--method", "dgcl", "--method dgcl differs from the supervised"),
]
"Flags that a run may not be gone on with: flag, value, what is said."


def test_main__resume(command, tmp_path):
    args = tiny_args("supervised")
    resume = ["--out", "a", "--resume"]
    first = command(*args, "--out", "a")
    assert first[0] == 0
    status, _, errors = command(*args, "--out", "a")
    assert status == 2 and "--out a is not empty; go on with it by --resume, or name another folder" in errors
    status, said, _ = command(*resume)
    assert status == 0
    assert last_line(said) == last_line(first[1]), "a finished run prints its result again"
    for flag, value, message in REFUSED:
        status, _, errors = command(*resume, flag, value)
        assert status == 2 and message in errors and "leave it out, or name another --out" in errors
    (tmp_path / "a" / "result.json").unlink()
    (tmp_path / "a" / "checkpoints" / "step_0000008.pt").unlink()
    status, said, errors = command(*resume, "--device", "cpu", "--batch.workers", 0)
    assert status == 0 and "going on from step 4" in said, errors
    assert state_of("a")["step"] == metrics_of("a")[-1]["step"] == 8


def test_main__resume_of_a_run_that_died_before_its_result(command, tmp_path):
    assert command(*tiny_args("supervised", steps=2), "--out", "a")[0] == 0
    (tmp_path / "a" / "result.json").unlink()
    status, said, errors = command("--out", "a", "--resume")
    assert status == 0 and "mIoU student" in said, errors


def test_main__resume_starts_where_nothing_is_yet(command):
    status, said, _ = command(*tiny_args("supervised", steps=1), "--out", "new", "--resume")
    assert status == 0 and "run folder new" in said


def test_main__resume_with_a_damaged_config(command, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text("{")
    status, _, errors = command("--out", "a", "--resume")
    assert status == 2 and "config.json is damaged" in errors


@pytest.mark.parametrize("more", [[], ["--steps", 20], ["--dry-run"]])
def test_main__resume_of_a_run_of_an_older_version(command, tmp_path, more):
    "One sentence says why, whatever settings are called by now."
    older = shutil.copytree(ROOT / "tests" / "older" / "run-0.1", tmp_path / "a")
    before = {p: p.read_bytes() for p in older.rglob("*") if p.is_file()}
    status, said, errors = command("--out", "a", "--resume", *more)
    assert status == 2 and not said and len(errors.splitlines()) == 1
    assert errors.startswith("error: a/config.json was written by an older version of dgcl_nb")
    assert "go on with the version that wrote it, or start anew with another --out" in errors
    assert {p: p.read_bytes() for p in older.rglob("*") if p.is_file()} == before


def test_main__resume_of_an_older_checkpoint_beside_a_newer_config(command, tmp_path):
    older = shutil.copytree(ROOT / "tests" / "older" / "run-0.1", tmp_path / "a")
    (older / "result.json").unlink()
    record = config_record(tiny_run("dgcl", steps=20, out="a"))
    (older / "config.json").write_text(json.dumps(record))
    status, _, errors = command("--out", "a", "--resume")
    assert status == 2 and len(errors.splitlines()) == 1
    assert "step_0000012.pt was written by an older version of dgcl_nb (checkpoints of version 1" in errors


def test_main__non_finite_loss(command, monkeypatch):
    monkeypatch.setattr(protocol, "supervised_loss", lambda logits, *_: logits.sum() * math.nan)
    status, _, errors = command(*tiny_args("supervised"), "--out", "a")
    assert status == 1 and "is not finite" in errors and "the batch is saved in a/nonfinite" in errors


def test_main__seed_and_split_seed(command, tmp_path):
    "The seed moves the run and not the choice of labelled images."
    settings = ({}, dict(seed=1), dict(data__num_labelled=250))
    runs = [parse_run(tiny_args("supervised", **more)) for more in settings]
    first, other_seed, larger = (config.build_data(run).labelled.ids for run in runs)
    assert first == other_seed and set(first) < set(larger)


# What a run would cost


SAID_DRY = [
    "dry run of digits for 1 process; nothing is written",
    "labelled      125 images",
    "in both labelled and unlabelled: 0",
    "125 labelled and 1875 unlabelled images",
    "80 steps, 0.1 epochs",
    "the first 20 supervised only",
    "batch 2 labelled + 2 unlabelled images a step",
    "M parameters: encoder",
    "supervised start, 1 + 1 images at a time",
    "self-training, 1 + 1 images at a time",
    "self-training, 2 + 2 images at a time",
    "GiB at 2 + 2 images (measured)",
    "evaluation, 1 image at a time",
    "evaluation, 6 images at a time",
    "the larger of a step with the copy of a checkpoint (",
    "batch.workers",
    "80 steps",
    "a step of 1 × 2 + 2 images",
]
"What a dry run prints."


def test_dry_run__says_what_it_saw_and_leaves_nothing(command, tmp_path):
    status, said, errors = command(*tiny_args("dgcl", steps=80), "--dry-run")
    assert status == 0 and list(tmp_path.iterdir()) == [], errors
    assert not [words for words in SAID_DRY if words not in said]
    assert not logging.getLogger("dgcl_nb.data").isEnabledFor(logging.DEBUG), "the log speaks as before"


def test_dry_run__for_other_processes(command, tmp_path):
    more = dict(optim__total_batch=16, optim__lr_batch=16, batch__labelled=4, batch__unlabelled=4)
    status, said, errors = command(*tiny_args("self_training", **more), "--dry-run", 8)
    assert status == 0 and "for 8 processes" in said, errors
    assert "2 + 2 at a time, accumulated 1 times on 8 processes; learning rate 0.003\n" in said
    assert "GiB of gradients that several processes exchange" in said
    status, _, errors = command(*tiny_args("self_training", **more), "--dry-run", 3)
    assert status == 2 and list(tmp_path.iterdir()) == []
    assert "optim.total_batch 16 cannot be shared by 3 processes; take 15" in errors


def test_dry_run__of_a_supervised_run(command):
    status, said, errors = command(*tiny_args("supervised"), "--dry-run")
    assert status == 0 and "training, 2 + 2 images" in said, errors
    assert "self-training" not in said and "supervised start" not in said


def test_dry_run__a_batch_that_does_not_fit_is_estimated(command, monkeypatch):
    monkeypatch.setattr(dry_run, "still_free", lambda device: -(10**12))
    status, said, errors = command(*tiny_args("dgcl"), "--dry-run")
    assert status == 0 and "GiB at 2 + 2 images (estimated from fewer images)" in said, errors
    assert ", 2 + 2 images at a time" not in said


def test_dry_run__more_images_take_more_memory():
    held, one = 100, Cost((1, 1), 1.0, 1.0, 300)
    assert [grown(one, held, n).bytes for n in (1, 2, 8)] == [300, 500, 1700]
    run = tiny_run("self_training", views__crop=128, model__encoder="resnet18", model__last_stage=-1)
    t = engine.start_training(run, RunFolder(tempfile.mkdtemp()).create(), Control())
    batches = [BatchConfig(labelled=n, unlabelled=n) for n in (1, 12)]
    few, many = (take_step(t, run.sup_only_steps, batch) for batch in batches)
    assert many.bytes > few.bytes + 30 * 2**20
    everything, gradients = held_bytes(t)
    assert everything > 4 * gradients > 0, "weights, teacher, gradients, two moments"
    assert copied_bytes(t) == everything - gradients, "a checkpoint holds no gradients"


def test_dry_run__the_memory_of_a_process_is_measured_or_in_proportion():
    "100 bytes are held; a step with one image takes 200 more, an evaluation 50 more an image."
    small = dict(start=Cost((1, 1), 1.0, 1.0, 250), later=Cost((1, 1), 1.0, 1.0, 300))
    few = Measured(small, {}, {1: 150}, at_once=32, held=100, fits=False)
    assert [few.step_bytes(n) for n in (1, 8)] == [300, 100 + 8 * 200]
    assert few.evaluation_bytes() == 100 + 32 * 50
    whole = dict(start=Cost((8, 8), 8.0, 8.0, 1200), later=Cost((8, 8), 8.0, 8.0, 1100))
    all_tried = Measured(small, whole, {1: 150, 32: 1400}, at_once=32, held=100, fits=True)
    assert (all_tried.step_bytes(8), all_tried.evaluation_bytes()) == (1200, 1400)


def test_dry_run__no_copy_where_nothing_is_saved():
    run = tiny_run("supervised", loop__checkpoints=0)
    t = engine.start_training(run, RunFolder(tempfile.mkdtemp()).create(), Control())
    assert copied_bytes(t) == 0


def test_dry_run__of_a_saved_run(command, tmp_path):
    assert command(*tiny_args("supervised", steps=2), "--out", "a")[0] == 0
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "a").rglob("*")}
    status, said, errors = command("--out", "a", "--resume", "--dry-run")
    assert status == 0 and "dry run of digits" in said, errors
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "a").rglob("*")} == before


def test_main__a_total_batch_is_shared_and_config_keeps_it(command, tmp_path):
    args = tiny_args("supervised", steps=2, optim__total_batch=4, optim__lr_batch=8)
    status, said, errors = command(*args, "--out", "a")
    assert status == 0 and "--steps 4 instead of 2" in said, errors
    shared = "2 + 2 at a time, accumulated 2 times on 1 process"
    assert f"{shared}; learning rate 0.0015 instead of 0.003" in said
    saved = json.loads((tmp_path / "a" / "config.json").read_text())["optim"]
    asked = dict(total_batch=4, accumulate=1, lr=0.003, lr_batch=8)
    assert {k: saved[k] for k in asked} == asked
    assert metrics_of("a")[0]["lr"] == pytest.approx(0.0015)


PYRAMID = {
    "model.output_stride": [16],
    "model.low_level_channels": [48],
    "model.aspp_rates": [6, 12, 18],
    "model.aspp_pool": [True],
}
"The defaults of what convolutional networks alone have; a transformer refuses other values."


def test_main__a_transformer_with_rates_by_layer(command):
    args = tiny_args("dgcl", steps=4, model__encoder="test_vit", optim__layer_decay=0.8)
    for name in ("model.output_stride", "model.low_level_channels", "model.aspp_rates", "model.last_stage"):
        i = args.index(f"--{name}")
        del args[i : i + 2]
    defaults = [word for name, values in PYRAMID.items() for word in (f"--{name}", *values)]
    status, said, errors = command(*args, *defaults, "--out", "a")
    assert status == 0 and "test_vit, pretrained none" in said, errors
    rates = [g["base_lr"] for g in state_of("a")["optimizers"]["main"]["param_groups"]]
    assert rates == pytest.approx([0.003 * 0.3 * 0.8**k for k in range(5)] + [0.003], abs=1e-6)
