"""GCT against the numbers of PixelSSL's code (gct.npz; TorchSemiSeg's pieces returned the same bits).

| case | compared |
|---|---|
| blur | the kernels as outer products of our weights, the blurred maps |
| handler | with `shift_off`; the default where no map is switched off |
| dc_target | targets, mask, cut-off flaws |
| fd_target, fd_target_absent | with `ignored_flaw` 0.5; the default where every pixel has a label |
| detector | output and gradients in train mode, buffers, output in eval mode |
| step | the pieces; `forward` of both phases, each loss and gradient, with released settings |
| ramp | all of it |

Not compared: `handler/flawmap_left_behind` as such (ours changes nothing in place; its effect on the
detector's loss is compared in `step`), and `mu`, which cancels when the map is stretched. PixelSSL's task
loss divides by all pixels, ours by those with a label: compared after taking the other denominator.
"""

import pytest
import torch
from released import GRADIENT, assert_gradient, assert_loss, case, needs_reference, states
from torch import nn

from dgcl_nb.batches import Batch
from dgcl_nb.config import parse_run
from dgcl_nb.consistency import sigmoid_ramp
from dgcl_nb.core import IGNORE_INDEX
from dgcl_nb.flaws import (
    CLEAN_PART,
    ERROR_PART,
    WIDE_PART,
    FlawDetector,
    blur_maps,
    blur_weights,
    clean_flaws,
    exchange,
    flaw_targets,
    odd_side,
)
from dgcl_nb.methods import gct
from dgcl_nb.methods.gct import GCT, GCTConfig
from dgcl_nb.methods.protocol import Progress
from dgcl_nb.model import SegOutput

pytestmark = needs_reference
DETECTOR = 1e-4
"Tolerance of the detector and of what flows through it: deep, in float32, in another order of sums."
MAP = 1e-5
LAYERS = ("1", "2", "2_1", "3", "3_1", "4", "4_1")


def close(found, expected, tolerance=MAP):
    "Two maps of one value a pixel agree; the released ones have a channel of one."
    assert_gradient(found, expected[:, 0] if expected.dim() == found.dim() + 1 else expected, tolerance)


def thinned(maps):
    return maps[..., ::3, ::3]


def our_name(name):
    "What a parameter or buffer of the released detector is called here."
    layer, rest = name.split(".", 1)
    if layer == "classifier":
        return name
    place = 3 * LAYERS.index(layer.removeprefix("conv").removeprefix("ibn"))
    if layer.startswith("conv"):
        return f"layers.{place}.{rest}"
    return f"layers.{place + 1}.{rest.replace('bnorm', 'batch')}"


def our_names(state):
    return {our_name(name): value for name, value in state.items()}


def load_detector(values):
    state = our_names(states(values, "w"))
    weight = state["layers.0.weight"]
    detector = FlawDetector(weight.shape[1] - 3, weight.shape[0])
    detector.load_state_dict({k: torch.as_tensor(v) for k, v in state.items()})
    return detector.train()


# The pieces


def test_blur():
    values = case("gct", "blur")
    sides = [int(name.split("_")[1]) for name in values if name.startswith("kernel_")]
    assert sides
    for num in sides:
        weights = blur_weights(num, torch.device("cpu"))
        assert_gradient(torch.outer(weights, weights), values[f"kernel_{num}"], 1e-6)
    for name in values:
        if name.startswith("blurred_"):
            close(blur_maps(values["x"][:, 0], int(name.split("_")[1])), values[name])


def test_handler():
    values = case("gct", "handler")
    flaws, size, thresh = values["flawmap"][:, 0], values["im_size"], values["clip_threshold"]
    before = flaws.clone()
    assert odd_side(size, CLEAN_PART) == values["blur_kernel"]
    close(clean_flaws(flaws, size, thresh, shift_off=True), values["out"])
    assert torch.equal(flaws, before)
    close(flaws.clamp(min=0), values["flawmap_left_behind"])
    is_on = blur_maps(flaws.clamp(min=0), values["blur_kernel"]).amax((1, 2)) > thresh
    assert is_on.any() and not is_on.all()
    ours = clean_flaws(flaws, size, thresh)
    close(ours[is_on], values["out"][is_on])
    assert not ours[~is_on].any() and (values["out"][~is_on] <= 0).all()


def test_dc_target():
    values = case("gct", "dc_target")
    flaws = [values[f"flaw_{side}"][:, 0] for side in "lr"]
    trade = exchange([values[f"prob_{side}"] for side in "lr"], flaws, values["threshold"])
    for side, target, flaw in zip("lr", trade.targets, trade.flaws):
        assert torch.equal(target, values[f"target_{side}"])
        assert torch.equal(flaw, values[f"flaw_{side}_clipped"][:, 0])
    assert torch.equal(trade.both_bad, values["both_bad"][:, 0].bool())


@pytest.mark.parametrize("name", ["fd_target", "fd_target_absent"])
def test_fd_target(name):
    values = case("gct", name)
    size = values["im_size"]
    assert odd_side(size, ERROR_PART) == values["blur_kernel"]
    assert odd_side(size, WIDE_PART) == values["reblur_kernel"]
    found = flaw_targets(values["prob"], values["labels"], size, ignored_flaw=0.5, widen=values["nu"])
    close(found, values["out"])


def test_fd_target__the_default_is_the_same_where_every_pixel_has_a_label():
    values = case("gct", "fd_target")
    labels = values["labels"].masked_fill(values["labels"] == IGNORE_INDEX, 0)
    both = [flaw_targets(values["prob"], labels, values["im_size"], flaw) for flaw in (0.0, 0.5)]
    assert torch.equal(*both)


def test_detector():
    values = case("gct", "detector")
    detector, probs = load_detector(values), values["prob"].requires_grad_()
    out = detector(values["images"], probs)
    close(thinned(out), values["out_train_every_third"], DETECTOR)
    (out * values["cotangent"][:, 0]).sum().backward()
    assert_gradient(thinned(probs.grad), values["grad_prob_every_third"], DETECTOR)
    assert_gradient(detector.layers[0].weight.grad, values["grad_conv1_weight"], DETECTOR)
    assert_gradient(detector.classifier.weight.grad, values["grad_classifier_weight"], DETECTOR)
    after = our_names(states(values, "w_after"))
    for name, value in detector.state_dict().items():
        if not name.endswith("num_batches_tracked"):  # the released BatchNorm does not count
            assert_gradient(value, after[name], DETECTOR)
    with torch.no_grad():
        out = detector.eval()(values["images"], probs)
    close(thinned(out), values["out_eval_after_every_third"], DETECTOR)


def test_ramp():
    values = case("gct", "ramp")
    found = [sigmoid_ramp(step, values["ramp_steps"]) for step in values["steps"].tolist()]
    assert found == pytest.approx(values["values"].tolist(), rel=1e-6)


# The step


class Told(nn.Module):
    "A network that answers with given logits: without gradients with one map, to learn with another."

    def __init__(self, looking, learning):
        super().__init__()
        self.looking, self.learning = looking, learning.clone().requires_grad_()

    def forward(self, images, with_proj=False):
        return SegOutput(self.learning if torch.is_grad_enabled() else self.looking, None, None, None)


@pytest.fixture(autouse=True)
def released_size(monkeypatch):
    "PixelSSL is told its crop's side, for us it is the images' longer one."
    monkeypatch.setattr(gct, "longer_side", lambda images: case("gct", "step")["im_size"])


def released_step(**changes):
    "A method of released settings whose networks answer as in the case, its batch and its progress."
    values = case("gct", "step")
    run = parse_run(["--method", "gct", "--variant", "released"])
    detector = load_detector(values)
    classes = values["logits_step0_l"].shape[1]
    cfg = vars(run.gct) | dict(depth=detector.depth, ndf=detector.layers[0].out_channels)
    # the file says how many steps the ramp takes
    steps = 4 * values["ramp_steps"]
    cfg |= dict(ramp=values["ramp_steps"] / steps) | changes
    method = GCT(nn.Identity, classes, GCT.configure(gct=GCTConfig(**cfg))).train()
    method.detector = detector
    for number, side in ((1, "l"), (2, "r")):
        network = Told(values[f"logits_step0_{side}"], values[f"logits_step1_{side}"])
        setattr(method, f"network{number}", network)
    num, images, labels = values["num_labeled"], values["images"], values["labels"]
    batch = Batch(
        images_l=images[:num],
        targets_l=labels[:num],
        ids_l=[""] * num,
        images_u_w=images[num:],
        images_u_s=[],
        valid_u=torch.ones_like(labels[num:], dtype=torch.bool),
        truth_u=labels[num:],
        ids_u=[""] * (len(images) - num),
    )
    return values, method, batch, Progress(step=values["step"], steps=steps)


def test_step__the_pieces():
    values, method, batch, progress = released_step()
    size = values["im_size"]
    assert sigmoid_ramp(values["step"], values["ramp_steps"]) == pytest.approx(values["ramp"], rel=1e-6)
    probs = [values[f"logits_step0_{side}"].softmax(1) for side in "lr"]
    drawn = [method.judge(values["images"], p) for p in probs]
    for side, flaws in zip("lr", drawn):
        close(flaws, values[f"flawmap_raw_{side}"], DETECTOR)
    # from the released maps on, so that a pixel at a threshold cannot fall to the other side
    drawn = [values[f"flawmap_raw_{side}"][:, 0] for side in "lr"]
    close(thinned(drawn[0].clamp(min=0)), values["flawmap_after_handler_l_every_third"])
    trade = exchange(probs, [clean_flaws(f, size, shift_off=True) for f in drawn], method.cfg.gct.flaw_thresh)
    for side, target in zip("lr", trade.targets):
        assert_gradient(target, values[f"dc_target_{side}"], 1e-6)
    assert torch.equal(trade.both_bad, values["both_bad"][:, 0].bool())
    num = values["num_labeled"]
    for side, p in zip("lr", probs):
        target = flaw_targets(p[:num], batch.targets_l, size, ignored_flaw=0.5)
        close(thinned(target), values[f"fd_target_{side}_every_third"])


def test_step__the_task_phase():
    values, method, batch, progress = released_step()
    losses = method(batch, progress, "task")
    labels = batch.targets_l
    # PixelSSL divides by all pixels
    by_all = (labels != IGNORE_INDEX).sum() / labels.numel()
    for number, side in ((1, "l"), (2, "r")):
        sup, dc, flaw = (losses.terms[f"loss_{name}_{number}"] for name in ("sup", "consistency", "flaw"))
        assert_loss(sup[0].detach() * by_all, values[f"task_loss_{side}"])
        assert_loss(dc[0].detach() * dc[1], values[f"dc_loss_{side}"], DETECTOR)
        assert_loss(flaw[0].detach() * flaw[1], values[f"fc_loss_{side}"], DETECTOR)
        total = sup[0] * by_all + dc[0] * dc[1] + flaw[0] * flaw[1]
        assert_loss(total.detach(), values[f"loss_{side}"], DETECTOR)
        logits = getattr(method, f"network{number}").learning
        (gradient,) = torch.autograd.grad(total, logits)
        assert_gradient(thinned(gradient), values[f"grad_logits_{side}_every_third"], DETECTOR)
        assert_loss(gradient.norm(), values[f"grad_logits_{side}_norm"], DETECTOR)
    assert all(p.grad is None for p in method.detector.parameters())


def test_step__the_detector_phase():
    values, method, batch, progress = released_step()
    drawn = []

    def keep(module, args, out):
        out.retain_grad()
        drawn.append(out)

    method(batch, progress, "task")
    handle = method.detector.register_forward_hook(keep)
    losses = method(batch, progress, "detector")
    handle.remove()
    for number, side in ((1, "l"), (2, "r")):
        value, weight = losses.terms[f"loss_detector_{number}"]
        assert_loss(2 * weight * value.detach(), values[f"fd_loss_{side}"], DETECTOR)
    assert_loss(losses.total().detach(), values["fd_loss"], DETECTOR)
    losses.total().backward()
    for side, flaws in zip("lr", drawn):
        assert_gradient(thinned(flaws.grad), values[f"grad_flawmap_{side}_every_third"][:, 0], DETECTOR)
    detector = method.detector
    assert_gradient(detector.layers[0].weight.grad, values["fd_grad_conv1_weight"], DETECTOR)
    assert_gradient(detector.classifier.weight.grad, values["fd_grad_classifier_weight"], DETECTOR)
    assert_gradient(detector.classifier.bias.grad, values["fd_grad_classifier_bias"], DETECTOR)


def test_step__without_the_accident_the_detector_hears_of_flaws_below_0():
    values, method, batch, progress = released_step(straight_through=False)
    assert (values["flawmap_raw_l"][: values["num_labeled"]] < 0).any()
    method(batch, progress, "task")
    with torch.no_grad():
        assert method(batch, progress, "detector").total() > values["fd_loss"] * (1 + GRADIENT)
