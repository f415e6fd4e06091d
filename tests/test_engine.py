"""The loop: phases, resume to the bit, accumulation, clipping, errors that a person understands, and inputs at the edge."""

import ast
import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from helpers import (
    ROOT,
    Toy,
    clean_environment,
    equal_states,
    few_images,
    metrics_of,
    register_toys,
    start_child,
    state_of,
    tiny_args,
    tiny_run,
    wait_for,
)

from dgcl_nb import config, core, engine
from dgcl_nb.core import IGNORE_INDEX, InputError
from dgcl_nb.run_folder import RunFolder, is_whole, read_lines, read_torch, write_torch
from dgcl_nb.background import fit_async
from dgcl_nb.checkpoints import checkpoints_of, load_checkpoint, save_checkpoint
from dgcl_nb.engine import Stopped, fit, start_training
from dgcl_nb.processes import Control
from dgcl_nb.training import Callback, NonFiniteLoss, training_step
from dgcl_nb.methods.protocol import Losses, Method, SupConfig, supervised
from dgcl_nb.trained import open_trained
from dgcl_nb.snapshots import list_snapshots, load_snapshot
from dgcl_nb.views import Views

METHODS = ["supervised", "self_training", "dgcl", "toy"]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    "The toy is a method like any other; val has 12 images."
    monkeypatch.setattr(config, "METHODS", dict(config.METHODS))
    register_toys()
    monkeypatch.setattr(engine, "build_data", few_images)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run"


def start(out, method="toy", **settings):
    "A run that has built everything and taken no step, and a function that takes n of them."
    t = start_training(tiny_run(method, **settings), RunFolder(out).create(), Control())
    n = t.run.optim.accumulate
    loader = iter(
        engine.make_loader(t.data, t.run.views, t.method.views, t.run.batch, t.run.seed, 0, t.run.steps * n)
    )

    def take(steps):
        return [
            training_step(t, [next(loader).to(t.accelerator.device) for _ in range(n)]) for _ in range(steps)
        ]

    return t, take


class StopAfter(Callback):
    def __init__(self, step):
        self.step = step

    def on_step(self, t, losses):
        if t.step == self.step:
            t.control.stop()


# A method of two phases


def test_toy__both_phases_step_once_a_step(out):
    result = fit(tiny_run("toy", out=out), callbacks=[])
    state = state_of(out)
    assert state["method"]["handed_over"] == state["step"] == 8 and set(state["optimizers"]) == {
        "first",
        "second",
    }
    for optimizer in state["optimizers"].values():
        assert {int(s["step"]) for s in optimizer["state"].values()} == {8}
    assert (state["method"]["bank"].abs().sum(1) > 0).all() and result["predictor"] == "teacher"
    assert {"loss_sup", "loss_agree", "loss_bank"} <= set(metrics_of(out)[0])


def test_toy__a_phase_moves_its_own_network_only(out, tmp_path, monkeypatch):
    class Detached(Toy):
        def forward(self, batch, progress, phase="main"):
            self.one.requires_grad_(phase == "first")
            return super().forward(batch, progress, phase)

    monkeypatch.setitem(config.METHODS, "detached", Detached)
    t, take = start(out)
    take(3)
    other, take_other = start(tmp_path / "other", "detached")
    take_other(3)
    assert equal_states(t.method.state_dict(), other.method.state_dict())


def test_make_optimizer__each_network_in_one_optimiser(out):
    t, _ = start(out)
    held = {phase: {id(p) for g in o.param_groups for p in g["params"]} for phase, o in t.optimizers.items()}
    assert held["first"] == {id(p) for p in t.method.one.parameters()} and held["second"] == {
        id(p) for p in t.method.two.parameters()
    }
    assert [g["lr"] for g in t.optimizers["first"].param_groups] == pytest.approx([3e-3 * 0.3, 3e-3])


# Stop and resume


@pytest.mark.parametrize("method,stop", [("toy", 5), ("dgcl", 5), ("dgcl", 8)])
def test_fit__stopped_and_resumed_is_the_run_that_never_stopped(tmp_path, method, stop):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    settings = dict(steps=8, loop__evaluations=4, optim__warmup=0.3)
    fit(tiny_run(method, out=whole, **settings), callbacks=[])
    if stop < 8:
        with pytest.raises(
            Stopped, match=f"stopped after step {stop} of 8; go on with: .*--out {parts} --resume"
        ):
            fit(tiny_run(method, out=parts, **settings), callbacks=[StopAfter(stop)])
    else:
        fit(
            tiny_run(method, out=parts, **settings), callbacks=[StopAfter(stop)]
        )  # asked to stop when it was done anyway
    again = fit(tiny_run(method, out=parts, resume=True, **settings), callbacks=[])
    assert (whole / "metrics.jsonl").read_text() == (parts / "metrics.jsonl").read_text()
    assert equal_states(state_of(whole), state_of(parts)), "weights, teacher, bank, optimisers"
    differ = ("seconds", "seconds_per_step", "peak_rss_mb", "folder")
    assert {k: v for k, v in again.items() if k not in differ} == {
        k: v for k, v in json.loads((whole / "result.json").read_text()).items() if k not in differ
    }


def test_fit__killed_after_its_last_checkpoint(out):
    first = fit(tiny_run("toy", out=out), callbacks=[])
    lines = metrics_of(out)
    (out / "result.json").unlink()  # it died between the last checkpoint and the result
    again = fit(tiny_run("toy", out=out, resume=True), callbacks=[])
    assert again["miou_teacher"] == first["miou_teacher"] and metrics_of(out) == lines


def test_fit__logs_after_the_checkpoint_are_cut(out):
    class Die(Callback):
        def on_step(self, t, losses):
            if t.step == 7:
                raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fit(tiny_run("toy", out=out), callbacks=[Die()])
    assert metrics_of(out)[-1]["step"] == 6 and state_of(out)["step"] == 4
    fit(tiny_run("toy", out=out, resume=True), callbacks=[])
    assert [r["step"] for r in metrics_of(out)] == [1, 2, 4, 6, 8, 8]


def test_fit__finished_run_is_left_alone(out):
    first = fit(tiny_run("toy", out=out), callbacks=[])
    files = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    assert fit(tiny_run("toy", out=out, resume=True), callbacks=[]) == first
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == files
    with pytest.raises(InputError, match="is not empty; go on with it by --resume, or name another folder"):
        fit(tiny_run("toy", out=out), callbacks=[])


def test_fit__finished_run_goes_on_with_more_steps(out):
    fit(tiny_run("toy", out=out), callbacks=[])
    result = fit(tiny_run("toy", out=out, resume=True, steps=12), callbacks=[])
    assert result["steps"] == 12 and metrics_of(out)[-1]["step"] == 12 and state_of(out)["step"] == 12
    assert json.loads((out / "config.json").read_text())["steps"] == 12


def test_fit__resume_without_a_checkpoint_starts(out):
    assert fit(tiny_run("toy", out=out, resume=True, steps=2), callbacks=[])["steps"] == 2


class DieAfter(Callback):
    "An end without a word: no checkpoint, no result."

    def __init__(self, step):
        self.step = step

    def on_step(self, t, losses):
        if t.step == self.step:
            raise RuntimeError("power cut")


def test_fit__died_before_its_first_checkpoint(out, tmp_path):
    with pytest.raises(RuntimeError, match="power cut"):
        fit(tiny_run("toy", out=out, loop__snapshots=4), callbacks=[DieAfter(3)])
    assert not checkpoints_of(RunFolder(out)) and metrics_of(out)
    with open(out / "metrics.jsonl", "a") as f:
        f.write('{"step": 3, "los')
    (out / "checkpoints" / ".step_0000004.pt.x1y2.part").write_bytes(b"half")
    fit(tiny_run("toy", out=out, resume=True, loop__snapshots=4), callbacks=[])
    fit(tiny_run("toy", out=tmp_path / "whole", loop__snapshots=4), callbacks=[])
    assert (out / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()
    assert not [p for p in out.rglob(".*")]


def test_fit__longer_run_keeps_no_snapshot_of_steps_taken_again(out):
    with pytest.raises(RuntimeError):
        fit(tiny_run("toy", out=out, loop__snapshots=4), callbacks=[DieAfter(7)])
    assert [p.stem for p in list_snapshots(out)] == ["step_0000002", "step_0000004", "step_0000006"]
    fit(tiny_run("toy", out=out, resume=True, steps=9, loop__snapshots=2), callbacks=[])
    assert [p.stem for p in list_snapshots(out)] == [
        "step_0000002",
        "step_0000004",
        "step_0000005",
        "step_0000009",
    ]


def test_fit__stopped_once_a_step_is_the_run_that_never_stopped(tmp_path):
    "Resumed after every single step, with global generators stirred in between."
    fit(tiny_run("dgcl", out=tmp_path / "whole"), callbacks=[])
    for step in range(1, 8):
        torch.rand(step)
        torch.manual_seed(step)
        with pytest.raises(Stopped):
            fit(tiny_run("dgcl", out=tmp_path / "parts", resume=True), callbacks=[StopAfter(step)])
    fit(tiny_run("dgcl", out=tmp_path / "parts", resume=True), callbacks=[])
    assert equal_states(state_of(tmp_path / "whole"), state_of(tmp_path / "parts"))
    assert (tmp_path / "whole" / "metrics.jsonl").read_text() == (
        tmp_path / "parts" / "metrics.jsonl"
    ).read_text()


# Checkpoints: whole, and data only


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    "A toy's run of 8 steps, with checkpoints at 4 and 8; tests work on copies."
    out = tmp_path_factory.mktemp("finished") / "run"
    assert wait_for([start_child(train_toy, out)]) == [0]
    return out


def train_toy(out, **settings):
    fit(tiny_run("toy", out=out, **settings), callbacks=[])


@pytest.fixture
def copied(finished, out):
    "A copy of the finished run that has lost its result, so that `resume` goes on from its checkpoints."
    shutil.copytree(finished, out)
    (out / "result.json").unlink()
    return out


def cut(data):
    return data[:-1]


def cut_in_half(data):
    return data[: len(data) // 2]


def flip(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def empty(data):
    return b""


@pytest.mark.parametrize("damage", [cut, cut_in_half, flip, empty])
def test_fit__damaged_checkpoint_goes_back_to_the_one_before(copied, finished, damage, caplog):
    newest = checkpoints_of(RunFolder(copied))[-1]
    newest.write_bytes(damage(newest.read_bytes()))
    fit(tiny_run("toy", out=copied, resume=True), callbacks=[])
    assert (
        f"{newest} is DAMAGED (its checksum is missing or wrong) and set aside as {newest.name}.damaged; going back to step_0000004.pt"
        in caplog.text
    )
    assert (copied / "metrics.jsonl").read_text() == (
        finished / "metrics.jsonl"
    ).read_text() and equal_states(state_of(copied), state_of(finished))
    assert [p.name for p in checkpoints_of(RunFolder(copied))] == [
        "step_0000004.pt",
        "step_0000008.pt",
    ] and newest.with_name(newest.name + ".damaged").is_file()


def test_fit__all_checkpoints_damaged(copied):
    for p in checkpoints_of(RunFolder(copied)):
        p.write_bytes(flip(p.read_bytes()))
    before = {p: p.read_bytes() for p in copied.rglob("*") if p.is_file()}
    for _ in range(2):  # and the second try is no fresh start either
        with pytest.raises(
            InputError,
            match="every checkpoint in .* is damaged .step_0000004.pt, step_0000008.pt.: no checksum agrees; restore one from a copy",
        ):
            fit(tiny_run("toy", out=copied, resume=True), callbacks=[])
    assert {p: p.read_bytes() for p in copied.rglob("*") if p.is_file()} == before


def test_is_whole__any_flipped_bit_is_seen(copied):
    path = copied / "checkpoints" / "best.pt"
    data = path.read_bytes()
    assert is_whole(path)
    for i in [*range(0, len(data), len(data) // 60), *range(len(data) - 80, len(data))]:
        path.write_bytes(data[:i] + bytes([data[i] ^ 1 << i % 8]) + data[i + 1 :])
        assert not is_whole(path), i


class Armed:
    "What a pickle may hold: a program that runs while it is read."

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("use", ["resume", "init_from", "evaluate"])
def test_checkpoint__with_code_is_refused_and_does_not_run(copied, tmp_path, use, sealed):
    path = checkpoints_of(RunFolder(copied))[-1] if use == "resume" else copied / "checkpoints" / "best.pt"
    content = torch.load(path, weights_only=True) | dict(step=Armed(tmp_path / "ran"))
    write_torch(path, content) if sealed else torch.save(content, path)
    if use == "resume" and not sealed:
        checkpoints_of(RunFolder(copied))[0].unlink()
    with pytest.raises(InputError, match="nothing of it was run" if sealed else "damaged"):
        if use == "resume":
            fit(tiny_run("toy", out=copied, resume=True), callbacks=[])
        elif use == "init_from":
            start(tmp_path / "next", "dgcl", init_from=copied)
        else:
            open_trained(copied, "best", "cpu")
    assert not (tmp_path / "ran").exists(), "the program did not run"
    torch.load(path, weights_only=False)
    assert (tmp_path / "ran").is_dir(), "it was armed: a careless reader runs it"


def test_package__reads_no_pickle_that_could_run():
    "Every torch.load says weights_only=True, and numpy's pickles stay off; the monitor's own child process is the one place where pickles pass, in a pipe."
    found = []
    for file in sorted((ROOT / "dgcl_nb").rglob("*.py")):
        for call in (n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Call)):
            name, options = ast.unparse(call.func), {k.arg: ast.unparse(k.value) for k in call.keywords}
            careless = (
                name.startswith(
                    ("pickle.load", "pickle.Unpickler", "joblib.load", "torch.jit.load", "pd.read_pickle")
                )
                and file.name != "monitor.py"
            )
            careless |= (
                name == "torch.load"
                and options.get("weights_only") != "True"
                or name == "np.load"
                and options.get("allow_pickle") != "False"
            )
            if careless or name.endswith(".load_state"):
                found.append((file.name, call.lineno, name))
    assert not found and "weights_only=True" in (ROOT / "dgcl_nb" / "core.py").read_text()


def test_load_checkpoint__no_checkpoint_at_all(copied):
    newest = checkpoints_of(RunFolder(copied))[-1]
    write_torch(newest, dict(step=8, miou=1.0))
    with pytest.raises(
        InputError, match="is no checkpoint of this version: it lacks best, made_with, method"
    ):
        fit(tiny_run("toy", out=copied, resume=True), callbacks=[])


def test_save_checkpoint__holds_settings_and_circumstances(finished):
    state = state_of(finished)
    assert (
        config.run_from_dict(state["config"]) == tiny_run("toy")
        and {"processes", "device", "threads", "torch"} <= state["made_with"].keys()
    )


def test_load_checkpoint__says_what_is_no_longer_exact(copied, caplog):
    threads = torch.get_num_threads()
    try:
        fit(tiny_run("toy", out=copied, resume=True, steps=9, loop__threads=threads + 1), callbacks=[])
    finally:
        torch.set_num_threads(threads)
    assert "to the bit" in caplog.text and "processes" not in caplog.text


def test_save_checkpoint__gradient_scaler_goes_on(out):
    "fp16's loss scale is state; accelerate makes a scaler on GPUs only, so this run is given one."
    t, take = start(out)
    t.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    take(1)
    t.accelerator.scaler.scale(torch.ones(1))
    t.accelerator.scaler.update(64.0)
    path = save_checkpoint(t)
    other, _ = start(out)
    other.accelerator.scaler = torch.amp.GradScaler("cpu")
    load_checkpoint(other, path)
    assert (
        other.accelerator.scaler.state_dict() == t.accelerator.scaler.state_dict()
        and other.accelerator.scaler.get_scale() == 64.0
    )


def test_evaluate_all__best_of_steps_that_are_taken_again(out, monkeypatch):
    "Where going on is not exact, an evaluation may come out lower than the one that best.pt is from; the file and the log then agree again."
    heights, scored = {2: 1.0, 4: 10.0, 6: 90.0}, engine.score

    def score(t, network, collect=0):
        result = scored(t, network, collect)
        return result._replace(score=result.score._replace(miou=heights[t.step]))

    monkeypatch.setattr(engine, "score", score)
    with pytest.raises(RuntimeError):
        fit(tiny_run("toy", out=out, loop__evaluations=4), callbacks=[DieAfter(7)])
    assert read_torch(out / "checkpoints" / "best.pt")["step"] == 6 and state_of(out)["step"] == 4
    heights |= {6: 5.0, 8: 3.0}
    result = fit(tiny_run("toy", out=out, resume=True, loop__evaluations=4), callbacks=[])
    assert (result["best_step"], result["best_miou"]) == (6, 5.0) and read_torch(
        out / "checkpoints" / "best.pt"
    )["step"] == 6
    assert [(r["best_step"], r["best_miou"]) for r in metrics_of(out) if r.get("event") == "eval"] == [
        (2, 1.0),
        (4, 10.0),
        (6, 5.0),
        (6, 5.0),
    ]


# torch.compile


def train_compiled(out, compile, **settings):
    try:
        fit(tiny_run("dgcl", out=out, steps=3, loop__compile=compile, loop__log_every=1), callbacks=[])
    except InputError as e:
        sys.exit(f"error: {e}")


def test_compile__without_a_compiler(out, tmp_path):
    child = start_child(
        train_compiled,
        out,
        True,
        log=tmp_path / "log",
        PATH="/nowhere",
        CXX="",
        TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "cache"),
    )
    assert wait_for([child]) == [1]
    assert (
        "error: loop.compile: torch cannot compile here (" in (tmp_path / "log").read_text()
        and "install a C++ compiler" in (tmp_path / "log").read_text()
    )
    assert not out.exists(), "the corrected command works as it stands"


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="there is no C++ compiler here")
def test_compile__agrees_with_eager(tmp_path):
    children = [start_child(train_compiled, tmp_path / str(c), c) for c in (False, True)]
    assert wait_for(children, 1200) == [0, 0]
    eager, compiled = (metrics_of(tmp_path / str(c)) for c in (False, True))
    for a, b in zip(eager, compiled, strict=True):
        assert {k: v for k, v in a.items() if k.startswith("loss")} == pytest.approx(
            {k: v for k, v in b.items() if k.startswith("loss")}, rel=1e-3
        )
    a, b = (state_of(tmp_path / str(c))["method"] for c in (False, True))
    assert a.keys() == b.keys() and all(v.shape == b[k].shape for k, v in a.items()), (
        "a checkpoint does not tell who compiled"
    )


# Started again by torchrun


def train_here(folder, die_at=0, out="", steps=8):
    "Train in a working folder, as the command does, with or without --out."
    os.chdir(folder)
    step = engine.training_step

    def dying(t, batches):
        if t.step == die_at > 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(t, batches)

    engine.training_step = dying
    try:
        fit(tiny_run("toy", out=out, steps=steps), callbacks=[])
    except InputError as e:
        sys.exit(str(e))


@pytest.mark.parametrize("out", ["", "named"])
def test_fit__started_again_by_torchrun_goes_on(tmp_path, finished, out):
    "With the command of the first start, which says nothing of --resume; the default folder may be taken by another run."
    (tmp_path / "runs" / "digits-toy-s0").mkdir(parents=True)
    (tmp_path / "runs" / "digits-toy-s0" / "config.json").write_text("{}")
    ours = tmp_path / (out or "runs/digits-toy-s0-2")
    assert wait_for([start_child(train_here, tmp_path, 6, out, TORCHELASTIC_RESTART_COUNT="0")]) == [
        -signal.SIGKILL
    ]
    assert state_of(ours)["step"] == 4
    assert wait_for([start_child(train_here, tmp_path, 0, out, TORCHELASTIC_RESTART_COUNT="1")]) == [0]
    assert (ours / "metrics.jsonl").read_text() == (finished / "metrics.jsonl").read_text() and equal_states(
        state_of(ours), state_of(finished)
    )
    assert {p.name for p in (tmp_path / "runs").iterdir()} == {"digits-toy-s0"} | (
        {"digits-toy-s0-2"} if not out else set()
    )


def test_fit__started_again_by_torchrun_leaves_other_runs_alone(tmp_path, copied):
    (copied / ".launch").write_text("another torchrun")
    before = {p: p.read_bytes() for p in copied.rglob("*") if p.is_file()}
    for count in "01":
        assert wait_for(
            [
                start_child(
                    train_here, tmp_path, 0, copied, log=tmp_path / "log", TORCHELASTIC_RESTART_COUNT=count
                )
            ]
        ) == [1]
    assert (tmp_path / "log").read_text().count("is not empty; go on with it by --resume") == 2
    assert {p: p.read_bytes() for p in copied.rglob("*") if p.is_file()} == before


def test_fit_async__pause_resume_stop(out):
    going = fit_async(tiny_run("toy", out=out, steps=400, loop__log_every=1))
    going.pause()
    while going.is_running() and not metrics_of(out):
        time.sleep(0.05)
    time.sleep(0.5)
    assert [r["step"] for r in metrics_of(out)] == [1] and going.is_running(), (
        "it waits at the end of its first step"
    )
    going.resume()
    going.stop()
    going.wait(30)
    assert isinstance(going.error, Stopped) and state_of(out)["step"] == going.error.step


# Accumulation, clipping, schedule


class Plain(Method):
    "Batch statistics and dropout off, so that a batch's gradient is the mean of its halves'."

    settings = dict(sup=SupConfig)
    needs_unlabelled = False
    views = Views(strong=0, cutmix=False)

    def __init__(self, make_network, num_classes, cfg):
        super().__init__(make_network, num_classes, cfg)
        self.student = make_network()

    def train(self, mode=True):
        return super().train(False)

    def forward(self, batch, progress, phase="main"):
        losses = Losses()
        supervised(losses, self.student(batch.images_l), batch.targets_l, self.cfg.sup)
        return losses

    def after_step(self, batch, progress):
        self.steps_seen = [*getattr(self, "steps_seen", []), progress.step]


PLAIN = dict(
    views__scale=(1.0, 1.0),
    optim__optimizer="sgd",
    optim__lr=0.05,
    optim__weight_decay=0.0,
    model__channels_last=False,
)


def test_accumulate__two_halves_are_one_batch(tmp_path, monkeypatch):
    monkeypatch.setitem(config.METHODS, "plain", Plain)
    whole, take_whole = start(tmp_path / "whole", "plain", batch__labelled=4, batch__unlabelled=0, **PLAIN)
    halves, take_halves = start(
        tmp_path / "halves", "plain", batch__labelled=2, batch__unlabelled=0, optim__accumulate=2, **PLAIN
    )
    take_whole(3)
    take_halves(3)
    assert halves.step == 3 and halves.method.steps_seen == [0, 1, 2]
    assert [g["lr"] for g in halves.optimizers["main"].param_groups] == [
        g["lr"] for g in whole.optimizers["main"].param_groups
    ]
    new, _ = start(tmp_path / "new", "plain", batch__unlabelled=0, **PLAIN)
    moved = max((a - b).abs().max() for a, b in zip(whole.method.parameters(), new.method.parameters()))
    apart = max((a - b).abs().max() for a, b in zip(whole.method.parameters(), halves.method.parameters()))
    assert moved > 1e-2 and apart < 1e-5


def test_accumulate__counted_once_a_step_with_two_phases(out):
    fit(tiny_run("toy", out=out, optim__accumulate=2), callbacks=[])
    plain = [r["lr"] for r in metrics_of(out)[:-1]]
    assert state_of(out)["method"]["handed_over"] == 8 and plain == pytest.approx(
        [3e-3 * (1 - t / 8) ** 0.9 for t in (0, 1, 3, 5, 7)]
    )


def test_accumulate__dgcl_banks_every_micro_batch(tmp_path):
    filled = {}
    for n in (1, 2):
        t, take = start(
            tmp_path / str(n),
            "dgcl",
            optim__accumulate=n,
            loop__sup_only_fraction=0.0,
            dgcl__bank__size=4000,
            dgcl__bank__max_new_per_class=4000,
        )
        take(1)
        filled[n] = t.method.bank.filled[0]
    assert filled[2] > 1.5 * filled[1] > 0


def test_clip_norm__bounds_the_step_of_every_phase(out):
    t, take = start(
        out,
        optim__optimizer="sgd",
        optim__lr=1.0,
        optim__encoder_lr_scale=1.0,
        optim__weight_decay=0.0,
        optim__clip_norm=1e-3,
    )
    before = [[p.clone() for p in n.parameters()] for n in (t.method.one, t.method.two)]
    take(1)
    for net, old in zip((t.method.one, t.method.two), before):
        moved = torch.stack([(p - q).norm() for p, q in zip(net.parameters(), old)]).norm()
        assert moved.item() == pytest.approx(1e-3, rel=0.05), (
            "a gradient longer than clip_norm is scaled to it, counting this phase's parameters"
        )


def test_is_due__how_often_over_a_run(out):
    fit(
        tiny_run(
            "toy",
            out=out,
            steps=12,
            loop__evaluations=3,
            loop__snapshots=4,
            loop__checkpoints=6,
            loop__log_every=5,
        ),
        callbacks=[],
    )
    assert [r["step"] for r in metrics_of(out) if r.get("event") == "eval"] == [4, 8, 12]
    assert [r["step"] for r in metrics_of(out) if "event" not in r] == [1, 5, 10, 12]
    assert [load_snapshot(p).step for p in list_snapshots(out)] == [3, 6, 9, 12]
    assert [p.name for p in engine.checkpoints_of(RunFolder(out))] == ["step_0000010.pt", "step_0000012.pt"]
    assert [r["step"] for r in read_lines(out / "timings.jsonl")] == [1, 5, 10, 12] and all(
        r["images_per_second"] > 0 for r in read_lines(out / "timings.jsonl")
    )


def test_is_due__zero_times_is_the_end_only(out):
    fit(
        tiny_run("supervised", out=out, steps=3, loop__evaluations=0, loop__snapshots=0, loop__checkpoints=0),
        callbacks=[],
    )
    assert (
        [r["step"] for r in metrics_of(out) if r.get("event") == "eval"] == [3]
        and len(list_snapshots(out)) == 1
        and state_of(out)["step"] == 3
    )


def test_fit__folder_holds_what_viewers_read(out):
    result = fit(tiny_run("dgcl", out=out), callbacks=[])
    assert {p.name for p in out.iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "timings.jsonl",
        "checkpoints",
        "snapshots",
        "result.json",
    }
    assert config.run_from_dict(json.loads((out / "config.json").read_text())) == tiny_run("dgcl", out=out)
    wanted = "method preset seed steps seconds seconds_per_step peak_rss_mb predictor miou_student miou_teacher best_miou best_step iou_per_class"
    assert {*wanted.split(), "silhouette", "calinski_harabasz", "davies_bouldin"} <= set(result)
    assert result["predictor"] == "teacher" and "torch" in result["environment"]
    assert torch.load(out / "checkpoints" / "best.pt", weights_only=True)["step"] == result["best_step"]
    snap = load_snapshot(list_snapshots(out)[-1])
    assert (
        snap.image.shape == (2, 48, 48, 3) and snap.feats.shape[1] == 16 and snap.density_per_k.shape[1] == 2
    )


def test_fit__log_line_says_what_is_inactive_and_why(out):
    fit(tiny_run("dgcl", out=out, dgcl__bank__size=4000, dgcl__bank__min_fill=4000), callbacks=[])
    lines = [r for r in metrics_of(out) if "event" not in r]
    assert lines[0]["inactive"] == {"loss_unsup": "supervised start until step 2"}
    assert lines[2]["inactive"]["loss_contrast"] == "no class of the batch has 4000 bank entries yet"
    assert {
        "loss_sup",
        "loss_unsup",
        "loss_contrast",
        "kept",
        "pseudo_accuracy",
        "bank_fill",
        "contrast_classes",
    } <= set(lines[-1])


# Errors


def test_fit__non_finite_loss_names_the_term_and_saves_the_batch(out, monkeypatch):
    class Sick(Toy):
        def forward(self, batch, progress, phase="main"):
            losses = super().forward(batch, progress, phase)
            if phase == "second" and progress.step == 5:
                value, weight = losses.terms.pop("loss_bank")
                losses.add("loss_bank", value * float("nan"), weight)
            return losses

    monkeypatch.setitem(config.METHODS, "toy", Sick)
    with pytest.raises(
        NonFiniteLoss,
        match="step 5: loss_bank is not finite .* the batch is saved in .*nonfinite_step_0000005",
    ):
        fit(tiny_run("toy", out=out), callbacks=[])
    saved = torch.load(next(out.glob("nonfinite*.pt")), weights_only=True)
    assert (
        saved["step"] == 5
        and saved["batch"]["images_l"].shape == (2, 3, 48, 48)
        and len(saved["batch"]["ids_u"]) == 2
    )
    assert state_of(out)["step"] == 4, "the checkpoint before stays"
    monkeypatch.setitem(config.METHODS, "toy", Toy)
    assert fit(tiny_run("toy", out=out, resume=True), callbacks=[])["steps"] == 8


def test_load_checkpoint__another_configuration(out):
    with pytest.raises(Stopped):
        fit(tiny_run("dgcl", out=out), callbacks=[StopAfter(4)])
    saved = (out / "config.json").read_text()
    with pytest.raises(
        InputError,
        match="is a checkpoint of another configuration: .* tensors differ, e.g. bank.* config.json",
    ):
        fit(tiny_run("dgcl", out=out, resume=True, dgcl__bank__size=16), callbacks=[])
    with pytest.raises(InputError, match="is a checkpoint of method dgcl, not of toy"):
        fit(tiny_run("toy", out=out, resume=True), callbacks=[])
    assert (out / "config.json").read_text() == saved, (
        "a resume that fails leaves the configuration of the run as it was"
    )


def test_fit__read_only_folder():
    with pytest.raises(
        InputError,
        match="cannot write the run folder /proc/dgcl_nb.*: .*; name another with --out, or free space",
    ):
        fit(tiny_run("toy", out="/proc/dgcl_nb/run"), callbacks=[])


def test_fit__disk_full_at_a_checkpoint(out, monkeypatch):
    class Fill(Callback):
        def on_step(self, t, losses):
            def full(fd):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            if t.step == 6:
                monkeypatch.setattr(core.os, "fsync", full)

    with pytest.raises(
        InputError,
        match="cannot write .*: No space left on device; what was there before is intact: free space .*--resume",
    ):
        fit(tiny_run("toy", out=out), callbacks=[Fill()])
    monkeypatch.undo()
    assert [p.name for p in (out / "checkpoints").glob("step_*")] == ["step_0000004.pt"] and state_of(out)[
        "step"
    ] == 4
    assert not [p for p in out.rglob(".*")], "no half-written file is left"


def test_fit__disk_full_at_a_log_line(out):
    class Fill(Callback):
        def on_start(self, t):
            t.folder.metrics.symlink_to("/dev/full")

    with pytest.raises(InputError, match="cannot write .*metrics.jsonl: No space left on device"):
        fit(tiny_run("toy", out=out), callbacks=[Fill()])


def test_fit__failed_start_leaves_no_used_folder(out):
    with pytest.raises(InputError, match="unknown encoder .*did you mean"):
        fit(tiny_run("toy", out=out, model__encoder="resnet5"), callbacks=[])
    assert fit(tiny_run("toy", out=out, steps=1), callbacks=[])["steps"] == 1, (
        "the corrected command works as it stands"
    )


# Inputs at the edge


@pytest.mark.parametrize("method", METHODS)
def test_fit__bf16_on_the_cpu(out, method):
    fit(tiny_run(method, out=out, loop__precision="bf16"), callbacks=[])
    state = state_of(out)["method"]
    assert all(v.dtype != torch.bfloat16 and v.isfinite().all() for v in state.values())
    assert all(v == v for r in metrics_of(out) for k, v in r.items() if k.startswith("loss"))


@pytest.mark.parametrize("method", METHODS)
def test_fit__batch_of_one(out, method):
    result = fit(
        tiny_run(method, out=out, batch__labelled=1, batch__unlabelled=1, model__aspp_pool=True), callbacks=[]
    )
    assert result["steps"] == 8 and all(v.isfinite().all() for v in state_of(out)["method"].values())


def test_fit__crop_larger_than_the_image(out):
    fit(tiny_run("dgcl", out=out, views__crop=96, views__scale=(0.5, 1.0)), callbacks=[])
    assert (
        load_snapshot(list_snapshots(out)[-1]).image.shape == (2, 96, 96, 3)
        and (load_snapshot(list_snapshots(out)[-1]).target[:, 0] == IGNORE_INDEX).all()
    )


def test_fit__k_larger_than_the_bank(out):
    fit(tiny_run("dgcl", out=out, dgcl__num_neighbors=(8, 5000)), callbacks=[])
    assert metrics_of(out)[-2]["contrast_classes"] > 0 and metrics_of(out)[-2]["loss_contrast"] > 0


def test_fit__a_class_without_a_pixel(out, monkeypatch):
    class Without:
        def __init__(self, images):
            self.images, self.ids = images, images.ids

        def __len__(self):
            return len(self.images)

        def __getitem__(self, i):
            s = self.images[i]
            return s | dict(target=s["target"].masked_fill(s["target"] == 10, IGNORE_INDEX))

    def lacking(run):
        data = few_images(run)
        return dataclasses.replace(
            data, **{n: Without(getattr(data, n)) for n in ("labelled", "unlabelled", "val")}
        )

    monkeypatch.setattr(engine, "build_data", lacking)
    result = fit(tiny_run("dgcl", out=out, loop__sup_only_fraction=0.5, steps=12), callbacks=[])
    assert metrics_of(out)[-2]["contrast_classes"] > 0, "no class waits for an absent one"
    assert (
        json.loads((out / "result.json").read_text())["iou_per_class"].keys()
        == result["iou_per_class"].keys()
    )


def test_fit__all_labelled(out):
    result = fit(tiny_run("supervised", out=out, data__num_labelled=2000, batch__unlabelled=0), callbacks=[])
    assert result["miou_teacher"] is None and result["predictor"] == "student"


def test_fit__nothing_unlabelled_for_a_method_that_needs_it(out):
    with pytest.raises(InputError, match="unlabelled"):
        fit(tiny_run("dgcl", out=out, data__num_labelled=2000), callbacks=[])
    with pytest.raises(InputError, match="unlabelled"):
        fit(tiny_run("dgcl", out=out.with_name("zero"), batch__unlabelled=0), callbacks=[])


def test_init_from__starts_every_network_from_the_best_predictor(out, tmp_path):
    fit(tiny_run("supervised", out=out, steps=2), callbacks=[])
    best = torch.load(out / "checkpoints" / "best.pt", weights_only=True)["predictor"]
    t, _ = start(tmp_path / "next", "dgcl", init_from=out)
    assert equal_states(dict(best), dict(t.method.student.state_dict())) and equal_states(
        dict(best), dict(t.method.teacher.state_dict())
    )


def test_init_from__no_run_there(tmp_path):
    with pytest.raises(InputError, match="--init_from .*: no checkpoints/best.pt in it"):
        start(tmp_path / "next", "dgcl", init_from=tmp_path / "nowhere")


# Signals


def train_until(out, line, *args):
    "Start the command in a process group of its own, as a terminal does, and wait until it prints `line`."
    child = subprocess.Popen(
        [sys.executable, "-u", "-m", "dgcl_nb.train", *args, "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(),
        start_new_session=True,
    )
    for text in child.stdout:
        if line in text:
            return child
    raise AssertionError(f"it ended: {child.stderr.read()}")


def test_train__ctrl_c_saves_and_says_how_to_go_on(out):
    args = tiny_args(
        "supervised",
        steps=5000,
        loop__log_every=1,
        batch__workers=1,
        loop__evaluations=0,
        loop__snapshots=0,
        loop__checkpoints=0,
    )
    child = train_until(out, "step     3/5000", *args)
    os.killpg(child.pid, signal.SIGINT)  # Ctrl-C reaches the loader's workers too
    said, errors = child.communicate(timeout=180)
    assert child.returncode == 130, errors
    assert f"go on with: python -m dgcl_nb.train --out {out} --resume" in said and "Traceback" not in errors
    step = state_of(out)["step"]
    assert 3 <= step < 5000 and metrics_of(out)[-1]["step"] == step
    child = train_until(out, f"step {step + 2:>5}/5000", "--resume")
    child.send_signal(signal.SIGTERM)  # as a cluster does before it kills
    said, errors = child.communicate(timeout=180)
    assert child.returncode == 130 and state_of(out)["step"] > step, errors
