"""Optimisers: one a phase, fused on a GPU, and torch's default on the CPU."""

import copy

import pytest
import torch
from torch import nn

from dgcl_nb.optim import OptimConfig, base_rate, lr_factor, make_optimizer, set_lr


class OnGpu(nn.Parameter):
    "A parameter that says it is on a GPU; its numbers are on the CPU."

    is_cuda = True


def groups_of(net):
    return dict(encoder=list(net[0].parameters()), head=list(net[1].parameters()))


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_make_optimizer__is_fused_where_all_parameters_are_on_a_gpu(optimizer):
    cfg = OptimConfig(optimizer=optimizer)
    on_gpu, on_cpu = [OnGpu(torch.zeros(2))], [nn.Parameter(torch.zeros(2))]
    assert make_optimizer(dict(head=on_gpu), cfg).defaults["fused"] is True
    assert make_optimizer(dict(head=on_cpu), cfg).defaults["fused"] is None
    assert make_optimizer(dict(encoder=on_gpu, head=on_cpu), cfg).defaults["fused"] is None


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_make_optimizer__on_the_cpu_is_torch_s_own_to_the_bit(optimizer):
    ours, theirs = small_net(), small_net()
    cfg = OptimConfig(optimizer=optimizer, lr=0.1, encoder_lr_scale=0.5, weight_decay=0.01)
    parts = [dict(params=theirs[0].parameters(), lr=0.05), dict(params=theirs[1].parameters(), lr=0.1)]
    if optimizer == "sgd":
        reference = torch.optim.SGD(parts, momentum=0.9, weight_decay=0.01)
    else:
        reference = torch.optim.AdamW(parts, weight_decay=0.01)
    mine = make_optimizer(groups_of(ours), cfg)
    for step in range(5):
        x = torch.randn(4, 5, generator=torch.Generator().manual_seed(step))
        for net, opt in ((ours, mine), (theirs, reference)):
            opt.zero_grad()
            net(x).square().sum().backward()
            opt.step()
    assert all(torch.equal(p, q) for p, q in zip(ours.parameters(), theirs.parameters()))


def test_make_optimizer__goes_on_from_its_state():
    "The rate is computed from the step, so a state says nothing of a schedule."
    whole, parts = small_net(), small_net()
    cfg = OptimConfig(lr=0.01, warmup=0.5)
    one, two = make_optimizer(groups_of(whole), cfg), make_optimizer(groups_of(parts), cfg)

    def step(net, optimizer, n):
        set_lr(optimizer, lr_factor(cfg, n / 4))
        optimizer.zero_grad()
        net(torch.ones(1, 5)).square().sum().backward()
        optimizer.step()

    for n in range(4):
        step(whole, one, n)
    step(parts, two, 0)
    saved = copy.deepcopy(two.state_dict())
    two = make_optimizer(groups_of(parts), cfg)
    two.load_state_dict(saved)
    for n in (1, 2, 3):
        step(parts, two, n)
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), parts.parameters()))


def test_base_rate__falls_with_the_depth_of_a_layer():
    cfg = OptimConfig(lr=1.0, encoder_lr_scale=0.5, layer_decay=0.5)
    names = ["head", "encoder", "encoder.0", "encoder.1", "encoder.3"]
    assert [base_rate(n, cfg) for n in names] == [1.0, 0.5, 0.5, 0.25, 0.0625]
