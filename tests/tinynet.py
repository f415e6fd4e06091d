"The tiny network of the released codes' numbers: 3x3 convolution, BatchNorm, ReLU, 1x1 convolution."

import torch
import torch.nn.functional as F
from torch import nn

from dgcl_nb.model import SegOutput


class TinyNet(nn.Module):
    "A network of the shape that a state dict has; it answers as ours do."

    def __init__(self, state):
        super().__init__()
        width, colours = state["conv.weight"].shape[:2]
        self.conv = nn.Conv2d(colours, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.classifier = nn.Conv2d(width, len(state["classifier.weight"]), 1)
        self.load_state_dict({name: torch.as_tensor(value) for name, value in state.items()})

    def forward(self, images, with_proj=False):
        feats = F.relu(self.bn(self.conv(images)))
        return SegOutput(self.classifier(feats), feats, None, None)


def assert_state(network, expected, only=lambda name: True):
    "The entries of a network's state agree with those of a case."
    state = network.state_dict()
    for name in filter(only, expected):
        found, wanted = state[name].double(), torch.as_tensor(expected[name]).double()
        scale = max(1.0, wanted.abs().max().item())
        assert (found - wanted).abs().max().item() <= 1e-5 * scale, name


def states_at(values, name, step):
    "The state dict `name.*` of a trajectory at a step."
    return {k[len(name) + 1 :]: v[step].clone() for k, v in values.items() if k.startswith(f"{name}.")}
