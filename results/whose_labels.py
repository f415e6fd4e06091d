"""Is it wrong labels that keep the contrast from helping? DGCL, with labels that a user could not have.

    python results/whose_labels.py truth --preset digits-tune --seed 0   # flags of dgcl_nb.train follow

truth     unlabelled cells with a wrong pseudo-label are left out of the contrast: an upper bound, as nobody
          could know them
labelled  only cells of labelled images take part
agreed    only cells whose pseudo-label is also the student's own prediction

Everything else, the loss on pseudo-labels included, stays as it is. LOG.md has what came out."""

import sys

import torch

from dgcl_nb.core import IGNORE_INDEX
from dgcl_nb.methods.dgcl import DGCL
from dgcl_nb.train import main

KINDS = ("truth", "labelled", "agreed")


def lost_cells(kind, cells, own, num_labelled):
    "Which cells (N,) lose their label; `own` (N,) is the student's prediction, labelled images come first."
    unlabelled = torch.arange(len(own), device=own.device) >= num_labelled
    if kind == "truth":
        return unlabelled & (cells.labels != IGNORE_INDEX) & (cells.truth != cells.labels)
    if kind == "agreed":
        return unlabelled & (own != cells.labels)
    return unlabelled


def with_labels(kind):
    "DGCL.cells_of with other labels."
    make = DGCL.cells_of

    def cells_of(self, batch, labels, outs, progress):
        cells, shown = make(self, batch, labels, outs, progress), (outs[0], outs[-1])
        own = torch.cat([out.logits.detach().argmax(1).flatten() for out in shown])
        num_labelled = outs[0].feats[:, 0].numel()
        lost = lost_cells(kind, cells, own, num_labelled)
        return cells._replace(labels=cells.labels.masked_fill(lost, IGNORE_INDEX))

    return cells_of


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in KINDS:
        sys.exit(f"{__doc__}\n\nerror: the first word must be one of {', '.join(KINDS)}")
    DGCL.cells_of = with_labels(sys.argv[1])
    main(["--method", "dgcl", *sys.argv[2:]])
