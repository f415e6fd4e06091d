"""How often a step waits for the device, counted on a pretended CUDA device: 20 classes, one process."""

import contextlib
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from fakecuda import CUDA, fake_cuda, move
from helpers import tiny_run

from dgcl_nb.batches import Batch, draw_mixes
from dgcl_nb.config import METHODS, build_method
from dgcl_nb.core import generator_for
from dgcl_nb.optim import make_optimizer
from dgcl_nb.processes import Control
from dgcl_nb.run_folder import RunFolder
from dgcl_nb.training import Training, training_step

NUM_CLASSES, CROP = 20, 96
MOST = dict(
    supervised=2,
    self_training=3,
    mean_teacher=2,
    cutmix=2,
    cct=3,
    gct=3,
    cps=2,
    u2pl=4,
    ps_mt=2,
    pcr=4,
    gta_seg=3,
    fixmatch=3,
    unimatch=3,
    dgcl=4,
)
"Waits of one step, logging aside."
MOST_OF_OTHERS = 6
"Those of a method that is not listed."


class OneProcess:
    "What the engine asks of accelerate, on the pretended device."

    num_processes, process_index, is_main_process, device, scaler = 1, 0, True, CUDA, None

    def autocast(self):
        return contextlib.nullcontext()

    def no_sync(self, model):
        return contextlib.nullcontext()

    def backward(self, loss):
        loss.backward()

    def clip_grad_norm_(self, parameters, norm):
        return torch.nn.utils.clip_grad_norm_(parameters, norm)


def made_up_batch(run, views, step):
    "Images of patches, each class a colour, as bytes: every class is in every batch."
    gen = generator_for("waits", step)
    colours = torch.randint(0, 255, (NUM_CLASSES, 3), generator=generator_for("colours"))

    def patches(num):
        grid = torch.arange(num * 36).view(num, 6, 6) % NUM_CLASSES
        targets = F.interpolate(grid[:, None].float(), (CROP, CROP), mode="nearest")[:, 0].byte()
        images = colours[targets.long()].permute(0, 3, 1, 2).float()
        images = images + 12 * torch.randn(images.shape, generator=gen)
        return images.clamp(0, 255).byte(), targets

    (images_l, targets_l), (images_u, truth_u) = patches(run.batch.labelled), patches(run.batch.unlabelled)
    valid = torch.ones_like(truth_u, dtype=torch.bool)
    valid[:, :2] = False
    return Batch(
        images_l=images_l,
        targets_l=targets_l,
        ids_l=[str(i) for i in range(len(images_l))],
        images_u_w=images_u,
        images_u_s=[images_u] * views.strong,
        valid_u=valid,
        truth_u=truth_u,
        ids_u=[str(i) for i in range(len(images_u))],
        mixes=draw_mixes(len(images_u), run.views, views, run.seed, step),
    )


def make_training(run):
    "A run under way whose method lies on the pretended device."
    method = move(build_method(run, NUM_CLASSES, background=0))
    optimizers = {phase: make_optimizer(method.param_groups(phase), run.optim) for phase in method.phases}
    configs = dict.fromkeys(method.phases, run.optim)
    data = SimpleNamespace(unlabelled=range(1000), num_classes=NUM_CLASSES)
    return Training(
        run, RunFolder("nowhere"), data, OneProcess(), method, method, optimizers, configs, Control(), []
    )


def waits_of_last_step(run, steps):
    "Train some steps; what the last one waited for, and the log's terms."
    t = make_training(run)
    # a generator of the device needs a real one: here it draws on the CPU, and nothing waits for the copy
    on_cpu = patch(
        "dgcl_nb.methods.protocol.generator_for", lambda *parts, device="cpu": generator_for(*parts)
    )
    with on_cpu, fake_cuda() as seen:
        for step in range(steps):
            batch = made_up_batch(run, t.method.views, step).to(CUDA).numbers(run.views.mean, run.views.std)
            seen.waits.clear()
            losses = training_step(t, [batch])
    return seen, losses


@pytest.mark.parametrize("method", METHODS)
def test_step__waits_for_the_device_a_few_times_whatever_the_number_of_classes(method):
    more = {"views__crop": CROP, "loop__sup_only_fraction": 0.1, "optim__clip_norm": 1.0}
    seen, losses = waits_of_last_step(tiny_run(method, steps=10, **more), steps=8)
    assert sum(seen.waits.values()) <= MOST.get(method, MOST_OF_OTHERS), seen.table()
    if method == "dgcl":
        assert float(losses.notes["contrast_classes"].total) == NUM_CLASSES - 1  # all of them were compared


@pytest.mark.parametrize(
    "settings",
    [
        dict(dgcl__contrast_view="mixed"),
        dict(dgcl__bank_source="teacher", dgcl__contrast_view="clean"),
        dict(dgcl__sampling__negatives="both", dgcl__sampling__strategy="confidence"),
        dict(dgcl__sampling__strategy="random", dgcl__bank__refresh="all"),
        dict(sup__ohem=True, sup__ohem_min_kept=500, semi__filter__per_class=True),
        dict(semi__filter__kind="confidence", semi__ema_buffers="copy"),
    ],
)
def test_step__waits_no_more_under_other_settings(settings):
    run = tiny_run("dgcl", steps=10, views__crop=CROP, loop__sup_only_fraction=0.1, **settings)
    seen, _ = waits_of_last_step(run, steps=6)
    assert sum(seen.waits.values()) <= MOST["dgcl"], seen.table()


@pytest.mark.parametrize(
    "settings", [{}, dict(filter_view="mixed", keys_mode="train", mix="classmix"), dict(negatives="released")]
)
def test_step__of_u2pl_compares_and_waits_no_more(settings):
    settings = {f"u2pl__{name}": value for name, value in (settings | dict(conf_thresh=0.0)).items()}
    run = tiny_run("u2pl", steps=10, views__crop=CROP, loop__sup_only_fraction=0.1, **settings)
    seen, losses = waits_of_last_step(run, steps=6)
    assert sum(seen.waits.values()) <= MOST["u2pl"], seen.table()
    assert float(losses.notes["contrast_classes"].total) > 1
