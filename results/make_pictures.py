"""The picture of README.md, from the last snapshots of two finished runs.

    python results/make_pictures.py [SELF_TRAINING_RUN] [DGCL_RUN]

A cell whose density is not known stays blank.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from dgcl_nb.core import IGNORE_INDEX
from dgcl_nb.snapshots import load_snapshot

ROOT = Path(__file__).resolve().parent.parent
RUNS = [ROOT / "runs" / f"digits-{method}-s0" for method in ("self_training", "dgcl")]
NUM_IMAGES = 6


def coloured(labels: np.ndarray, palette: np.ndarray) -> np.ndarray:
    "Classes (I, H, W) as colours (I, H, W, 3), black where there is none."
    known = labels != IGNORE_INDEX
    return palette[labels.clip(max=len(palette) - 1)] * known[..., None]


def picture(baseline: str | Path, dgcl: str | Path, path: Path) -> None:
    "One column a scene: image, truth, two predictions, density."
    old, new = load_snapshot(baseline), load_snapshot(dgcl)
    assert old.image_id == new.image_id, "the two runs show different images"
    rows = {
        "image": new.image,
        "truth": coloured(new.target, new.palette),
        "self-training": coloured(old.prediction, new.palette),
        "DGCL": coloured(new.prediction, new.palette),
        "density": new.density.astype("float32"),
    }
    n = min(NUM_IMAGES, len(new.image))
    fig, axs = plt.subplots(len(rows), n, figsize=(1.1 * n + 0.6, 1.1 * len(rows)), dpi=80)
    low, high = np.nanmin(rows["density"][:n]), np.nanmax(rows["density"][:n])
    for line, (name, maps) in zip(axs, rows.items()):
        scale = dict(vmin=low, vmax=high, cmap="viridis") if name == "density" else {}
        for ax, one in zip(line, maps):
            shown = ax.imshow(one, **scale)
            ax.set_xticks([])
            ax.set_yticks([])
        line[0].set_ylabel(name, fontsize=8)
    fig.tight_layout(pad=0.3)
    bar = fig.colorbar(shown, ax=axs[-1].tolist(), fraction=0.02, pad=0.01)
    bar.ax.tick_params(labelsize=6)
    fig.savefig(path, bbox_inches="tight")


if __name__ == "__main__":
    picture(*(sys.argv[1:3] if len(sys.argv) > 2 else RUNS), ROOT / "results" / "digits.png")
