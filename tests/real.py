"""The real data sets, which are not shipped: `DGCL_NB_DATA` names the folder of camvid/ and neu_seg/."""

import os
from pathlib import Path

import pytest

DATA = os.environ.get("DGCL_NB_DATA")
needs_real = pytest.mark.skipif(
    not DATA, reason="DGCL_NB_DATA names no folder with camvid/ and neu_seg/; they are not shipped"
)


def linked(name, place):
    "A folder with links to the parts of a data set, so that nothing is written beside the originals."
    place.mkdir(parents=True, exist_ok=True)
    for part in (Path(DATA) / name).iterdir():
        if part.is_dir() and part.name != "class_sets":
            (place / part.name).symlink_to(part)
    return place
