"""Two processes with gloo on this machine: what every rank must hold alike, what a lone process with the
whole batch would have computed, and what becomes of one that loses the other. And what a GPU would need,
as far as that can be seen without one.

Each rank leaves what it found in `rank{r}.pt`, which the tests read."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from helpers import (
    Toy,
    clean_environment,
    equal_states,
    few_images,
    metrics_of,
    register_toys,
    start_child,
    start_ranks,
    state_of,
    tiny_args,
    tiny_run,
    wait_for,
)

from timm.layers import BatchNormAct2d
from torch import nn

from dgcl_nb import batches, config, engine, processes, train, training
from dgcl_nb.checkpoints import checkpoints_of
from dgcl_nb.core import gather_rows
from dgcl_nb.run_folder import RunFolder, is_whole, read_torch
from dgcl_nb.engine import Stopped, fit
from dgcl_nb.methods.protocol import Losses, Method, SupConfig, supervised
from dgcl_nb.processes import Control, average_running_statistics, make_accelerator, share_statistics
from dgcl_nb.views import Views

STEPS = 20
PLAIN = dict(
    steps=3,
    views__scale=(1.0, 1.0),
    optim__optimizer="sgd",
    optim__lr=0.05,
    optim__weight_decay=0.0,
    model__channels_last=False,
    loop__sup_only_fraction=1.0,
)


class Plain(Method):
    "Batch statistics and dropout off, so that a batch's gradient is the mean of its shards'."

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


def register():
    register_toys()
    config.METHODS["plain"] = Plain
    engine.build_data = few_images


class StopOnRankOne(Control):
    "Only the second process is asked to stop, after five steps."

    def should_stop(self, device):
        self.asked = getattr(self, "asked", 0) + 1
        if self.asked == 5 and os.environ["RANK"] == "1":
            self.stop()
        return super().should_stop(device)


def averaged_norms(rank):
    "The statistics of a norm after all ranks' were averaged; with SyncBN alone nothing is left to do."
    norm, synced = nn.BatchNorm2d(2), nn.SyncBatchNorm(2)
    for m in (norm, synced):
        m.running_mean += rank
        m.running_var += 2 * rank
    average_running_statistics(nn.Sequential(nn.Conv2d(2, 2, 1), norm))
    average_running_statistics(nn.Sequential(nn.Conv2d(2, 2, 1), synced))
    return [norm.running_mean, norm.running_var, synced.running_mean]


def one_rank(folder):
    "What each of the two processes does; it leaves `rank{r}.pt`."
    rank, found = int(os.environ["RANK"]), {}
    register()
    trainings, start_training = [], engine.start_training

    def start_and_keep(*args):
        trainings.append(start_training(*args))
        return trainings[-1]

    engine.start_training = start_and_keep

    def run(name, method, control=None, **settings):
        time.sleep(0.5 * rank)  # the first one has made the folder when the second one looks
        out = fit(tiny_run(method, out=str(folder / name), **settings), control, callbacks=[])
        found[name] = dict(state=trainings[-1].method.state_dict(), miou=out["miou"])
        return out

    run("toy", "toy", steps=STEPS)
    found["rows"] = gather_rows(torch.arange(3 * rank + 2) + 100 * rank)
    found["no_rows_of_one"] = gather_rows(torch.ones(rank * 4, 2))
    found["norms"] = averaged_norms(rank)
    run("dgcl", "dgcl", steps=STEPS)
    run("plain", "plain", **PLAIN)
    run("accumulated", "plain", **PLAIN | dict(batch__labelled=1, optim__accumulate=2))
    try:
        run("stopped", "toy", StopOnRankOne(), steps=8)
    except Stopped as e:
        found["stopped_at"] = e.step
    run("stopped", "toy", steps=8, resume=True)
    run("never_stopped", "toy", steps=8)
    torch.save(found, folder / f"rank{rank}.pt")


def same_log(a, b):
    return (a / "metrics.jsonl").read_text() == (b / "metrics.jsonl").read_text()


def said_by(log):
    "What both ranks printed."
    return "".join((log.with_name(f"{log.name}{r}")).read_text() for r in (0, 1))


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    "Both ranks' findings and the folder of their runs."
    folder = tmp_path_factory.mktemp("ranks")
    codes = wait_for(start_ranks(one_rank, folder, log=folder / "log"))
    assert codes == [0, 0], said_by(folder / "log")
    return folder, [torch.load(folder / f"rank{r}.pt", weights_only=True) for r in (0, 1)]


@pytest.fixture
def alone(monkeypatch):
    "This process, with the toy and the plain method."
    monkeypatch.setattr(config, "METHODS", dict(config.METHODS))
    monkeypatch.setattr(engine, "build_data", engine.build_data)
    register()


@pytest.mark.parametrize("name", ["toy", "dgcl"])
def test_fit__ranks_are_identical_to_the_bit(ranks, name):
    folder, (zero, one) = ranks
    assert equal_states(zero[name], one[name]), "weights, BatchNorm statistics, teacher, bank and score"
    saved = state_of(folder / name)
    assert saved["step"] == STEPS and equal_states(saved["method"], dict(zero[name]["state"]))
    assert any(k.endswith("running_var") for k in saved["method"])


def test_fit__bank_holds_pixels_of_both_ranks(ranks):
    folder, (zero, _) = ranks
    toy = zero["toy"]["state"]
    assert toy["handed_over"] == STEPS and (toy["bank"].abs().sum(1) > 0).all()
    assert zero["dgcl"]["state"]["bank.filled"].sum() > 100
    assert metrics_of(folder / "dgcl")[-2]["loss_contrast"] > 0


def test_fit__one_run_folder_for_all_ranks(ranks):
    folder, _ = ranks
    names = "toy dgcl plain accumulated stopped never_stopped"
    assert {p.name for p in folder.iterdir() if p.is_dir()} == set(names.split())
    lines = metrics_of(folder / "toy")
    assert [r["step"] for r in lines] == sorted(r["step"] for r in lines)
    assert sum(r.get("event") == "eval" for r in lines) == 1
    assert json.loads((folder / "toy" / "result.json").read_text())["processes"] == 2


def test_gather_rows__different_counts(ranks):
    for found in ranks[1]:
        assert found["rows"].tolist() == [0, 1, 100, 101, 102, 103, 104]
        assert found["no_rows_of_one"].shape == (4, 2)


def test_average_running_statistics__of_both_ranks_and_none_with_sync_batch_norm(ranks):
    for rank, found in enumerate(ranks[1]):
        mean, var, synced = found["norms"]
        assert mean.tolist() == [0.5, 0.5] and var.tolist() == [2.0, 2.0]
        assert synced.tolist() == [rank, rank], "SyncBN has them of all processes already"


@pytest.mark.parametrize("name", ["plain", "accumulated"])
def test_fit__gradients_are_those_of_the_whole_batch(ranks, alone, tmp_path, name):
    _, (zero, _) = ranks
    fit(tiny_run("plain", out=str(tmp_path / "run"), **PLAIN | dict(batch__labelled=4)), callbacks=[])
    whole = state_of(tmp_path / "run")["method"]
    start = config.build_method(tiny_run("plain", **PLAIN), 11).state_dict()
    assert max((whole[k] - v).abs().max() for k, v in start.items()) > 1e-2
    assert max((whole[k] - v).abs().max() for k, v in zero[name]["state"].items()) < 1e-6


def test_fit__log_is_the_mean_over_ranks(ranks, alone, tmp_path):
    folder, _ = ranks
    fit(tiny_run("plain", out=str(tmp_path / "run"), **PLAIN | dict(batch__labelled=4)), callbacks=[])
    ours, theirs = metrics_of(tmp_path / "run")[0], metrics_of(folder / "plain")[0]
    assert theirs["loss_sup"] == pytest.approx(ours["loss_sup"], abs=1e-5) and theirs["lr"] == ours["lr"]


def test_evaluate__no_image_counted_twice(ranks, alone):
    folder, _ = ranks
    run = config.run_from_dict(json.loads((folder / "dgcl" / "config.json").read_text()))
    t = engine.start_training(run, RunFolder(folder / "dgcl"), Control())
    t.method.load_state_dict(state_of(folder / "dgcl")["method"])
    lone = engine.score(t, t.method.teacher, engine.CLUSTER_PIXELS)
    result = json.loads((folder / "dgcl" / "result.json").read_text())
    assert list(result["iou_per_class"].values()) == pytest.approx(lone.score.iou_per_class, abs=0.05)
    assert result["silhouette"] == pytest.approx(lone.clusters.silhouette, abs=1e-3)


def test_control__ranks_stop_together_and_go_on(ranks):
    folder, (zero, one) = ranks
    assert zero["stopped_at"] == one["stopped_at"] == 5
    assert equal_states(zero["stopped"], one["stopped"])
    assert same_log(folder / "stopped", folder / "never_stopped")
    assert equal_states(state_of(folder / "stopped"), state_of(folder / "never_stopped"))


# A process less


def command(out, victim=None, at=13, *more):
    "The training command in one of several processes; the victim is killed as it begins step `at`."
    step = training.training_step

    def dying(t, batches):
        if t.step == at and os.environ.get("RANK") == str(victim):
            t.writer.wait()  # it is not a checkpoint under way that this is about
            os.kill(os.getpid(), signal.SIGKILL)
        return step(t, batches)

    training.training_step = dying
    train.main([*tiny_args("toy", steps=STEPS), "--out", str(out), *more])


@pytest.mark.parametrize("victim", [0, 1])
def test_train__a_killed_process_ends_the_other_and_a_restart_goes_on(ranks, tmp_path, victim):
    folder, _ = ranks
    out, log, left = tmp_path / "run", tmp_path / "log", 1 - victim
    children = start_ranks(command, out, victim, log=log)
    began = time.time()
    children[victim].join(120)
    killed = time.time()
    children[left].join(60)
    codes = [-signal.SIGKILL, 1] if victim == 0 else [1, -signal.SIGKILL]
    assert [c.exitcode for c in children] == codes
    assert began < killed and time.time() - killed < 60
    said = (tmp_path / f"log{left}").read_text()
    why = "another process of this run has ended (what it printed says why; here it shows as: "
    assert f"error: {why}" in said and "Traceback" not in said
    assert f"Process {left} stops after step 13 of {STEPS} and saves nothing. " in said
    how = f"start all processes again with --out {out} --resume"
    assert f"Go on from step_0000010.pt: {how}" in said
    saved = checkpoints_of(RunFolder(out))
    assert [p.name for p in saved] == ["step_0000010.pt"] and is_whole(saved[0])
    again = start_ranks(command, out, None, 0, "--resume", log=log)
    assert wait_for(again) == [0, 0], said_by(log)
    assert same_log(out, folder / "toy")
    assert equal_states(state_of(out), state_of(folder / "toy"))


# Another number of processes


def go_on(out, steps):
    processes.log.warning("rank %s", os.environ.get("RANK", "-"))
    fit(tiny_run("toy", out=out, resume=True, steps=steps), callbacks=[])


def test_fit__goes_on_with_fewer_processes(ranks, tmp_path):
    folder, _ = ranks
    out = shutil.copytree(folder / "toy", tmp_path / "run")
    (out / "result.json").unlink()
    checkpoints_of(RunFolder(out))[-1].unlink()  # as if it had been stopped before its end
    saved = state_of(out)["step"]
    before = [line for line in metrics_of(out) if line["step"] <= saved]
    assert wait_for([start_child(go_on, out, STEPS, log=tmp_path / "log")]) == [0]
    assert state_of(out)["step"] == STEPS and metrics_of(out)[: len(before)] == before
    assert json.loads((out / "result.json").read_text())["processes"] == 1
    said = (tmp_path / "log").read_text()
    changed = f"step_{saved:07d}.pt goes on with processes 1 (before: 2), images_per_step 4 (before: 8)"
    assert f"{changed}: what was learnt is kept, but from here this is not to the bit" in said
    assert "a step sees another number of images (optim.total_batch keeps it)" in said


def test_fit__goes_on_with_more_processes(ranks, tmp_path):
    "Also from within a log window: only the first process has one."
    out, log = tmp_path / "run", tmp_path / "log"
    assert wait_for([start_child(stop_alone, out)]) == [0] and state_of(out)["step"] == 5
    assert wait_for(start_ranks(go_on, out, 12, log=log)) == [0, 0], said_by(log)
    assert "goes on with processes 2 (before: 1)" in (tmp_path / "log0").read_text()
    assert "goes on" not in (tmp_path / "log1").read_text()
    assert [r["step"] for r in metrics_of(out) if "event" not in r] == [1, 2, 4, 6, 8, 10, 12]
    assert json.loads((out / "result.json").read_text())["processes"] == 2


class StopAfterFive(Control):
    def should_stop(self, device):
        self.asked = getattr(self, "asked", 0) + 1
        return self.asked == 5


def stop_alone(out):
    try:
        fit(tiny_run("toy", out=out, steps=12), StopAfterFive(), callbacks=[])
    except Stopped:
        return
    raise AssertionError("not stopped")


def wait_for_a_batch(out, hangs):
    "No batch of step 4 comes to the first process; the other has its own."
    make, steps = batches.make_batch, dict(steps=6, loop__log_every=1, loop__evaluations=0)

    def make_batch(step, **settings):
        if hangs and step == 3 and os.environ["RANK"] == "0":
            time.sleep(1000)
        return make(step=step, **settings)

    multiprocessing.set_start_method("fork", force=True)  # so that the worker has what is patched here
    batches.make_batch = make_batch
    try:
        fit(tiny_run("toy", out=out, batch__workers=1, resume=not hangs, **steps), callbacks=[])
    except Stopped as e:
        assert hangs and e.step == 3


def test_fit__ranks_stop_together_while_one_waits_for_a_batch(tmp_path):
    "And go on together from there."
    children = start_ranks(wait_for_a_batch, tmp_path / "run", True)
    until = time.time() + 120
    while time.time() < until and len(metrics_of(tmp_path / "run")) < 3:
        time.sleep(0.1)
    time.sleep(1)  # by now the second process waits for the first, which waits for its worker
    for child in children:
        os.kill(child.pid, signal.SIGTERM)
    assert wait_for(children, seconds=60) == [0, 0]
    assert state_of(tmp_path / "run")["step"] == 3
    assert wait_for(start_ranks(wait_for_a_batch, tmp_path / "run", False)) == [0, 0]
    assert sorted({line["step"] for line in metrics_of(tmp_path / "run")}) == [1, 2, 3, 4, 5, 6]


def wait_for_an_image(out, hangs):
    "No image of the evaluation after step 3 comes to the first process; the other has its own."
    evaluate, steps = engine.evaluate, dict(steps=6, loop__log_every=1, loop__evaluations=2)

    class Silent(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            time.sleep(1000)

    def evaluate_hanging(network, dataset, *args, **how):
        silent = hangs and os.environ["RANK"] == "0"
        return evaluate(network, Silent() if silent else dataset, *args, **how)

    multiprocessing.set_start_method("fork", force=True)  # so that the worker has what is patched here
    engine.evaluate = evaluate_hanging
    run = dict(eval__workers=1, loop__snapshots=0, resume=not hangs)
    try:
        fit(tiny_run("toy", out=out, **run, **steps), callbacks=[])
    except Stopped as e:
        assert hangs and e.step == 3


def test_fit__ranks_stop_together_while_one_waits_in_an_evaluation(tmp_path):
    "And go on together from there."
    children = start_ranks(wait_for_an_image, tmp_path / "run", True)
    until = time.time() + 120
    while time.time() < until and len(metrics_of(tmp_path / "run")) < 3:
        time.sleep(0.1)
    time.sleep(2)  # by now the second process has scored its share and waits for the first one's
    for child in children:
        os.kill(child.pid, signal.SIGTERM)
    assert wait_for(children, seconds=60) == [0, 0]
    assert state_of(tmp_path / "run")["step"] == 3
    assert wait_for(start_ranks(wait_for_an_image, tmp_path / "run", False)) == [0, 0]
    assert {line["step"] for line in metrics_of(tmp_path / "run")} == {1, 2, 3, 4, 5, 6}


# What befalls one befalls all


class SickOnRankOne(Toy):
    "One term of one process is not a number."

    def forward(self, batch, progress, phase="main"):
        losses = super().forward(batch, progress, phase)
        if phase == "second" and progress.step == 5 and os.environ["RANK"] == "1":
            value, weight = losses.terms.pop("loss_bank")
            losses.add("loss_bank", value * float("nan"), weight)
        return losses


def sick(out):
    config.METHODS["toy"] = SickOnRankOne
    command(out)


def test_train__a_loss_of_one_process_that_is_not_finite_stops_all(tmp_path):
    out = tmp_path / "run"
    children = start_ranks(sick, out, log=tmp_path / "log")
    for c in children:
        c.join(120)
    assert [c.exitcode for c in children] == [1, 1]
    for r in (0, 1):
        said = (tmp_path / f"log{r}").read_text()
        assert "error: step 5: loss_bank is not finite" in said and "Traceback" not in said
        assert "nonfinite_step_0000005_rank1.pt" in said
    saved = list(out.glob("nonfinite*"))
    assert [p.name for p in saved] == ["nonfinite_step_0000005_rank1.pt"]
    assert read_torch(saved[0])["step"] == 5


def test_train__a_damaged_run_is_one_error_of_all(ranks, tmp_path):
    folder, _ = ranks
    out = shutil.copytree(folder / "toy", tmp_path / "run")
    (out / "result.json").unlink()
    for p in checkpoints_of(RunFolder(out)):
        p.write_bytes(b"")
    children = start_ranks(command, out, None, 0, "--resume", log=tmp_path / "log")
    for c in children:
        c.join(120)
    assert [c.exitcode for c in children] == [2, 2]
    for r in (0, 1):
        assert "error: every checkpoint in" in (tmp_path / f"log{r}").read_text()


# What a GPU would need


def test_make_accelerator__a_second_run_has_its_own_device(monkeypatch):
    from accelerate.state import PartialState

    assert make_accelerator(tiny_run("supervised")).device.type == "cpu"
    monkeypatch.setattr(processes, "pick_device", torch.device)
    monkeypatch.setattr(PartialState, "default_device", property(lambda self: torch.device("meta")))
    assert make_accelerator(tiny_run("supervised", device="meta")).device.type == "meta"
    monkeypatch.undo()
    assert make_accelerator(tiny_run("supervised")).device.type == "cpu"


def test_share_statistics__keeps_what_is_fused_into_a_norm():
    "torch's own conversion drops the activations of timm's norms without a word."
    net = nn.Sequential(nn.Conv2d(3, 8, 1), BatchNormAct2d(8), nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4))
    net(torch.randn(4, 3, 5, 5))  # statistics
    x, teacher = torch.randn(2, 3, 5, 5), nn.BatchNorm2d(3).eval()
    want = net.eval()(x)
    assert share_statistics(net, torch.device("cuda"), 1) is net
    assert share_statistics(net, torch.device("cpu"), 2) is net
    synced = share_statistics(net, torch.device("cuda"), 2)
    norms = [m for m in synced.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == 2 and all(isinstance(m, nn.SyncBatchNorm) for m in norms)
    assert torch.equal(synced(x), want)
    assert not share_statistics(teacher, torch.device("cuda"), 2).training, "its mode stays"


def test_share_statistics__of_a_method(alone):
    "Names of weights stay, so checkpoints of many GPUs and of one are alike; what is trained stays so."
    method = config.build_method(tiny_run("dgcl"), 11)
    names, frozen = (
        list(method.state_dict()),
        {n for n, p in method.named_parameters() if not p.requires_grad},
    )
    synced = share_statistics(method, torch.device("cuda"), 2)
    assert synced is method and list(synced.state_dict()) == names
    assert {n for n, p in synced.named_parameters() if not p.requires_grad} == frozen
    norms = [m for m in synced.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms and all(isinstance(m, nn.SyncBatchNorm) for m in norms)


@pytest.mark.parametrize(
    "tf32, precision, want",
    [
        ("auto", "no", False),
        ("auto", "bf16", True),
        ("on", "no", True),
        ("off", "bf16", False),
    ],
)
def test_set_arithmetic__is_set_at_the_start_of_a_run(tmp_path, alone, tf32, precision, want):
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    for flag in flags:
        flag.allow_tf32 = not want
    torch.backends.cudnn.benchmark = False
    settings = dict(loop__tf32=tf32, loop__precision=precision)
    engine.start_training(tiny_run("supervised", **settings), RunFolder(tmp_path).create(), Control())
    assert all(flag.allow_tf32 is want for flag in flags) and torch.backends.cudnn.benchmark
    assert processes.arithmetic() == dict(tf32=want, cudnn_benchmark=True)


# The launchers

LAUNCHED = ["--nproc-per-node", "2", "--standalone"]


def torchrun(folder, *args, restarts=0, script=("-m", "dgcl_nb.train")):
    launcher = [sys.executable, "-m", "torch.distributed.run", *LAUNCHED, "--max-restarts", str(restarts)]
    words = [*launcher, *map(str, script), *map(str, args)]
    options = dict(capture_output=True, text=True, cwd=folder, timeout=300, env=clean_environment())
    return subprocess.run(words, **options)


@pytest.mark.slow
def test_torchrun__trains_and_ends_well(tmp_path):
    "Five times, as an interpreter whose gloo threads still listen is aborted only now and then."
    for n in range(5):
        done = torchrun(tmp_path, *tiny_args("supervised", steps=2), "--out", tmp_path / str(n))
        assert done.returncode == 0 and "mIoU student" in done.stdout, done.stderr
        assert "terminate called" not in done.stderr


DIES_ONCE = """
import os, signal, sys
from helpers import register_toys
from dgcl_nb import train, training
register_toys()
step, first = training.training_step, os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
def dying(t, batches):
    if t.step == 13 and os.environ["RANK"] == "1" and first:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(t, batches)
training.training_step = dying
train.main(sys.argv[1:])
"""


@pytest.mark.slow
def test_torchrun__restart_goes_on_from_the_last_checkpoint(tmp_path):
    "Five times, as processes started again met the addresses of the dead only now and then."
    (tmp_path / "dies_once.py").write_text(DIES_ONCE)
    args = tiny_args("toy", steps=STEPS)
    for n in range(5):
        done = torchrun(tmp_path, *args, restarts=1, script=[tmp_path / "dies_once.py"])
        out = tmp_path / "runs" / f"digits-toy-s0{f'-{n + 1}' if n else ''}"
        assert done.returncode == 0, done.stderr
        assert f"started again by torchrun: going on with runs/{out.name}" in done.stderr
        steps = [r["step"] for r in metrics_of(out) if "event" not in r]
        assert steps == [1, *range(2, STEPS + 1, 2)] and state_of(out)["step"] == STEPS
