"""The bytes of a step, counted with gloo in several processes, beside what `traffic` says."""

import json
import os
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from helpers import few_images, start_ranks, tiny_run, wait_for
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from dgcl_nb import engine
from dgcl_nb.engine import start_training
from dgcl_nb.processes import Control
from dgcl_nb.run_folder import RunFolder
from dgcl_nb.traffic import FLOAT, Exchange, exchanges_of_step, new_rows_at_most
from dgcl_nb.training import batches_of, next_step

STEPS, SUP_ONLY = 8, 0.25
SETTINGS = dict(steps=STEPS, loop__sup_only_fraction=SUP_ONLY, views__scale=(1.0, 1.0))
"No image is smaller than its view, so every pixel is valid."
COUNTED_IN_C = "which tensors have gradients"
"Of this exchange of DistributedDataParallel's nothing is seen from Python."


class Counter:
    "Bytes handed over while it listens, by kind."

    def __init__(self):
        self.reduced, self.gathered = [], []
        self.all_reduce, self.all_gather = dist.all_reduce, dist.all_gather

    def reduce(self, tensor, *args, **options):
        self.reduced.append(tensor.nbytes)
        return self.all_reduce(tensor, *args, **options)

    def gather(self, parts, tensor, *args, **options):
        self.gathered.append(tensor.nbytes)
        return self.all_gather(parts, tensor, *args, **options)

    def listening(self):
        return patch.multiple(dist, all_reduce=self.reduce, all_gather=self.gather)


def count_a_step(folder, method, more):
    "Train into self-training, count one step there, and leave what was counted beside what is written down."
    engine.build_data = few_images
    run = tiny_run(method, **SETTINGS, **more)
    t = start_training(run, RunFolder(folder / f"{method}{os.environ['RANK']}").create(), Control())
    t.model.register_comm_hook(None, allreduce_hook)  # gradients are reduced where Python sees it
    loader = batches_of(t)
    while t.step < STEPS - 2:
        next_step(t, loader)
    counter = Counter()
    with counter.listening():
        next_step(t, loader)
        t.control.should_stop(t.accelerator.device)
    cells = count_cells(t)
    listed = exchanges_of_step(t.run, t.method, cells, t.data.num_classes, on_gpu=False)
    found = dict(
        reduced=sum(counter.reduced),
        gathered=counter.gathered,
        listed=[list(exchange) for exchange in listed],
        rows_at_most=new_rows_at_most(t.run, t.data.num_classes, cells) if method == "dgcl" else 0,
        width=FLOAT * (run.model.decoder_channels + run.model.proj_dim + 3),
    )
    (folder / f"{method}{dist.get_rank()}.json").write_text(json.dumps(found))


def count_cells(t):
    "Of the feature map of one image."
    with torch.no_grad():
        side = t.run.views.crop
        feats = t.method.student.eval()(torch.zeros(1, 3, side, side)).feats
    return feats.shape[-2] * feats.shape[-1]


@pytest.mark.parametrize(
    "world, method, more",
    [
        (2, "dgcl", dict(dgcl__contrast_view="mixed")),
        (4, "dgcl", dict(dgcl__contrast_view="clean", semi__filter__per_class=True)),
        (3, "self_training", dict(semi__filter__gather=False)),
    ],
)
def test_exchanges__are_those_that_gloo_is_given(tmp_path, world, method, more):
    children = start_ranks(count_a_step, tmp_path, method, more, world=world, log=tmp_path / "log")
    codes = wait_for(children, seconds=900)
    assert codes == [0] * world, (tmp_path / "log0").read_text()
    for rank in range(world):
        found = json.loads((tmp_path / f"{method}{rank}.json").read_text())
        listed = [Exchange(*values) for values in found["listed"]]
        reduced = sum(e.bytes for e in listed if not e.is_gathered and e.what != COUNTED_IN_C)
        assert found["reduced"] == reduced
        gathered = [e for e in listed if e.is_gathered]
        # each gather first tells how many rows there are: 8 bytes, which the list adds to the rows
        rows = [
            tell + rows for tell, rows in zip(found["gathered"][::2], found["gathered"][1::2], strict=True)
        ]
        entropies = [e.bytes for e in gathered if "entropies" in e.what]
        assert rows[: len(entropies)] == entropies
        if method == "dgcl":
            (new,) = rows[len(entropies) :]
            assert 0 < new <= gathered[-1].bytes and (new - 8) % found["width"] == 0
            assert (new - 8) // found["width"] <= found["rows_at_most"]
        else:
            assert not rows and not gathered
