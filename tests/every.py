"""What the tests of every method share: a method with opinions, made-up batches, and one step by hand."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from helpers import tiny_run

from dgcl_nb.batches import Batch, draw_mixes
from dgcl_nb.config import build_method
from dgcl_nb.core import IGNORE_INDEX, generator_for, seed_everything
from dgcl_nb.methods.protocol import Progress
from dgcl_nb.model import SegNetwork
from dgcl_nb.optim import make_optimizer

NUM_CLASSES, CROP = 11, 32
SUP_ONLY, EARLY, LATE = 0, 4, 7
"Steps of a run of 8: in the supervised start of two, in the middle, and the last one."


def progress_at(step):
    return Progress(step=step, steps=8, sup_only_steps=2, steps_per_epoch=4, seed=0)


@dataclass(frozen=True)
class Case:
    "What is odd about a batch, or about the data set."

    labelled: int = 2  # images
    unlabelled: int = 2  # images
    num_classes: int = NUM_CLASSES  # of the data set
    shown: tuple = ()  # classes in the batch; empty: all
    is_labelled: bool = True  # whether any labelled pixel has a class
    is_valid: bool = True  # whether any unlabelled pixel lies in its image
    background: int | None = 0  # of the data set
    is_sure: bool = True  # whether the networks are sure of what they say

    @property
    def classes(self):
        return self.shown or tuple(range(self.num_classes))


CASES = {
    "plain": Case(),
    "one class absent": Case(shown=tuple(c for c in range(NUM_CLASSES) if c != 3)),
    "two classes in the batch": Case(shown=(0, 1)),
    "two classes in all": Case(num_classes=2),
    "no labelled pixel": Case(is_labelled=False),
    "no valid unlabelled pixel": Case(is_valid=False),
    "no pixel of either": Case(is_labelled=False, is_valid=False),
    "one image of each": Case(labelled=1, unlabelled=1),
    "3 + 5 images": Case(labelled=3, unlabelled=5),
    "5 + 3 images": Case(labelled=5, unlabelled=3),
    "no background": Case(background=None),
    "nobody is sure": Case(is_sure=False),
}


def images_of(num, case, *seed):
    "Noisy images of patches, each class a colour, with their classes."
    gen = generator_for("every", *seed)
    colours = torch.randn(case.num_classes, 3, generator=generator_for("colours"))
    places = torch.randint(0, len(case.classes), (num, 4, 4), generator=gen)
    grid = torch.tensor(case.classes)[places]
    targets = F.interpolate(grid[:, None].float(), (CROP, CROP), mode="nearest")[:, 0].long()
    images = colours[targets].permute(0, 3, 1, 2)
    return images + 0.3 * torch.randn(images.shape, generator=gen), targets


def batch_of(method, run, step, case=CASES["plain"]):
    "The batch of one step, with the mixes that the method asks for."
    images_l, targets_l = images_of(case.labelled, case, step, "l")
    images_u, truth_u = images_of(case.unlabelled, case, step, "u")
    valid = torch.full_like(truth_u, case.is_valid, dtype=torch.bool)
    valid[:, :2] = False
    gen = generator_for("strong", step)
    strong = [images_u + 0.3 * torch.randn(images_u.shape, generator=gen) for _ in range(method.views.strong)]
    views = replace(run.views, crop=CROP)
    return Batch(
        images_l=images_l,
        targets_l=targets_l if case.is_labelled else torch.full_like(targets_l, IGNORE_INDEX),
        ids_l=[f"l{i}" for i in range(case.labelled)],
        images_u_w=images_u,
        images_u_s=strong,
        valid_u=valid,
        truth_u=truth_u.masked_fill(~valid, IGNORE_INDEX),
        ids_u=[f"u{i}" for i in range(case.unlabelled)],
        mixes=draw_mixes(case.unlabelled, views, method.views, run.seed, step),
    )


@torch.no_grad()
def make_sure(method):
    "Shift and scale the class scores of fresh networks, so that each class is said somewhere, and surely."
    images, _ = images_of(4, CASES["plain"], "sure")
    mode = method.training
    method.eval()
    for network in method.modules():
        if isinstance(network, SegNetwork):
            logits = network(images).logits
            scale = 6 / logits.std((0, 2, 3)).clamp(min=1e-6)
            network.classifier.bias.sub_(logits.mean((0, 2, 3))).mul_(scale)
            network.classifier.weight.mul_(scale[:, None, None, None])
    method.train(mode)


def make_method(name, case=CASES["plain"], **settings):
    "A method of tiny networks with its run."
    run = tiny_run(name, **settings)
    method = build_method(run, case.num_classes, case.background)
    if case.is_sure:
        make_sure(method)
    return method, run


def make_optimizers(method, run, **changes):
    configs = {phase: method.optim_config(phase, run.optim) for phase in method.phases}
    configs = {phase: replace(cfg, **changes) for phase, cfg in configs.items()}
    return {phase: make_optimizer(method.param_groups(phase), cfg) for phase, cfg in configs.items()}


def take_step(method, optimizers, batch, step):
    "One step as the loop takes it: {phase: its losses, and the names of the parameters that it `reached`}."
    seed_everything(0, "step", step, 0)
    progress, found = progress_at(step), {}
    for phase in method.phases:
        method.zero_grad(set_to_none=True)
        losses = method(batch, progress, phase)
        losses.total().backward()
        gradients = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
        bad = [name for name, g in gradients.items() if not g.isfinite().all()]
        assert not bad, f"gradients of {bad[:3]} are not finite in {phase} of step {step}"
        reached = {name for name, g in gradients.items() if g.any()}
        found[phase] = SimpleNamespace(losses=losses, reached=reached)
        optimizers[phase].step()
        method.after_phase(phase, batch, progress)
    method.after_step(batch, progress)
    return found


def trained_in(method, phase):
    "The names of the parameters that a phase trains."
    chosen = {id(p) for group in method.param_groups(phase).values() for p in group}
    return {name for name, p in method.named_parameters() if id(p) in chosen}
