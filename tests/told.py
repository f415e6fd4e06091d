"""A network that says what it is told, and a batch whose images have partners of another batch.

The released code of UniMatch pastes images of a second weak batch, with labels of their own. Here the second
batch is the second half of a larger one. A last image, all of it padding, fills the second half's own boxes,
so that it counts for nothing: what remains of the loss is the first half's, as released.
"""

import torch
from torch import nn

from dgcl_nb.batches import Batch
from dgcl_nb.core import IGNORE_INDEX
from dgcl_nb.model import SegOutput
from dgcl_nb.views import CutMix


class Told(nn.Module):
    "Images (B, 3, H, W) to the next B of some logits (n, K, H, W); it remembers what it was shown."

    def __init__(self, *logits):
        super().__init__()
        self.logits, self.said, self.seen = torch.cat(logits), 0, []

    def encode(self, images):
        return [images]

    def decode(self, maps, size, with_proj=False):
        first, self.said = self.said, self.said + len(maps[0])
        assert self.said <= len(self.logits), "more is asked than was told"
        return SegOutput(self.logits[first : self.said], maps[0], None, None)

    def forward(self, images, with_proj=False):
        self.seen.append(images)
        return self.decode(self.encode(images), images.shape[-2:])


def with_partners(own, theirs):
    "Own images, their partners, and one of zeros; (B, ...) twice to (2 B + 1, ...)."
    return torch.cat([own, theirs, torch.zeros_like(own[:1])])


def paired_batch(labels, ignore, ignore_mix, boxes, strong):
    "A batch of b labelled and 2 B + 1 unlabelled images; boxes (B, H, W) and strong images, one a view."
    num, height, width = ignore.shape
    inside_image = with_partners(ignore == 0, ignore_mix == 0)
    partner = torch.cat([torch.arange(num, 2 * num), torch.full((num + 1,), 2 * num)])
    whole = torch.ones(num, height, width, dtype=torch.bool)
    return Batch(
        images_l=torch.zeros(len(labels), 3, height, width),
        targets_l=labels,
        ids_l=[],
        images_u_w=torch.zeros(2 * num + 1, 3, height, width),
        images_u_s=strong,
        valid_u=inside_image,
        truth_u=torch.full(inside_image.shape, IGNORE_INDEX),
        ids_u=[],
        mixes=[CutMix(with_partners(box.bool(), whole), partner) for box in boxes],
    )
