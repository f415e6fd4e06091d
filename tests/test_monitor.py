"""The monitor without a browser: looks, buttons, a real fit in the background, a kernel that closes, and what may be wrong with a folder."""
import asyncio
import json
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
from dgcl_nb.looking.layout import pca_layout
from dgcl_nb.looking.layout_time import movement
from dgcl_nb.looking.demo_run import make_demo_run
from dgcl_nb.looking.runs import open_run
from dgcl_nb.snapshots import load_snapshot, save_snapshot
from dgcl_nb.widgets import monitor
from dgcl_nb.widgets.monitor import MOST_STEPS, LiveLayout, Monitor, Pace, PlaneTrail, UmapChild, Update, Watcher, head_of, thinned, thinned_records, watch


class FakeFitting:
    "A Fitting that is driven by hand."
    def __init__(self, folder):
        self.folder, self.step, self.error, self.alive, self.holds = folder, 0, None, True, False
        self.control = SimpleNamespace(running=threading.Event(), stopping=threading.Event()); self.control.running.set()
    def is_running(self): return self.alive
    def is_paused(self): return self.holds and not self.control.running.is_set()
    def pause(self): self.control.running.clear()
    def resume(self): self.control.running.set()
    def stop(self): self.control.stopping.set()


@pytest.fixture(scope="module")
def demo(tmp_path_factory): return make_demo_run(tmp_path_factory.mktemp("runs")/"demo", steps=300, snapshots=3, num_images=2)


@pytest.fixture
def few(monkeypatch): monkeypatch.setattr(engine, "build_data", few_images)


@pytest.fixture
def no_umap(monkeypatch):
    "A child that answers with PCA at once."
    class Child:
        def follow(self, feats, previous): return pca_layout(feats)
        def close(self): pass
    monkeypatch.setattr(monitor, "UmapChild", Child)


def press(m, what): m.head.asked = [what, len(m.head.asked) + time.perf_counter()]


def until(fn, seconds=30):
    end = time.time() + seconds
    while not (value := fn()):
        assert time.time() < end, "it did not happen"
        time.sleep(.005)
    return value


# --- what is on view -----------------------------------------------------------------------------------------------------------------

def test_thinned__is_bounded_and_keeps_the_newest():
    for n in range(200):
        kept = thinned(range(n), MOST_STEPS); assert len(kept) <= MOST_STEPS + 1 and (not n or kept[-1] == n - 1 and kept[0] == 0)
    lines = [dict(step=i) | (dict(event="eval") if i % 10 == 0 else {}) for i in range(1, 5001)]
    short = thinned_records(lines, 100); assert len(short) <= 500 + 101 and short[-1] == lines[-1] and sum("event" in r for r in short) == 500


def test_look__brings_only_what_is_new(tmp_path):
    folder = make_demo_run(tmp_path/"run", steps=300, snapshots=3, num_images=2, until=110); w = Watcher(folder); first = w.look()
    assert len(first.records) == 6 and [s.step for s in first.maps] == [100] and first.layout == "PCA" and first.scale["steps"] == 300 and len(first.scale["class_names"]) == 11
    assert (second := w.look()).records is None and second.maps is None and second.states is None and not second.is_over
    make_demo_run(folder, steps=300, snapshots=3, num_images=2, until=200); third = w.look()
    assert [s.step for s in third.states] == [100, 200] and third.head["text"] == "step 200 of 300"
    make_demo_run(folder, steps=300, snapshots=3, num_images=2); last = w.look()
    assert last.head["state"] == "finished" and [s.step for s in last.maps] == [100, 200, 300] and w.look().is_over


def test_plane__is_calm(demo):
    snaps, trail = open_run(demo).load_all(), PlaneTrail()
    before, after = trail.states(snaps[:2]), trail.states(snaps)
    assert max(movement([a.xy, b.xy])[0] for a, b in zip(before, after)) < .25


def test_layout__umap_takes_the_place_of_pca_and_then_stays(demo, no_umap):
    snaps, ready = open_run(demo).load_all(), threading.Event(); live = LiveLayout("umap", ready.set)
    def after(n): assert ready.wait(20); ready.clear(); return live.update(snaps[:n])
    found = [live.update(snaps[:1]), after(1), live.update(snaps[:2]), after(2), live.update(snaps), after(3)]
    assert [f.get("layout") for f in found] == ["PCA", "UMAP", None, "UMAP", None, "UMAP"] and "will take the place" in found[0]["note"] and live.is_settled(snaps)


def test_layout__umap_that_fails_leaves_pca_and_says_why(demo, monkeypatch):
    monkeypatch.setattr(monitor, "UMAP_CHILD", "raise SystemExit(1)")
    w = Watcher(demo, "umap"); w.look(); until(lambda: w.layout.problem)
    new = w.look(); assert new.head["problems"] == ["no UMAP layout (the process that computes it has ended); PCA is shown"]
    assert w.look().is_over and w.layout.kind == "PCA"
    w.layout.close()


def test_child__ends_with_its_pipe(monkeypatch):
    monkeypatch.setattr(monitor, "UMAP_CHILD", monitor.UMAP_CHILD.replace("warm_umap().join()", "follow_layout = lambda feats, previous: previous * 2"))
    child = UmapChild(); np.testing.assert_array_equal(child.follow(np.ones((3, 2)), np.ones((3, 2))), 2 * np.ones((3, 2)))
    child.process.stdin.close(); assert child.process.wait(20) == 0                                   # as when the kernel dies
    assert child.follow(np.ones((3, 2)), np.ones((3, 2))) == "the process that computes it has ended"


@pytest.mark.slow
def test_child__lays_out_by_umap(demo):
    child, snaps = UmapChild(), open_run(demo).load_all()
    first = child.follow(snaps[0].feats, np.full((len(snaps[0].feats), 2), np.nan)); second = child.follow(snaps[0].feats, first); child.close()
    assert first.shape == (len(snaps[0].feats), 2) and movement([first, second])[0] < .25


# --- buttons and states --------------------------------------------------------------------------------------------------------------

def test_buttons__are_obeyed_and_confirmed(demo, tmp_path):
    folder = make_demo_run(tmp_path/"run", steps=300, num_images=2, until=50); f = FakeFitting(folder); f.step = 57; m = Monitor(f, every=0)
    assert m.head.head["text"] == "step 57 of 300" and m.head.head["buttons"] == dict(pause=True, resume=False, stop=True)
    press(m, "pause"); assert not f.control.running.is_set() and m.head.head["state"] == "pausing" and "step 57" in m.head.head["text"]
    f.step, f.holds = 58, True; m.refresh(); assert m.head.head["text"] == "paused after step 58 of 300" and m.head.head["buttons"]["resume"]
    press(m, "resume"); f.holds = False; m.refresh(); assert m.head.head["state"] == "training"
    press(m, "stop"); assert f.control.stopping.is_set() and m.head.head["state"] == "stopping"
    f.alive, f.error = False, RuntimeError("stopped after step 59 of 300; go on with: ..."); f.error.step = 59
    m.refresh(); m.refresh(); assert m.head.head["text"].startswith("stopped after step 59") and m.head.head["buttons"] == {} and "images/s" not in str(m.head.head["facts"])
    press(m, "pause")                                                                                 # a click that was under way


@pytest.mark.parametrize("error, text", [(InputError("data.root is nowhere; name a folder"), "failed: data.root is nowhere; name a folder"),
                                         (RuntimeError("step 3: loss_sup is not finite"), "failed: step 3: loss_sup is not finite"), (KeyError("x"), "failed: KeyError: 'x'")])
def test_state__a_fit_that_failed(error, text):
    f = FakeFitting(None); f.alive, f.error = False, error; m = Monitor(f, every=0)
    assert m.head.head["state"] == "failed" and m.head.head["text"] == text and repr(m) == f"a run: {text}"
    m.refresh(); assert not m.is_live


def test_state__what_is_inactive_and_why(tmp_path):
    head = head_of(open_run(make_demo_run(tmp_path/"run", steps=300, num_images=2, until=50)))
    assert head["inactive"] == ["loss_unsup is inactive: supervised start until step 75"] and head["title"].endswith("made-up figures")


def test_pace__bounds_the_share(monkeypatch):
    now = [0.]; monkeypatch.setattr(monitor.time, "perf_counter", lambda: now[0])
    def show(seconds): now[0] += seconds
    pace = Pace(); pace.run(show, 5.); assert pace.is_due()                                           # building it does not count
    pace.run(show, .01); now[0] += .9; assert not pace.is_due(); now[0] += .11; assert pace.is_due()
    pace.run(show, 9.); now[0] += 4.01; assert pace.is_due()


def test_apply__what_waits_is_kept_and_shown_later(demo):
    m, calls = Monitor(demo, every=0), []
    m._curves = lambda new: calls.append(len(new.records))
    m.paces["records"].due = time.perf_counter() + 100
    left = m.apply(Update(m.head.head, records=[1], scale={}), now=False); assert calls == [] and left.records == [1]
    left = m.apply(left.then(Update(m.head.head, records=[1, 2])), now=True); assert calls == [2] and left.records is None


def test_marks__lasso_rings_pixels_on_images(demo):
    m = watch(demo, every=0); m.explorer.selected = [3, 40]; s = m.explorer.state
    assert m.overlay.marks == [[int(s.image[i]), int(s.row[i]), int(s.col[i])] for i in (3, 40)]
    m.explorer.selected = []; assert m.overlay.marks == []


# --- a real fit ----------------------------------------------------------------------------------------------------------------------

def test_fit_async__pause_resume_stop_each_within_one_step(tmp_path, few):
    going = fit_async(tiny_run("dgcl", out=str(tmp_path/"run"), steps=5000, loop__log_every=1, loop__evaluations=0, loop__checkpoints=0, loop__snapshots=500))
    m = Monitor(going, every=0); until(lambda: going.step >= 3)
    at = going.step; press(m, "pause"); until(going.is_paused); held = going.step; assert held - at <= 2        # the one under way, and one that began meanwhile
    m.refresh(); assert m.head.head["text"] == f"paused after step {held} of 5000"
    time.sleep(.2); assert going.step == held and going.is_paused()
    press(m, "resume"); until(lambda: going.step > held + 2); m.refresh(); assert m.head.head["state"] == "training" and m.figure is not None
    at = going.step; press(m, "stop"); going.wait(30); assert going.step - at <= 2 and not going.is_running()
    m.refresh(); m.refresh(); assert m.head.head["text"].startswith(f"stopped after step {going.step} of 5000; go on with") and not m.is_live
    assert metrics_of(going.folder)[-1]["step"] == going.step and (going.folder/"checkpoints"/f"step_{going.step:07d}.pt").exists()


def test_fit__blocking_streams_through_the_callback(tmp_path, few):
    m, seen = Monitor(every=0), []
    m.head.observe(lambda change: seen.append(change["new"]["text"]), "head")
    class Slow(Callback):
        def on_step(self, t, losses): m.callback.last = 0.                                            # as if half a second had passed
    assert "waiting for fit" in repr(m)
    fit(tiny_run("dgcl", out=str(tmp_path/"run"), steps=8, loop__snapshots=2), callbacks=[Slow(), m.callback])
    assert [f"step {i} of 8" for i in range(9)] == [t for t in dict.fromkeys(seen) if t.startswith("step")]
    assert m.head.head["state"] == "finished" and [s.step for s in m.explorer.states] == [4, 8] and m.overlay is not None


def test_fit__interrupted_says_how_to_go_on(tmp_path, few):
    m = Monitor(every=0)
    class Stop(Callback):
        def on_step(self, t, losses): t.control.stop()
    with pytest.raises(engine.Stopped): fit(tiny_run("supervised", out=str(tmp_path/"run"), steps=8), callbacks=[Stop(), m.callback])
    assert m.head.head["state"] == "stopped" and "ended after step 1 of 8; go on with" in m.head.head["text"]


# --- the thread and the loop ---------------------------------------------------------------------------------------------------------

def in_loop(steps):
    "Run a generator of waits inside an event loop, as cells run in a kernel."
    async def main():
        for wait in steps(): await asyncio.sleep(wait)
    asyncio.run(main())


def test_thread__follows_a_folder_that_another_process_writes(tmp_path):
    found = []
    def steps():
        m = watch(tmp_path/"run", every=.25); found.append(m); assert m.is_live and "does not exist" in repr(m) and "waiting for it" in repr(m)
        for stop in (100, 200, None):
            make_demo_run(tmp_path/"run", steps=300, snapshots=3, num_images=2, until=stop)
            yield 1.2
            assert len(m.explorer.states) == (3 if stop is None else stop // 100)
        for _ in range(20):
            if not m.is_live: break
            yield .25
        assert not m.is_live and m.head.head["state"] == "finished"
    in_loop(steps)
    assert not [t for t in threading.enumerate() if t.name == "monitor"]


def test_thread__at_most_one_update_is_pending(tmp_path):
    folder = make_demo_run(tmp_path/"run", steps=300, snapshots=3, num_images=2, until=100); asked = []
    def steps():
        m = watch(folder, every=.25); loop = m._loop
        m._loop = SimpleNamespace(call_soon_threadsafe=lambda fn: (asked.append(fn), loop.call_soon_threadsafe(fn)))
        looks, look = [], m.watcher.look; m.watcher.look = lambda: (looks.append(1), look())[1]
        yield .3
        asked.clear(); looks.clear(); time.sleep(1.5)                                                 # the loop is busy: looks go on, and are merged
        make_demo_run(folder, steps=300, snapshots=3, num_images=2, until=200); until(lambda: len(m._pending.states or ()) == 2, 10)
        assert len(looks) > 3 and len(asked) == 1
        yield .05
        assert len(m.explorer.states) == 2 or m._left.states
        m.close()
    in_loop(steps)


def test_thread__a_closed_loop_or_monitor_ends_it_quietly(demo, tmp_path, capfd):
    folder = make_demo_run(tmp_path/"run", steps=300, num_images=2, until=50)
    def steps():
        watch(folder, every=.25)                                                                      # left behind
        m = watch(folder, every=.25); yield .1
        m.close(); m.close()
        gone = watch(folder, every=.25); gone.comm.close(); gone.comm = None; yield .6                # as by Widget.close_all()
        assert not gone.is_live
    in_loop(steps)
    until(lambda: not [t for t in threading.enumerate() if t.name == "monitor"], 5)
    assert "Traceback" not in "".join(capfd.readouterr())


def test_two_monitors_on_one_run(tmp_path):
    folder = make_demo_run(tmp_path/"run", steps=300, snapshots=3, num_images=2, until=100); f = FakeFitting(folder)
    run = open_run(folder); a, b = Monitor(f, every=0), Monitor(run, every=0)
    make_demo_run(folder, steps=300, snapshots=3, num_images=2, until=200); a.refresh(); b.refresh()
    assert [len(m.explorer.states) for m in (a, b)] == [2, 2] and a.explorer is not b.explorer
    press(a, "pause"); f.holds = True; a.refresh(); assert a.head.head["state"] == "paused" and b.head.head["buttons"] == {}
    a.close(); make_demo_run(folder, steps=300, snapshots=3, num_images=2); b.refresh(); assert len(b.explorer.states) == 3


# --- bad input -----------------------------------------------------------------------------------------------------------------------

def test_watch__what_it_cannot_watch(demo):
    with pytest.raises(InputError, match="cannot watch a list; give a run folder"): watch([demo])
    with pytest.raises(InputError, match="unknown layout 'tsne'"): watch(demo, layout="tsne")
    with pytest.raises(InputError, match="every is 0.1 s.*choose 0.25 or more"): watch(demo, every=.1)


@pytest.mark.parametrize("kind, text", [("missing", "does not exist"), ("empty", "is empty"), ("foreign", "holds no run")])
def test_watch__a_folder_without_a_run_is_a_sentence(tmp_path, kind, text):
    if kind != "missing": (tmp_path/"run").mkdir()
    if kind == "foreign": (tmp_path/"run"/"notes.txt").touch()
    m = watch(tmp_path/"run", every=0); assert text in repr(m) and "waiting for it" in repr(m) and m.head.head["state"] == "waiting"
    if kind == "foreign": (tmp_path/"run"/"notes.txt").unlink()
    make_demo_run(tmp_path/"run", steps=300, num_images=2, until=40); m.refresh(); assert m.head.head["text"] == "step 25 of 300"


def test_watch__damaged_parts_are_named_and_the_rest_is_shown(tmp_path):
    folder = make_demo_run(tmp_path/"run", steps=300, snapshots=3, num_images=2, until=200)
    (folder/"snapshots"/"step_0000200.npz").write_bytes(b"half"); (folder/"config.json").write_text("{")
    with open(folder/"metrics.jsonl", "a") as f: f.write("broken\n" + json.dumps(dict(step=225, loss_sup=.1)))
    m = watch(folder, every=0)
    assert [s.step for s in m.explorer.states] == [100] and m.figure is not None and len(m.head.head["problems"]) == 3
    assert "step_0000200.npz cannot be read" in " ".join(m.head.head["problems"])


def test_watch__features_that_are_not_finite(tmp_path):
    folder = make_demo_run(tmp_path/"run", steps=300, snapshots=3, num_images=2, until=200)
    path = folder/"snapshots"/"step_0000200.npz"; snap = load_snapshot(path); snap.feats[:3] = np.nan; save_snapshot(folder, snap)
    m = watch(folder, every=0)
    assert [s.step for s in m.explorer.states] == [100] and m.overlay.meta["steps"] == [200] and "step 200" in m.head.head["problems"][0]
    (folder/"snapshots"/"step_0000100.npz").unlink()
    m = watch(folder, every=0); assert m.explorer is None and m.overlay is not None and "NaN" in m.head.head["problems"][0]
    m.refresh(); assert "NaN" in m.head.head["problems"][0]                                           # it is not forgotten by the next look


def test_watch__a_part_that_cannot_be_shown_says_so(demo, monkeypatch):
    monkeypatch.setattr(monitor, "curves", lambda *a, **k: 1 / 0)
    m = watch(demo, every=0)
    assert "This part cannot be shown: ZeroDivisionError" in m.places[0].children[0].value and m.explorer is not None and m.overlay is not None


def test_watch__a_fault_of_a_look_is_said_not_raised(demo, monkeypatch):
    monkeypatch.setattr(Watcher, "_read", lambda self, new: 1 / 0)
    m = watch(demo, every=0); assert m.head.head["problems"] == ["something is not shown: ZeroDivisionError: division by zero"]
