"""The monitor without a browser: looks, buttons, fits in the background, closing kernels, damaged folders."""

import asyncio
import json
import os
import shutil
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import few_images, metrics_of, tiny_run

from dgcl_nb import engine
from dgcl_nb.core import InputError
from dgcl_nb.background import fit_async
from dgcl_nb.engine import fit
from dgcl_nb.training import Callback
from dgcl_nb.looking import live_layout
from dgcl_nb.looking import watcher as watching
from dgcl_nb.looking.layout import pca_layout
from dgcl_nb.looking.layout_time import movement
from dgcl_nb.looking.live_layout import LiveLayout, PlaneTrail, UmapChild
from dgcl_nb.looking.run_state import heading_of
from dgcl_nb.looking.demo_run import make_demo_run
from dgcl_nb.looking.runs import open_run
from dgcl_nb.looking.watcher import MOST_STEPS, Update, Watcher, thin_out, thin_records
from dgcl_nb.snapshots import load_snapshot, save_snapshot
from dgcl_nb.widgets import monitor
from dgcl_nb.widgets.monitor import Monitor, Pace, watch

TWO_IMAGES = dict(steps=300, num_images=2)
SMALL = TWO_IMAGES | dict(snapshots=3)


class FakeFitting:
    "A Fitting that is driven by hand."

    def __init__(self, folder):
        self.folder, self.step, self.error, self.alive, self.holds = folder, 0, None, True, False
        self.control = SimpleNamespace(running=threading.Event(), stopping=threading.Event())
        self.control.running.set()

    def is_running(self):
        return self.alive

    def is_paused(self):
        return self.holds and not self.control.running.is_set()

    def pause(self):
        self.control.running.clear()

    def resume(self):
        self.control.running.set()

    def stop(self):
        self.control.stopping.set()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return make_demo_run(tmp_path_factory.mktemp("runs") / "demo", **SMALL)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(engine, "build_data", few_images)


@pytest.fixture
def no_umap(monkeypatch):
    "A child that answers with PCA at once."

    class Child:
        def follow(self, feats, previous):
            return pca_layout(feats)

        def close(self):
            pass

    monkeypatch.setattr(live_layout, "UmapChild", Child)


def press(m, what):
    m.head.asked = [what, len(m.head.asked) + time.perf_counter()]


def until(fn, seconds=30):
    end = time.time() + seconds
    while not (value := fn()):
        assert time.time() < end, "it did not happen"
        time.sleep(0.005)
    return value


def steps_of(snapshots):
    return [s.step for s in snapshots]


# What is on view


def test_thin_out__is_bounded_and_keeps_the_newest():
    for n in range(200):
        kept = thin_out(range(n), MOST_STEPS)
        assert len(kept) <= MOST_STEPS + 1
        assert not n or (kept[0], kept[-1]) == (0, n - 1)


def test_thin_records__keeps_all_evaluations():
    lines = [dict(step=i) | (dict(event="eval") if i % 10 == 0 else {}) for i in range(1, 5001)]
    short = thin_records(lines, 100)
    assert len(short) <= 500 + 101 and short[-1] == lines[-1]
    assert sum("event" in r for r in short) == 500


def test_look__brings_only_what_is_new(tmp_path):
    folder = make_demo_run(tmp_path / "run", **SMALL, until=110)
    watcher = Watcher(folder)
    first = watcher.look()
    assert len(first.records) == 6 and steps_of(first.maps) == [100] and first.layout == "PCA"
    assert first.scale["steps"] == 300 and len(first.scale["class_names"]) == 11
    second = watcher.look()
    assert (second.records, second.maps, second.states, second.is_over) == (None, None, None, False)
    make_demo_run(folder, **SMALL, until=200)
    third = watcher.look()
    assert steps_of(third.states) == [100, 200] and third.head["text"] == "step 200 of 300"
    make_demo_run(folder, **SMALL)
    last = watcher.look()
    assert last.head["state"] == "finished" and steps_of(last.maps) == [100, 200, 300]
    assert watcher.look().is_over


def test_plane__is_calm(demo):
    snaps, trail = open_run(demo).load_all(), PlaneTrail()
    before, after = trail.states(snaps[:2]), trail.states(snaps)
    assert max(movement([a.xy, b.xy])[0] for a, b in zip(before, after)) < 0.25


def test_layout__umap_takes_the_place_of_pca_and_then_stays(demo, no_umap):
    snaps, ready = open_run(demo).load_all(), threading.Event()
    live = LiveLayout("umap", ready.set)
    found = []
    for n in (1, 2, 3):
        found.append(live.update(snaps[:n]))
        assert ready.wait(20)
        ready.clear()
        found.append(live.update(snaps[:n]))
    assert [f.get("layout") for f in found] == ["PCA", "UMAP", None, "UMAP", None, "UMAP"]
    assert "will take the place" in found[0]["note"] and live.is_settled(snaps)


def test_layout__umap_that_fails_leaves_pca_and_says_why(demo, monkeypatch):
    monkeypatch.setattr(live_layout, "UMAP_CHILD", "raise SystemExit(1)")
    watcher = Watcher(demo, "umap")
    watcher.look()
    until(lambda: watcher.layout.problem)
    problem = "no UMAP layout (the process that computes it has ended); PCA is shown"
    assert watcher.look().head["problems"] == [problem]
    assert watcher.look().is_over and watcher.layout.kind == "PCA"
    watcher.layout.close()


DOUBLES = """
from dgcl_nb.looking import layout, layout_time, live_layout
layout.warm_umap = lambda: type("Done", (), dict(join=lambda self: print("what UMAP prints")))()
layout_time.follow_layout = lambda feats, previous: previous * 2
live_layout.serve_layouts()
"""


def test_child__ends_with_its_pipe(monkeypatch):
    monkeypatch.setattr(live_layout, "UMAP_CHILD", DOUBLES)
    child, ones = UmapChild(), np.ones((3, 2))
    np.testing.assert_array_equal(child.follow(ones, ones), 2 * ones)
    child.process.stdin.close()  # as when the kernel dies
    assert child.process.wait(20) == 0
    assert child.follow(ones, ones) == "the process that computes it has ended"


@pytest.mark.slow
def test_child__lays_out_by_umap(demo):
    child, feats = UmapChild(), open_run(demo).load_all()[0].feats
    first = child.follow(feats, np.full((len(feats), 2), np.nan))
    second = child.follow(feats, first)
    child.close()
    assert first.shape == (len(feats), 2) and movement([first, second])[0] < 0.25


# Buttons and states


def test_buttons__are_obeyed_and_confirmed(tmp_path):
    f = FakeFitting(make_demo_run(tmp_path / "run", **TWO_IMAGES, until=50))
    f.step = 57
    m = Monitor(f, every=0)
    assert m.head.head["text"] == "step 57 of 300"
    assert m.head.head["buttons"] == dict(pause=True, resume=False, stop=True)
    press(m, "pause")
    assert not f.control.running.is_set()
    assert m.head.head["state"] == "pausing" and "step 57" in m.head.head["text"]
    f.step, f.holds = 58, True
    m.refresh()
    assert m.head.head["text"] == "paused after step 58 of 300" and m.head.head["buttons"]["resume"]
    press(m, "resume")
    f.holds = False
    m.refresh()
    assert m.head.head["state"] == "training"
    press(m, "stop")
    assert f.control.stopping.is_set() and m.head.head["state"] == "stopping"


def test_buttons__go_when_the_run_was_stopped(tmp_path):
    f = FakeFitting(make_demo_run(tmp_path / "run", **TWO_IMAGES, until=50))
    m = Monitor(f, every=0)
    f.alive, f.error = False, RuntimeError("stopped after step 59 of 300; go on with: ...")
    f.error.step = 59
    m.refresh()
    m.refresh()
    assert m.head.head["text"].startswith("stopped after step 59") and m.head.head["buttons"] == dict(
        go_on=True
    )
    assert "images/s" not in str(m.head.head["facts"])
    press(m, "pause")  # a click that was under way


FAILURES = [
    (InputError("data.root is nowhere; name a folder"), "failed: data.root is nowhere; name a folder"),
    (RuntimeError("step 3: loss_sup is not finite"), "failed: step 3: loss_sup is not finite"),
    (KeyError("x"), "failed: KeyError: 'x'"),
]


@pytest.mark.parametrize("error, text", FAILURES)
def test_state__a_fit_that_failed(error, text):
    f = FakeFitting(None)
    f.alive, f.error = False, error
    m = Monitor(f, every=0)
    assert m.head.head["state"] == "failed" and m.head.head["text"] == text
    assert repr(m) == f"a run: {text}"
    m.refresh()
    assert not m.is_live


def test_state__what_is_inactive_and_why(tmp_path):
    head = heading_of(open_run(make_demo_run(tmp_path / "run", **TWO_IMAGES, until=50)))
    assert head["inactive"] == ["loss_unsup is inactive: supervised start until step 75"]
    assert head["title"].endswith("made-up figures")


def test_pace__bounds_the_share(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(monitor.time, "perf_counter", lambda: now[0])

    def show(seconds):
        now[0] += seconds

    pace = Pace()
    pace.run(show, 5.0)
    assert pace.is_due()  # building it does not count
    pace.run(show, 0.01)
    now[0] += 0.9
    assert not pace.is_due()
    now[0] += 0.11
    assert pace.is_due()
    pace.run(show, 9.0)
    now[0] += 4.01
    assert pace.is_due()


def test_apply__what_waits_is_kept_and_shown_later(demo):
    m, calls = Monitor(demo, every=0), []
    m._curves = lambda new: calls.append(len(new.records))
    m.paces["records"].due = time.perf_counter() + 100
    left = m.apply(Update(m.head.head, records=[1], scale={}), now=False)
    assert calls == [] and left.records == [1]
    left = m.apply(left.then(Update(m.head.head, records=[1, 2])), now=True)
    assert calls == [2] and left.records is None


def test_stills__are_not_drawn_while_the_images_wait(tmp_path, monkeypatch):
    folder = make_demo_run(tmp_path / "run", **SMALL, until=100)
    m, drawn = Monitor(folder, every=0), []
    monkeypatch.setattr(m, "_keep", lambda: drawn.append(1))
    make_demo_run(folder, **SMALL, until=200)
    m.paces["maps"].due = time.perf_counter() + 60
    for _ in range(3):
        m._take_a_look()
        m._show()
    assert m._left.maps and not drawn
    m.paces["maps"].due = 0.0
    m._take_a_look()
    m._show()
    assert len(drawn) == 1


def test_heading__says_when_the_next_one_comes(demo):
    assert Monitor(demo, every=0).head.head["wait"] is None  # when somebody asks
    young = Monitor(FakeFitting(demo), every=0)
    young.every = 20.0
    assert young.heading()["wait"] == 20.0


def test_stills__stay_in_the_notebook_and_are_those_of_the_end(demo, monkeypatch):
    left = []

    class Handle:
        update = left.append

    monkeypatch.setattr("IPython.display.display", lambda output, display_id: left.append(output) or Handle)
    monitor = watch(demo, every=0)
    bundle = monitor._repr_mimebundle_()
    assert bundle["image/png"] and "widget-view" in str(bundle)
    assert left[0].data.count("<img") == 3  # curves, clusters, images
    assert str(demo / "report.html") in left[0].data
    monitor.refresh()  # the run is over
    assert len(left) == 2 and left[1].data.count("<img") == 3
    monitor.close()


def test_images__have_the_background_of_the_run(demo, tmp_path):
    folder = shutil.copytree(demo, tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    config["data"] = dict(config.get("data", {}), background="2")
    (folder / "config.json").write_text(json.dumps(config))
    monitor = watch(folder, every=0)
    assert monitor.overlay.meta["background"] == 2
    monitor.close()


def test_marks__lasso_rings_pixels_on_images(demo):
    m = watch(demo, every=0)
    m.explorer.selected = [3, 40]
    s = m.explorer.state
    assert m.overlay.marks == [[int(s.image[i]), int(s.row[i]), int(s.col[i])] for i in (3, 40)]
    m.explorer.selected = []
    assert m.overlay.marks == []


# The curves


def drawn(m):
    "The names of the curves, the titles and notes of the panels, as every page draws them."
    figure = json.loads(m.figure.figure)
    return [t["name"] for t in figure["data"]], [a["text"] for a in figure["layout"]["annotations"]]


def test_steps__one_slider_moves_all_views(demo):
    m = watch(demo, every=0)
    m.explorer.step_index = 0
    assert (m.overlay.step_index, m.figure.step) == (0, m.explorer.state.step)
    m.overlay.step_index = 1
    assert (m.explorer.step_index, m.figure.step) == (1, m.overlay.meta["steps"][1])
    # of a view that has fewer steps the nearest one is shown, and nobody is pulled back
    m.overlay.set_snapshots(open_run(demo).load_all()[::2])
    m.explorer.step_index = 1
    assert m.explorer.step_index == 1 and m.overlay.step_index in (0, 1)
    m.close()


def test_steps__a_run_that_ends_pulls_nobody_to_its_last_step(tmp_path):
    folder = make_demo_run(tmp_path / "run", **SMALL, until=200)
    m = watch(folder, every=0)
    m.explorer.step_index = 0
    make_demo_run(folder, **SMALL)
    m.refresh()
    # now the overlay has all steps and not the newest alone, and goes to the one that is looked at
    shown = m.overlay.meta["steps"][m.overlay.step_index]
    assert (m.explorer.state.step, shown, m.figure.step) == (100, 100, 100)


def test_steps__the_line_goes_along_with_who_looks_at_the_newest(tmp_path):
    many = TWO_IMAGES | dict(snapshots=15)
    folder = make_demo_run(tmp_path / "run", **many, until=290)
    m = watch(folder, every=0)
    m.explorer.step_index = 0
    m.explorer.step_index = num = len(m.explorer.states) - 1
    before = m.explorer.state.step
    make_demo_run(folder, **many)
    m.refresh()
    # thinned out, there are as many steps as before: the newest stands at the same place
    assert (m.explorer.step_index, m.figure.step) == (num, m.explorer.state.step)
    assert m.figure.step > before


def test_curves__a_page_that_is_loaded_late_draws_the_run_as_it_is_now(tmp_path):
    # what is synchronised is all that such a page gets: no patch from before reaches it
    folder = make_demo_run(tmp_path / "run", **SMALL, until=50)
    early = Monitor(folder, every=0)
    names, texts = drawn(early)
    assert "contrastive loss" not in names and any("supervised start" in text for text in texts)
    make_demo_run(folder, **SMALL)
    early.refresh()
    assert early.figure.get_state()["figure"] == Monitor(folder, every=0).figure.get_state()["figure"]
    names, texts = drawn(early)
    assert "contrastive loss" in names and not any("supervised start" in text for text in texts)


# A real fit


def test_fit_async__pause_resume_stop_each_within_one_step(tmp_path, few):
    rare = dict(loop__evaluations=0, loop__checkpoints=0, loop__snapshots=500)
    going = fit_async(tiny_run("dgcl", out=str(tmp_path / "run"), steps=5000, loop__log_every=1, **rare))
    m = Monitor(going, every=0)
    until(lambda: going.step >= 3)
    at = going.step
    press(m, "pause")
    until(going.is_paused)
    held = going.step
    assert held - at <= 2  # the one under way, and one that began meanwhile
    m.refresh()
    assert m.head.head["text"] == f"paused after step {held} of 5000"
    time.sleep(0.2)
    assert going.step == held and going.is_paused()
    press(m, "resume")
    until(lambda: going.step > held + 2)
    m.refresh()
    assert m.head.head["state"] == "training" and m.figure is not None
    at = going.step
    press(m, "stop")
    going.wait(30)
    assert going.step - at <= 2 and not going.is_running()
    m.refresh()
    m.refresh()
    assert m.head.head["text"].startswith(f"stopped after step {going.step} of 5000; go on with")
    assert not m.is_live and metrics_of(going.folder)[-1]["step"] == going.step
    assert (going.folder / "checkpoints" / f"step_{going.step:07d}.pt").exists()


def test_fit_async__goes_on_after_stop(tmp_path, few):
    rare = dict(loop__evaluations=0, loop__checkpoints=0, loop__snapshots=1)
    going = fit_async(tiny_run("dgcl", out=str(tmp_path / "run"), steps=60, loop__log_every=1, **rare))
    m = Monitor(going, every=0)
    until(lambda: going.step >= 3)
    m.refresh()
    assert steps_of(m.explorer.states) == [0]  # there is something to see before the run's first snapshot
    press(m, "stop")
    going.wait(30)
    m.refresh()
    assert m.head.head["buttons"] == dict(go_on=True)
    at = going.step
    press(m, "go_on")
    press(m, "go_on")  # twice is once
    going.wait(60)
    m.refresh()
    assert m.head.head["state"] == "finished" and going.step == 60 > at
    assert [r["step"] for r in metrics_of(going.folder) if "event" not in r] == list(range(1, 61))


def test_fit__blocking_streams_through_the_callback(tmp_path, few):
    m, seen = Monitor(every=0), []
    m.head.observe(lambda change: seen.append(change["new"]["text"]), "head")

    class Slow(Callback):
        def on_step(self, t, losses):
            m.callback.last = 0.0  # as if half a second had passed

    assert "waiting for fit" in repr(m)
    run = tiny_run("dgcl", out=str(tmp_path / "run"), steps=8, loop__snapshots=2)
    fit(run, callbacks=[Slow(), m.callback])
    assert [t for t in dict.fromkeys(seen) if t.startswith("step")] == [f"step {i} of 8" for i in range(9)]
    assert m.head.head["state"] == "finished"
    assert steps_of(m.explorer.states) == [0, 4, 8] and m.overlay is not None


def test_fit__interrupted_says_how_to_go_on(tmp_path, few):
    m = Monitor(every=0)

    class Stop(Callback):
        def on_step(self, t, losses):
            t.control.stop()

    run = tiny_run("supervised", out=str(tmp_path / "run"), steps=8)
    with pytest.raises(engine.Stopped):
        fit(run, callbacks=[Stop(), m.callback])
    assert m.head.head["state"] == "stopped"
    assert "ended after step 1 of 8; go on with" in m.head.head["text"]


def told_by_hand(folder, step, steps=300):
    "The Training of a fit whose callbacks are called by hand."
    return SimpleNamespace(folder=SimpleNamespace(path=folder), step=step, run=SimpleNamespace(steps=steps))


def test_fit__that_was_interrupted_promises_nothing_and_can_go_on(tmp_path):
    m = Monitor(every=0)
    t = told_by_hand(make_demo_run(tmp_path / "run", **SMALL, until=150), 150)
    m.callback.on_start(t)
    m.callback.on_end(t, None)
    head = m.head.head
    assert head["state"] == "stopped" and head["hint"] == "" and "left" not in " ".join(head["facts"])
    m.callback.on_start(t)  # with resume
    assert (m.head.head["state"], m.head.head["text"]) == ("training", "step 150 of 300")


def test_fit__another_run_leaves_nothing_of_the_one_before(tmp_path):
    m = Monitor(every=0)
    first = told_by_hand(make_demo_run(tmp_path / "first", **SMALL), 300)
    m.callback.on_start(first)
    m.callback.on_end(first, dict(steps=300))
    assert m.head.head["state"] == "finished" and m.explorer is not None
    m.callback.on_start(told_by_hand(tmp_path / "second", 0))
    assert m.head.head["state"] == "waiting" and m.explorer is m.overlay is m.figure is None
    assert "appear with the first" in m.places[2].children[0].value
    make_demo_run(tmp_path / "second", **SMALL, until=150)
    m.refresh()
    assert m.head.head["title"].startswith("second") and steps_of(m.explorer.states) == [100]


def test_fit__a_run_that_was_finished_before_is_shown(tmp_path):
    "fit returns its result and takes no step, so nothing else tells the monitor where it lies."
    folder = make_demo_run(tmp_path / "run", **SMALL)
    m = Monitor(every=0)
    m.callback.on_found(folder, dict(steps=300))
    assert m.head.head["state"] == "finished" and m.head.head["title"].startswith("run")
    assert m.explorer is not None and m.overlay is not None


def test_fit__that_logs_seldom_is_heard_by_its_callback(tmp_path):
    folder = make_demo_run(tmp_path / "run", **SMALL, until=150)
    m = Monitor(every=0)
    m.callback.on_start(told_by_hand(folder, 150))
    for path in (folder / "metrics.jsonl", folder / "config.json", *(folder / "snapshots").iterdir()):
        os.utime(path, (time.time() - 200,) * 2)
    m.callback.last = 0.0
    m.callback.on_step(told_by_hand(folder, 151), None)
    assert (m.head.head["state"], m.head.head["text"]) == ("training", "step 151 of 300")


# The thread and the loop


def in_loop(steps):
    "Run a generator of waits inside an event loop, as cells run in a kernel."

    async def main():
        for wait in steps():
            await asyncio.sleep(wait)

    asyncio.run(main())


def monitor_threads():
    return [t for t in threading.enumerate() if t.name == "monitor"]


def test_thread__follows_a_folder_that_another_process_writes(tmp_path):
    def steps():
        m = watch(tmp_path / "run", every=0.25)
        assert m.is_live and "does not exist" in repr(m) and "waiting for it" in repr(m)
        for stop, num in ((100, 1), (200, 2), (None, 3)):
            make_demo_run(tmp_path / "run", **SMALL, until=stop)
            yield 1.2
            assert len(m.explorer.states) == num
        for _ in range(20):
            if not m.is_live:
                break
            yield 0.25
        assert not m.is_live and m.head.head["state"] == "finished"

    in_loop(steps)
    assert not monitor_threads()


def test_thread__at_most_one_update_is_pending(tmp_path):
    folder = make_demo_run(tmp_path / "run", **SMALL, until=100)
    asked, looks = [], []

    def spy(m):
        "Note each look, and each call that reaches the loop."
        loop, look = m._loop, m.watcher.look

        def call_soon(fn):
            asked.append(fn)
            loop.call_soon_threadsafe(fn)

        def noted_look():
            looks.append(1)
            return look()

        m._loop, m.watcher.look = SimpleNamespace(call_soon_threadsafe=call_soon), noted_look

    def steps():
        m = watch(folder, every=0.25)
        spy(m)
        yield 0.3
        asked.clear()
        looks.clear()
        time.sleep(1.5)  # the loop is busy: looks go on, and are merged
        make_demo_run(folder, **SMALL, until=200)
        until(lambda: len(m._pending.update.states or ()) == 2, 10)
        assert len(looks) > 3 and len(asked) == 1
        yield 0.05
        assert len(m.explorer.states) == 2 or m._left.states
        m.close()

    in_loop(steps)


def linger(m):
    "Let one look of the thread come late, when others have looked meanwhile; gives what tells that it was."
    look, taken = m.watcher.look, threading.Event()

    def late_look():
        new = look()
        if threading.get_ident() != m._home and new.states and not taken.is_set():
            taken.set()
            time.sleep(0.5)
        return new

    m.watcher.look = late_look
    return taken


def test_thread__an_older_look_is_never_shown_after_a_later_one(tmp_path):
    folder = make_demo_run(tmp_path / "run", **SMALL, until=100)

    def steps():
        m = watch(folder, every=0.25)
        taken = linger(m)
        make_demo_run(folder, **SMALL, until=200)
        until(taken.is_set)
        make_demo_run(folder, **SMALL)
        m.refresh()
        m.refresh()
        yield 1.0
        assert m.head.head["text"].startswith("finished after 300 steps") and not m.is_live
        assert steps_of(m.explorer.states) == [100, 200, 300]

    in_loop(steps)


def test_refresh__shows_what_the_thread_has_read_and_not_handed_over(tmp_path):
    folder = make_demo_run(tmp_path / "run", **SMALL, until=200)

    def steps():
        m = watch(folder, every=0.25)
        taken = linger(m)
        make_demo_run(folder, **SMALL)
        until(taken.is_set)
        m.refresh()
        assert steps_of(m.explorer.states) == [100, 200, 300]
        m.close()
        yield 0.3

    in_loop(steps)


def test_buttons__go_on_is_not_undone_by_what_waited_to_be_shown(tmp_path):
    f = FakeFitting(make_demo_run(tmp_path / "run", **TWO_IMAGES, until=50))
    f.go_on = lambda: vars(f).update(alive=True, error=None)
    m = Monitor(f, every=0)
    m._beat._ended.clear()  # as with a thread
    f.alive, f.error = False, RuntimeError("stopped after step 59 of 300; go on with: ...")
    f.error.step = 59
    m._take_a_look()  # the run is over: it waits for a loop that is busy
    press(m, "go_on")
    m._show()
    assert m.head.head["state"] == "training" and m.is_live


def test_thread__a_closed_loop_or_monitor_ends_it_quietly(tmp_path, capfd):
    folder = make_demo_run(tmp_path / "run", **TWO_IMAGES, until=50)

    def steps():
        watch(folder, every=0.25)  # left behind
        m = watch(folder, every=0.25)
        yield 0.1
        m.close()
        m.close()
        gone = watch(folder, every=0.25)
        gone.comm.close()
        gone.comm = None  # as by Widget.close_all()
        yield 0.6
        assert not gone.is_live

    in_loop(steps)
    until(lambda: not monitor_threads(), 5)
    assert "Traceback" not in "".join(capfd.readouterr())


def test_two_monitors_on_one_run(tmp_path):
    folder = make_demo_run(tmp_path / "run", **SMALL, until=100)
    f, run = FakeFitting(folder), open_run(folder)
    a, b = Monitor(f, every=0), Monitor(run, every=0)
    make_demo_run(folder, **SMALL, until=200)
    a.refresh()
    b.refresh()
    assert [len(m.explorer.states) for m in (a, b)] == [2, 2] and a.explorer is not b.explorer
    press(a, "pause")
    f.holds = True
    a.refresh()
    assert a.head.head["state"] == "paused" and b.head.head["buttons"] == {}
    a.close()
    make_demo_run(folder, **SMALL)
    b.refresh()
    assert len(b.explorer.states) == 3


# Bad input


def test_watch__what_it_cannot_watch(demo):
    with pytest.raises(InputError, match="cannot watch a list; give a run folder"):
        watch([demo])
    with pytest.raises(InputError, match="unknown layout 'tsne'"):
        watch(demo, layout="tsne")
    with pytest.raises(InputError, match="every is 0.1 s.*choose 0.25 or more"):
        watch(demo, every=0.1)


@pytest.mark.parametrize(
    "kind, text", [("missing", "does not exist"), ("empty", "is empty"), ("foreign", "holds no run")]
)
def test_watch__a_folder_without_a_run_is_a_sentence(tmp_path, kind, text):
    folder = tmp_path / "run"
    if kind != "missing":
        folder.mkdir()
    if kind == "foreign":
        (folder / "notes.txt").touch()
    m = watch(folder, every=0)
    assert text in repr(m) and "waiting for it" in repr(m) and m.head.head["state"] == "waiting"
    (folder / "notes.txt").unlink(missing_ok=True)
    make_demo_run(folder, **TWO_IMAGES, until=40)
    m.refresh()
    assert m.head.head["text"] == "step 25 of 300"


def test_watch__a_folder_that_is_deleted_is_gone_and_not_at_step_0(tmp_path):
    folder = make_demo_run(tmp_path / "run", **SMALL, until=200)
    m = watch(folder, every=0)
    before = m.figure.figure
    shutil.move(folder, tmp_path / "away")
    m.refresh()
    assert m.head.head["state"] == "gone" and "no longer there" in m.head.head["text"]
    assert m.head.head["text"].endswith("what is shown is from step 200 of 300")
    assert m.figure.figure == before and m.head.head["done"] == pytest.approx(2 / 3)
    m.refresh()
    assert (m.head.head["problems"], m.head.head["hint"]) == ([], "")  # one sentence says all
    shutil.move(tmp_path / "away", folder)
    m.refresh()
    assert m.head.head["text"] == "step 200 of 300"


@pytest.mark.parametrize("first", ["config.json", "metrics.jsonl timings.jsonl", "snapshots"])
def test_watch__a_folder_that_is_being_deleted_is_gone_and_not_at_step_0(tmp_path, first):
    # a look may come when some files are gone and the folder is still there
    folder = make_demo_run(tmp_path / "run", **SMALL, until=200)
    m = watch(folder, every=0)
    for name in first.split():
        (shutil.rmtree if name == "snapshots" else os.unlink)(folder / name)
    m.refresh()
    shutil.rmtree(folder)
    m.refresh()
    head = m.head.head
    assert head["state"] == "gone" and head["text"].endswith("what is shown is from step 200 of 300")
    assert head["done"] == pytest.approx(2 / 3) and head["title"].startswith("run · dgcl")
    make_demo_run(folder, **SMALL, until=100)  # another run under its name
    m.refresh()
    assert m.head.head["text"] == "step 100 of 300" and steps_of(m.explorer.states) == [100]


def test_watch__a_folder_that_is_deleted_under_a_run_of_this_process(tmp_path):
    m = Monitor(FakeFitting(make_demo_run(tmp_path / "run", **SMALL, until=200)), every=0)
    shutil.rmtree(tmp_path / "run")
    m.refresh()
    assert m.head.head["state"] == "training" and "no longer there" in m.head.head["problems"][0]


def test_heading__who_has_no_buttons_is_told_why(tmp_path):
    folder = make_demo_run(tmp_path / "run", **SMALL, until=200)
    assert "the process that trains it" in watch(folder, every=0).head.head["hint"]
    assert "Interrupting the kernel" in Monitor(every=0).head.head["hint"]
    assert Monitor(FakeFitting(folder), every=0).head.head["hint"] == ""
    make_demo_run(folder, **SMALL)
    assert watch(folder, every=0).head.head["hint"] == ""  # it has ended: there is nothing to press


def test_watch__damaged_parts_are_named_and_the_rest_is_shown(tmp_path):
    folder = make_demo_run(tmp_path / "run", **SMALL, until=200)
    (folder / "snapshots" / "step_0000200.npz").write_bytes(b"half")
    (folder / "config.json").write_text("{")
    with open(folder / "metrics.jsonl", "a") as f:
        f.write("broken\n" + json.dumps(dict(step=225, loss_sup=0.1)))
    m = watch(folder, every=0)
    problems = m.head.head["problems"]
    assert steps_of(m.explorer.states) == [100] and m.figure is not None and len(problems) == 3
    assert "step_0000200.npz cannot be read" in " ".join(problems)


def test_watch__features_that_are_not_finite(tmp_path):
    folder = make_demo_run(tmp_path / "run", **SMALL, until=200)
    snap = load_snapshot(folder / "snapshots" / "step_0000200.npz")
    snap.feats[:3] = np.nan
    save_snapshot(folder, snap)
    m = watch(folder, every=0)
    assert steps_of(m.explorer.states) == [100] and m.overlay.meta["steps"] == [200]
    assert "step 200" in m.head.head["problems"][0]
    (folder / "snapshots" / "step_0000100.npz").unlink()
    m = watch(folder, every=0)
    assert m.explorer is None and m.overlay is not None and "NaN" in m.head.head["problems"][0]
    m.refresh()
    assert "NaN" in m.head.head["problems"][0]  # it is not forgotten by the next look


def fail(*args, **options):
    return 1 / 0


def test_watch__a_part_that_cannot_be_shown_says_so(demo, monkeypatch):
    monkeypatch.setattr(monitor, "curves", fail)
    m = watch(demo, every=0)
    assert "This part cannot be shown: ZeroDivisionError" in m.places[0].children[0].value
    assert m.explorer is not None and m.overlay is not None


def test_watch__a_fault_of_a_look_is_said_not_raised(demo, monkeypatch):
    monkeypatch.setattr(Watcher, "read", fail)
    m = watch(demo, every=0)
    said = "something is not shown: ZeroDivisionError: division by zero"
    assert m.head.head["problems"] == [said]


def test_watch__what_a_look_could_not_show_the_next_one_shows(demo, monkeypatch):
    on_view = watching.on_view
    monkeypatch.setattr(watching, "on_view", fail)
    m = watch(demo, every=0)
    assert m.explorer is None and m.head.head["problems"]
    monkeypatch.setattr(watching, "on_view", on_view)
    m.refresh()
    assert steps_of(m.explorer.states) == [100, 200, 300] and m.head.head["problems"] == []
