"What the notebook of the core cannot show: that a gather asks the device once, however many ranks there are."

import resource
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode

from dgcl_nb.core import gather_rows, peak_gpu_mb, peak_rss_mb


class SingleNumbers(TorchDispatchMode):
    "Counts how often one number is fetched from a tensor: on a GPU each time waits for it."

    def __init__(self):
        super().__init__()
        self.fetched = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.fetched += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def play_ranks(monkeypatch, held):
    "Let this process be rank 0 of several that hold these rows."

    def answer(outputs, mine):
        counts_asked = mine.dtype == torch.long
        for output, rows in zip(outputs, held, strict=True):
            if counts_asked:
                output.fill_(len(rows))
            else:
                output.zero_()[: len(rows)] = rows

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: len(held))
    monkeypatch.setattr(dist, "all_gather", answer)


@pytest.mark.parametrize("sizes", [(2, 0, 4), (0, 0), (3, 1), (0, 5, 1, 2)])
@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_gather_rows__all_rows_in_the_order_of_the_ranks(monkeypatch, sizes, shape):
    held = [torch.randn(n, *shape) for n in sizes]
    play_ranks(monkeypatch, held)
    gathered = gather_rows(held[0].requires_grad_())
    assert torch.equal(gathered, torch.cat(held)) and not gathered.requires_grad


def test_gather_rows__asks_the_device_once(monkeypatch):
    held = [torch.randn(n, 3) for n in (2, 0, 4, 1)]
    play_ranks(monkeypatch, held)
    lists = []
    to_list = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda x: lists.append(x) or to_list(x))
    with SingleNumbers() as counter:
        gather_rows(held[0])
    assert (len(lists), counter.fetched) == (1, 0)


def test_peak_gpu_mb__none_without_cuda():
    assert peak_gpu_mb("cpu") is None and peak_gpu_mb(torch.device("meta")) is None


def test_peak_rss_mb__what_was_started_does_not_count():
    "A program that is started is for a moment as large as the one that starts it."
    before = peak_rss_mb()
    subprocess.run([sys.executable, "-c", ""], check=True)
    largest_child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10
    assert peak_rss_mb() < before + largest_child / 2
