"""Tiny runs for tests: a network of a few thousand weights, small batches, 12 val images."""

import dataclasses
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from functools import cache
from multiprocessing import forkserver
from pathlib import Path
from unittest.mock import patch

import torch
from sync_gate import ROOT
from torch.utils.data import Dataset
from toys import Pair, Relay, Toy

from dgcl_nb import config, engine
from dgcl_nb.config import build_data, parse_run, run_from_dict, run_to_dict
from dgcl_nb.run_folder import RunFolder, read_lines
from dgcl_nb.data.segdata import SegData

TINY = dict(steps=8, device="cpu") | {
    "data.root": ROOT / "data",
    "data.num_labelled": 125,
    "batch.labelled": 2,
    "batch.unlabelled": 2,
    "views.crop": 48,
    "model.encoder": "test_resnet",
    "model.pretrained": "none",
    "model.output_stride": 16,
    "model.last_stage": 2,
    "model.decoder_channels": 16,
    "model.low_level_channels": 8,
    "model.proj_dim": 8,
    "model.aspp_rates": 2,
    "model.dropout": 0.1,
    "optim.encoder_lr_scale": 0.3,
    "loop.log_every": 2,
    "loop.evaluations": 1,
    "loop.snapshots": 1,
    "loop.checkpoints": 2,
    "loop.num_probes": 2,
    "loop.report": False,
    "eval.batch_size": 6,
}
DGCL = {"dgcl.bank.size": 32, "dgcl.bank.min_fill": 4, "dgcl.num_neighbors": "4 8", "dgcl.contrast_start": 0}
"Settings that make a run tiny, and those that let DGCL's contrast begin within a few steps."


def flags(settings):
    "A command line of settings: {'steps': 8} is ['--steps', '8']."
    return [word for name, value in settings.items() for word in (f"--{name}", *str(value).split())]


def tiny_args(method="dgcl", **more):
    "The command line of a tiny run; a dot in a name is written as two underscores (model__dropout)."
    settings = TINY | (DGCL if method == "dgcl" else {}) | {k.replace("__", "."): v for k, v in more.items()}
    return ["--method", method, *flags(settings)]


@cache
def parsed_run(method):
    return parse_run(tiny_args(method), folder=ROOT / "tests")


def tiny_run(method="dgcl", **more):
    "A tiny run: that of `tiny_args`, with further settings as values (model__dropout=0.)."
    values = run_to_dict(parsed_run(method))
    for name, value in more.items():
        *groups, last = name.split("__")
        place = values
        for g in groups:
            place = place[g]
        place[last] = str(value) if isinstance(value, Path) else value
    return run_from_dict(values)


class First(Dataset):
    "The first images of a data set."

    def __init__(self, images, num):
        self.images, self.ids = images, images.ids[:num]

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        return self.images[range(len(self.ids))[i]]


def few_images(run, num_val=12):
    "The data of a run with fewer val images, as scoring 300 of them takes longer than all the rest."
    data = build_data(run)
    return SegData(
        **{f.name: getattr(data, f.name) for f in dataclasses.fields(data)}
        | dict(val=First(data.val, num_val))
    )


def train_command(*args, **options):
    "Run `python -m dgcl_nb.train` as a person would; returns the finished process."
    options = dict(env=clean_environment(), cwd=ROOT / "tests") | options
    return subprocess.run(
        [sys.executable, "-m", "dgcl_nb.train", *map(str, args)], capture_output=True, text=True, **options
    )


def clean_environment(**more):
    "The environment of a child: one thread, this checkout's package, nothing of torchrun."
    keep = {
        k: v
        for k, v in os.environ.items()
        if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    }
    return keep | dict(OMP_NUM_THREADS="1", PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'tests'}") | more


PRELOAD = [
    "helpers",
    "dgcl_nb.train",
    "accelerate",
    "sklearn.metrics",
    "timm",
    "torch._dynamo",
    "tyro",
]
"What a run imports in the end, early or late."


@cache
def forks():
    "Processes that start at once: each is a fork of one that has imported everything and computed nothing."
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    with patch.dict(os.environ, clean_environment()):
        forkserver.ensure_running()
    return context


def _child(work, log, environment, args):
    os.environ.update(environment)
    if log:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, 1)
        os.dup2(file, 2)
    torch.set_num_threads(1)
    register_toys()
    engine.build_data = few_images
    work(*args)


def start_child(work, *args, log=None, **environment):
    "Start `work(*args)` in a process of its own, with the toys and few val images; it prints to `log`."
    child = forks().Process(target=_child, args=(work, log and str(log), environment, args))
    child.start()
    return child


def start_ranks(work, *args, world=2, log=None, **environment):
    "Start `work(*args)` in `world` processes that know each other; process r prints to `log` + r."
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    net = dict(WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)) | environment
    return [
        start_child(work, *args, log=log and f"{log}{r}", RANK=str(r), LOCAL_RANK=str(r), **net)
        for r in range(world)
    ]


def wait_for(children, seconds=240):
    """The exit codes of some processes, -N for signal N.

    As soon as one fails, or after `seconds`, all others are ended."""
    end = time.time() + seconds
    while (
        time.time() < end
        and not any(c.exitcode for c in children)
        and any(c.exitcode is None for c in children)
    ):
        time.sleep(0.02)
    for c in children:
        c.join(1)
        c.kill()
        c.join()
    return [c.exitcode for c in children]


def state_of(path):
    "What the newest checkpoint of a run folder holds."
    return torch.load(engine.checkpoints_of(RunFolder(path))[-1], weights_only=True)


def metrics_of(path):
    return read_lines(RunFolder(path).metrics)


def equal_states(a, b):
    "Whether two nested states are equal to the bit; unknown densities (NaN) are equal to each other."
    if isinstance(a, torch.Tensor):
        return a.shape == b.shape and bool(((a == b) | (a != a) & (b != b)).all())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal_states(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal_states, a, b))
    return a == b


def register_toys():
    config.METHODS.update(toy=Toy, pair=Pair, relay=Relay)
