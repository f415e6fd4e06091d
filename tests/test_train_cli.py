"""The command: its help, its errors, what it prints and leaves, and how it goes on."""

import inspect
import json
import logging
import re
import tempfile

import pytest
from helpers import TINY, few_images, metrics_of, state_of, tiny_args, tiny_run, train_command

import dgcl_nb
from dgcl_nb import config, engine, train
from dgcl_nb.config import METHODS, parse_run, run_class
from dgcl_nb.settings import setting_names
from dgcl_nb.run_folder import RunFolder
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


def comments_in(source):
    "Field -> its comment in the source of a dataclass: behind it, or in the lines above it."
    found, above = {}, []
    for line in source.splitlines():
        comment = re.match(r" {4}# (.*)$", line)
        field = re.match(r" {4}(\w+) ?: ?[^#]*(?:# (.*))?$", line)
        if field:
            found[field[1]] = field[2] or " ".join(above)
        above = [*above, comment[1]] if comment else []
    return found


def comments(cls):
    "Field -> its comment, of a dataclass and those it extends."
    found = {}
    for c in reversed(cls.__mro__):
        if not c.__module__.startswith("dgcl_nb") or "__annotations__" not in vars(c):
            continue
        try:
            found |= comments_in(inspect.getsource(c))
        except (OSError, TypeError):
            pass  # the class that run_class makes has no source
    return found


def explained(value, prefix=""):
    "Every setting of a run with its comment."
    texts = comments(type(value))
    for name in [f for f in value.__dataclass_fields__]:
        inner = getattr(value, name)
        if hasattr(inner, "__dataclass_fields__"):
            yield from explained(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, texts.get(name)


# Help and version


@pytest.mark.parametrize("method", list(METHODS))
def test_help__explains_every_setting_of_the_method(command, method):
    status, said, errors = command("--method", method, "--help")
    assert status == 0 and not errors
    told, settings = squeeze(said), dict(explained(run_class(method)()))
    assert set(settings) == set(setting_names(run_class(method)))
    flags = set(re.findall(r"--([\w.]+)", said))
    assert not [n for n in settings if n not in flags], "each setting has a flag"
    assert not [n for n, text in settings.items() if not text], "each setting has a comment"
    assert not [n for n, text in settings.items() if squeeze(text) not in told], "each comment is in the help"
    others = {f"{m}." for m in METHODS} - {f"{method}."}
    assert not [f for f in flags if f.startswith(tuple(others))], "settings of other methods are left out"


def test_version__in_a_process_of_its_own():
    done = train_command("--version")
    assert (
        done.returncode == 0 and done.stdout.strip() == f"dgcl_nb {dgcl_nb.__version__}" and not done.stderr
    )


# Errors: exit status 2, the nearest valid names, no traceback

WRONG = [
    (["--preset", "digit"], "unknown preset 'digit'; did you mean digits"),
    (["--method", "dgcll"], "unknown method 'dgcll'; did you mean dgcl?"),
    (["--variant", "releasd"], "unknown variant 'releasd'"),
    (
        ["--model.encoder", "tf_efficientnet_lit0"],
        "unknown encoder 'tf_efficientnet_lit0'; did you mean tf_efficientnet_lite0",
    ),
    (["--data.name", "digts"], "unknown data set 'digts'; did you mean digits"),
    (["--device", "cdua"], "unknown device 'cdua'; did you mean cuda"),
    (["--optim.optimizer", "adam"], "unknown optim.optimizer 'adam'; did you mean adamw"),
    (["--optim.lrr", "1"], "--optim.lr"),
    (["--self_training.unsup_weight", "1"], "--self_training.unsup_weight"),
    (["--steps", "many"], "many"),
    (["--steps", "0"], "--steps is 0; allowed: 1 or more"),
    (
        ["--dgcl.bank.min_fill", "2000"],
        "bank.min_fill is 2000.* bank.size = 1000; lower the one or raise the other",
    ),
    (["--init_from", "nowhere"], "--init_from nowhere: no checkpoints/best.pt"),
]


@pytest.mark.parametrize("args,message", WRONG, ids=[a[0].strip("-") + "=" + a[1] for a, _ in WRONG])
def test_main__wrong_name_or_value(command, tmp_path, args, message):
    status, said, errors = command("--data.root", TINY["data.root"], "--model.pretrained", "none", *args)
    assert status == 2 and re.search(squeeze(message), squeeze(errors)), errors
    assert "Traceback" not in errors + said and not list(tmp_path.glob("runs/*")), (
        "what was wrong leaves nothing behind"
    )


def test_main__error_in_a_process_of_its_own(tmp_path):
    done = train_command("--preset", "digit", cwd=tmp_path)
    assert (
        done.returncode == 2
        and done.stderr.startswith("error: unknown preset 'digit'; did you mean")
        and "Traceback" not in done.stderr
    )


@pytest.mark.parametrize(
    "line,message",
    [
        ("optim.lrr = 1", r"settings.ini \[digits\]: unknown setting 'optim.lrr'; did you mean optim.lr"),
        ("steps = many", r"settings.ini \[digits\]: 'steps = many' is not valid"),
        ("optim.lr = -1", r"settings.ini \[digits\]: .*optim.lr is -1"),
        ("inherit = nowhere", "unknown preset 'nowhere'"),
        ("steps", "settings.ini"),
    ],
)
def test_main__wrong_line_in_settings_ini(command, tmp_path, line, message):
    (tmp_path / "settings.ini").write_text(f"[digits]\n{line}\n")
    status, _, errors = command()
    assert status == 2 and re.search(squeeze(message), squeeze(errors)), errors


def test_parse_run__lines_of_a_preset_are_read_together(tmp_path):
    (tmp_path / "settings.ini").write_text("[digits]\ndgcl.bank.size = 32\ndgcl.bank.min_fill = 8\n")
    run = parse_run(folder=tmp_path)
    assert (run.dgcl.bank.size, run.dgcl.bank.min_fill) == (32, 8), (
        "an order of lines that passes a forbidden state is fine"
    )


def test_parse_run__order_of_layers(tmp_path):
    (tmp_path / "settings.ini").write_text(
        "[digits]\nsteps = 33\nseed = 5\n[mine]\ninherit = digits\nmethod = supervised\nsteps = 44\n"
    )
    assert parse_run(folder=tmp_path).steps == 33 and parse_run(["--steps", "7"], tmp_path).steps == 7
    run = parse_run(["--preset=mine"], tmp_path)
    assert (run.method, run.steps, run.seed, run.data.num_labelled) == ("supervised", 44, 5, 250)


# A run and how it goes on


def test_main__a_run_says_what_it_did_and_leaves_it(command, tmp_path):
    status, said, errors = command(*tiny_args("dgcl"))
    assert status == 0, errors
    for words in (
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
    ):
        assert words in said
    log = [line for line in said.splitlines() if line.startswith("step ")]
    assert len(log) == 6 and all(
        w in log[-2]
        for w in (
            "loss_sup",
            "loss_unsup",
            "loss_contrast",
            "kept",
            "pseudo_accuracy",
            "bank_fill",
            "images_per_second",
        )
    )
    result = json.loads((tmp_path / "runs" / "digits-dgcl-s0" / "result.json").read_text())
    assert (result["method"], result["preset"], result["seed"], result["steps"]) == (
        "dgcl",
        "digits",
        0,
        8,
    ) and result["peak_rss_mb"] > 0
    status, said, _ = command(*tiny_args("dgcl", steps=1))
    assert status == 0 and "run folder runs/digits-dgcl-s0-2" in said, "the next free folder"


def test_main__resume(command, tmp_path):
    args = tiny_args("supervised")
    resume = ["--out", "a", "--resume"]
    first = command(*args, "--out", "a")
    assert first[0] == 0
    status, _, errors = command(*args, "--out", "a")
    assert status == 2 and "--out a is not empty; go on with it by --resume, or name another folder" in errors
    status, said, _ = command(*resume)
    assert status == 0 and said.strip().splitlines()[-1] == first[1].strip().splitlines()[-1], (
        "a finished run prints its result again"
    )
    for flag, value, message in [
        ("--seed", 4, "--seed 4 differs from 0"),
        ("--steps", 6, "--steps 6 differs from 8"),
        ("--optim.lr", 0.1, "--optim.lr 0.1 differs from 0.003"),
        ("--method", "dgcl", "--method dgcl differs from the supervised"),
    ]:
        status, _, errors = command(*resume, flag, value)
        assert status == 2 and message in errors and "leave it out, or name another --out" in errors
    status, said, errors = command(*resume, "--steps", 12, "--device", "cpu", "--batch.workers", 0)
    assert (
        status == 0
        and "going on from step 8" in said
        and state_of("a")["step"] == 12
        and metrics_of("a")[-1]["step"] == 12
    ), errors


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


def test_main__non_finite_loss(command):
    status, _, errors = command(*tiny_args("supervised", optim__lr="1e30"), "--out", "a")
    assert "is not finite" in str(status) and "the batch is saved in a/nonfinite" in str(status)


def test_main__seed_and_split_seed(command, tmp_path):
    "The seed moves the run and not the choice of labelled images."
    data = [
        config.build_data(parse_run(tiny_args("supervised", **more)))
        for more in ({}, dict(seed=1), dict(data__num_labelled=250))
    ]
    assert data[0].labelled.ids == data[1].labelled.ids and set(data[0].labelled.ids) < set(
        data[2].labelled.ids
    )


# What a run would cost


def test_dry_run__says_what_it_saw_and_leaves_nothing(command, tmp_path):
    status, said, errors = command(*tiny_args("dgcl", steps=80), "--dry-run")
    assert status == 0 and list(tmp_path.iterdir()) == [], errors
    for words in (
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
        "batch.workers",
        "80 steps",
        "a step of 1 × 2 + 2 images",
    ):
        assert words in said, words
    assert not logging.getLogger("dgcl_nb.data").isEnabledFor(logging.DEBUG), "the log speaks as before"


def test_dry_run__for_other_processes(command, tmp_path):
    more = dict(optim__total_batch=16, optim__lr_batch=16, batch__labelled=4, batch__unlabelled=4)
    status, said, errors = command(*tiny_args("self_training", **more), "--dry-run", 8)
    assert (
        status == 0
        and "for 8 processes" in said
        and "2 + 2 at a time, accumulated 1 times on 8 processes; learning rate 0.003\n" in said
    ), errors
    assert "GiB of gradients that several processes exchange" in said
    status, _, errors = command(*tiny_args("self_training", **more), "--dry-run", 3)
    assert (
        status == 2
        and "optim.total_batch 16 cannot be shared by 3 processes; take 15" in errors
        and list(tmp_path.iterdir()) == []
    )


def test_dry_run__of_a_supervised_run(command):
    status, said, errors = command(*tiny_args("supervised"), "--dry-run")
    assert (
        status == 0
        and "training, 2 + 2 images" in said
        and "self-training" not in said
        and "supervised start" not in said
    ), errors


def test_dry_run__a_batch_that_does_not_fit_is_estimated(command, monkeypatch):
    monkeypatch.setattr(train, "still_free", lambda device: -(10**12))
    status, said, errors = command(*tiny_args("dgcl"), "--dry-run")
    assert (
        status == 0
        and "GiB at 2 + 2 images (estimated from fewer images)" in said
        and ", 2 + 2 images at a time" not in said
    ), errors


def test_dry_run__more_images_take_more_memory():
    held = 100
    assert [train.grown(train.Cost((1, 1), 1.0, 1.0, 300), held, n).bytes for n in (1, 2, 8)] == [
        300,
        500,
        1700,
    ]
    run = tiny_run("self_training", views__crop=128, model__encoder="resnet18", model__last_stage=-1)
    t = engine.start_training(run, RunFolder(tempfile.mkdtemp()).create(), engine.Control())
    few, many = (
        train.take_step(t, run.sup_only_steps, train.BatchConfig(labelled=n, unlabelled=n)) for n in (1, 12)
    )
    assert many.bytes > few.bytes + 30 * 2**20 and train.held_bytes(t)[0] > 4 * train.held_bytes(t)[1] > 0, (
        "weights, teacher, gradients, two moments"
    )


def test_dry_run__of_a_saved_run(command, tmp_path):
    assert command(*tiny_args("supervised", steps=2), "--out", "a")[0] == 0
    before = sorted((p.name, p.stat().st_mtime_ns) for p in (tmp_path / "a").rglob("*"))
    status, said, errors = command("--out", "a", "--resume", "--dry-run")
    assert (
        status == 0
        and "dry run of digits" in said
        and sorted((p.name, p.stat().st_mtime_ns) for p in (tmp_path / "a").rglob("*")) == before
    ), errors


def test_main__a_total_batch_is_shared_and_config_keeps_it(command, tmp_path):
    status, said, errors = command(
        *tiny_args("supervised", steps=2, optim__total_batch=4, optim__lr_batch=8), "--out", "a"
    )
    assert (
        status == 0
        and "2 + 2 at a time, accumulated 2 times on 1 process; learning rate 0.0015 instead of 0.003" in said
        and "--steps 4 instead of 2" in said
    ), errors
    saved = json.loads((tmp_path / "a" / "config.json").read_text())["optim"]
    assert (saved["total_batch"], saved["accumulate"], saved["lr"], saved["lr_batch"]) == (4, 1, 0.003, 8)
    assert metrics_of("a")[0]["lr"] == pytest.approx(0.0015)


def test_main__a_transformer_with_rates_by_layer(command):
    pyramid = ("model.output_stride", "model.low_level_channels", "model.aspp_rates", "model.last_stage")
    args = tiny_args("dgcl", steps=4, model__encoder="test_vit", optim__layer_decay=0.8)
    for name in pyramid:
        i = args.index(f"--{name}")
        del args[i : i + 2]
    status, said, errors = command(
        *args,
        "--model.output_stride",
        16,
        "--model.low_level_channels",
        48,
        "--model.aspp_rates",
        6,
        12,
        18,
        "--model.aspp_pool",
        True,
        "--out",
        "a",
    )
    assert status == 0 and "test_vit, pretrained none" in said, errors
    assert [round(g["base_lr"], 6) for g in state_of("a")["optimizers"]["main"]["param_groups"]] == [
        round(0.003 * 0.3 * 0.8**k, 6) for k in range(5)
    ] + [0.003]
