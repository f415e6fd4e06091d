"""Is it wrong labels that keep the contrast from helping? DGCL with labels in its contrast that no user has.

    python results/whose_labels.py truth --preset digits-tune --seed 0    # flags follow, as of dgcl_nb.train

truth     unlabelled cells with a wrong pseudo-label are left out (nobody could know them: an upper bound)
labelled  only cells of labelled images take part
agreed    only cells whose pseudo-label is also the student's own prediction
Everything else, the loss on pseudo-labels included, stays as it is. LOG.md has what came out.
"""

import sys

import torch

from dgcl_nb.core import IGNORE_INDEX
from dgcl_nb.methods import dgcl
from dgcl_nb.train import main

KINDS = ("truth", "labelled", "agreed")


def wrong_cells(kind, cells, own, num_labelled):
    "Which cells (N,) bool lose their label; `own` (N,) is what the student predicts; labelled images first."
    unlabelled = torch.arange(len(own)) >= num_labelled
    if kind == "truth":
        return unlabelled & (cells.labels != IGNORE_INDEX) & (cells.truth != cells.labels)
    return unlabelled if kind == "labelled" else unlabelled & (own != cells.labels)


def with_labels(kind):
    "`contrast_cells` with other labels."
    make = dgcl.contrast_cells

    def contrast_cells(batch, labels, outs, *rest):
        cells = make(batch, labels, outs, *rest)
        own = torch.cat([o.logits.detach().argmax(1).flatten() for o in (outs[0], outs[-1])])
        num_labelled = outs[0].feats[:, 0].numel()
        wrong = wrong_cells(kind, cells, own, num_labelled)
        return cells._replace(labels=cells.labels.masked_fill(wrong, IGNORE_INDEX))

    return contrast_cells


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in KINDS:
        sys.exit(f"{__doc__}\nerror: the first word must be one of {', '.join(KINDS)}")
    dgcl.contrast_cells = with_labels(sys.argv[1])
    main(["--method", "dgcl", *sys.argv[2:]])
