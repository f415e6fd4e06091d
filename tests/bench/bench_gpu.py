"""What a GPU makes of a full-size run: the step and its parts, waits, images a second, memory, density.

    python tests/bench/bench_gpu.py [--device auto] [--quick] [--seconds 330] [--out results]

`make gpu-check` runs it. Networks start at random and images are patches of colour: no data and no download
is needed. Steps are those of the preset voc-732 (ResNet-101, 513 pixels, 4 + 4 images), in the middle of its
schedule, with a full bank. What takes longer than --seconds is not begun any more, and the report says so.

Without a GPU nothing is measured: gpu.md says that none was at hand, or keeps an earlier machine's figures.
`--device cpu --quick` runs everything in a tiny form on the CPU, to see that it runs; its figures mean
nothing.

Goals: DGCL's own part (density, sampling, contrast, bank) at most 7 % of its step; density at least 35 % of
the speed of the bare TF32 product of 16 384 x 10 000 x 256."""

import datetime
import functools
import gc
import itertools
import json
import tempfile
import time
import warnings
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import torch
import torch.nn.functional as F
from bench_density import command_line, table
from bench_step import CONTRAST, PARTS, REST, fill_bank, medians, step_of, timed_step, wait_for

from dgcl_nb.batch_colours import recolour_batch
from dgcl_nb.batches import Batch, draw_mixes
from dgcl_nb.config import environment, parse_run
from dgcl_nb.core import generator_for, peak_gpu_mb
from dgcl_nb.density import multi_scale_density
from dgcl_nb.engine import start_training
from dgcl_nb.processes import Control
from dgcl_nb.run_folder import RunFolder, write_atomic
from dgcl_nb.views import ViewConfig, draw_colours, normalize

NAME = "gpu"
NUM_CLASSES, CLASSES_OF_A_BATCH, UNLABELLED = 21, 5, 9850
OWN_GOAL, DENSITY_GOAL = 7.0, 35.0
SETTLED = "--loop.sup_only_fraction 0 --optim.total_batch 0 --optim.lr_batch 0 --optim.lr 0.0001".split()
TINY = "--model.encoder resnet18 --views.crop 65 --model.decoder_channels 32 --model.proj_dim 32".split()
TINY_BANK = "--dgcl.bank.size 60 --dgcl.bank.min_fill 10 --dgcl.bank.max_new_per_class 20".split()
STEPS = (
    ("supervised, bf16", "supervised", "--loop.precision bf16"),
    ("self_training, bf16", "self_training", "--loop.precision bf16"),
    ("dgcl, bf16", "dgcl", "--loop.precision bf16"),
    ("dgcl, TF32", "dgcl", "--loop.precision no --loop.tf32 on"),
    ("dgcl, float32", "dgcl", "--loop.precision no --loop.tf32 off"),
    ("dgcl, bf16, 16 + 16 images", "dgcl", "--loop.precision bf16 --batch.labelled 16 --batch.unlabelled 16"),
)
"What is shown, the method, and its flags."
SIZES = dict(full=(16_384, 10_000, 256), quick=(200, 300, 32))
"Queries, entries and channels of the density."


# ------------------------------------------------------------------------------------------ steps


def patches(num, side, seed):
    "Images of patches, each class a colour, and their targets, as bytes: a few classes beside background."
    gen, cells = generator_for("gpu", seed), 12
    grid = torch.randint(0, CLASSES_OF_A_BATCH + 1, (num, 1, cells, cells), generator=gen)
    targets = F.interpolate(grid.float(), (side, side), mode="nearest")[:, 0].byte()
    colours = torch.randint(0, 255, (NUM_CLASSES, 3), generator=generator_for("gpu colours"))
    images = colours[targets.long()].permute(0, 3, 1, 2).float()
    noise = 12 * torch.randn(images.shape, generator=gen)
    return (images + noise).clamp(0, 255).byte(), targets


def made_batch(run, method, step):
    "A batch of bytes, as the loader hands it over."
    b, side = run.batch, run.views.crop
    images_l, targets_l = patches(b.labelled, side, 2 * step)
    images_u, truth_u = patches(b.unlabelled, side, 2 * step + 1)
    return Batch(
        images_l=images_l,
        targets_l=targets_l,
        ids_l=[""] * b.labelled,
        images_u_w=images_u,
        images_u_s=[images_u] * method.views.strong,
        valid_u=torch.ones_like(truth_u, dtype=torch.bool),
        truth_u=truth_u,
        ids_u=[""] * b.unlabelled,
        mixes=draw_mixes(b.unlabelled, run.views, method.views, run.seed, step),
    )


def numbers_of(batches, run, device):
    "Without end: the batches as a loader for that device gives them."
    for batch in itertools.cycle(batches):
        yield batch.to(device).numbers(run.views.mean, run.views.std)


def open_training(args, method, flags):
    "A run in the middle of its schedule, without a data set, and its loader."
    words = ["--preset", "voc-732", "--method", method, "--model.pretrained", "none", "--device", args.device]
    tiny = [*TINY, *(TINY_BANK if method == "dgcl" else ())] if args.quick else []
    run = parse_run([*words, *SETTLED, *tiny, *flags.split()])
    data = SimpleNamespace(unlabelled=range(UNLABELLED), num_classes=NUM_CLASSES, background=0)
    with patch("dgcl_nb.engine.build_data", lambda run: data):
        t = start_training(run, RunFolder(tempfile.mkdtemp()).create(), Control())
    t.step = run.steps // 2
    device = t.accelerator.device
    batches = [made_batch(run, t.method, step) for step in range(3)]
    if device.type == "cuda":
        batches = [batch.pin_memory() for batch in batches]
    return t, numbers_of(batches, run, device)


def milliseconds(device, call, repeats, warm=3):
    "Of one call, many of them queued one after the other."
    for _ in range(warm):
        call()
    wait_for(device)
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    wait_for(device)
    return 1e3 * (time.perf_counter() - start) / repeats


def count_waits(device, call):
    "How often the host waits for the device in a call, and where, as torch reports it; None without a GPU."
    if device.type != "cuda":
        return None
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            call()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    found = [w for w in seen if "synchronizing CUDA operation" in str(w.message)]
    return [f"{Path(w.filename).name}:{w.lineno}" for w in found]


def time_step(args, name, method, flags):
    "A row of the table of steps."
    t, loader = open_training(args, method, flags)
    device, repeats = t.accelerator.device, 2 if args.quick else 10

    def call():
        step_of(t, loader)

    call()
    if method == "dgcl":
        fill_bank(t.method.bank)
    ms = milliseconds(device, call, repeats, warm=1 if args.quick else 3)
    parts = medians([timed_step(t, loader)[0] for _ in range(2 if args.quick else 6)])
    waits = count_waits(device, call)
    images = t.run.batch.labelled + t.run.batch.unlabelled * t.method.needs_unlabelled
    own = parts[CONTRAST] + parts["bank"]
    return dict(
        step=name,
        ms=ms,
        images_per_second=1e3 * images / ms,
        peak_gib=(peak_gpu_mb(device) or 0) / 1024,
        waits=None if waits is None else len(waits),
        waits_where=waits,
        own_percent=100 * own / parts["total"],
        parts={part: 1e3 * parts[part] for part in (*PARTS, REST)},
    )


# ------------------------------------------------------------------------------- density and colours


@contextmanager
def tf32(is_on):
    "Inside, float32 products round their factors to TF32, or do not."
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = is_on
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def clustered(num, channels, device):
    "Unit rows in clusters, behind a ReLU, as features are."
    centres = torch.randn(40, channels, device=device).relu()
    rows = centres[torch.randint(40, (num,), device=device)] + 0.6 * torch.randn(num, channels, device=device)
    return F.normalize(rows.relu(), dim=1)


def time_density(args, device):
    "Rows: the density and bare products of the same size."
    torch.manual_seed(0)
    n, m, d = SIZES["quick" if args.quick else "full"]
    feats, bank = clustered(n, d, device), clustered(m, d, device)
    half = feats.bfloat16(), bank.bfloat16().T
    there = torch.empty(n, m, device=device)
    product = functools.partial(torch.mm, feats, bank.T, out=there)
    density = functools.partial(multi_scale_density, feats, bank, normalized=True)
    variants = [
        ("product, bf16", True, functools.partial(torch.mm, *half)),
        ("product, TF32", True, product),
        ("product, float32", False, product),
        ("density, TF32", True, density),
        ("density, float32", False, density),
    ]
    rows = []
    for name, is_on, call in variants:
        with tf32(is_on):
            ms = milliseconds(device, call, 2 if args.quick else 20)
        rows.append(dict(what=name, ms=ms, tflops=2 * n * m * d / ms / 1e9))
    fastest = rows[1]["ms"]
    for row in rows:
        row["share"] = 100 * fastest / row["ms"]
    with tf32(False):
        exact = density()
    with tf32(True):
        error = (density() - exact).abs().max().item()
    return dict(size=[n, m, d], rows=rows, error_of_tf32=error)


def time_colours(args, device):
    "Milliseconds of the strong views of a batch on the device, and of numbers made of them; waits."
    side, num = (65, 2) if args.quick else (513, 8)
    cfg = ViewConfig(crop=side)
    torch.manual_seed(0)
    colours = [draw_colours(cfg) for _ in range(num)]
    images = patches(num, side, 0)[0].to(device)
    repeats = 2 if args.quick else 30
    change = functools.partial(recolour_batch, images, colours)
    return dict(
        images=num,
        side=side,
        colours_ms=milliseconds(device, change, repeats),
        numbers_ms=milliseconds(device, lambda: normalize(images, cfg.mean, cfg.std), repeats),
        waits=count_waits(device, change),
    )


# ------------------------------------------------------------------------------------------ report


class Clock:
    "What is still to be measured, as long as there is time."

    def __init__(self, seconds):
        self.until, self.left_out = time.perf_counter() + seconds, []

    def measure(self, name, call):
        "What `call` gives; None, and a note, where the time is up or the memory too small."
        if time.perf_counter() > self.until:
            self.left_out.append(f"{name}: no time was left")
            return None
        try:
            return call()
        except torch.cuda.OutOfMemoryError:
            self.left_out.append(f"{name}: the memory is too small")
            return None
        finally:
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()


def where_of(args, device):
    "What the figures depend on."
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU: the CPU, in a tiny form"
    today = datetime.date.today().isoformat()
    return dict(date=today, card=card, cuda=torch.version.cuda or "none") | environment()


def shown_steps(rows):
    "Two tables: the steps, and where their time goes."
    cells = [row | dict(waits="-" if row["waits"] is None else str(row["waits"])) for row in rows]
    columns = {"step": "s", "ms": ".1f", "images_per_second": ".1f", "peak_gib": ".1f", "waits": ">1"}
    text = table(cells, columns | {"own_percent": ".1f"})
    split = [dict(step=row["step"]) | row["parts"] for row in rows]
    return (
        text
        + "\n\nMilliseconds of each part (measured with a wait after each, so their sum is more):\n\n"
        + table(split, {"step": "s"} | dict.fromkeys((*PARTS, REST), ".1f"))
    )


def goal_line(name, found, goal, is_least):
    "A goal beside what was found."
    is_met = found >= goal if is_least else found <= goal
    words = "at least" if is_least else "at most"
    return f"- {name}: **{found:.1f} %**, goal {words} {goal:.0f} %: {'met' if is_met else 'missed'}"


def report(data):
    "The Markdown of all figures."
    where = ", ".join(f"{k} {v}" for k, v in data["where"].items())
    parts = [f"# On a GPU\n\n`make gpu-check`: {where}"]
    goals = [row for row in data["steps"] if row["step"] == "dgcl, bf16"]
    lines = [goal_line("DGCL's own part of its step", r["own_percent"], OWN_GOAL, False) for r in goals]
    if density := data["density"]:
        share = next(r["share"] for r in density["rows"] if r["what"] == "density, TF32")
        lines.append(goal_line("density beside the bare TF32 product", share, DENSITY_GOAL, True))
    parts += ["\n".join(lines)] if lines else []
    if data["steps"]:
        parts += ["## Steps of voc-732", shown_steps(data["steps"])]
    if density:
        n, m, d = density["size"]
        columns = {"what": "s", "ms": ".2f", "tflops": ".1f", "share": ".0f"}
        parts += [f"## Density, {n} x {m} x {d}", table(density["rows"], columns)]
        parts.append(
            "`share`: speed in per cent of the TF32 product's. "
            f"TF32 moves a density by at most {density['error_of_tf32']:.1e}."
        )
    if colours := data["colours"]:
        waits = "-" if colours["waits"] is None else len(colours["waits"])
        size = f"{colours['images']} images of {colours['side']} x {colours['side']}"
        parts.append(
            f"## Colours on the device\n\n{size}: strong views {colours['colours_ms']:.2f} ms, "
            f"numbers {colours['numbers_ms']:.2f} ms, waits {waits}"
        )
    parts += ["Not measured: " + "; ".join(data["left_out"])] if data["left_out"] else []
    return "\n\n".join(parts) + "\n"


NONE_LENT = """# On a GPU

`make gpu-check`: no GPU was at hand so far, so nothing is measured here. With one, this command writes the
step of voc-732 and its parts, waits, images a second, peak memory, and the density beside the bare product.
"""


def say_none(out):
    "Without a GPU: keep the figures of an earlier one, or say that there are none."
    path = Path(out, f"{NAME}.md")
    if path.is_file():
        return f"no GPU here: {path} stays as it is"
    Path(out).mkdir(parents=True, exist_ok=True)
    write_atomic(path, NONE_LENT)
    return NONE_LENT


def measure(args):
    "All figures."
    device = torch.device(args.device)
    clock = Clock(args.seconds)
    steps = [clock.measure(name, lambda s=(name, *more): time_step(args, *s)) for name, *more in STEPS]
    density = clock.measure("density", lambda: time_density(args, device))
    colours = clock.measure("colours", lambda: time_colours(args, device))
    found = dict(steps=[row for row in steps if row], density=density, colours=colours)
    return dict(where=where_of(args, device)) | found | dict(left_out=clock.left_out)


def main(words=None):
    parser = command_line(__doc__)
    parser.add_argument("--device", default="auto", help="auto (a GPU, or nothing is measured), cuda, cpu")
    parser.add_argument("--quick", action="store_true", help="the tiny form: to see that it runs")
    parser.add_argument("--seconds", type=float, default=330, help="then nothing more is begun (default 330)")
    args = parser.parse_args(words)
    if args.device == "auto" and not torch.cuda.is_available():
        print(say_none(args.out))
        return
    args.device = "cuda" if args.device == "auto" else args.device
    data = measure(args)
    text = report(data)
    Path(args.out).mkdir(parents=True, exist_ok=True)
    write_atomic(Path(args.out, f"{NAME}.json"), json.dumps(data, indent=1) + "\n")
    write_atomic(Path(args.out, f"{NAME}.md"), text)
    print(text)


if __name__ == "__main__":
    main()
