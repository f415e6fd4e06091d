"""Does it pay to choose what is annotated? Train, suggest, reveal the masks, train again, for every score.

    python results/make_suggest_trial.py --data FOLDER               both sets; writes results/SET/suggest*
    python results/make_suggest_trial.py --data FOLDER --steps 20    whether it goes: one seed, writes nothing

FOLDER holds neu_seg/ and camvid/ as published (by default the one that DGCL_NB_DATA names). Self-training
on 10 % of the labels, one draw with all classes in it that all scores and all seeds begin with; then each
score chooses up to 15 % and, with the network of its own choice, up to 20 %. Every run of a set has the
same steps, so it sees as many images: those of its preset on steel, 0.4 of them on streets, where mIoU
hardly rises after that. (Runs of 0.4 of the steps on steel do not tell: with 308 labels or with nearly all
of them they end alike, LOG.md.) All 76 runs take some ten hours of a core. Runs of one seed are paired.
What a score has chosen stands in results/SET/suggest/SCORE-sSEED-NUMBER.txt, so a run has the same name on
every machine: one that the store has is not made again, and an interrupted one goes on.
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from dgcl_nb.config import parse_run
from dgcl_nb.core import InputError
from dgcl_nb.data.sets import open_data
from dgcl_nb.data.splits import write_list
from dgcl_nb.forwards import count_forwards
from dgcl_nb.jobs import Job, Row, alone_in, check_folder, run_jobs
from dgcl_nb.plots import new_figure, svg_of
from dgcl_nb.run_folder import RunFolder, write_atomic
from dgcl_nb.store import Store, make_record
from dgcl_nb.suggest import images_of_run, rank_images
from dgcl_nb.suggestions import SCORES
from dgcl_nb.tables import Spread, markdown_table
from dgcl_nb.trained import open_trained

ROOT = Path(__file__).resolve().parent.parent
METHOD, BASELINE, FIRST = "self_training", "random", "drawn"


@dataclass(frozen=True)
class Plan:
    "One data set."

    data: str  # how its folder of results is called
    words: tuple[str, ...]  # of all its runs, beside the labelled images
    drawn: tuple[str, ...]  # by which the first labelled images are drawn
    listed: tuple[str, ...]  # beside a list of them
    numbers: tuple[int, ...]  # of labelled images, round by round
    scores: tuple[str, ...]  # that choose
    seeds: int  # of runs


PLANS = (
    # 10, 15 and 20 % of 3085, and of 367
    Plan(
        "neu_seg",
        ("--preset", "neu-308", "--loop.evaluations", "1"),
        (),
        ("--data.lists", "", "--data.num_labelled", "250"),
        (308, 463, 617),
        tuple(SCORES),
        5,
    ),
    Plan(
        "camvid",
        ("--preset", "camvid-46", "--steps", "800", "--loop.evaluations", "1"),
        ("--data.num_labelled", "37"),
        ("--data.lists", "", "--data.num_labelled", "250"),
        (37, 55, 73),
        ("density", "entropy", "random"),
        3,
    ),
)


@dataclass(frozen=True)
class Places:
    "Where the files of a trial lie."

    runs: Path  # run folders
    store: Store  # records of finished runs
    lists: Path  # what each score has chosen; its name is a part of the runs' keys


def job_of(plan: Plan, seed: int, places: Places, score: str = "", number: int = 0) -> Job:
    "The run of a round; without a score the first one, which all share."
    name = f"{score}-{number}" if score else f"{FIRST}-{plan.numbers[0]}"
    own = (
        ("--data.labelled", str(list_of(places, score, seed, number)), *plan.listed) if score else plan.drawn
    )
    words = (*plan.words, "--method", METHOD, *own, "--seed", str(seed))
    asked = parse_run(words)
    folder = RunFolder(places.runs / plan.data / f"{name}-s{seed}")
    return Job(Row(name, METHOD), seed, words, asked, folder, places.store.find(asked))


def list_of(places: Places, score: str, seed: int, number: int) -> Path:
    "The labelled images that a score has chosen, as a file."
    return places.lists / f"{score}-s{seed}-{number}.txt"


def finish(jobs: list[Job], places: Places, ask: argparse.Namespace) -> None:
    "Make the runs that nobody has made, and keep each as soon as it ends."

    def keep(job: Job) -> None:
        places.store.put(job.asked, make_record(job.asked, job.folder, count_forwards(job.asked), ask.jobs))

    for job in jobs:
        if check_folder(job) == "finished":  # before it was kept, somebody stopped
            keep(job)
    failed = run_jobs(jobs, ask.jobs, ask.threads, keep=keep)
    if failed:
        sys.exit("\n".join(f"{name}: {why}" for name, why in failed.items()))


def choose_list(before: Job, score: str, seed: int, number: int, places: Places, ask) -> None:
    "Let a score choose what is labelled next; the masks of what it names are there."
    if before.stored and not any(before.folder.checkpoints.glob("*.pt")):
        # its figures are known and its weights are not
        finish([replace(before, stored=None)], places, ask)
    trained = open_trained(before.folder.path, "last", ask.device)
    data = open_data(trained.run.data)
    wanted = number - len(data.labelled)
    chosen = rank_images(trained, data, images_of_run(data), wanted, score, seed).chosen
    ids = [*data.labelled.ids, *(measured.id for measured, _ in chosen)]
    write_list(list_of(places, score, seed, number), ids)
    print(f"{score}, seed {seed}: {len(chosen)} images chosen, {len(ids)} are labelled", flush=True)


def run_plan(plan: Plan, places: Places, ask: argparse.Namespace) -> dict:
    "All rounds of one data set: score -> number of labelled images -> mIoU of each seed."
    seeds = range(ask.first, ask.first + plan.seeds)
    rounds = {(score, plan.numbers[0]): [job_of(plan, s, places) for s in seeds] for score in plan.scores}
    finish(rounds[plan.scores[0], plan.numbers[0]], places, ask)
    for earlier, number in zip(plan.numbers, plan.numbers[1:]):
        for score in plan.scores:
            for seed, before in zip(seeds, rounds[score, earlier]):
                if not list_of(places, score, seed, number).exists():
                    choose_list(before, score, seed, number, places, ask)
            rounds[score, number] = [job_of(plan, seed, places, score, number) for seed in seeds]
        finish([job for score in plan.scores for job in rounds[score, number]], places, ask)
    found = {}
    for (score, number), jobs in rounds.items():
        records = [places.store.find(job.asked) for job in jobs]
        mious = [record["result"]["miou"][record["result"]["predictor"]] for record in records]
        found.setdefault(score, {})[number] = mious
    return found


def spread_of(values: list[float], digits: int = 1, sign: str = "") -> str:
    return Spread(tuple(values)).show(digits, sign=sign)


def lines_of(found: dict) -> tuple[list[str], list[list[str]]]:
    "The table: mIoU of each round, and the differences to chance of the same seeds."
    numbers = list(next(iter(found.values())))
    head = ["score", *(f"{n} labels" for n in numbers), *(f"{n}, to {BASELINE}" for n in numbers[1:])]
    lines = []
    for score, rounds in found.items():
        gaps = []
        for n in numbers[1:]:
            pairs = zip(rounds[n], found[BASELINE][n])
            gaps.append(spread_of([a - b for a, b in pairs], sign="+") if score != BASELINE else "")
        lines.append([score, *(spread_of(rounds[n]) for n in numbers), *gaps])
    return head, lines


def table_of(plan: Plan, found: dict) -> str:
    "The page of one data set."
    seeds = len(next(iter(found[BASELINE].values())))
    planned = f" of {plan.seeds} that are planned" if seeds < plan.seeds else ""
    about = (
        f"`python results/make_suggest_trial.py --sets {plan.data} --seeds {seeds}`: {METHOD}, "
        f"`{' '.join(plan.words)}`, {seeds} seed(s){planned}. "
        "mIoU of the predictor at the last step, on val; differences are paired over seeds. The first round "
        "is shared: one draw of labels with all classes in it, the same for every seed, so the spread is "
        "that of training and of what follows, and not of where one began."
    )
    explained = [f"- *{score}*: {SCORES[score]}" for score in found]
    parts = [f"# What to annotate next: {plan.data}", about, markdown_table(*lines_of(found))]
    return "\n\n".join([*parts, "\n".join(explained)]) + "\n"


def figure_of(found: dict):
    "mIoU against labels: means, and every seed."
    figure, panel = new_figure(3.6)
    for score, rounds in found.items():
        numbers = list(rounds)
        means = [sum(rounds[n]) / len(rounds[n]) for n in numbers]
        (line,) = panel.plot(numbers, means, "-", lw=2 if score == BASELINE else 1.2, label=score)
        for n in numbers[1:]:
            panel.plot([n] * len(rounds[n]), rounds[n], "o", ms=3, alpha=0.5, color=line.get_color())
    panel.set_xlabel("labelled images")
    panel.set_ylabel("mIoU, %")
    panel.set_xticks(numbers)
    panel.grid(lw=0.3)
    panel.legend(frameon=False)
    return figure


def write_results(plan: Plan, found: dict, folder: Path) -> None:
    "Table, numbers and plot of one data set."
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "suggest.md", table_of(plan, found))
    write_atomic(folder / "suggest.json", json.dumps(found, indent=1) + "\n")
    write_atomic(folder / "suggest.svg", svg_of(figure_of(found)))


def places_of(plan: Plan, ask: argparse.Namespace) -> Places:
    "Where a trial writes; lists and records of a whole one are committed."
    results = Path(ask.place) if ask.steps else Path("results")
    return Places(Path(ask.place) / "runs", Store(results / plan.data), results / plan.data / "suggest")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", default=os.environ.get("DGCL_NB_DATA"), help="folder of neu_seg/ and camvid/"
    )
    names = [plan.data for plan in PLANS]
    parser.add_argument("--sets", nargs="+", choices=names, default=names)
    parser.add_argument("--seeds", type=int, default=0, help="5 and 3; with --steps 1")
    parser.add_argument(
        "--first", type=int, default=0, help="seed to begin with; from 1 on no table is written"
    )
    parser.add_argument("--steps", type=int, default=0, help="so many instead of the presets', for trying")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of each run")
    parser.add_argument("--device", default="auto", help="where to compute")
    place = Path(tempfile.gettempdir()) / "dgcl_nb_suggest_trial"
    parser.add_argument("--place", default=place, help="where the runs go")
    ask = parser.parse_args()
    if not ask.data:
        parser.error("name the folder of the sets with --data, or in DGCL_NB_DATA")
    ask.place, root = Path(ask.place).absolute(), Path(ask.data).absolute()
    os.chdir(ROOT)  # names of lists, which are settings, are relative to it
    seeds = ask.seeds or (1 if ask.steps else 0)
    for plan in (plan for plan in PLANS if plan.data in ask.sets):
        words = (*plan.words, "--data.root", str(root / plan.data), "--device", ask.device)
        words += ("--steps", str(ask.steps), "--loop.evaluations", "1") if ask.steps else ()
        mine = replace(plan, words=words, seeds=seeds or plan.seeds)
        try:
            with alone_in(ask.place / "runs"):
                found = run_plan(mine, places_of(plan, ask), ask)
        except InputError as e:
            sys.exit(f"error: {e}")
        print(table_of(plan, found))
        if not ask.steps and not ask.first:
            write_results(plan, found, ROOT / "results" / plan.data)


if __name__ == "__main__":
    main()
