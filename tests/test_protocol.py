"""Methods of other shapes than those here train on the same loop: several networks, phases and optimisers."""

import pytest
import torch
from helpers import (
    equal_states,
    few_images,
    metrics_of,
    register_toys,
    start_ranks,
    state_of,
    tiny_args,
    tiny_run,
    wait_for,
)

from dgcl_nb import config, engine, train
from dgcl_nb.engine import Stopped, fit, start_training
from dgcl_nb.methods.protocol import Losses
from dgcl_nb.processes import Control
from dgcl_nb.run_folder import RunFolder
from dgcl_nb.training import Callback

METHODS = ("pair", "relay")


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    "The toys are methods like any other; val has 12 images."
    monkeypatch.setattr(config, "METHODS", dict(config.METHODS))
    register_toys()
    monkeypatch.setattr(engine, "build_data", few_images)


class StopAfter(Callback):
    def __init__(self, step):
        self.step = step

    def on_step(self, t, losses):
        if t.step == self.step:
            t.control.stop()


@pytest.mark.parametrize("method", METHODS)
def test_toys__resume_to_the_bit(method, tmp_path):
    fit(tiny_run(method, out=tmp_path / "whole"), callbacks=[])
    with pytest.raises(Stopped):
        fit(tiny_run(method, out=tmp_path / "parts"), callbacks=[StopAfter(3)])
    fit(tiny_run(method, out=tmp_path / "parts", resume=True), callbacks=[])
    assert metrics_of(tmp_path / "whole") == metrics_of(tmp_path / "parts")
    whole, parts = (state_of(tmp_path / name) for name in ("whole", "parts"))
    for key in ("method", "optimizers", "best", "windows"):
        assert equal_states(whole[key], parts[key]), key


def train_one(out, method):
    "One process of several, as a command starts it."
    train.main(tiny_args(method, out=out))


@pytest.mark.parametrize("method", METHODS)
def test_toys__on_two_processes(method, tmp_path):
    ranks = start_ranks(train_one, tmp_path / "run", method, log=tmp_path / "log")
    assert wait_for(ranks) == [0, 0], (tmp_path / "log0").read_text() + (tmp_path / "log1").read_text()
    last = metrics_of(tmp_path / "run")[-1]
    assert last["step"] == 8 and last["event"] == "eval"
    assert state_of(tmp_path / "run")["made_with"]["processes"] == 2


def test_pair__two_supervised_terms_in_one_phase_and_both_networks_are_scored(tmp_path):
    result = fit(tiny_run("pair", out=tmp_path / "run"), callbacks=[])
    assert list(result["miou"]) == ["first", "second"] and result["predictor"] == "first"
    assert result["miou_student"] is None and result["miou_teacher"] is None
    assert {"loss_sup_1", "loss_sup_2", "loss_unsup_1", "loss_unsup_2"} <= metrics_of(tmp_path / "run")[
        0
    ].keys()


def test_relay__optimisers_of_two_kinds_and_weights_handed_over(tmp_path):
    t = start_training(
        tiny_run("relay", out=tmp_path / "run"), RunFolder(tmp_path / "run").create(), Control()
    )
    kinds = {phase: type(o.optimizer).__name__ for phase, o in t.optimizers.items()}
    assert kinds == dict(first="AdamW", second="SGD")
    method = t.method
    with torch.no_grad():
        for parameter in method.one.parameters():
            parameter.fill_(1.0)
        for parameter in method.two.parameters():
            parameter.fill_(0.0)
    method.after_phase("first", None, t.progress)
    assert next(method.two.encoder_parameters()).flatten()[0].item() == pytest.approx(0.05)
    assert float(method.two.classifier.weight.abs().max()) == 0  # the part that stays


def test_losses__a_name_is_given_once():
    losses = Losses()
    losses.add("loss_sup", torch.tensor(1.0))
    with pytest.raises(ValueError, match="'loss_sup' was added already"):
        losses.add("loss_sup", torch.tensor(2.0))


def test_losses__what_is_inactive_is_looked_at_when_asked():
    losses = Losses()
    losses.skip("a", "always")
    losses.skip("b", "not now", when=torch.tensor(False))
    losses.skip("c", "now", when=torch.tensor(True))
    losses.add("d", torch.tensor(1.0), 0.0)
    losses.skip("d", "not now either", when=torch.tensor(False))
    assert losses.reasons() == {"a": "always", "c": "now", "d": "its weight is 0"}
