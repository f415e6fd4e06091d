"""The pretended CUDA device: it sees what would wait, refuses mixed devices, and changes no number."""

import copy
import inspect

import pytest
import torch
from fakecuda import CUDA, DeviceMix, FakeCuda, fake_cuda, move, on_cuda
from torch import nn

X = torch.tensor([[3.0, -1.0, 2.0], [0.5, 4.0, -2.0]])


def branch(x):
    if (x > 0).any():
        return x


WAITS = dict(
    item=lambda x: x[0, 0].item(),
    int=lambda x: int(x[0, 0]),
    if_tensor=branch,
    tolist=lambda x: x.tolist(),
    nonzero=lambda x: x.nonzero(),
    where_alone=lambda x: torch.where(x > 0),
    boolean_index=lambda x: x[x > 0],
    boolean_assignment=lambda x: x.index_put_((x > 0,), x[0, :1]),
    masked_select=lambda x: x.masked_select(x > 0),
    bincount=lambda x: x.flatten().abs().long().bincount(),
    unique=lambda x: x.unique(),
    equal=lambda x: torch.equal(x, x),
    to_cpu=lambda x: x.cpu(),
    to_device=lambda x: X.to(x.device),
    tensor=lambda x: torch.tensor([1.0, 2.0], device=x.device),
    new_tensor=lambda x: x.new_tensor([1.0, 2.0]),
    index_from_the_cpu=lambda x: x[torch.tensor([1, 0])],
    repeat_interleave=lambda x: x[0].repeat_interleave(on_cuda(torch.tensor([1, 2, 0]))),
)


@pytest.mark.parametrize("name", WAITS)
def test_waits__are_seen(name):
    with fake_cuda() as seen:
        WAITS[name](on_cuda(X))
    assert sum(seen.waits.values()) == 1, seen.table()


FREE = dict(
    arithmetic=lambda x: (2 * x + 1).softmax(1).sum(),
    where=lambda x: torch.where(x > 0, x, 0.0),
    masked_fill=lambda x: x.masked_fill(x > 0, 7.0),
    one_number_by_booleans=lambda x: x.__setitem__(x > 0, 7.0),
    index=lambda x: x.T[x.argsort(1)[:, 0]],
    gather=lambda x: x.gather(1, x.argsort(1)),
    sort=lambda x: x.flatten().sort().values,
    topk=lambda x: x.topk(2).values,
    kthvalue=lambda x: x.flatten().kthvalue(2).values,
    scatter_add=lambda x: x.new_zeros(3).scatter_add_(0, x[0].argsort(), x[0]),
    factory=lambda x: torch.arange(3, device=x.device) + x,
    other_type=lambda x: x.double().to(torch.float16),
    same_device=lambda x: x.to(x.device).cuda(),
    without_waiting=lambda x: X.to(x.device, non_blocking=True) + x,
    a_number_of_the_cpu=lambda x: x * torch.tensor(2.0),
    repeat_interleave=lambda x: x[0].repeat_interleave(on_cuda(torch.tensor([1, 2, 0])), output_size=3),
    foreach=lambda x: torch._foreach_lerp_([x.clone()], [x.clone()], 0.5),
    view=lambda x: x.T[1:].flatten().split(1),
)


@pytest.mark.parametrize("name", FREE)
def test_waits__are_not_seen_where_there_are_none(name):
    with fake_cuda() as seen:
        FREE[name](on_cuda(X))
    assert not seen.waits, seen.table()


def test_waits__name_their_line():
    with fake_cuda() as seen:
        on_cuda(X).sum().item()
        line = inspect.currentframe().f_lineno - 1
    assert dict(seen.waits) == {(f"tests/test_fakecuda.py:{line}", "a value is read"): 1}
    assert "1 waits, 1 launches" in seen.table() and f"test_fakecuda.py:{line}" in seen.table()
    with fake_cuda() as seen:
        pass
    assert not seen.waits and not seen.launches


MIXES = dict(
    addition=lambda x: x + torch.ones(2, 3),
    stack=lambda x: torch.stack([x, torch.ones(2, 3)]),
    index_select=lambda x: x.index_select(0, torch.tensor([0])),
    index_of_a_cpu_tensor=lambda x: X[on_cuda(torch.tensor([0]))],
    where=lambda x: torch.where(X > 0, x, x),
    loss=lambda x: nn.functional.cross_entropy(x, torch.tensor([0, 1])),
)


@pytest.mark.parametrize("name", MIXES)
def test_mixes__are_refused(name):
    with fake_cuda(), pytest.raises(DeviceMix):
        MIXES[name](on_cuda(X))


def test_numpy__is_refused():
    with fake_cuda(), pytest.raises(TypeError, match="can't convert cuda"):
        on_cuda(X).numpy()


def test_tensors__say_where_they_are():
    x = on_cuda(X)
    assert isinstance(x, FakeCuda) and x.device == CUDA and x.is_cuda and not x.is_cpu
    with fake_cuda():
        made = torch.zeros(2, 3, device="cuda")
        assert made.device == (made + x).device == x.clone().device == CUDA
        assert x.cpu().device.type == torch.ones(2).device.type == "cpu" and torch.equal(x.cpu(), X)


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))


def test_numbers__of_training_are_those_of_the_cpu():
    torch.manual_seed(0)
    plain, images = network(), torch.randn(2, 3, 8, 8)
    there = move(copy.deepcopy(plain))
    with fake_cuda() as seen:
        for net, x in ((plain, images), (there, on_cuda(images))):
            optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
            for _ in range(2):
                optimizer.zero_grad()
                net(x).square().mean().backward()
                optimizer.step()
        assert not seen.waits, seen.table()
    mine, theirs = plain.state_dict(), there.state_dict()
    assert all(torch.equal(mine[k], theirs[k].elem) for k in mine)


def test_modules__are_copied_with_their_place():
    net = move(network())
    with fake_cuda():
        copied = copy.deepcopy(net)
        torch._foreach_mul_([copied[0].weight.detach()], 0.0)
    assert isinstance(copied[0].weight, FakeCuda) and isinstance(copied[0].weight, nn.Parameter)
    assert copied[1].num_batches_tracked.device == CUDA
    assert net[0].weight.elem.abs().sum() > 0 and copied[0].weight.elem.abs().sum() == 0
