"A method with a tiny network, and batches of any shape, for tests of single steps."

import torch

from dgcl_nb.batches import Batch, draw_mixes
from dgcl_nb.core import IGNORE_INDEX, generator_for
from dgcl_nb.encoders import ModelConfig
from dgcl_nb.methods.protocol import Progress
from dgcl_nb.views import ViewConfig
from dgcl_nb.weights import build_network

SIDE = 48
NOW = Progress(step=30, steps=100, sup_only_steps=20)
START = Progress(step=3, steps=100, sup_only_steps=20)
NET = ModelConfig(
    encoder="test_resnet",
    output_stride=16,
    last_stage=2,
    aspp_rates=(),
    aspp_pool=False,
    decoder_channels=16,
    low_level_channels=8,
    proj_dim=8,
    dropout=0.0,
    pretrained="none",
)


def small_method(cls, num_classes=4, background=0, **groups):
    "A method in training mode; the same first weights each time."
    torch.manual_seed(0)
    cfg = cls.configure(background=background, **groups)
    return cls(lambda: build_network(NET, num_classes), num_classes, cfg).train()


def small_batch(cls, num_l=2, num_u=2, num_classes=4, views=ViewConfig(crop=SIDE), step=0):
    "Random images and classes."
    gen = generator_for("small", num_l, num_u, num_classes, step)
    images = torch.randn(num_l + (1 + cls.views.strong) * num_u, 3, SIDE, SIDE, generator=gen)
    labelled, weak, *strong = images.split([num_l, *[num_u] * (1 + cls.views.strong)])
    targets = torch.randint(num_classes, (num_l + num_u, SIDE, SIDE), generator=gen)
    return Batch(
        images_l=labelled,
        targets_l=targets[:num_l],
        ids_l=[],
        images_u_w=weak,
        images_u_s=list(strong),
        valid_u=torch.ones(num_u, SIDE, SIDE, dtype=torch.bool),
        truth_u=targets[num_l:],
        ids_u=[],
        mixes=draw_mixes(num_u, views, cls.views, seed=step, step=step),
    )


def without_pixels(batch):
    "The batch with nothing that counts: no label known, no pixel inside an image."
    batch.targets_l = torch.full_like(batch.targets_l, IGNORE_INDEX)
    batch.valid_u = torch.zeros_like(batch.valid_u)
    batch.truth_u = torch.full_like(batch.truth_u, IGNORE_INDEX)
    return batch


def gradient_reaches(module):
    "Whether any parameter has a gradient that is not 0."
    return any(p.grad is not None and bool(p.grad.any()) for p in module.parameters())
