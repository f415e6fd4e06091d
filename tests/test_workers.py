"""What comes from processes that read ahead: without shared memory, late, never, from one that was killed."""

import multiprocessing
import os
import resource
import signal
import threading
import time

import pytest
import torch
from helpers import metrics_of, start_child, state_of, tiny_run, wait_for
from torch.utils.data import Dataset

from dgcl_nb import batches, engine, workers
from dgcl_nb.core import InputError
from dgcl_nb.engine import Stopped, fit
from dgcl_nb.processes import Control
from dgcl_nb.run_folder import RunFolder
from dgcl_nb.workers import Loader, StoppedWaiting, read_ahead, write_behind


class Numbers(Dataset):
    "Items of 4 MB; `befalls` happens in the worker before each."

    def __init__(self, befalls=lambda i: None):
        self.befalls = befalls

    def __len__(self):
        return 6

    def __getitem__(self, i):
        self.befalls(i)
        image = torch.full((1000, 1000), float(i))
        return dict(
            id=str(i), views=[image, image], part=torch.arange(1000)[i : i + 2], none=torch.empty(0, 3)
        )


def no_shared_memory(i=0):
    "From here on this process can make no file above a kilobyte, in /dev/shm or elsewhere."
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))


def hang(i):
    time.sleep(1000)


def die(i):
    if i == 3:
        os.kill(os.getpid(), signal.SIGKILL)


def test_loader__without_shared_memory(caplog):
    found = list(Loader(Numbers(no_shared_memory), 2))
    assert [f["id"] for f in found] == list("012345")
    for i, (one, other) in enumerate(zip(found, Numbers())):
        assert all(torch.equal(one[k], other[k]) for k in ("part", "none"))
        assert torch.equal(one["views"][0], torch.full((1000, 1000), float(i)))
        assert one["views"][0] is one["views"][1], "one tensor in two places stays one"
    assert caplog.text.count("no room in shared memory") == 1


def test_loader__a_stop_is_obeyed_while_it_waits():
    asked, began = [], time.monotonic()
    loader = Loader(Numbers(hang), 1, is_stopping=lambda: asked.append(1) or len(asked) > 1)
    with pytest.raises(StoppedWaiting):
        next(iter(loader))
    assert time.monotonic() - began < 30


def test_loader__waits_no_longer_than_its_patience():
    with pytest.raises(InputError, match="no batch came from 1 processes for 1 s: .*; try batch.workers 0"):
        list(Loader(Numbers(hang), 1, patience=1.0))


def test_loader__a_killed_worker_is_a_sentence():
    with pytest.raises(InputError, match="has ended .*pid.*lower batch.workers"):
        list(Loader(Numbers(die), 1))


def train_without_shared_memory(out):
    share = workers.share_tensors

    def share_nothing(value):
        no_shared_memory()
        handed_over = share(value)
        (out.parent / "handed_over").write_text(type(handed_over).__name__)
        return handed_over

    multiprocessing.set_start_method("fork", force=True)  # so that the worker has what is patched here
    workers.share_tensors = share_nothing
    fit(tiny_run("supervised", out=out, batch__workers=1, loop__snapshots=0, steps=4), callbacks=[])


def train_plainly(out):
    fit(tiny_run("supervised", out=out, batch__workers=0, loop__snapshots=0, steps=4), callbacks=[])


def test_fit__without_shared_memory(tmp_path):
    "The bits are those of a run that had it."
    children = [
        start_child(train_without_shared_memory, tmp_path / "piped"),
        start_child(train_plainly, tmp_path / "plain"),
    ]
    assert wait_for(children) == [0, 0]
    assert metrics_of(tmp_path / "piped") == metrics_of(tmp_path / "plain")
    assert (tmp_path / "handed_over").read_text() == "Piped"


def test_fit__stopped_while_no_batch_comes(tmp_path, monkeypatch):
    "The run is saved where it stands, and goes on from there."
    control, make = Control(), batches.make_batch

    def make_batch(step, **settings):
        if step == 3:
            hang(step)
        return make(step=step, **settings)

    class StopSoon:
        def __getattr__(self, event):
            return lambda t, *_: control.stop() if event == "on_step" and t.step == 3 else None

    monkeypatch.setattr(batches, "make_batch", make_batch)
    run = dict(out=tmp_path, loop__evaluations=0, loop__checkpoints=0, loop__snapshots=0, steps=6)
    # the stop comes with the third step's end; here it is looked at only while waiting
    monkeypatch.setattr(Control, "should_stop", lambda self, device: False)
    with pytest.raises(Stopped, match="stopped after step 3 of 6"):
        fit(tiny_run("supervised", batch__workers=1, **run), control, [StopSoon()])
    assert state_of(tmp_path)["step"] == 3
    monkeypatch.undo()
    assert fit(tiny_run("supervised", resume=True, **run), callbacks=[])["steps"] == 6
    assert not RunFolder(tmp_path).lock.exists()


class HangsLater(Dataset):
    "Images that come as long as a file is there."

    def __init__(self, images, sign):
        self.images, self.sign = images, sign

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        if not self.sign.exists():
            hang(i)
        return self.images[i]


def test_fit__stopped_while_an_evaluation_waits(tmp_path, monkeypatch, caplog):
    "The run is saved at the step whose evaluation got no image, says so, and goes on from there."
    control, sign, out = Control(), tmp_path / "the disk answers", tmp_path / "run"
    evaluate = engine.evaluate

    def evaluate_hanging(network, dataset, *args, **how):
        threading.Timer(2, control.stop).start()
        return evaluate(network, HangsLater(dataset, sign), *args, **how)

    run = dict(out=out, loop__evaluations=2, loop__checkpoints=0, loop__snapshots=0, steps=6)
    monkeypatch.setattr(engine, "evaluate", evaluate_hanging)
    with pytest.raises(Stopped, match="stopped after step 3 of 6"):
        fit(tiny_run("supervised", eval__workers=1, **run), control, [])
    assert "a stop came while no image did: this evaluation is left out" in caplog.text
    assert state_of(out)["step"] == 3
    monkeypatch.undo()
    assert fit(tiny_run("supervised", resume=True, **run), callbacks=[])["steps"] == 6
    assert [line["step"] for line in metrics_of(out) if line.get("event") == "eval"] == [3, 6]


# Reading ahead and writing behind


def test_read_ahead__an_error_comes_in_its_place_and_nothing_runs_on():
    def source():
        yield from range(3)
        raise InputError("the fourth cannot be read")

    seen = []
    with pytest.raises(InputError, match="the fourth"):
        for item in read_ahead(source(), lambda item: 10):
            seen.append(item)
    assert seen == [0, 1, 2]
    assert not [t for t in threading.enumerate() if t.name.startswith("read ahead")]


def test_read_ahead__who_leaves_early_leaves_no_thread():
    taken = []
    items = read_ahead((taken.append(i) for i in range(1000)), lambda item: 3)
    next(items)
    items.close()
    assert len(taken) <= 4
    assert not [t for t in threading.enumerate() if t.name.startswith("read ahead")]


def test_read_ahead__reads_while_others_work():
    "Each waits for the other: in turns neither would go on."
    asked = [threading.Event() for _ in range(4)]

    def source():
        for event in asked:
            event.set()
            yield event

    for here, following in zip(read_ahead(source(), lambda item: 1), asked[1:]):
        assert here.is_set() and following.wait(timeout=60), "the next one is read while this one is used"


def test_write_behind__in_order_and_no_more_than_asked_wait():
    made, written = [], []

    def items():
        for i in range(20):
            made.append(i)
            yield i

    for i in write_behind(items(), written.append, most=3):
        assert len(made) <= i + 1 + 4 and written[: i + 1] == list(range(i + 1))
    assert written == list(range(20))
    assert not [t for t in threading.enumerate() if t.name.startswith("write behind")]
