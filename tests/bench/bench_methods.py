"""Each method's own part of a step against the bare forwards and backwards that it must do.

    python tests/bench/bench_methods.py [--rows dgcl cps] [--preset digits] [--warmup 20] [--settle 10]
                                        [--repeats 16] [--out results]

What a method adds - labels, filters, mixes, losses, EMA, banks - is what its step takes more than the calls
of its networks alone. These calls are recorded in one step: every call of an encoder, a decoder, a head, or
another module with weights, with its inputs, their need of a gradient, the mode of the module. The *bare*
step repeats them on a copy of the method, with the sum of the outputs as loss, phase by phase; weights that
a phase gives no gradient need none in the bare one either (GCT's detector while it judges, PS-MT's teachers
while they are asked for the worst direction). So no bare version is written by hand. Loader and optimiser are
in neither; s/step is that of a whole step with both.

So bare are: all passes of students, teachers and second networks; every further decoding (CCT's auxiliary
decoders and their VAT, PS-MT's decoders in its VAT, UniMatch's dropped features); GCT's detector. A method's
own are: mixing, enlarging logits, labels, filters, all losses and the way back through them, perturbations,
blurred flaw maps, prototypes, density, banks, EMA and GTA-Seg's transfer, notes for the log.

Enlarging is the one item that could stand on either side. Here networks answer on a grid four times as coarse
as the image and a loss enlarges what it compares, so by the letter it is a part of losses and labels; in the
papers it is the last layer of a decoder (CCT's auxiliary ones are nothing but a 1x1 convolution and an
enlargement). The goal is held against the letter. A second figure, *own but enlarging*, has the recorded
enlargements, forward and backward, among the bare calls. In a method's favour is one thing: weights of CCT's
auxiliary decoder for VAT get a gradient in the bare step and none in the search, a thousandth of the step.

All rows are timed in turn, in one process on one thread, and medians count: what disturbs one disturbs all.
Before the step and before the bare one its batch is made, so that both find the caches as a loader leaves
them, and they take turns in going first: one that comes right after the other finds them warm, and looks
faster by up to a tenth, whichever it is. Own part and bare step are taken by the clock of the process, on
which others' work does not count; s/step is real time and counts only from an idle machine.

Goal: the own part at most 15 % of the bare step, for dgcl and u2pl 25 %."""

import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from bench_density import command_line, machine, save, table
from torch import Tensor

from dgcl_nb import consistency, losses
from dgcl_nb.batches import make_batch, make_loader
from dgcl_nb.config import environment, parse_run
from dgcl_nb.core import seed_everything
from dgcl_nb.engine import start_training
from dgcl_nb.forwards import count_forwards, parts_of
from dgcl_nb.losses import logits_at
from dgcl_nb.methods import cct
from dgcl_nb.processes import Control
from dgcl_nb.rows import all_rows
from dgcl_nb.run_folder import RunFolder
from dgcl_nb.training import training_step

ROOMS_THAT_ENLARGE = losses, consistency, cct
GOALS, GOAL = dict(dgcl=25.0, u2pl=25.0), 15.0


@dataclass
class Call:
    "One call of a module, as it was made."

    module: str  # its name in the method
    inputs: tuple  # its arguments
    is_training: bool  # its mode
    grad: bool  # whether its outputs carry a gradient


class Enlargement(NamedTuple):
    "One enlargement of class scores outside the networks."

    logits: Tensor  # (B, K, h, w)
    size: tuple[int, int]  # (H, W) wanted


@dataclass
class Recorder:
    "Notes the calls of some modules, and enlargements outside them; a call within another is a part of it."

    calls: list[Call] = field(default_factory=list)
    enlarged: list[Enlargement] = field(default_factory=list)
    depth: int = 0

    def before(self, name):
        def hook(module, inputs):
            self.depth += 1

        return hook

    def after(self, name):
        def hook(module, inputs, output):
            self.depth -= 1
            if self.depth == 0:
                grad = any(x.requires_grad for x in tensors_of(output))
                kept = change(inputs, lambda x: x.detach().clone().requires_grad_(x.requires_grad))
                self.calls.append(Call(name, kept, module.training, grad))

        return hook

    @contextmanager
    def interpolating(self, num_classes):
        "Note the enlargements of maps of that many channels."
        torchs, ours = F.interpolate, losses.enlarged

        def interpolate(x, size=None, *others, **settings):
            if not self.depth and settings.get("mode") == "bilinear" and x.shape[1] == num_classes:
                logits = x.detach().clone().requires_grad_(x.requires_grad)
                self.enlarged.append(Enlargement(logits, tuple(size)))
            return torchs(x, size, *others, **settings)

        def enlarged(maps, size):
            logits = maps.detach().clone().requires_grad_(maps.requires_grad)
            self.enlarged.append(Enlargement(logits, tuple(size)))
            self.depth += 1  # noted once, whichever way it is done
            try:
                return ours(maps, size)
            finally:
                self.depth -= 1

        F.interpolate = interpolate
        for room in ROOMS_THAT_ENLARGE:
            room.enlarged = enlarged
        try:
            yield
        finally:
            F.interpolate = torchs
            for room in ROOMS_THAT_ENLARGE:
                room.enlarged = ours


def change(value, how: Callable[[Tensor], Tensor]):
    "Arguments with every tensor changed."
    if isinstance(value, Tensor):
        return how(value)
    if isinstance(value, (list, tuple)):
        return type(value)(change(v, how) for v in value)
    return value


def tensors_of(value):
    "The floating-point tensors of outputs."
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    return [x for v in value for x in tensors_of(v)] if isinstance(value, (list, tuple)) else []


def watched(method):
    "The modules whose calls are the bare step: the halves and heads of networks, and what stands beside."
    networks, beside = parts_of(method)
    parts = dict(beside)
    for name, network in networks.items():
        parts |= {f"{name}.{child}": module for child, module in network.named_children()}
    return parts


class Phase(NamedTuple):
    "What the bare step does in one phase."

    calls: list[Call]
    learning: set[str]  # names of the parameters that get a gradient
    enlarged: list[Enlargement]  # what is enlarged outside the networks


def recorded(method, one_phase):
    "The calls of each phase, and whom its gradients reach."
    found = []
    for phase in method.phases:
        recorder, handles = Recorder(), []
        method.zero_grad(set_to_none=True)
        for name, module in watched(method).items():
            handles.append(module.register_forward_pre_hook(recorder.before(name)))
            handles.append(module.register_forward_hook(recorder.after(name)))
        try:
            with recorder.interpolating(method.num_classes):
                one_phase(phase)
        finally:
            for handle in handles:
                handle.remove()
        learning = {name for name, p in method.named_parameters() if p.grad is not None}
        found.append(Phase(recorder.calls, learning, recorder.enlarged))
    return found


def freeze_others(method, learning):
    "Let only these parameters ask for a gradient."
    for name, p in method.named_parameters():
        if p.requires_grad != (name in learning):
            p.requires_grad_(name in learning)


def bare_step(method, modules, phases, with_enlarging=False):
    "The recorded calls and nothing else; the loss of a phase is the sum of what carries a gradient."
    for phase in phases:
        if len(phases) > 1:  # with one phase it was done once for all
            freeze_others(method, phase.learning)
        outputs = []
        for call in phase.calls:
            module = modules[call.module]
            if module.training != call.is_training:
                module.train(call.is_training)
            with torch.set_grad_enabled(call.grad):
                made = tensors_of(module(*call.inputs))
            outputs += [x for x in made if x.requires_grad]
        if with_enlarging:
            full = [logits_at(logits, size) for logits, size in phase.enlarged]
            outputs += [x for x in full if x.requires_grad]
        if outputs:
            sum(x.sum() for x in outputs).backward()


class Row:
    "A method under way, with its bare copy."

    def __init__(self, row, args):
        steps = 4 * (args.warmup + args.settle + 2 * args.repeats)
        words = ["--preset", args.preset, "--method", row.method, "--steps", str(steps), "--device", "cpu"]
        share = args.warmup / steps
        self.run = parse_run([*words, "--loop.sup_only_fraction", str(share), *row.flags])
        self.name, self.t = (
            row.name,
            start_training(self.run, RunFolder(tempfile.mkdtemp()).create(), Control()),
        )
        settings = self.run.views, self.t.method.views, self.run.batch, self.run.seed
        self.loader = iter(make_loader(self.t.data, *settings, 0, steps))
        self.make = lambda step: make_batch(self.t.data, *settings, step)
        for _ in range(args.warmup + args.settle):
            self.whole()
        self.prepare()
        self.phases = recorded(self.t.method, self.forward)
        self.copy = copy.deepcopy(self.t.method)
        self.modules = dict(self.copy.named_modules())
        freeze_others(self.copy, self.phases[0].learning)
        self.end()

    def whole(self):
        "A step as the engine takes it, loader and optimiser included."
        training_step(self.t, [next(self.loader)])

    def prepare(self):
        "The batch of the next step, and the generators as the engine sets them."
        self.batch = self.make(self.t.step)
        seed_everything(self.run.seed, "step", self.t.step, 0)
        self.t.method.zero_grad(set_to_none=True)

    def forward(self, phase):
        "Losses and gradients of a phase."
        losses = self.t.method(self.batch, self.t.progress, phase)
        losses.total().backward()
        self.t.method.after_phase(phase, self.batch, self.t.progress)

    def end(self):
        self.t.method.after_step(self.batch, self.t.progress)

    def own(self):
        "A step without loader and optimiser."
        for phase in self.t.method.phases:
            self.t.method.zero_grad(set_to_none=True)
            self.forward(phase)
        self.end()

    def bare(self, with_enlarging=False):
        self.copy.zero_grad(set_to_none=True)
        for phase in self.phases:
            for x in tensors_of([call.inputs for call in phase.calls] + [e.logits for e in phase.enlarged]):
                x.grad = None
        bare_step(self.copy, self.modules, self.phases, with_enlarging)

    def enlarging(self):
        "The bare step, and the enlargement of all class scores to the size of the image."
        self.bare(with_enlarging=True)

    def seconds(self, is_bare_first):
        "Of a step without loader and optimiser, of the bare one, and of a whole one."
        works, found = [("step", self.own), ("bare", self.bare), ("enlarging", self.enlarging)], {}
        for name, work in reversed(works) if is_bare_first else works:
            self.prepare()  # before either: the caches hold what making a batch leaves in them
            found[name] = taken(work, time.process_time)
        return found | dict(whole=taken(self.whole, time.perf_counter))


def taken(work, clock):
    "Seconds by a clock."
    start = clock()
    work()
    return clock() - start


def measure(args):
    "The figures of each row."
    rows = [r for r in all_rows() if not args.rows or r.name in args.rows]
    assert rows, f"--rows {' '.join(args.rows)}: there are {', '.join(r.name for r in all_rows())}"
    runs = [Row(row, args) for row in rows]
    found = {run.name: [] for run in runs}
    for i in range(args.repeats + 1):
        for run in runs:
            seconds = run.seconds(is_bare_first=i % 2 == 0)
            if i:  # the first round warms up
                found[run.name].append(seconds)
    return [figures_of(run, found[run.name]) for run in runs]


def figures_of(run, seconds):
    "Medians of a row, the own part in per cent of the bare step."
    step, bare, whole = (statistics.median(s[key] for s in seconds) for key in ("step", "bare", "whole"))
    # of each round, as both were timed one after the other, now this one first and now that one
    own, own_but_enlarging = (
        100 * statistics.median(s["step"] / s[key] - 1 for s in seconds) for key in ("bare", "enlarging")
    )
    goal = GOALS.get(run.name, GOAL)
    return dict(
        row=run.name,
        images=count_forwards(run.run).later.show(),
        calls=sum(len(phase.calls) for phase in run.phases),
        seconds_own_step=step,
        seconds_bare=bare,
        own_percent=own,
        own_but_enlarging_percent=own_but_enlarging,
        goal_percent=goal,
        is_met=own <= goal,
        seconds_step=whole,
    )


NOTES = """

*Step* is forward, backward and what follows, without loader and optimiser; *bare* the calls of its networks
alone, with the sum of the outputs as loss; *own* the median of step / bare - 1 over the rounds. *Whole* is a
step with loader and optimiser, as a run takes it. Images: through encoders, with gradient / without. *But
enlarging*: own if bringing class scores to the size of the image counted as a network's last layer, as papers
draw it, and not as a part of losses and labels; the goal is held against *own*, the stricter figure.

Goal: own part at most {goal:.0f} %, of dgcl and u2pl 25 %: {met} of {num} rows{missed}."""


def report(rows):
    "The table as text."
    shown = []
    for r in rows:
        ms = {f"{name}, ms": 1e3 * r[key] for name, key in TIMES.items()}
        percent = {"own, %": r["own_percent"], "but enlarging, %": r["own_but_enlarging_percent"]}
        percent |= {"goal, %": r["goal_percent"]}
        shown.append({"row": r["row"], "images a step": r["images"]} | ms | percent)
    columns = {"row": "s", "images a step": "s"} | {f"{name}, ms": ".1f" for name in TIMES}
    text = table(shown, columns | {"own, %": ".1f", "but enlarging, %": ".1f", "goal, %": ".0f"})
    missed = [r["row"] for r in rows if not r["is_met"]]
    words = f"; not {', '.join(missed)}" if missed else ""
    return text + NOTES.format(goal=GOAL, met=len(rows) - len(missed), num=len(rows), missed=words)


TIMES = {"step": "seconds_own_step", "bare": "seconds_bare", "whole": "seconds_step"}


def main():
    parser = command_line(__doc__)
    parser.add_argument("--preset", default="digits", help="preset of the runs (default: digits)")
    parser.add_argument("--rows", nargs="*", default=(), help="rows to time (default: all)")
    parser.add_argument("--warmup", type=int, default=20, help="supervised steps before (default 20)")
    parser.add_argument("--settle", type=int, default=10, help="later steps before (default 10)")
    parser.add_argument("--repeats", type=int, default=16, help="timed rounds, an even number (default 16)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    here = machine() | environment()
    rows = measure(args)
    text = report(rows) + f"\n\nPreset {args.preset}, {args.repeats} rounds, one thread."
    data = dict(machine=here, preset=args.preset, device="cpu", repeats=args.repeats, rows=rows)
    name = "bench_methods" if args.preset == "digits" else f"bench_methods-{args.preset}"
    save(name, args.out, "A method's own part of a step", text, data)


if __name__ == "__main__":
    main()
