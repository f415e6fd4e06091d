"""Three methods that exist for tests: they ask of the protocol what the published ones will.

`Pair` trains two networks in one phase, each with a supervised term and the other's labels (as CPS).
`Toy` has three networks, two phases with an optimiser each, a running mean, a bank fed by all processes, and a
counter. `Relay` adds an optimiser of another kind and a weight transfer between the phases (as in GTA-Seg).
"""

import dataclasses
from dataclasses import dataclass

import torch

from dgcl_nb.core import gather_rows
from dgcl_nb.methods.protocol import (
    Losses,
    Method,
    SemiConfig,
    SupConfig,
    joint_pass,
    label,
    note_labels,
    supervised,
    unsupervised,
)
from dgcl_nb.teacher import Teacher, move_towards
from dgcl_nb.views import Views


class Pair(Method):
    "Two networks that teach each other, in one phase."

    settings = dict(sup=SupConfig, semi=SemiConfig)
    views = Views(strong=1, cutmix=True)

    def __init__(self, make_network, num_classes, cfg):
        super().__init__(make_network, num_classes, cfg)
        self.first, self.second = make_network(), make_network()

    def param_groups(self, phase, by_layer=False):
        groups = {}
        for network in (self.first, self.second):
            groups.setdefault("encoder", []).extend(network.encoder_parameters())
            groups.setdefault("head", []).extend(network.head_parameters())
        return groups

    def forward(self, batch, progress, phase="main"):
        losses, semi, mix = Losses(), self.cfg.semi, batch.mixes[0]
        groups = [batch.images_l, mix.mix(batch.images_u_s[0])]
        pairs = ((self.first, self.second, "_1"), (self.second, self.first, "_2"))
        for network, other, suffix in pairs:
            out_l, out_u = joint_pass(network, groups)
            supervised(losses, out_l, batch.targets_l, self.cfg.sup, suffix)
            labels = label(other, batch.images_u_w, batch.valid_u, semi, progress)
            unsupervised(losses, out_u, mix.mix(labels.targets), semi, suffix)
        note_labels(losses, labels, batch, self.cfg.background)
        return losses

    def scored(self):
        return dict(first=self.first, second=self.second)


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    "Settings of the toy."

    decay: float = 0.9  # of the running mean
    rows: int = 20  # feature rows of the bank


class Toy(Method):
    "Three networks in two phases, and much to remember."

    settings = dict(sup=SupConfig, toy=ToyConfig)
    phases = ("first", "second")
    views = Views(strong=2, cutmix=False)

    def __init__(self, make_network, num_classes, cfg):
        super().__init__(make_network, num_classes, cfg)
        self.one, self.two = make_network(), make_network()
        self.mean = Teacher(self.two, cfg.toy.decay)
        self.register_buffer("bank", torch.zeros(cfg.toy.rows, self.one.cfg.decoder_channels))
        self.register_buffer("handed_over", torch.zeros((), dtype=torch.long))
        self.new_rows = []

    def network_of(self, phase):
        return self.one if phase == "first" else self.two

    def param_groups(self, phase, by_layer=False):
        network = self.network_of(phase)
        return dict(encoder=[*network.encoder_parameters()], head=[*network.head_parameters()])

    def forward(self, batch, progress, phase="main"):
        losses, network = Losses(), self.network_of(phase)
        out = network(batch.images_l)
        if phase == "first":
            supervised(losses, out, batch.targets_l, self.cfg.sup)
            rows = out.feats.detach().permute(0, 2, 3, 1).flatten(0, 2)
            self.new_rows.append(rows[::7].float())
        else:
            other = self.one(batch.images_u_s[1])  # its gradients must not reach the first optimiser
            mine = network(batch.images_u_s[0])
            difference = mine.logits.float().softmax(1) - other.logits.float().softmax(1)
            losses.add("loss_agree", difference.square().sum(1).mean(), 2.0)
            middle = out.feats.float().mean((0, 2, 3))
            losses.add("loss_bank", (middle - self.bank.mean(0)).square().mean(), 0.1)
        losses.note(**{f"logit_{phase}": out.logits.detach().float().abs().mean()})
        return losses

    def after_phase(self, phase, batch, progress):
        if phase == "first":
            self.handed_over += 1

    def after_step(self, batch, progress):
        rows = gather_rows(torch.cat(self.new_rows))
        self.new_rows = []
        chosen = rows[torch.randperm(len(rows), generator=progress.generator("toy"))[:5]]
        self.bank.copy_(torch.cat([self.bank, chosen])[-len(self.bank) :])
        self.mean.update(self.two)

    def scored(self):
        return dict(teacher=self.mean.network, student=self.one, second=self.two)


class Relay(Toy):
    "The toy with an optimiser of another kind in its second phase, and weights handed over in between."

    def optim_config(self, phase, default):
        return default if phase == "first" else dataclasses.replace(default, optimizer="sgd", lr=0.01)

    def after_phase(self, phase, batch, progress):
        super().after_phase(phase, batch, progress)
        if phase == "first":
            move_towards(self.two, self.one, decay=0.95, buffers="own", exclude=["classifier"])
