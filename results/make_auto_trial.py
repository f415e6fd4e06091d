"""Does the proposal of `data check` carry? Two published sets, hidden, against presets made for them by hand.

    python results/make_auto_trial.py --data FOLDER                both sets, 3 seeds; writes results/auto/
    python results/make_auto_trial.py --data FOLDER --sets camvid  this set; the other's row stays as it is
    python results/make_auto_trial.py --data FOLDER --steps 20     whether it goes: one seed, writes nothing

FOLDER holds neu_seg/ and camvid/ as published (by default the one that DGCL_NB_DATA names). Each set is laid
out anew as a stranger's folder: ids and class names say nothing, only labelled and scored images have masks,
the lists are those of the preset. Then `data check --write`, then training with both presets and the same
seeds. Both are scored on the same masks, at the size of the files. A run that is finished is not repeated.
Flags after `--` are for every training, such as `-- --device cpu --loop.threads 1`.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from dgcl_nb.config import parse_run
from dgcl_nb.data.sets import LAYOUTS, DataConfig, open_data
from dgcl_nb.evaluate import evaluate_run
from dgcl_nb.run_folder import RunFolder, write_atomic
from dgcl_nb.trained import read_config

ROOT = Path(__file__).resolve().parent.parent
PRESETS = dict(neu_seg="neu-77", camvid="camvid-46")
"The sets, and the presets that were made for them by hand."
GOAL = 1.0
"Points of mIoU by which the proposal may lie below, mean over paired seeds."
FOR_TRYING = "--loop.evaluations 1 --loop.snapshots 1".split()


def hidden_id(name: str) -> str:
    "What an image is called where nobody knows it."
    return hashlib.sha256(f"hidden {name}".encode()).hexdigest()[:12]


def hide(preset: str, source: Path, place: Path) -> None:
    "A set in the layout of a folder of one's own; its images are links, its masks class numbers."
    cfg = parse_run(["--preset", preset, "--data.root", str(source)], place).data
    data = open_data(cfg)
    found = LAYOUTS[cfg.name.removesuffix("-tune")].find(source)
    for part in ("images", "masks"):
        (place / part).mkdir(parents=True, exist_ok=True)
    for kind in ("labelled", "unlabelled", "val"):
        ids = getattr(data, kind).ids
        files = found.files(ids, need_masks=kind != "unlabelled")
        for name in ids:
            image = files.image_of[name].resolve()
            link = place / "images" / f"{hidden_id(name)}{image.suffix}"
            if not link.exists():
                link.symlink_to(image)
            if kind != "unlabelled":
                target = files.read_target(name).astype(np.uint8)
                Image.fromarray(target).save(place / "masks" / f"{hidden_id(name)}.png")
        # sorted by what they are called here, so that no order tells of the old names
        (place / f"{kind}.txt").write_text("\n".join(sorted(map(hidden_id, ids))) + "\n")
    names = [f"class_{number}" for number in range(len(found.class_names))]
    (place / "classes.txt").write_text("\n".join(names) + "\n")


def call(*words: str, cwd: Path) -> None:
    "A command of the package, started in a folder."
    env = os.environ | dict(PYTHONPATH=str(ROOT))
    print("$ python -m", *words, flush=True)
    status = subprocess.run([sys.executable, "-m", *words], cwd=cwd, env=env).returncode
    if status:
        sys.exit(f"{words[0]} ended with status {status}; the same command goes on from what is there")


def miou_of(folder: Path, photos: Path) -> float:
    "mIoU of a run's predictor on the hidden val images, at the size of the files."
    run = read_config(folder)
    shrink = getattr(run.data, "shrink", 1)
    cfg = replace(run.eval, scales=tuple(scale / shrink for scale in run.eval.scales))
    scores = evaluate_run(folder, "last", data=DataConfig(name="folder", root=str(photos)), cfg=cfg)
    return next(row["miou"] for row in scores["networks"] if row["is_predictor"])


def compare(name: str, ask: argparse.Namespace) -> dict:
    "Both presets on one set: mIoU of each seed."
    home, source = Path(ask.place).absolute() / name, (Path(ask.data) / name).absolute()
    photos = home / "photos"
    if not (photos / "classes.txt").exists():
        hide(PRESETS[name], source, photos)
    if not (home / "settings.ini").exists():
        call("dgcl_nb.data", "check", "photos", "--write", "settings.ini", cwd=home)
    presets = dict(hand=["--preset", PRESETS[name], "--data.root", str(source)])
    presets |= dict(auto=["--preset", "auto", "--data.root", "photos"])
    few = ["--steps", str(ask.steps), *FOR_TRYING] if ask.steps else []
    found = {kind: [] for kind in presets}
    seeds = list(range(ask.first, ask.first + ask.seeds))
    for seed in seeds:
        for kind, words in presets.items():
            out = home / "runs" / f"{kind}-{ask.method}-{ask.steps or 'whole'}-s{seed}"
            own = ["--method", ask.method, "--seed", str(seed), "--out", str(out), "--resume", "True"]
            if not RunFolder(out).result.exists():
                call("dgcl_nb.train", *words, *own, "--loop.report", "False", *few, *ask.flags, cwd=home)
            found[kind].append(round(miou_of(out, photos), 2))
    steps = {kind: read_config(out.with_name(out.name.replace("auto", kind, 1))).steps for kind in presets}
    return dict(data=name, preset=PRESETS[name], method=ask.method, seeds=seeds, steps=steps, miou=found)


def table(rows: list[dict]) -> str:
    "The comparison as a page."
    lines = [
        "# Settings that were proposed, against settings made by hand",
        "",
        f"`python results/make_auto_trial.py`, {rows[0]['method']}: mIoU of the predictor at the last step,",
        "on val, at the size of the files.",
        "",
        "| set | preset | seeds | steps, by hand / proposed | by hand | proposed | difference, paired |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        hand, auto = (np.array(row["miou"][kind]) for kind in ("hand", "auto"))
        gap = auto - hand
        spread = f" ± {gap.std(ddof=1):.1f}" if len(gap) > 1 else ""
        steps = f"{row['steps']['hand']} / {row['steps']['auto']}"
        means = f"{hand.mean():.1f} | {auto.mean():.1f} | {gap.mean():+.1f}{spread}"
        seeds = ", ".join(map(str, row["seeds"]))
        lines.append(f"| {row['data']} | {row['preset']} | {seeds} | {steps} | {means} |")
    goal = all(np.mean(r["miou"]["auto"]) > np.mean(r["miou"]["hand"]) - GOAL for r in rows)
    said = "reached" if goal else "not reached"
    lines += ["", f"Goal, at most {GOAL:g} point below on each set: **{said}**."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", default=os.environ.get("DGCL_NB_DATA"), help="folder of neu_seg/ and camvid/"
    )
    parser.add_argument("--sets", nargs="+", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--method", default="dgcl")
    parser.add_argument("--seeds", type=int, help="how many, 3; with --steps 1")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument(
        "--steps", type=int, default=0, help="so many instead of the presets' own, for trying"
    )
    place = Path(tempfile.gettempdir()) / "dgcl_nb_auto_trial"
    parser.add_argument("--place", default=place, help="where the hidden sets and the runs go")
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    ask = parser.parse_args(words[:end], argparse.Namespace(flags=words[end + 1 :]))
    if not ask.data:
        parser.error("name the folder of the sets with --data, or in DGCL_NB_DATA")
    ask.seeds = ask.seeds or (1 if ask.steps else 3)
    row_of = {name: compare(name, ask) for name in ask.sets}
    if ask.steps:
        print(table(list(row_of.values())))
        return
    out = ROOT / "results" / "auto" / f"{ask.method}.json"
    out.parent.mkdir(exist_ok=True)
    before = json.loads(out.read_text()) if out.exists() else []
    row_of = {row["data"]: row for row in before} | row_of
    rows = [row_of[name] for name in PRESETS if name in row_of]
    print(table(rows))
    write_atomic(out, json.dumps(rows, indent=1) + "\n")
    write_atomic(out.with_suffix(".md"), table(rows))


if __name__ == "__main__":
    main()
