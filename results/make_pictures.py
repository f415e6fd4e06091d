"""The picture of README.md, from the last snapshots of two finished runs.

python results/make_pictures.py [SELF_TRAINING_RUN] [DGCL_RUN]
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt

from dgcl_nb.core import IGNORE_INDEX
from dgcl_nb.snapshots import load_snapshot

ROOT = Path(__file__).resolve().parent.parent
NUM_IMAGES = 6


def picture(baseline: str, dgcl: str, path: Path) -> None:
    "One column a scene: image, truth, two predictions, density."
    old, new = load_snapshot(baseline), load_snapshot(dgcl)
    assert old.image_id == new.image_id, "the two runs show different images"

    def colour(labels):
        colours = new.palette[labels.clip(max=len(new.palette) - 1)]
        return colours * (labels != IGNORE_INDEX)[..., None]

    rows = {
        "image": new.image,
        "truth": colour(new.target),
        "self-training": colour(old.prediction),
        "DGCL": colour(new.prediction),
        "density": new.density.astype("float32"),
    }
    n = min(NUM_IMAGES, len(new.image))
    fig, axs = plt.subplots(len(rows), n, figsize=(1.1 * n + 0.6, 1.1 * len(rows)), dpi=80)
    low, high = rows["density"][:n].min(), rows["density"][:n].max()
    for line, (name, maps) in zip(axs, rows.items()):
        for ax, one in zip(line, maps):
            shown = ax.imshow(one, **(dict(vmin=low, vmax=high, cmap="viridis") if name == "density" else {}))
            ax.set_xticks([])
            ax.set_yticks([])
        line[0].set_ylabel(name, fontsize=8)
    fig.tight_layout(pad=0.3)
    bar = fig.colorbar(shown, ax=axs[-1].tolist(), fraction=0.02, pad=0.01)
    bar.ax.tick_params(labelsize=6)
    fig.savefig(path, bbox_inches="tight")


if __name__ == "__main__":
    runs = (
        sys.argv[1:3]
        if len(sys.argv) > 2
        else [str(ROOT / f"runs/digits-{m}-s0") for m in ("self_training", "dgcl")]
    )
    picture(*runs, ROOT / "results" / "digits.png")
