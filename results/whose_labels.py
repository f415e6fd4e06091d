"""Is it wrong labels that keep the contrast from helping? Trains DGCL with other labels in its contrast than a user could have.

    python results/whose_labels.py truth --preset digits-tune --seed 0       # as dgcl_nb.train, whose flags follow

truth     unlabelled cells with a wrong pseudo-label are left out of the contrast (nobody could know them: an upper bound)
labelled  only cells of labelled images take part
agreed    only cells whose pseudo-label is also the student's own prediction
Everything else, the loss on pseudo-labels included, stays as it is. LOG.md has what came out."""

import sys

import torch

from dgcl_nb.core import IGNORE_INDEX
from dgcl_nb.cells import measure_density
from dgcl_nb.methods.dgcl import DGCL
from dgcl_nb.train import main

KINDS = ("truth", "labelled", "agreed")


def wrong_cells(kind, pixels, own, num_labelled):
    "Which cells (N,) bool lose their label; `own` (N,) is the student's prediction, the first `num_labelled` rows are of labelled images."
    unlabelled = torch.arange(len(own)) >= num_labelled
    if kind == "truth":
        return unlabelled & (pixels.labels != IGNORE_INDEX) & (pixels.truth != pixels.labels)
    return unlabelled if kind == "labelled" else unlabelled & (own != pixels.labels)


def with_labels(kind):
    "DGCL.pixels with other labels."
    make = DGCL.pixels

    def pixels(self, batch, outs, *rest):
        px = make(self, batch, outs, *rest)
        own = torch.cat([o.logits.detach().argmax(1).flatten() for o in (outs[0], outs[-1])])
        num_labelled = outs[0].feats[:, 0].numel()
        px = px._replace(labels=px.labels.masked_fill(wrong_cells(kind, px, own, num_labelled), IGNORE_INDEX))
        return measure_density(px, self.bank, self.cfg)

    return pixels


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in KINDS:
        sys.exit(f"{__doc__}\n\nerror: the first word must be one of {', '.join(KINDS)}")
    DGCL.pixels = with_labels(sys.argv[1])
    main(["--method", "dgcl", *sys.argv[2:]])
