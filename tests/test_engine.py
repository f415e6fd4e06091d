"""The loop: phases, resume to the bit, accumulation, clipping, errors, and inputs at the edge."""

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
from functools import partial

import pytest
import torch
from helpers import (
    First,
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
from torch.utils._python_dispatch import TorchDispatchMode

from dgcl_nb import config, core, engine, training
from dgcl_nb.background import fit_async
from dgcl_nb.checkpoints import checkpoints_of, load_checkpoint, save_checkpoint
from dgcl_nb.core import IGNORE_INDEX, InputError
from dgcl_nb.run_folder import RunFolder, is_whole, read_lines, read_torch, write_torch
from dgcl_nb.engine import Stopped, fit, start_training
from dgcl_nb.methods.protocol import Losses, Method, SupConfig, supervised
from dgcl_nb.optim import OptimConfig
from dgcl_nb.trained import open_trained
from dgcl_nb.processes import Control
from dgcl_nb.snapshots import list_snapshots, load_snapshot
from dgcl_nb.finite import NonFiniteLoss
from dgcl_nb.training import Callback, batches_of, next_step
from dgcl_nb.views import Views
from dgcl_nb.workers import StoppedWaiting

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
    loader = batches_of(t)

    def take(steps):
        return [next_step(t, loader) for _ in range(steps)]

    return t, take


def train(out, method="toy", *callbacks, **settings):
    "Train a tiny run to its end."
    return fit(tiny_run(method, out=out, **settings), callbacks=callbacks)


def rates_of(t, phase="main"):
    return [g["lr"] for g in t.optimizers[phase].param_groups]


def evaluations_of(out):
    "The log lines of evaluations."
    return [r for r in metrics_of(out) if r.get("event") == "eval"]


def steps_of(records):
    return [r["step"] for r in records]


def same_files(a, b, name="metrics.jsonl"):
    "Whether a file is the same in two folders."
    return (a / name).read_text() == (b / name).read_text()


def contents(folder):
    "Every file of a folder."
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class StopAfter(Callback):
    def __init__(self, step):
        self.step = step

    def on_step(self, t, losses):
        if t.step == self.step:
            t.control.stop()


# A method of two phases


def test_toy__both_phases_step_once_a_step(out):
    result = train(out)
    state = state_of(out)
    assert state["method"]["handed_over"] == state["step"] == 8
    assert set(state["optimizers"]) == {"first", "second"}
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
    for phase, network in dict(first=t.method.one, second=t.method.two).items():
        held = {id(p) for g in t.optimizers[phase].param_groups for p in g["params"]}
        assert held == {id(p) for p in network.parameters()}
    assert [g["lr"] for g in t.optimizers["first"].param_groups] == pytest.approx([3e-3 * 0.3, 3e-3])


class OwnWays(Toy):
    "Its second phase has an optimiser of another kind, with a rate, a schedule and a clipping of its own."

    def optim_config(self, phase, default):
        own = OptimConfig(optimizer="sgd", lr=1e-4, poly_power=0.0, clip_norm=1e-9, weight_decay=0.0)
        return default if phase == "first" else own


def test_optim_config__a_phase_may_have_its_own(out, tmp_path, monkeypatch):
    monkeypatch.setitem(config.METHODS, "own_ways", (OwnWays))
    t, take = start(out, "own_ways")
    plain, take_plain = start(tmp_path / "plain")
    start_of_two = [p.clone() for p in t.method.two.parameters()]
    take(3)
    take_plain(3)
    assert [type(o.optimizer).__name__ for o in t.optimizers.values()] == ["AdamW", "SGD"]
    assert rates_of(t, "first") == rates_of(plain, "first")
    assert rates_of(t, "second") == pytest.approx([1e-4 * 0.3, 1e-4]), "its own rate does not fall"
    moved = [(p - q).norm() for p, q in zip(t.method.two.parameters(), start_of_two)]
    assert torch.stack(moved).norm() < 1e-9, "its gradients are clipped to next to nothing"


# Waits of a step


class Waits(TorchDispatchMode):
    "Counts what would make the host wait for a GPU: values that Python looks at."

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_check_finite__is_the_one_wait_of_a_step(out, monkeypatch):
    "For two phases of two batches each; and the log window waits for nothing."
    t, take = start(out, optim__accumulate=2)
    check, note, waits = training.check_finite, training.note_in_window, []

    def counted(call):
        def wrapped(*args):
            with Waits() as seen:
                call(*args)
            waits.append((call.__name__, seen.count))

        return wrapped

    monkeypatch.setattr(training, "check_finite", counted(check))
    monkeypatch.setattr(training, "note_in_window", counted(note))
    take(1)
    assert waits == [("note_in_window", 0)] * 4 + [("check_finite", 1)]


# Stop and resume


@pytest.mark.parametrize("method,stop", [("toy", 5), ("dgcl", 5), ("dgcl", 8)])
def test_fit__stopped_and_resumed_is_the_run_that_never_stopped(tmp_path, method, stop):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    settings = dict(steps=8, loop__evaluations=4, optim__warmup=0.3)
    train(whole, method, **settings)
    if stop < 8:
        said = f"stopped after step {stop} of 8; go on with: .*--out {parts} --resume"
        with pytest.raises(Stopped, match=said):
            train(parts, method, StopAfter(stop), **settings)
    else:
        train(parts, method, StopAfter(stop), **settings)  # asked to stop when it was done anyway
    again = train(parts, method, resume=True, **settings)
    assert same_files(whole, parts)
    assert equal_states(state_of(whole), state_of(parts)), "weights, teacher, bank, optimisers"
    result = json.loads((whole / "result.json").read_text())
    differ = {"seconds", "seconds_per_step", "peak_rss_mb", "folder"}
    assert again.keys() - differ == result.keys() - differ
    assert all(again[k] == result[k] for k in result.keys() - differ)


@pytest.mark.parametrize("step", [4, 8])
def test_fit__an_evaluation_that_a_stop_cut_off_is_made_when_the_run_goes_on(tmp_path, monkeypatch, step):
    "Whoever waits for an image when the stop comes leaves the step without evaluation and snapshot."
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    settings = dict(steps=8, loop__evaluations=4, loop__snapshots=4)
    train(whole, "dgcl", **settings)
    score = engine.score

    def wait(t, network, collect_feats=0):
        if t.step == step:
            raise StoppedWaiting
        return score(t, network, collect_feats)

    with monkeypatch.context() as patch, pytest.raises(Stopped, match=f"stopped after step {step} of 8"):
        patch.setattr(engine, "score", wait)
        train(parts, "dgcl", **settings)
    assert not (parts / "snapshots" / f"step_{step:07d}.npz").exists()
    train(parts, "dgcl", resume=True, **settings)
    assert same_files(whole, parts)
    assert [p.name for p in list_snapshots(parts)] == [p.name for p in list_snapshots(whole)]
    # the rate of an optimiser is set anew by each step, and at the end there was none
    assert all(equal_states(state_of(whole)[key], state_of(parts)[key]) for key in ("method", "best"))


def test_fit__killed_after_its_last_checkpoint(out):
    first = train(out)
    lines = metrics_of(out)
    (out / "result.json").unlink()  # it died between the last checkpoint and the result
    again = train(out, resume=True)
    assert again["miou_teacher"] == first["miou_teacher"] and metrics_of(out) == lines


def test_fit__logs_after_the_checkpoint_are_cut(out):
    class Die(Callback):
        def on_step(self, t, losses):
            if t.step == 7:
                raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        train(out, "toy", Die())
    assert metrics_of(out)[-1]["step"] == 6 and state_of(out)["step"] == 4
    train(out, resume=True)
    assert steps_of(metrics_of(out)) == [1, 2, 4, 6, 8, 8]


def test_fit__finished_run_is_left_alone(out):
    first = train(out)
    files = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    assert train(out, resume=True) == first
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == files
    with pytest.raises(InputError, match="is not empty; go on with it by --resume, or name another folder"):
        train(out)


def test_fit__finished_run_is_told_to_those_who_watch(out):
    class Told(Callback):
        def on_start(self, t):
            raise AssertionError("there is no step to take")

        def on_found(self, folder, result):
            self.found = folder, result["steps"]

    train(out)
    told = Told()
    train(out, "toy", told, resume=True)
    assert told.found == (out, 8)


def test_fit__finished_run_takes_no_more_steps(out):
    train(out)
    with pytest.raises(InputError, match="is finished with 8 steps, and 12 are asked for.*--init_from"):
        train(out, resume=True, steps=12)
    assert json.loads((out / "config.json").read_text())["steps"] == state_of(out)["step"] == 8


def test_fit__resume_on_other_images_is_refused(out, monkeypatch):
    with pytest.raises(Stopped):
        train(out, "toy", StopAfter(4))
    files = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    monkeypatch.setattr(engine, "build_data", partial(few_images, num_val=11))
    with pytest.raises(InputError, match="begun with other images .now: 11 val; .* put back the lists"):
        train(out, resume=True)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == files
    monkeypatch.setattr(engine, "build_data", few_images)
    assert train(out, resume=True)["steps"] == 8


def test_fit__resume_without_a_checkpoint_starts(out):
    assert train(out, resume=True, steps=2)["steps"] == 2


class DieAfter(Callback):
    "An end without a word: no checkpoint, no result."

    def __init__(self, step):
        self.step = step

    def on_step(self, t, losses):
        if t.step == self.step:
            raise RuntimeError("power cut")


def test_fit__died_before_its_first_checkpoint(out, tmp_path):
    with pytest.raises(RuntimeError, match="power cut"):
        train(out, "toy", DieAfter(3), loop__snapshots=4)
    assert not checkpoints_of(RunFolder(out)) and metrics_of(out)
    with open(out / "metrics.jsonl", "a") as f:
        f.write('{"step": 3, "los')
    (out / "checkpoints" / ".step_0000004.pt.x1y2.part").write_bytes(b"half")
    train(out, resume=True, loop__snapshots=4)
    train(tmp_path / "whole", loop__snapshots=4)
    assert (out / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()
    assert not [p for p in out.rglob(".*")]


def test_fit__snapshots_of_steps_taken_again_are_made_anew(out):
    with pytest.raises(RuntimeError):
        train(out, "toy", DieAfter(7), loop__snapshots=4)
    stems = [f"step_{n:07d}" for n in (0, 2, 4, 6, 8)]
    assert [p.stem for p in list_snapshots(out)] == stems[:-1]
    stale = list_snapshots(out)[-1]
    stale.write_bytes(b"of a run that died after it")
    train(out, resume=True, loop__snapshots=4)
    assert [p.stem for p in list_snapshots(out)] == stems
    assert load_snapshot(stale).step == 6


def test_fit__stopped_once_a_step_is_the_run_that_never_stopped(tmp_path):
    "Resumed after every single step, with global generators stirred in between."
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(whole, "dgcl")
    for step in range(1, 8):
        torch.rand(step)
        torch.manual_seed(step)
        with pytest.raises(Stopped):
            train(parts, "dgcl", StopAfter(step), resume=True)
    train(parts, "dgcl", resume=True)
    assert equal_states(state_of(whole), state_of(parts))
    assert same_files(whole, parts)


# Checkpoints: whole, and data only


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    "A toy's run of 8 steps, with checkpoints at 4 and 8; tests work on copies."
    out = tmp_path_factory.mktemp("finished") / "run"
    assert wait_for([start_child(train, out)]) == [0]
    return out


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
    train(copied, resume=True)
    said = f"{newest} is DAMAGED (its checksum is missing or wrong) and set aside as {newest.name}.damaged"
    assert f"{said}; going back to step_0000004.pt" in caplog.text
    assert same_files(copied, finished)
    assert equal_states(state_of(copied), state_of(finished))
    assert [p.name for p in checkpoints_of(RunFolder(copied))] == ["step_0000004.pt", "step_0000008.pt"]
    assert newest.with_name(newest.name + ".damaged").is_file()


def test_fit__all_checkpoints_damaged(copied):
    for p in checkpoints_of(RunFolder(copied)):
        p.write_bytes(flip(p.read_bytes()))
    before = contents(copied)
    said = "every checkpoint in .* is damaged .step_0000004.pt, step_0000008.pt.: no checksum agrees; restore"
    for _ in range(2):  # and the second try is no fresh start either
        with pytest.raises(InputError, match=f"{said} one from a copy"):
            train(copied, resume=True)
    assert contents(copied) == before


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
            train(copied, resume=True)
        elif use == "init_from":
            start(tmp_path / "next", "dgcl", init_from=copied)
        else:
            open_trained(copied, "best", "cpu")
    assert not (tmp_path / "ran").exists(), "the program did not run"
    torch.load(path, weights_only=False)
    assert (tmp_path / "ran").is_dir(), "it was armed: a careless reader runs it"


CARELESS = ("pickle.load", "pickle.Unpickler", "joblib.load", "torch.jit.load", "pd.read_pickle")
"How calls begin that run what a file says."
OWN_CHILDREN = ("live_layout.py", "workers.py")
"Where pickles pass between a process and its own children, in a pipe."


def test_package__reads_no_pickle_that_could_run():
    "Every torch.load says weights_only=True, and numpy's pickles stay off."
    found, files = [], sorted((ROOT / "dgcl_nb").rglob("*.py"))
    for file in files:
        for call in (n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Call)):
            name = ast.unparse(call.func)
            options = {k.arg: ast.unparse(k.value) for k in call.keywords}
            careless = name.startswith(CARELESS) and file.name not in OWN_CHILDREN
            careless |= name == "torch.load" and options.get("weights_only") != "True"
            careless |= name == "np.load" and options.get("allow_pickle") != "False"
            if careless or name.endswith(".load_state"):
                found.append((file.name, call.lineno, name))
    assert not found
    assert any("weights_only=True" in file.read_text() for file in files)


def test_load_checkpoint__no_checkpoint_at_all(copied):
    newest = checkpoints_of(RunFolder(copied))[-1]
    write_torch(newest, dict(step=8, miou=1.0))
    said = "is no checkpoint of this version: it lacks best, config, made_with, method"
    with pytest.raises(InputError, match=said):
        train(copied, resume=True)


def test_save_checkpoint__holds_settings_and_circumstances(finished):
    state = state_of(finished)
    assert config.run_from_dict(state["config"]) == tiny_run("toy")
    assert {"processes", "device", "threads", "torch"} <= state["made_with"].keys()


def test_load_checkpoint__says_what_is_no_longer_exact(copied, caplog):
    threads = torch.get_num_threads()
    try:
        (copied / "result.json").unlink(missing_ok=True)
        train(copied, resume=True, loop__threads=threads + 1)
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
    assert other.accelerator.scaler.state_dict() == t.accelerator.scaler.state_dict()
    assert other.accelerator.scaler.get_scale() == 64.0


def test_evaluate_scored__best_of_steps_that_are_taken_again(out, monkeypatch):
    "Where going on is not exact, an evaluation may come out lower than best.pt's; file and log then agree."
    heights, scored = {2: 1.0, 4: 10.0, 6: 90.0}, engine.score

    def score(t, network, collect=0):
        result = scored(t, network, collect)
        return result._replace(score=result.score._replace(miou=heights[t.step]))

    monkeypatch.setattr(engine, "score", score)
    with pytest.raises(RuntimeError):
        train(out, "toy", DieAfter(7), loop__evaluations=4)
    assert read_torch(out / "checkpoints" / "best.pt")["step"] == 6 and state_of(out)["step"] == 4
    heights |= {6: 5.0, 8: 3.0}
    result = train(out, resume=True, loop__evaluations=4)
    assert (result["best_step"], result["best_miou"]) == (6, 5.0)
    assert read_torch(out / "checkpoints" / "best.pt")["step"] == 6
    best = [(r["best_step"], r["best_miou"]) for r in evaluations_of(out)]
    assert best == [(2, 1.0), (4, 10.0), (6, 5.0), (6, 5.0)]


# Started again by torchrun


def train_here(folder, die_at=0, out="", steps=8):
    "Train in a working folder, as the command does, with or without --out."
    os.chdir(folder)
    step = training.training_step

    def dying(t, batches):
        if t.step == die_at > 0:
            t.writer.wait()  # it is not a checkpoint under way that this is about
            os.kill(os.getpid(), signal.SIGKILL)
        return step(t, batches)

    training.training_step = dying
    try:
        train(out, steps=steps)
    except InputError as e:
        sys.exit(str(e))


@pytest.mark.parametrize("out", ["", "named"])
def test_fit__started_again_by_torchrun_goes_on(tmp_path, finished, out):
    "With the command of the first start, without --resume; the default folder may be taken by another run."
    runs = tmp_path / "runs"
    (runs / "digits-toy-s0").mkdir(parents=True)
    (runs / "digits-toy-s0" / "config.json").write_text("{}")
    ours = tmp_path / (out or "runs/digits-toy-s0-2")
    first = start_child(train_here, tmp_path, 6, out, TORCHELASTIC_RESTART_COUNT="0")
    assert wait_for([first]) == [-signal.SIGKILL]
    assert state_of(ours)["step"] == 4
    second = start_child(train_here, tmp_path, 0, out, TORCHELASTIC_RESTART_COUNT="1")
    assert wait_for([second]) == [0]
    assert same_files(ours, finished)
    assert equal_states(state_of(ours), state_of(finished))
    names = {"digits-toy-s0"} if out else {"digits-toy-s0", "digits-toy-s0-2"}
    assert {p.name for p in runs.iterdir()} == names


def test_fit__started_again_by_torchrun_leaves_other_runs_alone(tmp_path, copied):
    (copied / ".launch").write_text("another torchrun")
    before, log = contents(copied), tmp_path / "log"
    for count in "01":
        child = start_child(train_here, tmp_path, 0, copied, log=log, TORCHELASTIC_RESTART_COUNT=count)
        assert wait_for([child]) == [1]
    assert log.read_text().count("is not empty; go on with it by --resume") == 2
    assert contents(copied) == before


def test_fit_async__pause_resume_stop(out):
    going = fit_async(tiny_run("toy", out=out, steps=400, loop__log_every=1))
    going.pause()
    while going.is_running() and not metrics_of(out):
        time.sleep(0.05)
    time.sleep(0.5)
    assert going.is_running()
    assert steps_of(metrics_of(out)) == [1], "it waits at the end of its first step"
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
    batch__unlabelled=0,
    views__scale=(1.0, 1.0),
    optim__optimizer="sgd",
    optim__lr=0.05,
    optim__weight_decay=0.0,
    model__channels_last=False,
)


def distance(a, b):
    "The largest difference of any parameter of two runs."
    return max((p - q).abs().max() for p, q in zip(a.method.parameters(), b.method.parameters()))


def test_accumulate__two_halves_are_one_batch(tmp_path, monkeypatch):
    monkeypatch.setitem(config.METHODS, "plain", Plain)
    whole, take_whole = start(tmp_path / "whole", "plain", batch__labelled=4, **PLAIN)
    halves, take_halves = start(tmp_path / "halves", "plain", batch__labelled=2, optim__accumulate=2, **PLAIN)
    take_whole(3)
    take_halves(3)
    assert halves.step == 3 and halves.method.steps_seen == [0, 1, 2]
    assert rates_of(halves) == rates_of(whole)
    new, _ = start(tmp_path / "new", "plain", **PLAIN)
    assert distance(whole, new) > 1e-2 and distance(whole, halves) < 1e-5


def test_accumulate__counted_once_a_step_with_two_phases(out):
    train(out, optim__accumulate=2)
    plain = [r["lr"] for r in metrics_of(out)[:-1]]
    assert state_of(out)["method"]["handed_over"] == 8
    assert plain == pytest.approx([3e-3 * (1 - t / 8) ** 0.9 for t in (0, 1, 3, 5, 7)])


def test_accumulate__dgcl_banks_every_micro_batch(tmp_path):
    filled, at_once = {}, dict(loop__sup_only_fraction=0.0)
    large = dict(dgcl__bank__size=4000, dgcl__bank__max_new_per_class=4000)
    for n in (1, 2):
        t, take = start(tmp_path / str(n), "dgcl", optim__accumulate=n, **at_once, **large)
        take(1)
        filled[n] = t.method.bank.filled[0]
    assert filled[2] > 1.5 * filled[1] > 0


def test_clip_norm__bounds_the_step_of_every_phase(out):
    bare = dict(optim__optimizer="sgd", optim__encoder_lr_scale=1.0, optim__weight_decay=0.0)
    t, take = start(out, optim__lr=1.0, optim__clip_norm=1e-3, **bare)
    before = [[p.clone() for p in n.parameters()] for n in (t.method.one, t.method.two)]
    take(1)
    for net, old in zip((t.method.one, t.method.two), before):
        moved = torch.stack([(p - q).norm() for p, q in zip(net.parameters(), old)]).norm()
        # a gradient longer than clip_norm is scaled to it, counting this phase's parameters
        assert moved.item() == pytest.approx(1e-3, rel=0.05)


def test_is_due__how_often_over_a_run(out):
    often = dict(loop__evaluations=3, loop__snapshots=4, loop__checkpoints=6, loop__log_every=5)
    train(out, steps=12, **often)
    assert steps_of(evaluations_of(out)) == [4, 8, 12]
    assert steps_of(r for r in metrics_of(out) if "event" not in r) == [1, 5, 10, 12]
    assert [load_snapshot(p).step for p in list_snapshots(out)] == [0, 3, 6, 9, 12]
    assert [p.name for p in checkpoints_of(RunFolder(out))] == ["step_0000010.pt", "step_0000012.pt"]
    timings = read_lines(out / "timings.jsonl")
    assert steps_of(timings) == [1, 5, 10, 12]
    assert all(r["images_per_second"] > 0 for r in timings)


@pytest.mark.parametrize("method", ["dgcl", "supervised"])
def test_snapshot__before_step_1_changes_no_number(out, tmp_path, method):
    train(out, method, steps=4, loop__snapshots=0)
    train(tmp_path / "watched", method, steps=4, loop__snapshots=1)
    assert [p.stem for p in list_snapshots(tmp_path / "watched")] == ["step_0000000", "step_0000004"]
    assert metrics_of(tmp_path / "watched") == metrics_of(out)


def test_is_due__zero_times_is_the_end_only(out):
    train(out, "supervised", steps=3, loop__evaluations=0, loop__snapshots=0, loop__checkpoints=0)
    assert steps_of(evaluations_of(out)) == [3]
    assert len(list_snapshots(out)) == 1 and state_of(out)["step"] == 3


def test_fit__folder_holds_what_viewers_read(out):
    result = train(out, "dgcl")
    files = "config.json metrics.jsonl timings.jsonl checkpoints snapshots result.json"
    assert {p.name for p in out.iterdir()} == set(files.split())
    assert config.run_from_dict(json.loads((out / "config.json").read_text())) == tiny_run("dgcl", out=out)
    wanted = """method preset seed steps seconds seconds_per_step peak_rss_mb peak_gpu_mb predictor miou
        miou_student miou_teacher best_miou best_step iou_per_class
        silhouette calinski_harabasz davies_bouldin tf32 cudnn_benchmark"""
    assert set(wanted.split()) <= set(result)
    assert "torch" in result["environment"]
    assert torch.load(out / "checkpoints" / "best.pt", weights_only=True)["step"] == result["best_step"]
    snap = load_snapshot(list_snapshots(out)[-1])
    assert snap.image.shape == (2, 64, 64, 3)  # whole images, whatever the crop is
    assert snap.feats.shape[1] == 16 and snap.density_per_k.shape[1] == 2


def test_fit__log_line_says_what_is_inactive_and_why(out):
    train(out, "dgcl", dgcl__bank__size=4000, dgcl__bank__min_fill=4000)
    lines = [r for r in metrics_of(out) if "event" not in r]
    assert lines[0]["inactive"] == dict.fromkeys(
        ("loss_unsup", "loss_contrast"), "supervised start until step 2"
    )
    assert lines[2]["inactive"]["loss_contrast"] == "no class of the batch has 4000 bank entries yet"
    wanted = "loss_sup loss_unsup loss_contrast kept pseudo_accuracy bank_fill contrast_classes"
    assert set(wanted.split()) <= set(lines[-1])


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
    said = "step 5: loss_bank is not finite .* the batch is saved in .*nonfinite_step_0000005"
    said += ".* go on from step_0000004.pt: .* --resume --optim.lr 0.0015"
    with pytest.raises(NonFiniteLoss, match=said):
        train(out)
    saved = torch.load(next(out.glob("nonfinite*.pt")), weights_only=True)
    assert saved["step"] == 5 and len(saved["batch"]["ids_u"]) == 2
    assert saved["batch"]["images_l"].shape == (2, 3, 48, 48)
    assert state_of(out)["step"] == 4, "the checkpoint before stays"
    monkeypatch.setitem(config.METHODS, "toy", Toy)
    assert train(out, resume=True)["steps"] == 8


def test_load_checkpoint__another_configuration(out):
    with pytest.raises(Stopped):
        train(out, "dgcl", StopAfter(4))
    saved = (out / "config.json").read_text()
    said = "is a checkpoint of another configuration: .* tensors differ, e.g. bank.* config.json"
    with pytest.raises(InputError, match=said):
        train(out, "dgcl", resume=True, dgcl__bank__size=16)
    with pytest.raises(InputError, match="is a checkpoint of method dgcl, not of toy"):
        train(out, "toy", resume=True)
    assert (out / "config.json").read_text() == saved, (
        "a resume that fails leaves the configuration as it was"
    )


def test_fit__read_only_folder():
    said = "cannot write the run folder /proc/dgcl_nb.*: .*; name another with --out, or free space"
    with pytest.raises(InputError, match=said):
        train("/proc/dgcl_nb/run")


FULL = "cannot write .*: No space left on device; what was there before is intact: free space .*--resume"


def full(fd):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_fit__disk_full_at_a_checkpoint(out, monkeypatch):
    class Fill(Callback):
        def on_step(self, t, losses):
            if t.step == 6:
                monkeypatch.setattr(core.os, "fsync", full)

    with pytest.raises(InputError, match=FULL):
        train(out, "toy", Fill())
    monkeypatch.undo()
    assert [p.name for p in (out / "checkpoints").glob("step_*")] == ["step_0000004.pt"]
    assert state_of(out)["step"] == 4
    assert not [p for p in out.rglob(".*")], "no half-written file is left"


def test_fit__disk_full_at_a_log_line(out):
    class Fill(Callback):
        def on_start(self, t):
            t.folder.metrics.symlink_to("/dev/full")

    with pytest.raises(InputError, match="cannot write .*metrics.jsonl: No space left on device"):
        train(out, "toy", Fill())


def test_fit__failed_start_leaves_no_used_folder(out):
    with pytest.raises(InputError, match="unknown encoder .*did you mean"):
        train(out, model__encoder="resnet5")
    assert train(out, steps=1)["steps"] == 1, "the corrected command works as it stands"


# Inputs at the edge


def is_finite(state):
    "Whether all numbers of a method are finite; a density that nobody knows is NaN."
    return all(v.isfinite().all() for name, v in state.items() if not name.endswith("bank.density"))


@pytest.mark.parametrize("method", METHODS)
def test_fit__bf16_on_the_cpu(out, method):
    train(out, method, loop__precision="bf16")
    state = state_of(out)["method"]
    assert all(v.dtype != torch.bfloat16 for v in state.values()) and is_finite(state)
    assert all(v == v for r in metrics_of(out) for k, v in r.items() if k.startswith("loss"))


@pytest.mark.parametrize("method", METHODS)
def test_fit__batch_of_one(out, method):
    result = train(out, method, batch__labelled=1, batch__unlabelled=1, model__aspp_pool=True)
    assert result["steps"] == 8 and is_finite(state_of(out)["method"])


def test_fit__crop_larger_than_the_image(out):
    train(out, "dgcl", views__crop=96, views__scale=(0.5, 1.0))
    snap = load_snapshot(list_snapshots(out)[-1])
    assert snap.image.shape == (2, 64, 64, 3) and (snap.target != IGNORE_INDEX).all()


def test_fit__k_larger_than_the_bank(out):
    train(out, "dgcl", dgcl__num_neighbors=(8, 5000))
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
        parts = {n: Without(getattr(data, n)) for n in ("labelled", "unlabelled", "val")}
        return dataclasses.replace(data, **parts)

    monkeypatch.setattr(engine, "build_data", lacking)
    result = train(out, "dgcl", loop__sup_only_fraction=0.5, steps=12)
    assert metrics_of(out)[-2]["contrast_classes"] > 0, "no class waits for an absent one"
    saved = json.loads((out / "result.json").read_text())
    assert saved["iou_per_class"].keys() == result["iou_per_class"].keys()


class Unknown(First):
    "Images of which nobody knows a pixel."

    def __getitem__(self, i):
        sample = super().__getitem__(i)
        return sample | dict(target=torch.full_like(sample["target"], IGNORE_INDEX))


def test_fit__val_without_a_known_pixel_has_no_best(out, monkeypatch):
    def unknown_val(run):
        data = few_images(run)
        return dataclasses.replace(data, val=Unknown(data.val, 12))

    monkeypatch.setattr(engine, "build_data", unknown_val)
    result = train(out, "supervised", steps=2)
    assert (result["best_miou"], result["best_step"]) == (None, 0)
    assert evaluations_of(out)[-1]["best_miou"] is None


def test_fit__all_labelled(out):
    result = train(out, "supervised", data__num_labelled=2000, batch__unlabelled=0)
    assert result["miou_teacher"] is None and result["predictor"] == "student"


def test_fit__nothing_unlabelled_for_a_method_that_needs_it(out):
    with pytest.raises(InputError, match="unlabelled"):
        train(out, "dgcl", data__num_labelled=2000)
    with pytest.raises(InputError, match="unlabelled"):
        train(out.with_name("zero"), "dgcl", batch__unlabelled=0)


# Signals


def train_until(out, line, *args):
    "Start the command in a process group of its own, as a terminal does, and wait until it prints `line`."
    words = [sys.executable, "-u", "-m", "dgcl_nb.train", *args, "--out", str(out)]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    child = subprocess.Popen(words, env=clean_environment(), start_new_session=True, **pipes)
    for text in child.stdout:
        if line in text:
            return child
    raise AssertionError(f"it ended: {child.stderr.read()}")


def test_train__ctrl_c_saves_and_says_how_to_go_on(out):
    never = dict(loop__evaluations=0, loop__snapshots=0, loop__checkpoints=0)
    args = tiny_args("supervised", steps=5000, loop__log_every=1, batch__workers=1, **never)
    child = train_until(out, "3/5000", *args)
    os.killpg(child.pid, signal.SIGINT)  # Ctrl-C reaches the loader's workers too
    said, errors = child.communicate(timeout=180)
    assert child.returncode == 130, errors
    assert f"go on with: python -m dgcl_nb.train --out {out} --resume" in said and "Traceback" not in errors
    step = state_of(out)["step"]
    assert 3 <= step < 5000 and metrics_of(out)[-1]["step"] == step
    child = train_until(out, f"{step + 2}/5000", "--resume")
    child.send_signal(signal.SIGTERM)  # as a cluster does before it kills
    said, errors = child.communicate(timeout=180)
    assert child.returncode == 130 and state_of(out)["step"] > step, errors


# best.pt when a run goes on


@pytest.mark.parametrize("harm", ["damaged", "gone", "foreign"])
def test_fit__a_best_that_is_not_what_the_checkpoint_says(out, harm, caplog):
    "What the result calls the best is what the file holds."
    often = dict(loop__evaluations=4, loop__checkpoints=4)
    with pytest.raises(RuntimeError):
        train(out, "toy", DieAfter(5), **often)
    path = out / "checkpoints" / "best.pt"
    saved = read_torch(path)
    if harm == "damaged":
        path.write_bytes(flip(path.read_bytes()))
    elif harm == "gone":
        path.unlink()
    else:
        write_torch(path, saved | dict(step=1))
    result = train(out, resume=True, **often)
    assert "best.pt is not used" in caplog.text
    assert path.with_name("best.pt.damaged").exists() == (harm != "gone")
    assert result["best_step"] == read_torch(path)["step"] > 4
    assert result["best_miou"] == read_torch(path)["miou"]
