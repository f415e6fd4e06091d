"""A run that diverges writes nothing of it, keeps its good checkpoints, and goes on with a smaller rate."""

import json
import math

import pytest
import torch
from helpers import few_images, flags, metrics_of, tiny_args, tiny_run

from dgcl_nb import engine, train
from dgcl_nb.checkpoints import checkpoints_of
from dgcl_nb.config import METHODS, parse_run
from dgcl_nb.core import InputError
from dgcl_nb.engine import fit
from dgcl_nb.finite import NonFiniteWeights, broken_tensors
from dgcl_nb.resuming import history_of, resumed_run
from dgcl_nb.run_folder import RunFolder, read_torch, write_torch
from dgcl_nb.trained import open_trained
from dgcl_nb.training import Callback
from dgcl_nb.workers import StoppedWaiting


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(engine, "build_data", few_images)


class BreakAt(Callback):
    "Makes one weight of the student infinite behind the loop's back, where no loss shows it."

    def __init__(self, step, value=math.inf):
        self.step, self.value = step, value

    def on_step(self, t, losses):
        if t.step == self.step:
            with torch.no_grad():
                t.method.student.projection[0].bias[0] = self.value


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_diverged__nothing_is_written_and_the_last_good_checkpoint_stays(tmp_path, value):
    run = tiny_run("self_training", out=tmp_path / "run", loop__checkpoints=8, loop__evaluations=8)
    with pytest.raises(NonFiniteWeights, match="go on from step_0000004.pt") as error:
        fit(run, callbacks=[BreakAt(5, value)])
    assert "student.projection.0.bias" in str(error.value) and "--optim.lr" in str(error.value)
    folder = RunFolder(tmp_path / "run")
    saved = [p.name for p in checkpoints_of(folder)]
    assert saved == ["step_0000003.pt", "step_0000004.pt"]
    assert not any(broken_tensors(read_torch(p)["method"]) for p in checkpoints_of(folder))
    assert max(line["step"] for line in metrics_of(tmp_path / "run") if line.get("event") == "eval") == 4
    assert not folder.result.exists()
    assert [entry["event"] for entry in history_of(folder)] == ["diverged"]


def test_diverged__goes_on_with_a_smaller_rate_which_is_recorded(tmp_path):
    out = tmp_path / "run"
    run = tiny_run("self_training", out=out, loop__checkpoints=8)
    with pytest.raises(NonFiniteWeights):
        fit(run, callbacks=[BreakAt(5)])
    args = [*tiny_args("self_training"), *flags({"loop.checkpoints": 8, "out": out, "resume": True})]
    with pytest.raises(InputError, match="--optim.lr 0.1 differs from 0.003"):
        resumed_run([*args, "--optim.lr", "0.1"], parse_run(args))
    smaller = [*args, "--optim.lr", "0.0015"]
    result = fit(resumed_run(smaller, parse_run(smaller)), callbacks=[])
    assert result["steps"] == 8
    history = history_of(RunFolder(out))
    assert [e["event"] for e in history] == ["diverged", "changed"]
    assert history[1]["settings"] == {"optim.lr": [0.003, 0.0015]} and history[1]["step"] == 4
    assert json.loads(RunFolder(out).config.read_text())["optim"]["lr"] == 0.0015


def test_diverged__a_stop_while_no_batch_comes_saves_nothing_of_it(tmp_path, monkeypatch):
    step_on = engine.next_step

    def then_wait(t, loader):
        if t.step == 5:
            raise StoppedWaiting
        return step_on(t, loader)

    monkeypatch.setattr(engine, "next_step", then_wait)
    run = tiny_run("self_training", out=tmp_path / "run")
    with pytest.raises(NonFiniteWeights, match="go on from step_0000004.pt"):
        fit(run, callbacks=[BreakAt(5)])
    assert [p.name for p in checkpoints_of(RunFolder(tmp_path / "run"))] == ["step_0000004.pt"]


def test_diverged__the_rate_that_helps_is_half_of_the_one_that_was_asked_for(tmp_path):
    "With lr_batch 1 and two images a step, half the rate of the optimiser would be what was asked for."
    run = tiny_run("self_training", out=tmp_path / "run", optim__lr_batch=1)
    with pytest.raises(NonFiniteWeights, match=r"\(optim.lr was 0.003\).* --resume --optim.lr 0.0015$"):
        fit(run, callbacks=[BreakAt(8)])


def test_resume__no_other_rate_without_a_divergence(tmp_path):
    out = tmp_path / "run"
    fit(tiny_run("supervised", out=out), callbacks=[])
    args = [*tiny_args("supervised"), *flags({"out": out, "resume": True, "optim.lr": 0.0015})]
    with pytest.raises(InputError, match="--optim.lr 0.0015 differs from 0.003"):
        resumed_run(args, parse_run(args))


@pytest.mark.parametrize("rate", [math.inf, math.nan, 1e38, -1.0])
def test_rate__absurd_ones_are_refused_before_anything_is_built(rate):
    with pytest.raises(InputError, match="optim.lr is .*; allowed: above 0 and at most 100"):
        tiny_run("supervised", optim__lr=rate)


@pytest.mark.parametrize("method", METHODS)
def test_unknown_values__are_no_divergence(method, tmp_path):
    "A memory that says NaN for unknown is named by its method; a run of every method passes the gate."
    assert fit(tiny_run(method, out=tmp_path / "run"), callbacks=[])["steps"] == 8


def poison(path, key):
    state = read_torch(path)
    next(iter(x for x in state[key].values() if x.is_floating_point() and x.dim() > 1)).fill_(math.nan)
    write_torch(path, state)


def test_saved_nan__is_neither_loaded_nor_predicted_with(tmp_path):
    out = tmp_path / "run"
    fit(tiny_run("supervised", out=out), callbacks=[])
    poison(out / "checkpoints" / "best.pt", "predictor")
    with pytest.raises(InputError, match="best.pt holds the weights of a run that has diverged"):
        open_trained(out, device="cpu")
    (out / "result.json").unlink()
    poison(checkpoints_of(RunFolder(out))[-1], "method")
    with pytest.raises(InputError, match="step_0000008.pt holds the weights of a run that has diverged"):
        fit(tiny_run("supervised", out=out, resume=True), callbacks=[])


def test_resume__without_config_json_the_checkpoint_speaks(tmp_path):
    out = tmp_path / "run"
    fit(tiny_run("supervised", out=out), callbacks=[])
    for name in ("config.json", "result.json"):
        (out / name).unlink()
    with pytest.raises(InputError, match="--seed 3 differs from 0"):
        fit(tiny_run("supervised", out=out, resume=True, seed=3), callbacks=[])


def test_finished__more_steps_are_refused(tmp_path, capsys):
    out = tmp_path / "run"
    fit(tiny_run("supervised", out=out), callbacks=[])
    with pytest.raises(SystemExit) as stop:
        train.main([*tiny_args("supervised", steps=16), "--out", str(out), "--resume"])
    assert stop.value.code == 2 and "--init_from" in capsys.readouterr().err
