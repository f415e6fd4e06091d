"""GTA-Seg against numbers of its released code (`loss_helper`, `train_gta`).

| case | compared |
|---|---|
| unsup_* | `drop_unsure` and `confidence_weighted`: filtered targets, kept pixels, loss, gradient |
| transfer_* | `after_phase` and `after_step`: student and teacher afterwards, whole states |
| trajectory | both phases, `after_phase`, `after_step` over all steps, released variant: losses, states |
| trajectory_unshared | the same without shared memory, from the first of its steps |

Not compared, of `trajectory`: teacher and assistant before the first semi-supervised step. The released
code lets both run along for nothing but their BatchNorm statistics, ours stand still; those statistics (they
are the teacher's own afterwards) are put in at the first semi-supervised step, when the assistant's optimiser
is made anew, too: it has let the unused projection decay, the released one has not stepped yet.
"""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from released import assert_gradient, assert_loss, case, cases, needs_reference, states
from torch import nn

from dgcl_nb.batches import Batch
from dgcl_nb.config import parse_run
from dgcl_nb.core import IGNORE_INDEX
from dgcl_nb.consistency import confidence_weighted
from dgcl_nb.methods.gta_seg import GTASeg, GTASegConfig
from dgcl_nb.methods.protocol import Progress, SemiConfig
from dgcl_nb.model import SegOutput
from dgcl_nb.optim import OptimConfig, lr_factor, make_optimizer, set_lr
from dgcl_nb.pseudo_labels import FilterConfig, RELEASED_LABELS, drop_unsure, pseudo_label
from dgcl_nb.views import CutMix

pytestmark = needs_reference
RULES = FilterConfig(**RELEASED_LABELS)
OURS = {"decoder.classifier": "classifier", "decoder.representation": "projection.0"}
"Parts that have other names in the released code."


class TinyEncoder(nn.Module):
    def __init__(self, weight):
        super().__init__()
        out_channels, in_channels, kernel, _ = weight.shape
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, images):
        return self.bn(self.conv(images)).relu()


class TinyNetwork(nn.Module):
    "The reference's tiny network as a `SegNetwork`; its logits are enlarged with aligned corners."

    def __init__(self, state):
        super().__init__()
        self.encoder = TinyEncoder(state["encoder.conv.weight"])
        num_classes, width, _, _ = state["classifier.weight"].shape
        self.classifier = nn.Conv2d(width, num_classes, 1)
        self.projection = nn.Sequential(nn.Conv2d(width, len(state["projection.0.bias"]), 1))
        self.cfg = SimpleNamespace()
        self.load_state_dict(state)

    def forward(self, images, with_proj=True):
        feats = self.encoder(images)
        # the released loss holds the projection times 0, so that its weights decay
        logits = self.classifier(feats) + 0 * self.projection(feats).sum()
        logits = F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=True)
        return SegOutput(logits, feats, None, None)

    def encoder_parameters(self):
        return self.encoder.parameters()

    def head_parameters(self):
        return [*self.classifier.parameters(), *self.projection.parameters()]


def our_name(name):
    for theirs, ours in OURS.items():
        name = name.replace(theirs, ours)
    return name


def our_state(values, network, time=None):
    "A network's state out of a case, under our names; of a trajectory at a time."
    found = {our_name(k): v for k, v in states(values, network).items()}
    return {k: torch.as_tensor(v if time is None else v[time]) for k, v in found.items()}


def released(*flags):
    run = parse_run(
        ["--preset", "voc-183", "--method", "gta_seg", "--variant", "released", *flags], "/nowhere"
    )
    return dict(semi=run.semi, gta_seg=run.gta_seg)


def make_method(student, assistant, teacher, groups):
    "GTA-Seg on the tiny network, its three networks in given states."
    num_classes = len(student["classifier.bias"])
    method = GTASeg(lambda: TinyNetwork(student), num_classes, GTASeg.configure(**groups)).train()
    kept_apart = {
        k: v for k, v in assistant.items() if not groups["gta_seg"].share_memory or "classifier" not in k
    }
    method.assistant.load_state_dict(kept_apart, strict=False)
    method.teacher.network.load_state_dict(teacher)
    return method


def check_state(network, expected):
    for name, tensor in network.state_dict().items():
        assert_gradient(tensor, expected[name])


@pytest.mark.parametrize("name", cases("gta_seg", "unsup_"))
def test_unsup__targets_loss_and_gradient(name):
    values = case("gta_seg", name)
    logits, target = values["logits"].clone().requires_grad_(), values["target"]
    confidence = pseudo_label(values["logits_teacher"]).confidence
    drop_percent = 100 - values["percent"]
    assert drop_percent == pytest.approx(values["percentile"])
    targets, left = drop_unsure(target, confidence, target != IGNORE_INDEX, RULES, drop_percent)
    assert torch.equal(targets, values["target_filtered"])
    assert (targets != IGNORE_INDEX).sum().item() == values["n_valid"]
    loss = confidence_weighted(logits, targets, left)
    assert_loss(loss.item(), values["loss"])
    loss.backward()
    assert_gradient(logits.grad, values["grad_logits"])


@pytest.mark.parametrize("name", cases("gta_seg", "unsup_"))
def test_unsup__without_ignored_pixels_the_mean_over_valid_ones_is_the_same(name):
    values = case("gta_seg", name)
    target = values["target"].masked_fill(values["target"] == IGNORE_INDEX, 0)
    valid = torch.ones_like(target, dtype=torch.bool)
    confidence = pseudo_label(values["logits_teacher"]).confidence
    found = drop_unsure(target, confidence, valid, RULES, 100 - values["percent"])
    mean_of_all = confidence_weighted(values["logits"], *found)
    assert_loss(confidence_weighted(values["logits"], *found, counts=valid).item(), mean_of_all.item())
    if torch.equal(target, values["target"]):
        assert_loss(mean_of_all.item(), values["loss"])


@pytest.mark.parametrize("name", cases("gta_seg", "transfer_"))
def test_transfer__student_and_teacher(name):
    values = case("gta_seg", name)
    per_epoch = values["iters_per_epoch"]
    progress = Progress(
        step=values["i_iter"],
        steps=100 * per_epoch + values["i_iter"],
        sup_only_steps=values["sup_only_epoch"] * per_epoch,
        steps_per_epoch=per_epoch,
    )
    groups = released("--semi.ema_decay", str(values["ema_decay"]), "--gta_seg.share_memory", "False")
    before = [our_state(values, n) for n in ("student_before", "assistant", "teacher_before")]
    method = make_method(*before, groups)
    method.after_phase("assistant", None, progress)
    check_state(method.student, our_state(values, "student_after"))
    method.after_phase("student", None, progress)
    method.after_step(None, progress)
    check_state(method.teacher.network, our_state(values, "teacher_after"))
    check_state(method.assistant, before[1])


def batch_of(values, epoch, i):
    "A batch without padding or boxes."
    images_u = values["images_u"][epoch, i]
    inside = torch.ones_like(images_u[:, 0], dtype=torch.bool)
    truth = torch.full(inside.shape, IGNORE_INDEX)
    partner = torch.arange(len(images_u))
    return Batch(
        images_l=values["images_l"][epoch, i],
        targets_l=values["labels_l"][epoch, i],
        ids_l=[],
        images_u_w=images_u,
        images_u_s=[images_u],
        valid_u=inside,
        truth_u=truth,
        ids_u=[],
        mixes=[CutMix(~inside, partner, "none in this case")],
    )


def steps_of(values):
    "Where the run stands at each step of a trajectory, and its batch."
    epochs, per_epoch = values["images_l"].shape[:2]
    for epoch in range(epochs):
        for i in range(per_epoch):
            progress = Progress(
                step=(values["first_epoch"] + epoch) * per_epoch + i,
                steps=values["epochs"] * per_epoch,
                sup_only_steps=values["sup_only_epoch"] * per_epoch,
                steps_per_epoch=per_epoch,
            )
            yield progress, batch_of(values, epoch, i)


def optimizers_of(method, values):
    "An optimiser a phase, as the loop makes them; the rate stays in the released trajectories."
    default = OptimConfig(
        optimizer="sgd",
        lr=values["lr"],
        encoder_lr_scale=1.0,
        momentum=values["momentum"],
        weight_decay=values["weight_decay"],
        poly_power=0.0,
    )
    configs = {phase: method.optim_config(phase, default) for phase in method.phases}
    return {p: (make_optimizer(method.param_groups(p), cfg), cfg) for p, cfg in configs.items()}


def take_step(method, optimizers, batch, progress):
    "One step as the loop takes it; the losses by name."
    found = {}
    for phase in method.phases:
        optimizer, cfg = optimizers[phase]
        method.zero_grad(set_to_none=True)
        set_lr(optimizer, lr_factor(cfg, progress.fraction))
        losses = method(batch, progress, phase)
        losses.total().backward()
        optimizer.step()
        method.after_phase(phase, batch, progress)
        found |= {name: value.item() for name, (value, _) in losses.terms.items()}
    method.after_step(batch, progress)
    return found


def put_in_statistics(network, state):
    "The buffers of a state, its weights left out."
    buffers = {name for name, _ in network.named_buffers()}
    network.load_state_dict({k: v for k, v in state.items() if k in buffers}, strict=False)


@pytest.mark.parametrize("name", cases("gta_seg", "trajectory"))
def test_trajectory__losses_and_states_after_each_step(name):
    values = case("gta_seg", name)
    is_shared = bool(values["shared_storage"].any())
    flags = ["--semi.ema_decay", str(values["ema_decay"]), "--gta_seg.share_memory", str(is_shared)]
    drop_percent = 100 - values["drop_percent"]
    groups = released(*flags, "--gta_seg.drop_percent", str(drop_percent))
    networks = ("student", "assistant", "teacher")
    method = make_method(*(our_state(values, n, 0) for n in networks), groups)
    optimizers, losses_u = optimizers_of(method, values), iter(values["loss_unsup"].tolist())
    for time, (progress, batch) in enumerate(steps_of(values)):
        compared = dict(student=method.student)
        if not progress.is_sup_only:
            compared |= dict(assistant=method.assistant, teacher=method.teacher.network)
        if progress.since_unsup == 0:
            for network in ("assistant", "teacher"):
                put_in_statistics(compared[network], our_state(values, network, time))
            optimizers["assistant"][0].state.clear()
        found = take_step(method, optimizers, batch, progress)
        assert_loss(found["loss_sup"], values["loss_sup"][time])
        if not progress.is_sup_only:
            assert_loss(found["loss_unsup"], next(losses_u))
        for network, module in compared.items():
            check_state(module, our_state(values, network, time + 1))
    assert next(losses_u, None) is None


@pytest.mark.parametrize("name", cases("gta_seg", "trajectory"))
def test_trajectory__which_memory_is_shared(name):
    values = case("gta_seg", name)
    is_shared, names = values["shared_storage"][-1].tolist(), values["param_names"]
    state = our_state(values, "student", 0)
    groups = dict(semi=SemiConfig(), gta_seg=GTASegConfig(share_memory=any(is_shared)))
    method = make_method(state, state, state, groups)
    ours, theirs = (dict(n.named_parameters()) for n in (method.student, method.assistant))
    found = [ours[our_name(n)].data_ptr() == theirs[our_name(n)].data_ptr() for n in names]
    assert found == is_shared
