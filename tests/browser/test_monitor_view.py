"""The live monitor in JupyterLab: a training in the background streams, its sliders stay alive, and Pause, Resume and Stop are obeyed."""
import pytest
from lab import colours, differ, kernel_says, picture, press, run_notebook, wait_until

pytest.importorskip("dgcl_nb.widgets.monitor")
SETUP = """import tempfile
from helpers import tiny_run
from dgcl_nb.engine import fit_async
from dgcl_nb.widgets.monitor import watch
run = tiny_run('dgcl', steps=5000, out=tempfile.mkdtemp() + '/live', loop__snapshots=250, loop__evaluations=0, loop__checkpoints=1, loop__log_every=5,
               dgcl__bank__min_fill=4)"""


def points_drawn(page):
    "How long the first curve is; 0 while plotly has none, as in the moment when a figure gets other curves."
    return page.evaluate("()=>document.querySelector('.js-plotly-plot')._fullData?.[0]?.x?.length ?? 0")


def number_shown(page): return int(page.locator(".dgcl-count b").inner_text().replace(",", ""))


def test_notebook__live_training_is_watched_and_stopped(page, lab):
    run_notebook(page, lab, "monitor", SETUP, "fitting = fit_async(run)\nm = watch(fitting)\nm")
    assert kernel_says(page, "fitting.is_running()")                              # the cell gave control back at once
    page.wait_for_selector(".js-plotly-plot .main-svg", timeout=60_000)
    page.wait_for_selector("canvas.dgcl-over", timeout=60_000); page.wait_for_selector("canvas[data-panel=left]")
    gap = page.locator("canvas[data-panel=left]").bounding_box()["y"] - sum(page.get_by_label("left layer").bounding_box()[k] for k in ("y", "height"))
    assert gap > 4                                                                # the styles of ipywidgets, in which the views lie, leave theirs alone
    state = page.locator(".dgcl-mon-state"); step = kernel_says(page, "m.explorer.states[-1].step")
    wait_until(lambda: kernel_says(page, "m.explorer.states[-1].step") > step, 30, "a further snapshot")         # it streams
    wait_until(lambda: points_drawn(page) > 0, 20, "curves"); points = points_drawn(page)
    wait_until(lambda: points_drawn(page) > points, 20, "longer curves")

    page.get_by_role("button", name="Pause").click()
    wait_until(lambda: state.inner_text().startswith("paused"), 20, "pausing"); held = kernel_says(page, "fitting.step")
    stage = page.locator(".dgcl-stage"); stage.scroll_into_view_if_needed(); page.wait_for_timeout(1500)
    assert kernel_says(page, "fitting.step") == held
    before, drawn = number_shown(page), picture(stage)
    assert colours(drawn) > 10
    page.get_by_role("button", name="Resume").click()
    wait_until(lambda: kernel_says(page, "fitting.step") > held, 20, "going on")
    low = page.get_by_role("slider", name="Density, lower bound")
    press(low, *["ArrowRight"] * 30)                                              # while it trains
    wait_until(lambda: number_shown(page) < before and kernel_says(page, "m.explorer.density_range") is not None, 20, "the slider's effect beside training")
    assert differ(drawn, picture(stage)) > .001 and kernel_says(page, "fitting.is_running()")

    page.get_by_role("button", name="Stop").click()
    wait_until(lambda: "stopped after step" in state.inner_text(), 30, "stopping")
    assert not kernel_says(page, "fitting.is_running()") and kernel_says(page, "fitting.error.step") < 5000
    assert kernel_says(page, "m.explorer.density_range") is not None              # what was set is still set
