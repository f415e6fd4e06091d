"""Every setting of every method with every hostile value, by hand and at full size.

    python tests/fuzz_settings.py                 parse all of them (some 29 000 command lines)
    python tests/fuzz_settings.py --runs 400      and train what was accepted, two steps each, up to so many
    python tests/fuzz_settings.py --seed 1        in another order

Prints what the cases came to and each failure; status 1 if any ended in anything but a run or a sentence.
"""

import argparse
import collections
import contextlib
import io
import random
import sys
import tempfile
import time
from pathlib import Path

from helpers import few_images, tiny_run
from hostile import HOSTILE_WORDS, outcome, settings_of, words_for
from sync_gate import ROOT

from dgcl_nb import engine
from dgcl_nb.config import METHODS, Run
from dgcl_nb.core import InputError
from dgcl_nb.processes import RunFailed
from dgcl_nb.settings import setting_of

SLOW = 60
"Seconds after which a case counts as a hang."


def parse(method, name, words):
    "(what it came to, the run or None)."
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            found = outcome(words_for(method, name, words), ROOT / "tests")
    except SystemExit as e:
        return ("refused by the parser" if e.code == 2 and said.getvalue().strip() else "silent exit"), None
    except Exception as e:
        return f"traceback: {type(e).__name__}: {e}"[:200], None
    return ("accepted", found) if isinstance(found, Run) else ("InputError", None)


def train(method, name, run):
    "What two steps of a tiny run with the accepted value come to."
    if name in ("device", "out", "init_from", "dry_run", "steps") or name.startswith("data."):
        return "not trained"
    with tempfile.TemporaryDirectory() as folder:
        start = {} if "sup_only" in name else dict(loop__sup_only_fraction=0.5)
        value = {name.replace(".", "__"): setting_of(run, name)}
        try:
            engine.fit(
                tiny_run(method, **dict(steps=2, out=Path(folder, "run")) | start | value), callbacks=[]
            )
        except InputError:
            return "InputError while building"
        except RunFailed:
            return "not finite, and said so"
        except Exception as e:
            return f"traceback: {type(e).__name__}: {e}"[:200]
        return "trained"


def main():
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    asked.add_argument("--runs", type=int, default=0)
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--limit", type=int, default=0, help="cases, at most; 0: all")
    args = asked.parse_args()
    engine.build_data = few_images
    every = [(m, name, words) for m in METHODS for name, *_ in settings_of(m) for words in HOSTILE_WORDS]
    random.Random(args.seed).shuffle(every)
    counts, left, failures = collections.Counter(), args.runs, []
    for method, name, words in every[: args.limit or None]:
        began = time.monotonic()
        found, run = parse(method, name, words)
        if run is not None and left:
            found, left = train(method, name, run), left - 1
        if time.monotonic() - began > SLOW:
            found = f"hang: {time.monotonic() - began:.0f} s"
        counts[found.partition(":")[0]] += 1
        if found.startswith(("traceback", "hang", "silent")):
            failures.append((method, name, [w[:20] for w in words[:4]], found))
            print(*failures[-1], flush=True)
    print(f"{sum(counts.values())} cases, seed {args.seed}:", dict(counts))
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
