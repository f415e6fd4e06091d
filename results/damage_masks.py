r"""A data set with damaged masks, in the layout of a folder of one's own: the truth for an audit.

    python results/damage_masks.py --preset neu-308 --kind mixture --share 0.1 --out damaged/neu

Writes OUT/images, OUT/masks (labelled and val), OUT/more_masks (of unlabelled images that have a mask), the
three lists, classes.txt, and the truth: OUT/truth.csv names every damaged region, OUT/clean holds the clean
masks of the damaged images. The same share of labelled and of unlabelled images is damaged; val stays clean,
and so does the source. Settings behind the flags go to the preset: --data.root says where its data lie. Then:

    python -m dgcl_nb.train --preset neu-308 --data.name folder --data.root damaged/neu --data.lists '' \
        --data.num_labelled 250                 # its default: the folder has lists of its own
"""

import argparse
import sys
from dataclasses import replace

from dgcl_nb.config import parse_run
from dgcl_nb.core import InputError
from dgcl_nb.data.damage import KINDS, MIXTURE, write_damaged
from dgcl_nb.data.sets import open_data


def damage_preset(preset, kind, share, seed, out, more=()):
    "Write the data of a preset with damaged masks, at the size of its files."
    data = open_data(replace(parse_run(["--preset", preset, *more]).data, shrink=1))
    return write_damaged(data, out, share, kind, seed)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", required=True, help="whose data, and which images are labelled")
    parser.add_argument("--kind", choices=(*KINDS, MIXTURE), default=MIXTURE)
    parser.add_argument("--share", type=float, default=0.1, help="of the images that is damaged, in (0, 1]")
    parser.add_argument("--seed", type=int, default=0, help="which images, and how")
    parser.add_argument("--out", required=True, help="folder of the damaged data set, which must be new")
    asked, more = parser.parse_known_args()
    try:
        found = damage_preset(asked.preset, asked.kind, asked.share, asked.seed, asked.out, more)
    except InputError as e:
        sys.exit(f"error: {e}")
    print(f"{len(found)} masks damaged in {asked.out}; which ones: {asked.out}/truth.csv")


if __name__ == "__main__":
    main()
