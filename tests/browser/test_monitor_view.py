"""The live monitor in JupyterLab: a training streams, its sliders stay alive, and its buttons are obeyed."""

import pytest
from lab import (
    colours,
    differ,
    kernel_says,
    open_notebook,
    picture,
    press,
    run_notebook,
    wait_until,
)

from dgcl_nb.looking.demo_run import make_demo_run

pytest.importorskip("dgcl_nb.widgets.monitor")
SETUP = """import tempfile
from helpers import tiny_run
from dgcl_nb.background import fit_async
from dgcl_nb.widgets.monitor import watch
rare = dict(loop__snapshots=250, loop__evaluations=0, loop__checkpoints=1, loop__log_every=5)
place = tempfile.mkdtemp() + '/live'
run = tiny_run('dgcl', steps=5000, out=place, dgcl__bank__min_fill=4, **rare)"""
LATE = """rare |= dict(loop__sup_only_fraction=.15, dgcl__bank__min_fill=4)
run = tiny_run('dgcl', steps=3000, out=place + '2', **rare)"""
CURVES = """() => {
    const plot = document.querySelector('.js-plotly-plot');
    const names = plot?._fullData?.map((trace) => trace.name) ?? [];
    const lengths = plot?._fullData?.map((trace) => trace.x.length) ?? [];
    return {names, lengths, texts: plot?.layout?.annotations?.map((note) => note.text) ?? []};
}"""
OF_MODEL = "__import__('json').loads(m.figure.figure)"
PATIENCE = 120
"Seconds in which a training, its kernel and a browser answer on busy cores; idle, a whole test takes 20."
FIRST_CURVE = "()=>document.querySelector('.js-plotly-plot')._fullData?.[0]?.x?.length ?? 0"

DARK = "() => jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})"
LEAST_CONTRAST = """() => {
    const channel = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const luminance = (css) => {
        const [r, g, b] = css.match(/[\\d.]+/g).map((v) => channel(v / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const place = document.querySelector('.dgcl-mon-figure');
    const ground = luminance(getComputedStyle(place.closest('.dgcl-mon-curves')).backgroundColor);
    const words = [...place.querySelectorAll('.main-svg text')].filter((word) => word.textContent.trim());
    const ratios = words.map((word) => {
        const ink = luminance(getComputedStyle(word).fill);
        return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
    });
    return {ground, least: Math.min(...ratios)};
}"""


def points_drawn(page):
    "How long the first curve is; 0 while plotly has none, as when a figure gets other curves."
    return page.evaluate(FIRST_CURVE)


def number_shown(page):
    return int(page.locator(".dgcl-count b").inner_text().replace(",", ""))


def newest_step(page):
    return kernel_says(page, "m.explorer.states[-1].step")


def gap_above_image(page):
    "Pixels between a list of choices and the image below it."
    choice = page.get_by_label("left layer").bounding_box()
    return page.locator("canvas[data-panel=left]").bounding_box()["y"] - choice["y"] - choice["height"]


def open_monitor(page, lab):
    run_notebook(page, lab, "monitor", SETUP, "fitting = fit_async(run)\nm = watch(fitting)\nm")
    assert kernel_says(page, "fitting.is_running()")  # the cell gave control back at once
    for drawn in (".js-plotly-plot .main-svg", "canvas.dgcl-over", "canvas[data-panel=left]"):
        page.wait_for_selector(drawn, timeout=1000 * PATIENCE)


def check_streams(page):
    step = newest_step(page)
    wait_until(lambda: newest_step(page) > step, PATIENCE, "a further snapshot")
    wait_until(lambda: points_drawn(page) > 0, PATIENCE, "curves")
    points = points_drawn(page)
    wait_until(lambda: points_drawn(page) > points, PATIENCE, "longer curves")


def check_pause(page, state):  # -> the step at which it holds
    page.get_by_role("button", name="Pause").click()
    wait_until(lambda: state.inner_text().startswith("paused"), PATIENCE, "pausing")
    held = kernel_says(page, "fitting.step")
    page.locator(".dgcl-stage").scroll_into_view_if_needed()
    page.wait_for_timeout(1500)
    assert kernel_says(page, "fitting.step") == held
    return held


def is_another(before, after):
    "Whether a picture has changed; the lines above it may have moved it by a part of a pixel, and its edge."
    return before.shape != after.shape or differ(before, after) > 0.001


def check_slider_while_training(page, before, drawn):
    low = page.get_by_role("slider", name="Density, lower bound")
    press(low, *["ArrowRight"] * 30)

    def heard():
        return number_shown(page) < before and kernel_says(page, "m.explorer.density_range") is not None

    wait_until(heard, PATIENCE, "the slider's effect beside training")
    stage = page.locator(".dgcl-stage")
    wait_until(lambda: is_another(drawn, picture(stage)), PATIENCE, "another picture")
    assert kernel_says(page, "fitting.is_running()")


def check_narrow_window(page):
    "All columns of the curves are in sight at 800 pixels, and nothing lies over what follows."
    page.set_viewport_size(dict(width=800, height=900))
    place, plot = page.locator(".dgcl-mon-figure"), page.locator(".js-plotly-plot").first

    def fits():
        "The figure is drawn anew some frames after the window has its width."
        size, room = plot.bounding_box(), place.bounding_box()
        sticks_out = place.evaluate("e => e.scrollWidth - e.clientWidth")
        return size["width"] < 700 and sticks_out <= 1 and abs(size["height"] - room["height"]) < 2

    wait_until(fits, PATIENCE, "smaller curves")


def test_notebook__words_of_curves_are_readable_in_both_themes(page, lab, tmp_path):
    "They have WCAG's contrast AA (4.5) on their ground."
    make_demo_run(tmp_path / "run", steps=200, snapshots=2, num_images=2)
    watching = f"from dgcl_nb.widgets.monitor import watch\nwatch({str(tmp_path / 'run')!r})"
    run_notebook(page, lab, "themes", watching)
    page.wait_for_selector(".js-plotly-plot .main-svg text", timeout=60_000)
    light = page.evaluate(LEAST_CONTRAST)
    assert light["ground"] > 0.9 and light["least"] >= 4.5, light
    page.evaluate(DARK)
    wait_until(lambda: page.evaluate(LEAST_CONTRAST)["ground"] < 0.1, 20, "a dark ground")
    dark = page.evaluate(LEAST_CONTRAST)
    assert dark["least"] >= 4.5, dark


def test_notebook__live_training_is_watched_and_stopped(page, lab):
    open_monitor(page, lab)
    # the styles of ipywidgets, in which the views lie, leave theirs alone; they come with the first drawing
    wait_until(lambda: gap_above_image(page) > 4, PATIENCE, "room above the image")
    check_streams(page)
    state = page.locator(".dgcl-mon-state")
    held = check_pause(page, state)
    before, drawn = number_shown(page), picture(page.locator(".dgcl-stage"))
    assert colours(drawn) > 10
    page.get_by_role("button", name="Resume").click()
    wait_until(lambda: kernel_says(page, "fitting.step") > held, PATIENCE, "going on")
    check_slider_while_training(page, before, drawn)
    page.get_by_role("button", name="Stop").click()
    wait_until(lambda: "stopped after step" in state.inner_text(), PATIENCE, "stopping")
    assert not kernel_says(page, "fitting.is_running()") and kernel_says(page, "fitting.error.step") < 5000
    assert kernel_says(page, "m.explorer.density_range") is not None  # what was set is still set
    check_narrow_window(page)


def check_head_stays(page):
    "The heading is in sight, buttons and all, while the images at the end are looked at."
    page.locator("canvas[data-panel=left]").scroll_into_view_if_needed()
    box = page.get_by_role("button", name="Stop").bounding_box()
    assert box and 0 < box["y"] < 300, box


def check_curves_are_whole(page):
    "The page shows what the model holds, in the width that there is."
    shown = page.evaluate(CURVES)
    assert shown["names"] == kernel_says(page, f"[t['name'] for t in {OF_MODEL}['data']]")
    texts = kernel_says(page, f"[a['text'] for a in {OF_MODEL}['layout']['annotations']]")
    assert shown["texts"] == texts and not [text for text in texts if "supervised start" in text]
    assert shown["lengths"][0] > 10
    plot, place = (page.locator(s).first.bounding_box() for s in (".js-plotly-plot", ".dgcl-mon-figure"))
    assert abs(plot["width"] - place["width"]) < 3


def test_notebook__page_loaded_again_while_training(page, lab):
    run_notebook(page, lab, "reload", SETUP, LATE, "fitting = fit_async(run)\nm = watch(fitting)\nm")
    page.wait_for_selector(".js-plotly-plot .main-svg", timeout=60_000)
    assert [text for text in page.evaluate(CURVES)["texts"] if "supervised start" in text]
    page.evaluate("async () => { await jupyterapp.commands.execute('docmanager:save'); }")
    open_notebook(page, lab, "reload")
    page.wait_for_selector(".js-plotly-plot .main-svg", timeout=60_000)
    wait_until(lambda: points_drawn(page) > 0, 60, "curves after the page was loaded again")
    begun = "'contrastive loss' in m.figure.figure and 'supervised start' not in m.figure.figure"
    wait_until(lambda: kernel_says(page, begun), 120, "the contrast")
    page.get_by_role("button", name="Pause").click()
    wait_until(lambda: page.locator(".dgcl-mon-state").inner_text().startswith("paused"), 20, "pausing")
    page.wait_for_timeout(5000)  # a part is held back for four seconds at most
    check_curves_are_whole(page)
    check_head_stays(page)
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Go on").click(timeout=60_000)
    wait_until(lambda: kernel_says(page, "fitting.is_running()"), 20, "going on")
    page.get_by_role("button", name="Stop").click(timeout=60_000)
    wait_until(lambda: not kernel_says(page, "fitting.is_running()"), 60, "stopping")
