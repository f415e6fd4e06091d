"""Checkpoints in the background, of another version, and runs that start from another one's networks."""

import json
import shutil
import threading

import pytest
import torch
from helpers import ROOT, equal_states, few_images, metrics_of, register_toys, state_of, tiny_run

from dgcl_nb import checkpoints, config, engine
from dgcl_nb.checkpoints import checkpoints_of, load_checkpoint, save_checkpoint, start_checkpoint
from dgcl_nb.core import InputError
from dgcl_nb.run_folder import RunFolder, is_whole, read_torch, write_torch
from dgcl_nb.engine import Stopped, fit, start_training
from dgcl_nb.methods.protocol import Losses, Method, SupConfig, supervised
from dgcl_nb.processes import Control
from dgcl_nb.training import Callback, batches_of, next_step
from dgcl_nb.views import Views

OLDER = ROOT / "tests" / "older" / "run-0.1"


class Twins(Method):
    "Two networks, each trained on its own."

    settings = dict(sup=SupConfig)
    needs_unlabelled = False
    views = Views(strong=0, cutmix=False)

    def __init__(self, make_network, num_classes, cfg):
        super().__init__(make_network, num_classes, cfg)
        self.one, self.two = make_network(), make_network()

    def scored(self):
        return {"network 1": self.one, "network 2": self.two}

    def param_groups(self, phase, by_layer=False):
        both = (self.one, self.two)
        encoder = [p for n in both for p in n.encoder_parameters()]
        return dict(encoder=encoder, head=[p for n in both for p in n.head_parameters()])

    def forward(self, batch, progress, phase="main"):
        losses = Losses()
        supervised(losses, self.one(batch.images_l), batch.targets_l, self.cfg.sup, "_1")
        supervised(losses, self.two(batch.images_l), batch.targets_l, self.cfg.sup, "_2")
        return losses


@pytest.fixture(autouse=True)
def small(monkeypatch):
    "The toy and a pair are methods like any other; val has 12 images."
    monkeypatch.setattr(config, "METHODS", dict(config.METHODS))
    register_toys()
    config.METHODS["twins"] = Twins
    monkeypatch.setattr(engine, "build_data", few_images)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run"


def start(out, method="toy", **settings):
    "A run at its step 0."
    return start_training(tiny_run(method, **settings), RunFolder(out).create(), Control())


def train(out, method="toy", *callbacks, **settings):
    "Train a tiny run to its end."
    return fit(tiny_run(method, out=out, **settings), callbacks=callbacks)


class SlowDisk:
    "Checkpoints are written when the gate is opened."

    def __init__(self, monkeypatch):
        self.gate, self.begun, self.write = threading.Event(), threading.Event(), checkpoints.write_torch
        monkeypatch.setattr(checkpoints, "write_torch", self)

    def __call__(self, path, content):
        if path.name.startswith("step_"):
            self.begun.set()
            assert self.gate.wait(60)
        self.write(path, content)


# In the background


def test_start_checkpoint__steps_go_on_and_the_file_is_of_its_step(out, monkeypatch):
    t, disk = start(out), SlowDisk(monkeypatch)
    loader = batches_of(t)
    next_step(t, loader)
    method = {k: v.clone() for k, v in t.method.state_dict().items()}
    moments = {k: o.state_dict()["state"][0]["exp_avg"].clone() for k, o in t.optimizers.items()}
    path = start_checkpoint(t)
    assert disk.begun.wait(30)
    for _ in range(2):
        next_step(t, loader)
    assert t.step == 3 and not checkpoints_of(t.folder), "the disk is still at work"
    assert not torch.equal(t.method.state_dict()["bank"], method["bank"])
    disk.gate.set()
    t.writer.wait()
    saved = read_torch(path)
    assert saved["step"] == 1 and equal_states(dict(saved["method"]), method)
    assert all(torch.equal(saved["optimizers"][k]["state"][0]["exp_avg"], v) for k, v in moments.items())


def test_fit__steps_go_on_while_a_slow_disk_writes(out, monkeypatch):
    disk = SlowDisk(monkeypatch)

    class Open(Callback):
        def on_step(self, t, losses):
            if t.step == 7:
                assert disk.begun.is_set() and not checkpoints_of(t.folder)
                disk.gate.set()

    train(out, "toy", Open())  # a checkpoint at 4 and one at 8
    assert [p.name for p in checkpoints_of(RunFolder(out))] == ["step_0000004.pt", "step_0000008.pt"]
    first = read_torch(checkpoints_of(RunFolder(out))[0])
    assert first["step"] == first["method"]["handed_over"] == 4


def test_fit__logs_are_synced_before_the_checkpoint_and_older_ones_go_after_it(out, monkeypatch):
    order, write, sync = [], checkpoints.write_torch, checkpoints.sync_file

    def note_write(path, content):
        write(path, content)
        order.append((path.name, len(checkpoints_of(RunFolder(out)))))

    def note_sync(path):
        sync(path)
        order.append(path.name)

    monkeypatch.setattr(checkpoints, "write_torch", note_write)
    monkeypatch.setattr(checkpoints, "sync_file", note_sync)
    t = start(out)
    for t.step in (1, 2, 3):
        start_checkpoint(t)
    t.writer.wait()
    logs = ["metrics.jsonl", "timings.jsonl"]
    steps = [[*logs, (f"step_000000{n}.pt", n)] for n in (1, 2, 3)]
    assert order == sum(steps, [])
    assert [p.name for p in checkpoints_of(t.folder)] == ["step_0000002.pt", "step_0000003.pt"]


class FullDisk:
    "No checkpoint can be written."

    def __init__(self, monkeypatch):
        self.write, self.tried = checkpoints.write_torch, threading.Event()
        monkeypatch.setattr(checkpoints, "write_torch", self)

    def __call__(self, path, content):
        if not path.name.startswith("step_"):
            return self.write(path, content)
        self.tried.set()
        raise InputError(f"cannot write {path}: No space left on device")


class Seen(Callback):
    "Waits for a writer that fails, once it has been tried."

    def __init__(self, disk):
        self.disk, self.steps = disk, []

    def on_step(self, t, losses):
        self.steps.append(t.step)
        if self.disk.tried.is_set():
            t.writer.thread.join()


def test_fit__a_checkpoint_that_fails_ends_the_run_at_its_next_step(out, monkeypatch):
    seen = Seen(FullDisk(monkeypatch))
    with pytest.raises(InputError, match="cannot write .*step_0000004.pt: No space left"):
        train(out, "toy", seen)
    assert seen.steps[-1] in (4, 5), "a step may have been under way"
    assert not checkpoints_of(RunFolder(out)) and not (out / "result.json").exists()


def test_fit__a_last_checkpoint_that_fails_is_no_finished_run(out, monkeypatch):
    FullDisk(monkeypatch)
    with pytest.raises(InputError, match="cannot write .*step_0000008.pt: No space left"):
        train(out, loop__checkpoints=0)
    assert not (out / "result.json").exists()


def test_fit__a_checkpoint_that_fails_at_a_stop_says_so(out, monkeypatch):
    class Stop(Callback):
        def on_step(self, t, losses):
            if t.step == 2:
                t.control.stop()

    FullDisk(monkeypatch)
    with pytest.raises(InputError, match="cannot write .*step_0000002.pt: No space left"):
        train(out, "toy", Stop())


def test_fit__a_stopped_run_has_waited_for_its_checkpoint(out, monkeypatch):
    disk = SlowDisk(monkeypatch)

    class Stop(Callback):
        def on_step(self, t, losses):
            if t.step == 2:
                t.control.stop()
                threading.Timer(0.3, disk.gate.set).start()

    with pytest.raises(Stopped):
        train(out, "toy", Stop())
    assert [p.name for p in checkpoints_of(RunFolder(out))] == ["step_0000002.pt"]


def test_fit__another_error_waits_for_a_checkpoint_under_way(out, monkeypatch):
    disk = SlowDisk(monkeypatch)

    class Fail(Callback):
        def on_step(self, t, losses):
            if t.step == 5:
                threading.Timer(0.3, disk.gate.set).start()
                raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        train(out, "toy", Fail())
    assert is_whole(checkpoints_of(RunFolder(out))[0]) and state_of(out)["step"] == 4


def test_load_checkpoint__rates_and_kernels_are_those_of_this_run(out, tmp_path):
    "A checkpoint of a GPU, whose optimiser is fused, goes on on the CPU with the CPU's."
    t = start(out, "supervised")
    next_step(t, batches_of(t))
    path = save_checkpoint(t)
    content = read_torch(path)
    for group in content["optimizers"]["main"]["param_groups"]:
        group["fused"], group["base_lr"] = True, 7.0
    write_torch(path, content)
    other = start(tmp_path / "other", "supervised")
    load_checkpoint(other, path)
    groups = other.optimizers["main"].param_groups
    assert [(g["fused"], g["base_lr"]) for g in groups] == [
        (g["fused"], g["base_lr"]) for g in t.optimizers["main"].param_groups
    ]
    assert groups[0]["fused"] is None


# Another version


@pytest.fixture
def older(out):
    "A copy of a run folder of version 0.1."
    shutil.copytree(OLDER, out)
    return out


def test_check_version__an_older_checkpoint_is_refused_with_a_sentence(older):
    path = checkpoints_of(RunFolder(older))[-1]
    with pytest.raises(InputError) as error:
        checkpoints.check_version(read_torch(path), path)
    said = str(error.value)
    assert f"{path} was written by an older version of dgcl_nb (checkpoints of version 1" in said
    assert "go on with the version that wrote it, or start anew with another --out" in said


def test_fit__an_older_checkpoint_is_refused(older):
    (older / "result.json").unlink()
    before = {p: p.read_bytes() for p in older.rglob("*") if p.is_file()}
    with pytest.raises(InputError, match="was written by an older version of dgcl_nb"):
        fit(tiny_run("dgcl", out=older, resume=True), callbacks=[])
    assert {p: p.read_bytes() for p in older.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("version, age", [(None, "an older"), (1, "an older"), (99, "a newer")])
def test_load_checkpoint__another_version(out, version, age):
    t = start(out, "supervised")
    path = save_checkpoint(t)
    content = read_torch(path) | dict(version=version)
    if version is None:
        content.pop("version")
    write_torch(path, content)
    with pytest.raises(InputError, match=f"was written by {age} version of dgcl_nb"):
        load_checkpoint(t, path)


def test_config_record__says_its_version_and_how_torch_computed(out):
    train(out, "supervised", steps=1, loop__precision="bf16", loop__tf32="auto")
    saved, result = (json.loads((out / name).read_text()) for name in ("config.json", "result.json"))
    assert saved["config_version"] == config.CONFIG_VERSION
    assert saved["effective"] == dict(tf32=True, cudnn_benchmark=True, views_on_device=False)
    assert (result["tf32"], result["cudnn_benchmark"]) == (True, True)
    assert config.run_from_dict(saved).loop.tf32 == "auto"
    train(out.with_name("other"), "supervised", steps=1)
    assert json.loads((out.with_name("other") / "result.json").read_text())["tf32"] is False


# Networks of another run


def test_save_best__holds_every_scored_network(out):
    train(out, steps=2)
    best, state = read_torch(out / "checkpoints" / "best.pt"), state_of(out)["method"]
    assert list(best["networks"]) == ["teacher", "student", "second"]
    assert equal_states(dict(best["predictor"]), dict(best["networks"]["teacher"]))
    for name, inside in dict(teacher="mean.network.", student="one.", second="two.").items():
        mine = {k.removeprefix(inside): v for k, v in state.items() if k.startswith(inside)}
        assert equal_states(dict(best["networks"][name]), mine)


def test_init_from__starts_every_network_from_the_best_predictor(out, tmp_path):
    train(out, "supervised", steps=2)
    best = dict(read_torch(out / "checkpoints" / "best.pt")["predictor"])
    t = start(tmp_path / "next", "dgcl", init_from=out)
    for network in t.method.scored().values():
        assert equal_states(best, dict(network.state_dict()))


def test_init_from__networks_take_the_weights_of_their_name(out, tmp_path):
    train(out, "dgcl", steps=4)
    best = read_torch(out / "checkpoints" / "best.pt")["networks"]
    assert not equal_states(dict(best["teacher"]), dict(best["student"]))
    t = start(tmp_path / "next", "self_training", init_from=out)
    for name, network in t.method.scored().items():
        assert equal_states(dict(best[name]), dict(network.state_dict()))


def states_of(t):
    return {name: dict(network.state_dict()) for name, network in t.method.scored().items()}


def test_init_from__two_trained_networks_start_apart(out, tmp_path):
    train(out, "dgcl", steps=2)
    best = dict(read_torch(out / "checkpoints" / "best.pt")["predictor"])
    fresh = states_of(start(tmp_path / "fresh", "twins"))
    begun = states_of(start(tmp_path / "next", "twins", init_from=out))
    assert equal_states(begun["network 1"], best)
    assert equal_states(begun["network 2"], fresh["network 2"]), "it keeps the start of its seed"


def test_init_from__two_trained_networks_of_a_run_of_their_kind(out, tmp_path):
    train(out, "twins", steps=2)
    best = read_torch(out / "checkpoints" / "best.pt")["networks"]
    begun = states_of(start(tmp_path / "next", "twins", init_from=out, seed=3))
    assert all(equal_states(begun[name], dict(best[name])) for name in ("network 1", "network 2"))
    assert not equal_states(begun["network 1"], begun["network 2"])


def test_init_from__a_predictor_alone_as_older_runs_saved_it(out, tmp_path):
    train(out, "dgcl", steps=2)
    path = out / "checkpoints" / "best.pt"
    best = read_torch(path)
    best.pop("networks")
    write_torch(path, best)
    t = start(tmp_path / "next", "dgcl", init_from=out)
    assert all(equal_states(dict(best["predictor"]), state) for state in states_of(t).values())


def test_init_from__no_run_there(tmp_path):
    with pytest.raises(InputError, match="--init_from .*: no checkpoints/best.pt in it"):
        start(tmp_path / "next", "dgcl", init_from=tmp_path / "nowhere")


def test_result__of_two_networks_names_both(out):
    result = train(out, "twins", steps=2)
    assert list(result["miou"]) == ["network 1", "network 2"] and result["predictor"] == "network 1"
    assert result["miou_student"] is None and result["miou_teacher"] is None
    line = [r for r in metrics_of(out) if r.get("event") == "eval"][-1]
    assert {"miou_network 1", "miou_network 2"} <= line.keys()
    assert line["best_miou"] == line["miou_network 1"]
