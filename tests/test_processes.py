"""Two processes with gloo on this machine: what every rank must hold alike, and what a lone process with the whole batch would have computed.

Run as a script this file is one of the two ranks; the tests read what the ranks left behind."""
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers import clean_environment, equal_states, few_images, metrics_of, register_toy, state_of, tiny_run

from dgcl_nb import config, engine
from dgcl_nb.core import RunFolder, gather_rows
from dgcl_nb.engine import Control, Stopped, fit
from dgcl_nb.methods.base import Losses, Method, SupervisedConfig, add_supervised
from dgcl_nb.views import Views

STEPS = 20
PLAIN = dict(steps=3, views__scale=(1., 1.), optim__optimizer="sgd", optim__lr=.05, optim__weight_decay=0.,
             model__channels_last=False, loop__sup_only_fraction=1.)


class Plain(Method):
    "Batch statistics and dropout off, so that a batch's gradient is the mean of its shards'."
    needs_unlabelled = False
    views = Views(strong=0, cutmix=False)
    def __init__(self, build_network, num_classes, cfg, view_cfg): super().__init__(build_network, num_classes, cfg, view_cfg); self.student = build_network()
    def train(self, mode=True): return super().train(False)
    def forward(self, batch, progress, phase="main"):
        losses = Losses(); add_supervised(losses, self.student(batch.images_l), batch.targets_l, self.cfg); return losses


def register():
    register_toy(); config.METHODS["plain"] = (Plain, SupervisedConfig)
    engine.build_data = few_images


class StopOnRankOne(Control):
    "Only the second process is asked to stop, after five steps."
    def should_stop(self, device):
        self.asked = getattr(self, "asked", 0) + 1
        if self.asked == 5 and os.environ["RANK"] == "1": self.stop()
        return super().should_stop(device)


def one_rank(folder):
    "What each of the two processes does; it leaves `rank{r}.pt`."
    rank, found = int(os.environ["RANK"]), {}
    register()
    trainings, start_training = [], engine.start_training
    engine.start_training = lambda *args: trainings.append(start_training(*args)) or trainings[-1]
    def run(name, method, control=None, **settings):
        time.sleep(.5 * rank)                                            # the first one has made the folder when the second one looks
        out = fit(tiny_run(method, out=str(folder/name), **settings), control, callbacks=[])
        found[name] = dict(state=trainings[-1].method.state_dict(), miou=out["miou_student"]); return out
    run("toy", "toy", steps=STEPS)
    found["rows"] = gather_rows(torch.arange(3 * rank + 2) + 100 * rank), gather_rows(torch.ones(rank * 4, 2))
    run("dgcl", "dgcl", steps=STEPS)
    run("plain", "plain", **PLAIN)
    run("accumulated", "plain", **PLAIN | dict(batch__labelled=1, optim__accumulate=2))
    try: run("stopped", "toy", StopOnRankOne(), steps=8)
    except Stopped as e: found["stopped_at"] = e.step
    run("stopped", "toy", steps=8, resume=True)
    run("never_stopped", "toy", steps=8)
    torch.save(found, folder/f"rank{rank}.pt")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    "Both ranks' findings and the folder of their runs."
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as s: s.bind(("127.0.0.1", 0)); port = s.getsockname()[1]
    net = dict(WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    logs = [folder/f"rank{r}.txt" for r in (0, 1)]
    children = [subprocess.Popen([sys.executable, __file__, str(folder)], stdout=log.open("w"), stderr=subprocess.STDOUT,
                                 env=clean_environment(RANK=str(r), LOCAL_RANK=str(r), **net)) for r, log in enumerate(logs)]
    end = time.time() + 240
    while time.time() < end and not any(c.poll() for c in children) and any(c.poll() is None for c in children): time.sleep(.2)
    for c in children: c.kill(); c.wait()                                 # one that lost its peer would wait for ever
    assert [c.returncode for c in children] == [0, 0], "\n".join(log.read_text() for log in logs)
    return folder, [torch.load(folder/f"rank{r}.pt", weights_only=True) for r in (0, 1)]


@pytest.fixture
def alone(monkeypatch):
    "This process, with the toy and the plain method."
    monkeypatch.setattr(config, "METHODS", dict(config.METHODS)); monkeypatch.setattr(engine, "build_data", engine.build_data)
    register()


@pytest.mark.parametrize("name", ["toy", "dgcl"])
def test_fit__ranks_are_identical_to_the_bit(ranks, name):
    folder, (zero, one) = ranks
    assert equal_states(zero[name], one[name]), "weights, BatchNorm statistics, teacher, bank and score"
    saved = state_of(folder/name)
    assert saved["step"] == STEPS and equal_states(saved["method"], dict(zero[name]["state"]))
    assert any(k.endswith("running_var") for k in saved["method"])


def test_fit__bank_holds_pixels_of_both_ranks(ranks):
    folder, (zero, _) = ranks
    assert zero["toy"]["state"]["handed_over"] == STEPS and (zero["toy"]["state"]["bank"].abs().sum(1) > 0).all()
    assert zero["dgcl"]["state"]["bank.filled"].sum() > 100 and metrics_of(folder/"dgcl")[-2]["loss_contrast"] > 0


def test_fit__one_run_folder_for_all_ranks(ranks):
    folder, _ = ranks
    assert {p.name for p in folder.iterdir() if p.is_dir()} == {"toy", "dgcl", "plain", "accumulated", "stopped", "never_stopped"}
    lines = metrics_of(folder/"toy")
    assert [r["step"] for r in lines] == sorted(r["step"] for r in lines) and sum(r.get("event") == "eval" for r in lines) == 1
    assert json.loads((folder/"toy"/"result.json").read_text())["processes"] == 2


def test_gather_rows__different_counts(ranks):
    for found in ranks[1]:
        assert found["rows"][0].tolist() == [0, 1, 100, 101, 102, 103, 104] and found["rows"][1].shape == (4, 2)


@pytest.mark.parametrize("name", ["plain", "accumulated"])
def test_fit__gradients_are_those_of_the_whole_batch(ranks, alone, tmp_path, name):
    _, (zero, _) = ranks
    fit(tiny_run("plain", out=str(tmp_path/"run"), **PLAIN | dict(batch__labelled=4)), callbacks=[])
    whole = state_of(tmp_path/"run")["method"]
    start = config.build_method(tiny_run("plain", **PLAIN), 11).state_dict()
    assert max((whole[k] - v).abs().max() for k, v in start.items()) > 1e-2
    assert max((whole[k] - v).abs().max() for k, v in zero[name]["state"].items()) < 1e-6


def test_fit__log_is_the_mean_over_ranks(ranks, alone, tmp_path):
    folder, _ = ranks
    fit(tiny_run("plain", out=str(tmp_path/"run"), **PLAIN | dict(batch__labelled=4)), callbacks=[])
    ours, theirs = metrics_of(tmp_path/"run")[0], metrics_of(folder/"plain")[0]
    assert theirs["loss_sup"] == pytest.approx(ours["loss_sup"], abs=1e-5) and theirs["lr"] == ours["lr"]


def test_evaluate__no_image_counted_twice(ranks, alone):
    folder, _ = ranks
    run = config.run_from_dict(json.loads((folder/"dgcl"/"config.json").read_text()))
    t = engine.start_training(run, RunFolder(folder/"dgcl"), Control())
    t.method.load_state_dict(state_of(folder/"dgcl")["method"])
    lone, result = engine.score(t, t.method.teacher, engine.CLUSTER_PIXELS), json.loads((folder/"dgcl"/"result.json").read_text())
    assert list(result["iou_per_class"].values()) == pytest.approx(lone.score.iou_per_class, abs=.05)
    assert result["silhouette"] == pytest.approx(lone.clusters.silhouette, abs=1e-3)


def test_control__ranks_stop_together_and_go_on(ranks):
    folder, (zero, one) = ranks
    assert zero["stopped_at"] == one["stopped_at"] == 5
    assert equal_states(zero["stopped"], one["stopped"])
    assert (folder/"stopped"/"metrics.jsonl").read_text() == (folder/"never_stopped"/"metrics.jsonl").read_text()
    assert equal_states(state_of(folder/"stopped"), state_of(folder/"never_stopped"))


if __name__ == "__main__": one_rank(Path(sys.argv[1]))
