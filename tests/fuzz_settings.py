"""Every setting with every hostile value, by hand and at full size.

    python tests/fuzz_settings.py --write         parse each setting x value, with a method drawn by the seed
    python tests/fuzz_settings.py --minutes 30    as many of them as that takes
    python tests/fuzz_settings.py --all           with every method that has it (some 29 000 command lines)
    python tests/fuzz_settings.py --runs 400      and train what was accepted, two steps each, up to so many
    python tests/fuzz_settings.py --seed 1        other methods, in another order

Prints what the cases came to and each failure; status 1 if any ended in anything but a run or a sentence.
`--write` puts the figures into results/fuzz.md.
"""

import argparse
import collections
import contextlib
import io
import math
import random
import sys
import tempfile
import time
from pathlib import Path

from fuzz_table import KINDS, write_row
from helpers import few_images, tiny_run
from hostile import HOSTILE_WORDS, outcome, settings_of, words_for
from sync_gate import ROOT

from dgcl_nb import engine
from dgcl_nb.config import METHODS, Run
from dgcl_nb.core import InputError, peak_rss_mb
from dgcl_nb.processes import RunFailed
from dgcl_nb.settings import setting_of

SLOW = 60
"Seconds after which a case counts as a hang."
MEMORY_MB = 2048
"More than this may no case take on top of what the process had."


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


KIND_OF = {
    **dict.fromkeys(("accepted", "trained", "not trained"), "runs"),
    **dict.fromkeys(("refused by the parser", "InputError", "InputError while building"), "InputErrors"),
    **{"not finite, and said so": "InputErrors", "hang": "hangs", "memory": "memory over 2 GB"},
    **dict.fromkeys(("traceback", "silent exit"), "bare exceptions"),
}
"What a case came to -> its column of results/fuzz.md."


def cases_of(seed, is_all):
    "(method, setting, words after its flag) of each case, in an order of the seed's."
    rng = random.Random(seed)
    having = collections.defaultdict(list)
    for method in METHODS:
        for name, *_ in settings_of(method):
            having[name].append(method)
    pairs = [
        (m, name, words)
        for name, methods in having.items()
        for words in HOSTILE_WORDS
        for m in (methods if is_all else [rng.choice(methods)])
    ]
    rng.shuffle(pairs)
    return pairs


def came_to(method, name, words, trains):
    "What a case comes to, in the words of KIND_OF; whether it trained."
    began, memory = time.monotonic(), peak_rss_mb()
    found, run = parse(method, name, words)
    is_trained = run is not None and trains
    if is_trained:
        found = train(method, name, run)
    if time.monotonic() - began > SLOW:
        found = f"hang: {time.monotonic() - began:.0f} s"
    if peak_rss_mb() - memory > MEMORY_MB:
        found = f"memory: {peak_rss_mb() - memory:.0f} MB more"
    return found, is_trained


def main():
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    asked.add_argument("--runs", type=int, default=0)
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--limit", type=int, default=0, help="cases, at most; 0: all")
    asked.add_argument("--minutes", type=float, default=math.inf)
    asked.add_argument("--all", action="store_true", help="each setting with each of its methods")
    asked.add_argument("--write", action="store_true", help="the row of results/fuzz.md")
    args = asked.parse_args()
    engine.build_data = few_images
    counts, left, failures, began = collections.Counter(), args.runs, [], time.time()
    for method, name, words in cases_of(args.seed, args.all)[: args.limit or None]:
        if time.time() > began + 60 * args.minutes:
            break
        found, is_trained = came_to(method, name, words, left > 0)
        left -= is_trained
        counts[found.partition(":")[0]] += 1
        if KIND_OF[found.partition(":")[0]] not in KINDS[:2]:
            failures.append(f"{method}, {name}, {[w[:20] for w in words[:4]]}: {found}")
            print(failures[-1], flush=True)
    print(f"{sum(counts.values())} cases, seed {args.seed}:", dict(counts))
    if args.write:
        kinds = collections.Counter()
        for found, times in counts.items():
            kinds[KIND_OF[found]] += times
        command = " ".join(["python tests/fuzz_settings.py", *(a for a in sys.argv[1:] if a != "--write")])
        row = "settings, all methods" if args.all else "settings"
        write_row(f"{row}, trained" if args.runs else row, command, kinds, failures, args.seed, began)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
