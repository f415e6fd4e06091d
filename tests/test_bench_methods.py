"""The bare step of tests/bench/bench_methods.py: the recorded calls of a method's networks, and no others."""

import copy
import sys

import pytest
import torch
from sync_gate import ROOT
from toys import Pair, Toy

from dgcl_nb.config import METHODS, build_method, parse_run
from dgcl_nb.forwards import NUM_CLASSES, SIDE, SMALL, counting, noise_batch, passes_of
from dgcl_nb.methods.protocol import Progress


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(ROOT / "tests" / "bench"))
    import bench_methods

    yield bench_methods
    sys.path.remove(str(ROOT / "tests" / "bench"))


def small(name):
    "A method of one step, with a small network."
    sizes = f"--batch.labelled 2 --batch.unlabelled 2 --views.crop {SIDE}"
    words = f"--method {name} {sizes} --steps 8 --device cpu".split()
    run = parse_run(words)
    run = type(run)(**{f: getattr(run, f) for f in run.__dataclass_fields__} | dict(model=SMALL))
    method = build_method(run, NUM_CLASSES, background=0)
    batch, progress = noise_batch(run, method, 6), Progress(step=6, steps=8, sup_only_steps=2)

    def one_phase(phase):
        method(batch, progress, phase).total().backward()

    return method, one_phase


@pytest.mark.parametrize("name, toy", [("self_training", None), ("bare_pair", Pair), ("bare_toy", Toy)])
def test_bare__the_same_images_and_the_same_weights(bench, monkeypatch, name, toy):
    if toy:
        monkeypatch.setitem(METHODS, name, toy)
    method, one_phase = small(name)
    with counting(method) as counts:
        phases = bench.recorded(method, one_phase)
    reached = set.union(*(phase.learning for phase in phases))
    clone = copy.deepcopy(method)
    clone.zero_grad(set_to_none=True)
    with counting(clone) as again:
        bench.freeze_others(clone, phases[0].learning)
        bench.bare_step(clone, dict(clone.named_modules()), phases)
    assert passes_of(again) == passes_of(counts)
    assert {n for n, p in clone.named_parameters() if p.grad is not None} == reached
    assert len(phases) == len(method.phases)
    modes = {call.module.split(".")[0]: call.is_training for call in phases[0].calls}
    assert modes.get("teacher", False) is False
    assert not any(torch.is_tensor(x) and x.grad_fn for call in phases[0].calls for x in call.inputs)


@pytest.mark.parametrize("name, idle", [("gct", "detector"), ("ps_mt", "ensemble")])
def test_bare__weights_that_get_no_gradient_cost_none(bench, name, idle):
    method, one_phase = small(name)
    first = bench.recorded(method, one_phase)[0]
    asked = {call.module.split(".")[0] for call in first.calls if call.grad}
    assert idle in asked  # a gradient passes through it
    assert not [n for n in first.learning if n.startswith(idle)]  # and stays nowhere
    assert first.learning


@pytest.mark.parametrize("name, num, learning", [("cct", 9, 8), ("self_training", 3, 2)])
def test_bare__enlarging_class_scores_counts_if_asked(bench, name, num, learning):
    method, one_phase = small(name)
    (phase,) = bench.recorded(method, one_phase)
    assert {e.size for e in phase.enlarged} == {(SIDE, SIDE)} and len(phase.enlarged) == num
    assert sum(e.logits.requires_grad for e in phase.enlarged) == learning
    modules = dict(method.named_modules())
    bench.bare_step(method, modules, [phase])
    assert not any(e.logits.grad is not None for e in phase.enlarged)
    bench.bare_step(method, modules, [phase], with_enlarging=True)
    for (
        logits,
        size,
    ) in phase.enlarged:  # each pixel of the image is a mean of cells, with shares that add to 1
        if logits.requires_grad:
            assert logits.grad.sum().item() == pytest.approx(logits[:, :, 0, 0].numel() * size[0] * size[1])


def test_seconds__all_find_a_batch_just_made_and_take_turns(bench):
    row, done = object.__new__(bench.Row), []
    for name in ("prepare", "own", "bare", "enlarging", "whole"):
        setattr(row, name, lambda name=name: done.append(name))
    keys = [set(row.seconds(is_bare_first=first)) for first in (False, True)]
    assert keys == 2 * [{"step", "bare", "enlarging", "whole"}]
    turn = ["own", "bare", "enlarging"]
    first, second = ([word for name in names for word in ("prepare", name)] for names in (turn, turn[::-1]))
    assert done == [*first, "whole", *second, "whole"]
