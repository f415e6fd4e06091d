"""What a checkpoint of full size costs the thread that trains.

    python tests/bench/bench_checkpoint.py [--quick] [--repeats 3] [--out results]

The state is that of dgcl on voc-732: ResNet-101 as student and teacher, SGD's momentum, a bank of
21 x 10 000 entries; random numbers in its places. A checkpoint begins with a copy of all of it, for which
training has to wait; the rest is written by another thread (`04_writer`). Figures are seconds of the
processor, thread by thread (`time.thread_time`), so that a busy machine does not spoil them.

`packed in memory` is the way of before: torch packs into a buffer of Python's, which holds the interpreter
while it grows, so that the training thread stands still although it is another one. `straight to the file` is
`run_folder.write_torch`: what passes is summed up and written by calls that let others run.

Goal: at most 100 ms of the training thread beyond the copy."""

import dataclasses
import hashlib
import io
import statistics
import tempfile
import time
from pathlib import Path

import torch
from bench_density import command_line, machine, save, table

from dgcl_nb.config import build_method, environment, parse_run
from dgcl_nb.run_folder import seal_of, write_torch, write_whole
from dgcl_nb.writer import BackgroundWriter, copy_to_host, write_later

GOAL_MS = 100
MIB = 2**20
TINY = "--model.encoder resnet18 --dgcl.bank.size 1000".split()


def state_of_size(quick):
    "A state as `checkpoints.state_of_run` makes it, of random numbers."
    words = ["--preset", "voc-732", "--model.pretrained", "none", *(TINY if quick else ())]
    method = build_method(parse_run(words), 21, background=0)
    momentum = {
        i: dict(momentum_buffer=torch.randn_like(p))
        for i, p in enumerate(p for p in method.parameters() if p.requires_grad)
    }
    return dict(
        step=1, method=method.state_dict(), optimizers=dict(main=dict(state=momentum, param_groups=[]))
    )


@dataclasses.dataclass
class Clock:
    "Seconds of the processor that a thread has spent in some calls."

    seconds: float = 0.0

    def timed(self, call):
        def timed_call(*args):
            start = time.thread_time()
            try:
                return call(*args)
            finally:
                self.seconds += time.thread_time() - start

        return timed_call


class Held(io.BytesIO):
    "A buffer that knows how long it held the interpreter."

    clock = Clock()

    def write(self, data):
        return self.clock.timed(super().write)(data)


def packed_in_memory(path, content):
    "The way of before."
    buffer = Held()
    torch.save(content, buffer)
    packed = buffer.getbuffer()
    digest = hashlib.sha256(packed[:-2]).hexdigest()
    write_whole(path, lambda file: (file.write(packed[:-2]), file.write(seal_of(digest))))


def time_way(write, state, path):
    "Milliseconds: the copy, the training thread beyond it, the writer, and what of it holds the interpreter."
    copying, whole, writing = Clock(), Clock(), Clock()
    Held.clock = Clock()
    copied = copying.timed(copy_to_host)(state)
    del copied
    writer = BackgroundWriter()

    def work(copied):
        writing.timed(write)(path, copied)

    whole.timed(write_later)(writer, state, torch.device("cpu"), work)
    writer.wait()
    beyond = max(0.0, whole.seconds - copying.seconds) + Held.clock.seconds
    clocks = dict(copy=copying.seconds, beyond=beyond, writer=writing.seconds, held=Held.clock.seconds)
    return {name: 1e3 * seconds for name, seconds in clocks.items()}


def rows_of(args):
    "A row each way, and the bytes of the file."
    state, rows = state_of_size(args.quick), []
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "step_0000001.pt")
        for name, write in (("packed in memory", packed_in_memory), ("straight to the file", write_torch)):
            found = [time_way(write, state, path) for _ in range(args.repeats)]
            rows.append(dict(way=name) | {k: statistics.median(row[k] for row in found) for k in found[0]})
        return rows, path.stat().st_size


NOTES = """
Milliseconds of the processor, medians; the file has {size:.0f} MiB. `copy`: what training waits for in any
case. `beyond`: the rest of its thread, with the time in which the other one holds the interpreter (`held`).
`writer`: the other thread in all.

Goal: beyond the copy at most {goal} ms; found: **{found:.0f} ms** (before: {before:.0f} ms).

The bank stays in float32 in the file. In float16 the densities would agree to 1e-3 (`40_density`), but a run
that goes on would hold other entries than the one that never stopped, and a resume is exact to the bit."""


def main():
    parser = command_line(__doc__, quick="a small network")
    parser.add_argument("--repeats", type=int, default=3, help="checkpoints each way (default 3)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    here = machine()
    rows, size = rows_of(args)
    columns = {"way": "s"} | dict.fromkeys(("copy", "beyond", "writer", "held"), ".0f")
    before, after = (row["beyond"] for row in rows)
    text = table(rows, columns) + "\n"
    text += NOTES.format(size=size / MIB, goal=GOAL_MS, found=after, before=before)
    if args.quick:
        print(text)
        return
    data = dict(rows=rows, bytes=size, machine=here | environment())
    save("bench_checkpoint", args.out, "What a checkpoint costs the training thread", text, data)


if __name__ == "__main__":
    main()
