"The feature explorer in JupyterLab: sliders beside a busy kernel, a lasso that marks pixels, neighbours."

import pytest
from lab import (
    colours,
    differ,
    interrupt,
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
from dgcl_nb.looking.demo_run import make_demo_run
from dgcl_nb.widgets.explorer import explore
from dgcl_nb.widgets.overlay import overlay
folder = make_demo_run(tempfile.mkdtemp() + '/demo', steps=200, snapshots=4)"""
EXPLORER = "w = explore(folder)\nw"
OVERLAY = "view = overlay(folder, left='image', right='density')\nview"


@pytest.fixture
def view(page, lab):
    "A notebook with an explorer and, below it, an overlay of the same run."
    run_notebook(page, lab, "explorer", SETUP, EXPLORER, OVERLAY)
    page.locator("canvas.dgcl-over").wait_for()
    page.locator(".dgcl-stage").scroll_into_view_if_needed()
    wait_until(lambda: number_shown(page) > 100, 20, "points")
    return page


def number_shown(page):
    return int(page.locator(".dgcl-count b").inner_text().replace(" ", ""))


def draw_lasso(page):
    "A line around the upper half of the picture, by mouse."
    box = page.locator("canvas.dgcl-over").bounding_box()
    left, right = (box["x"] + share * box["width"] for share in (0.02, 0.98))
    top, bottom = (box["y"] + share * box["height"] for share in (0.02, 0.55))
    page.mouse.move(left, top)
    page.mouse.down()
    for place in ((right, top), (right, bottom), (left, bottom), (left, top)):
        page.mouse.move(*place, steps=8)
    page.mouse.up()


def test_notebook__density_keys_do_not_wait_for_python_and_a_click_asks_it(view):
    stage = view.locator(".dgcl-stage")
    before, bare = number_shown(view), picture(stage)
    assert colours(bare) > 10
    run_code(view, "time.sleep(40)", wait=False)
    wait_until(lambda: kernel_status(view) == "busy", 10, "a busy kernel")
    low = view.get_by_role("slider", name="Density, lower bound")
    press(low, *["ArrowRight"] * 40)
    shown = number_shown(view)
    assert 0 < shown < before
    assert differ(bare, picture(stage)) > 0.001
    assert kernel_status(view) == "busy"
    interrupt(view)
    wait_until(lambda: kernel_says(view, "len(w.shown())") == shown, 10, "Python's seeing the slider")
    press(low, "Home")
    assert number_shown(view) == before
    press(view.locator("canvas.dgcl-over"), "ArrowRight", "Enter")
    wait_until(lambda: kernel_says(view, "w.clicked") >= 0, 10, "a click by key")
    assert view.locator(".dgcl-near li").count() == 8


def test_notebook__lasso_marks_pixels_in_the_images_of_both_views(view):
    stage, marked = view.locator(".dgcl-stage"), view.locator(".dgcl-strip canvas")
    bare = picture(stage)
    draw_lasso(view)
    wait_until(lambda: kernel_says(view, "len(w.selected)"), 10, "the lasso")
    assert differ(bare, picture(stage)) > 0.001
    marked.first.wait_for()
    assert marked.count() == kernel_says(view, "len({m[0] for m in w.marks()})")
    assert colours(picture(marked.first)) > 50
    ringed, readout = view.locator("canvas[data-panel=left]"), view.locator(".dgcl-ov-readout")
    ringed.scroll_into_view_if_needed()
    bare = picture(ringed)
    run_code(view, "view.marks = w.marks(); view.image_index = w.marks()[0][0]")
    wait_until(lambda: "marked cell" in readout.inner_text(), 10, "rings on the image")
    assert differ(bare, picture(ringed)) > 0.001
    view.get_by_role("button", name="Clear").click()
    wait_until(lambda: kernel_says(view, "w.selected == []"), 10, "clearing")
    assert marked.count() == 0
