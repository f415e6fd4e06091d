"""Is it wrong labels that keep the contrast from helping? DGCL with labels in its contrast that no user has.

    python results/whose_labels.py truth --preset digits-tune --seed 0    # flags follow, as of dgcl_nb.train

truth     unlabelled cells with a wrong pseudo-label are left out (nobody could know them: an upper bound)
given     unlabelled cells have their true class, those that the filter dropped too: the highest upper bound
labelled  only cells of labelled images take part
agreed    only cells whose pseudo-label is also the student's own prediction
Everything else, the loss on pseudo-labels included, stays as it is. `make_oracle.py` makes a table of such
runs; LOG.md has what came out of the others.
"""

import sys

import torch

from dgcl_nb.core import IGNORE_INDEX
from dgcl_nb.methods import dgcl
from dgcl_nb.train import main

KINDS = ("truth", "given", "labelled", "agreed")


def labels_of(kind, cells, own, num_labelled):
    "Labels (N,) int64 of the contrast; `own` (N,) is what the student predicts; labelled images first."
    unlabelled = torch.arange(len(own)) >= num_labelled
    if kind == "given":
        return torch.where(unlabelled, cells.truth, cells.labels)
    wrong = dict(truth=cells.truth != cells.labels, labelled=unlabelled, agreed=own != cells.labels)[kind]
    return cells.labels.masked_fill(unlabelled & wrong, IGNORE_INDEX)


def with_labels(kind):
    "`contrast_cells` with other labels."
    make = dgcl.contrast_cells

    def contrast_cells(batch, labels, outs, *rest):
        cells = make(batch, labels, outs, *rest)
        own = torch.cat([o.logits.detach().argmax(1).flatten() for o in (outs[0], outs[-1])])
        num_labelled = outs[0].feats[:, 0].numel()
        return cells._replace(labels=labels_of(kind, cells, own, num_labelled))

    return contrast_cells


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in KINDS:
        sys.exit(f"{__doc__}\nerror: the first word must be one of {', '.join(KINDS)}")
    dgcl.contrast_cells = with_labels(sys.argv[1])
    main(["--method", "dgcl", *sys.argv[2:]])
