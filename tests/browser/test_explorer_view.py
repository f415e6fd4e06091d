"""The feature explorer in JupyterLab: real keys on the density slider, a lasso by mouse that marks pixels on the images, neighbours of a click."""

import pytest
from lab import (
    colours,
    differ,
    kernel_says,
    kernel_status,
    picture,
    press,
    run_code,
    run_notebook,
    wait_until,
)

pytest.importorskip("dgcl_nb.widgets.explorer")
SETUP = """import tempfile, time
from dgcl_nb.looking.runs import make_demo_run
from dgcl_nb.widgets.explorer import explore
from dgcl_nb.widgets.overlay import overlay
folder = make_demo_run(tempfile.mkdtemp() + '/demo', steps=200, snapshots=4)"""


def number_shown(page):
    return int(
        page.locator(".dgcl-count b")
        .inner_text()
        .replace(",", "")
        .replace("\u202f", "")
        .replace("\u2009", "")
    )


def test_notebook__density_keys_lasso_and_neighbours(page, lab):
    run_notebook(
        page,
        lab,
        "explorer",
        SETUP,
        "w = explore(folder)\nw",
        "view = overlay(folder, left='image', right='density')\nview",
    )
    stage, over = page.locator(".dgcl-stage"), page.locator("canvas.dgcl-over")
    over.wait_for()
    stage.scroll_into_view_if_needed()
    wait_until(lambda: number_shown(page) > 100, 20, "points")
    before, picture_before = number_shown(page), picture(stage)
    assert colours(picture_before) > 10
    run_code(page, "time.sleep(40)", wait=False)  # the slider must not wait for Python
    wait_until(lambda: kernel_status(page) == "busy", 10, "a busy kernel")
    low = page.get_by_role("slider", name="Density, lower bound")
    press(low, *["ArrowRight"] * 40)
    shown = number_shown(page)
    assert (
        0 < shown < before
        and differ(picture_before, picture(stage)) > 0.001
        and kernel_status(page) == "busy"
    )
    page.evaluate("()=>jupyterapp.shell.currentWidget.context.sessionContext.session.kernel.interrupt()")
    wait_until(lambda: kernel_says(page, "len(w.shown())") == shown, 10, "Python's seeing the slider")
    press(low, "Home")
    assert number_shown(page) == before

    box = over.bounding_box()
    picture_before = picture(stage)
    corners = [(0.02, 0.02), (0.98, 0.02), (0.98, 0.55), (0.02, 0.55)]
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*points[0])
    page.mouse.down()
    for p in [*points[1:], points[0]]:
        page.mouse.move(*p, steps=8)
    page.mouse.up()
    wait_until(lambda: kernel_says(page, "len(w.selected)"), 10, "the lasso")
    assert differ(picture_before, picture(stage)) > 0.001
    marked = page.locator(".dgcl-strip canvas")
    marked.first.wait_for()
    assert (
        marked.count() == kernel_says(page, "len({m[0] for m in w.marks()})")
        and colours(picture(marked.first)) > 50
    )
    ringed = page.locator("canvas[data-panel=left]")
    ringed.scroll_into_view_if_needed()
    bare = picture(ringed)
    run_code(page, "view.marks = w.marks(); view.image_index = w.marks()[0][0]")
    wait_until(
        lambda: "marked cell" in page.locator(".dgcl-ov-readout").inner_text(), 10, "rings on the image"
    )
    assert differ(bare, picture(ringed)) > 0.001

    page.get_by_role("button", name="Clear").click()
    wait_until(lambda: kernel_says(page, "w.selected == []"), 10, "clearing")
    assert marked.count() == 0
    stage.scroll_into_view_if_needed()
    press(over, "ArrowRight", "Enter")
    wait_until(lambda: kernel_says(page, "w.clicked") >= 0, 10, "a click by key")
    assert page.locator(".dgcl-near li").count() == 8
