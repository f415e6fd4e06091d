"""How much of an evaluation, and of a prediction, is the network's own passes.

    python tests/bench/bench_evaluation.py [--presets digits neu-77 camvid-46 voc-732] [--images 96]
                                           [--rounds 5] [--out results] [--quick]

Four things are timed on the same images of val, one thread, one process, an untrained network (its weights
take the same time): the *bare* passes of the network over batches that are there, without the projection,
which nothing here needs; `evaluate`, from the files to the mIoU; `predict_files`, from the files to files of
class numbers and confidence; and *enlarged*, of which more below. Their order is drawn anew in each round, so
that none always finds the caches that another one left. What disturbs one disturbs all, and medians of the
ratios within a round count. VOC's images are made up, in the size of its photographs, and few, as its network
is large; processes that read are started once for all images, of which VOC's val has 1449.

The bare passes end where the network does, at a quarter of the image's side. Class scores have to be enlarged
whoever scores them, as the last layer of a decoder in the papers; by the letter that is no pass, and the goal
is held against the letter. A second figure, *from enlarged*, has these passes with the enlargement alone,
in the same parts, as its reference: what it leaves is labels, confidence, counts, reading and writing.

Two clocks: that of the *thread* that computes, on which others' work does not count, and which says what
remains where reading and writing have a core of their own; and real time (*wall*), which counts only from an
idle machine. The whole *process* stands beside: reading and writing too take a processor.

Goal: at least 90 % of the bare passes' speed, by the thread's clock."""

import random
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from bench_density import command_line, machine, save, table
from bench_loader import KINDS, write_files
from PIL import Image
from torch.utils.data import Subset

from dgcl_nb.config import build_data, build_method, environment, parse_run
from dgcl_nb.evaluation import equal_sized_batches, evaluate, sizes_vary, to_network
from dgcl_nb.machine import keep_freed_memory
from dgcl_nb.predict import predict_files
from dgcl_nb.trained import Trained
from dgcl_nb.windows import enlarged_parts

GOAL = 90.0
MADE_UP = "voc-732"
MADE_UP_IMAGES = 32
"Each takes the deep network a third of a second; of 8, a tenth of the time was the start of the readers."
PRESETS = ["digits", "neu-77", "camvid-46", MADE_UP]
WORKS = ("evaluate", "predict")
CLOCKS = dict(thread=time.thread_time, process=time.process_time, wall=time.perf_counter)


def timed(work):
    "Seconds by each clock."
    start = {name: clock() for name, clock in CLOCKS.items()}
    work()
    return {name: clock() - start[name] for name, clock in CLOCKS.items()}


def images_like_vocs(num, place):
    "A data set of made-up photographs in the size of VOC's, all of them in val."
    data = write_files(place, replace(KINDS[0], images=num))
    return replace(data, val=data.labelled)


class Subject:
    "A network of a preset, some images of val, and what is timed on them."

    def __init__(self, preset, num, place):
        words = ["--preset", preset, "--method", "self_training", "--device", "cpu"]
        self.run, self.place = parse_run([*words, "--model.pretrained", "none"]), Path(place)
        is_made_up = preset == MADE_UP
        self.data = images_like_vocs(2 * num, self.place / "voc") if is_made_up else build_data(self.run)
        self.device = torch.device("cpu")
        method = build_method(self.run, self.data.num_classes, self.data.background)
        self.network = next(iter(method.scored().values())).eval()
        self.val = Subset(self.data.val, range(min(num, len(self.data.val))))
        self.times = 0
        (self.place / "images").mkdir()
        for i in range(len(self.val)):
            pixels = self.val[i]["image"].permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(self.place / "images" / f"{i:04d}.png")
        views, self.channels_last = self.run.views, self.run.model.channels_last
        self.look = views.mean, views.std, self.channels_last
        batches = equal_sized_batches((self.val[i] for i in range(len(self.val))), self.run.eval.batch_size)
        self.batches = [to_network(batch, self.device, *self.look) for batch in batches]

    @torch.no_grad()
    def bare(self):
        with sizes_vary():
            for images in self.batches:
                self.network(images, with_proj=False)

    @torch.no_grad()
    def enlarged(self):
        "The bare passes, and the enlargement of their scores, of which nothing is read."
        with sizes_vary():
            for images in self.batches:
                logits = self.network(images, with_proj=False).logits
                for _ in enlarged_parts(logits, images.shape[-2:]):
                    pass

    def evaluate(self):
        evaluate(self.network, self.val, self.data.num_classes, self.run.eval, self.device, *self.look)

    def predict(self):
        self.times += 1
        images, out = self.place / "images", self.place / f"out-{self.times}"
        written = predict_files(self.trained(), images, out, ("index", "confidence"), cfg=self.run.eval)
        assert written.done == len(self.val)

    def trained(self):
        "The network as `predict` gets it from a run folder."
        return Trained(
            folder=self.place,
            run=self.run,
            networks=dict(student=self.network),
            predictor="student",
            class_names=self.data.class_names,
            palette=self.data.palette,
            weights="last",
            step=0,
            device=self.device,
        )


def share_of(rounds, reference, work, clock):
    "The speed of some work in per cent of another's, the median over the rounds."
    return 100 * statistics.median(r[reference][clock] / r[work][clock] for r in rounds)


def row_of(preset, args):
    "A row: milliseconds an image and shares of the bare speed, in per cent."
    with tempfile.TemporaryDirectory() as place:
        images = min(MADE_UP_IMAGES, args.images) if preset == MADE_UP else args.images
        subject, rounds, order = Subject(preset, images, place), [], random.Random(0)
        for _ in range(args.rounds + 1):  # the first one warms up
            turns = order.sample(("bare", "enlarged", *WORKS), 4)
            with subject.trained().autocast():  # as in training, and as a prediction does by itself
                rounds.append({work: timed(getattr(subject, work)) for work in turns})
        num = len(subject.val)
    bare = statistics.median(r["bare"]["thread"] for r in rounds[1:])
    row = dict(preset=preset, images=num, bare_ms=1e3 * bare / num)
    for work in WORKS:
        for clock in CLOCKS:
            row[f"{work} {clock}"] = share_of(rounds[1:], "bare", work, clock)
        row[f"{work} from enlarged"] = share_of(rounds[1:], "enlarged", work, "thread")
    print(row, flush=True)
    return row


NOTES = """
`bare_ms`: the network alone, an image, by the thread's clock. The others: its speed in per cent of that, of
an evaluation and of a prediction with two pictures an image, by the clock of the thread that computes, of the
process, and by real time. *From enlarged*: by the thread's clock, in per cent of passes whose class scores
are enlarged to the image and left; the goal is held against the bare passes, the stricter figure.

Goal: at least {goal:.0f} % by the thread's clock: {met} of {num}."""


def main():
    parser = command_line(__doc__, quick="16 images, 2 rounds")
    parser.add_argument("--presets", nargs="+", default=PRESETS)
    parser.add_argument("--images", type=int, default=96, help="of val, at most (default 96)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (default 5)")
    args = parser.parse_args()
    if args.quick:
        args.images, args.rounds = 16, 2
    torch.set_num_threads(1)
    keep_freed_memory()  # as the commands do
    here = machine()
    rows = [row_of(preset, args) for preset in args.presets]
    shares = [row[f"{work} thread"] for row in rows for work in WORKS]
    columns = {"preset": "s", "images": "d", "bare_ms": ".1f"}
    columns |= {f"{work} {what}": ".0f" for work in WORKS for what in (*CLOCKS, "from enlarged")}
    met = sum(share >= GOAL for share in shares)
    text = table(rows, columns) + "\n" + NOTES.format(goal=GOAL, met=met, num=len(shares))
    if args.quick:
        print(text)
        return
    data = dict(rows=rows, rounds=args.rounds, machine=here | environment())
    save("bench_evaluation", args.out, "Evaluation and prediction against bare passes", text, data)


if __name__ == "__main__":
    main()
