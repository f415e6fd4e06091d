"The image overlay in a browser: what it paints, its sliders beside a busy kernel, readout, keys and rings."

from dataclasses import replace

import numpy as np
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
    two_frames,
    wait_until,
)
from test_snapshots import make

front = pytest.importorskip("dgcl_nb.widgets.front")
from dgcl_nb.core import IGNORE_INDEX  # noqa: E402
from dgcl_nb.widgets.overlay import OVERLAY_CSS, OVERLAY_ESM, overlay_values  # noqa: E402

PALETTE = np.array([[10, 20, 30], [200, 0, 0], [0, 160, 0], [0, 0, 250]], np.uint8)
NAMES = ("sky", "road", "tree", "car")
PIXELS = """canvas => {
    const pen = canvas.getContext("2d");
    const scale = canvas.width / 64;
    const colourAt = (row, col) => [...pen.getImageData((col + .5) * scale, (row + .5) * scale, 1, 1).data];
    const numbers = [...Array(64).keys()];
    return numbers.map((row) => numbers.map((col) => colourAt(row, col)));
}"""
NAMELESS = """root => {
    const all = [...root.querySelectorAll("input, select, button, canvas")];
    const hasName = (x) => x.labels?.length || x.getAttribute("aria-label") || x.textContent.trim();
    return all.filter((x) => !hasName(x)).map((x) => x.outerHTML);
}"""


def snap(step=200, seed=0, **kwargs):
    "Four classes; one pixel without truth, and one cell without density."
    s = make(step=step, seed=seed, **kwargs)[0]
    target, per_k = s.target.copy(), s.density_per_k.copy()
    target[0, 0, 0] = IGNORE_INDEX
    per_k[0, :, 15, 15] = np.nan
    return replace(s, target=target, density_per_k=per_k, palette=PALETTE, class_names=NAMES)


def show(page, tmp_path, snaps, **controls):
    "The view in a page without a kernel; returns its two canvases."
    html = front.front_page(OVERLAY_ESM, OVERLAY_CSS, overlay_values(snaps, **controls), "Overlay")
    file = tmp_path / "page.html"
    file.write_text(f"<!doctype html><meta charset=utf-8><body>{html}</body>", encoding="utf-8")
    page.goto(file.as_uri())
    page.wait_for_selector("canvas[aria-label]")
    return page.locator("canvas[data-panel=left]"), page.locator("canvas[data-panel=right]")


def control(page, role, name):
    return page.get_by_role(role, name=name, exact=True)


def choose(page, name, value):
    control(page, "combobox", name).select_option(value)


def readout(page):
    "What the list of values says."
    two_frames(page)
    return page.locator(".dgcl-ov-readout").inner_text()


def text_of(page):
    return page.locator(".dgcl-front").inner_text()


def right_legend(page):
    return page.locator(".dgcl-ov-legend").nth(1).inner_text()


def painted(canvas):
    "The canvas at one point a pixel of the image: (64, 64, 3)."
    two_frames(canvas.page)
    return np.array(canvas.evaluate(PIXELS))[..., :3]


def assert_one_colour(pixels, colour):
    "All pixels (n, 3) have a colour."
    assert len(pixels)
    assert np.unique(pixels, axis=0).tolist() == [list(colour)]


def test_layers__classes_are_painted_as_they_are(page, tmp_path):
    s = snap()
    left, right = show(page, tmp_path, [s], left="image", right="target", alpha=1)
    np.testing.assert_array_equal(painted(left), s.image[0])  # nearest neighbour: every pixel, unchanged
    known = s.target[0] != IGNORE_INDEX
    np.testing.assert_array_equal(painted(right)[known], PALETTE[s.target[0][known]])
    np.testing.assert_array_equal(painted(right)[0, 0], front.UNKNOWN)
    choose(page, "right layer", "right_wrong")
    is_right = s.target[0] == s.prediction[0]
    assert_one_colour(painted(right)[known & is_right], front.RIGHT_WRONG[0])
    assert_one_colour(painted(right)[known & ~is_right], front.RIGHT_WRONG[1])


def test_layers__unknown_density_is_grey_and_named(page, tmp_path):
    s = snap()
    _, right = show(page, tmp_path, [s], right="density_16", alpha=1)
    density = s.density_per_k[0, 1].astype(float)
    low, high, _ = overlay_values([s])["meta"]["ranges"]["density"]
    wanted = front.cividis((density - low) / (high - low)).repeat(4, 0).repeat(4, 1)
    assert np.abs(painted(right).astype(int) - wanted).max() <= 2
    assert_one_colour(painted(right)[60:, 60:].reshape(-1, 3), front.UNKNOWN)
    assert "unknown" in right_legend(page)
    right.hover(position=dict(x=62 * 5, y=62 * 5))
    assert readout(page).count("unknown") == 4  # the mean, and each k
    # what is not known is hidden as soon as anything is
    press(control(page, "slider", "threshold, lower bound"), "ArrowRight")
    grey = painted(right)[60:, 60:]
    assert (np.ptp(grey, axis=-1) <= 1).all()
    assert len(np.unique(grey.reshape(-1, 3), axis=0)) > 1  # the image in grey, no longer one colour


def test_layers__dropped_pseudo_labels_are_hatched(page, tmp_path):
    _, right = show(page, tmp_path, [snap()], right="right_wrong", alpha=1)
    plain = picture(right)
    choose(page, "right layer", "pseudo_label")
    assert differ(plain, picture(right)) > 0.3
    assert colours(picture(right)) > 20  # classes and hatching
    assert "dropped by the filter" in right_legend(page)


@pytest.mark.parametrize("background, share", [(None, 1), (1, 0.5)])
def test_layers__background_is_painted_fainter_wherever_it_stands(page, tmp_path, background, share):
    names = [*NAMES]
    if background is not None:
        names[background] = "background"
    s = replace(snap(), class_names=tuple(names))
    _, right = show(page, tmp_path, [s], right="prediction", alpha=1)
    is_road = s.prediction[0] == 1
    grey = s.image[0][is_road] @ [0.299, 0.587, 0.114]
    wanted = share * PALETTE[1] + (1 - share) * grey[:, None]
    assert np.abs(painted(right)[is_road] - wanted).max() <= 1


def test_keys__alpha_and_threshold(page, tmp_path):
    snaps, layers = [snap()], dict(left="prediction", right="confidence", threshold_of="confidence")
    left, right = show(page, tmp_path, snaps, **layers)
    before = picture(right)
    press(control(page, "slider", "alpha"), *["ArrowLeft"] * 3)
    assert differ(before, picture(right)) > 0.3
    before = [picture(left), picture(right)]
    press(control(page, "slider", "threshold, lower bound"), *["ArrowRight"] * 30)
    after = [picture(left), picture(right)]
    assert min(map(differ, before, after)) > 0.1  # hidden in both panels
    assert "% hidden" in text_of(page)
    press(control(page, "slider", "threshold, lower bound"), "Home")
    assert "nothing is hidden" in text_of(page)


def test_threshold__has_an_upper_end(page, tmp_path):
    s = snap()
    layers = dict(right="confidence", threshold_of="confidence", threshold_to=0.5, alpha=1)
    _, right = show(page, tmp_path, [s], **layers)
    confidence, seen = s.confidence[0].astype(float), painted(right).astype(int)
    is_hidden, grey = confidence > 0.5, s.image[0] @ [0.299, 0.587, 0.114]
    assert np.abs(seen - grey[..., None])[is_hidden].max() <= 1
    assert np.abs(seen - front.cividis(confidence))[~is_hidden].max() <= 2
    assert "0.00 to 0.50" in text_of(page)
    press(control(page, "slider", "threshold, upper bound"), "End")
    assert "nothing is hidden" in text_of(page)


def test_image__smaller_than_the_maps_leaves_the_rest_to_the_page(page, tmp_path):
    s = replace(snap(), shown_size=np.int32([[40, 64]] * 3), image_size=np.int32([[400, 640]] * 3))
    left, _ = show(page, tmp_path, [s], left="image")
    alpha = np.array(left.evaluate(PIXELS))[..., 3]
    assert (alpha[:40] == 255).all() and (alpha[40:] == 0).all()
    assert "the whole image of 400 × 640 pixels, shown at 40 × 64" in text_of(page)


def test_crosshair__comes_within_a_smaller_image(page, tmp_path):
    sizes = np.int32([[64, 64], [40, 50], [64, 64]])
    _, right = show(page, tmp_path, [replace(snap(), shown_size=sizes, image_size=sizes)])
    press(right, "ArrowRight", *["ArrowRight"] * 25, *["ArrowDown"] * 25)
    assert "row 57, column 57" in readout(page)
    choose(page, "image", "1")
    assert "row 39, column 49" in readout(page)


def test_keys__image_step_and_play(page, tmp_path):
    left, _ = show(page, tmp_path, [snap(10), snap(20, seed=1), snap(30, seed=2)])
    image, step = control(page, "combobox", "image"), control(page, "slider", "step")
    before = picture(left)
    press(control(page, "button", "next"), "Enter")
    assert differ(before, picture(left)) > 0.3
    assert image.input_value() == "1"
    press(control(page, "button", "previous"), "Enter", "Enter")
    two_frames(page)
    assert image.input_value() == "2"  # round the end
    before = picture(left)
    press(step, "ArrowLeft")
    assert differ(before, picture(left)) > 0.3
    assert "20 (2 of 3)" in text_of(page)
    press(step, "ArrowLeft")
    control(page, "button", "play").click()
    wait_until(lambda: "30 (3 of 3)" in text_of(page), 5, "the last step")
    wait_until(control(page, "button", "play").count, 5, "the end of playing")


def test_pixel__all_values_by_mouse(page, tmp_path):
    s = snap()
    left, right = show(page, tmp_path, [s], image_index=1)
    before = [picture(left), picture(right)]
    row, col = 14, 37
    left.hover(position=dict(x=(col + 0.5) * 5, y=(row + 0.5) * 5))
    text = readout(page)
    assert f"row {row}, column {col}" in text
    assert ("keeps it" if s.kept[1, row, col] else "drops it") in text
    for classes in (s.target, s.prediction, s.pseudo_label):
        assert NAMES[classes[1, row, col]] in text
    cell = (row // 4, col // 4)
    values = [s.confidence[1, row, col], s.entropy[1, row, col], s.density[1][cell]]
    for value in [*values, *(density[cell] for density in s.density_per_k[1])]:
        assert f"{float(value):.3f}" in text
    assert all(f"k = {k}" in text for k in (8, 16, 32))
    after = [picture(left), picture(right)]
    assert min(map(differ, before, after)) > 0  # crosshairs in both


def test_pixel__by_keys(page, tmp_path):
    _, right = show(page, tmp_path, [snap()])
    press(right, "ArrowRight")
    assert "row 32, column 32" in readout(page)  # the first key goes to the middle
    press(right, "ArrowRight", "ArrowDown")
    assert "row 33, column 33" in readout(page)
    page.keyboard.press("Escape")
    assert "Point at a pixel" in readout(page)


def test_marks__are_counted_and_ringed(page, tmp_path):
    left, _ = show(page, tmp_path, [snap()], image_index=1, marks=[[1, 3, 4], [1, 3, 5], [2, 0, 0]])
    assert "2 marked cells" in readout(page)
    assert "(2 marked)" in control(page, "combobox", "image").inner_text()
    ringed = picture(left)
    choose(page, "image", "2")
    assert "1 marked cell" in readout(page)
    assert differ(ringed, picture(left)) > 0


def test_every_control__has_a_name(page, tmp_path):
    show(page, tmp_path, [snap(10), snap(20)])
    assert page.locator(".dgcl-front").evaluate(NAMELESS) == []
    for name in ("image", "left layer", "hide pixels by"):
        assert control(page, "combobox", name).count() == 1
    for name in ("step", "alpha", "threshold, lower bound", "threshold, upper bound"):
        assert control(page, "slider", name).count() == 1


@pytest.mark.parametrize("width", [616, 800])
def test_narrow_place__both_panels_side_by_side_and_values_below(page, tmp_path, width):
    page.set_viewport_size(dict(width=width, height=900))
    left, right = show(page, tmp_path, [snap()], left="image", right="density", alpha=1)
    a, b = left.bounding_box(), right.bounding_box()
    assert a["y"] == b["y"] and b["x"] + b["width"] <= width
    assert abs(a["width"] - a["height"]) < 1  # the shape of its image
    right.hover(position=dict(x=b["width"] * 62.5 / 64, y=b["height"] * 62.5 / 64))
    assert "row 62, column 62" in readout(page)
    values = page.locator(".dgcl-ov-readout").bounding_box()
    assert values["y"] >= b["y"] + b["height"] and values["width"] > 0.8 * (b["x"] + b["width"] - a["x"])


IMPORTS = """import time
from test_snapshots import make
from dgcl_nb.widgets.overlay import overlay"""
VIEW = "view = overlay([make(step=n, seed=n)[0] for n in (10, 20)], right='density')\nview"


def test_notebook__sliders_beside_a_busy_and_a_closed_kernel(page, lab):
    run_notebook(page, lab, "overlay", IMPORTS, VIEW)
    right = page.locator("canvas[data-panel=right]")
    right.wait_for()
    right.scroll_into_view_if_needed()
    alpha, threshold = (control(page, "slider", n) for n in ("alpha", "threshold, lower bound"))
    assert colours(picture(right)) > 50
    run_code(page, "time.sleep(60)", wait=False)
    wait_until(lambda: kernel_status(page) == "busy", 10, "a busy kernel")
    before = picture(right)
    press(alpha, *["ArrowLeft"] * 4)
    after = picture(right)
    assert differ(before, after) > 0.3
    press(threshold, *["ArrowRight"] * 40)
    assert differ(after, picture(right)) > 0.05
    assert kernel_status(page) == "busy"
    interrupt(page)
    told = "round(view.alpha, 2) == .5 and view.threshold > view.meta['ranges']['density'][0]"
    wait_until(lambda: kernel_says(page, told), 10, "Python's learning what was set while it was busy")
    before = picture(right)
    run_code(page, "view.right = 'entropy'; view.marks = [[0, 1, 1]]; view.step_index = 0")
    wait_until(lambda: "1 marked cell" in readout(page), 10, "what Python set")
    assert differ(before, picture(right)) > 0.3
    assert control(page, "combobox", "right layer").input_value() == "entropy"
    run_code(page, "view.set_snapshot(make(step=77, seed=7, num=2)[0])")
    wait_until(lambda: "step 77" in right.get_attribute("aria-label"), 10, "the new snapshot")
    page.evaluate("() => jupyterapp.shell.currentWidget.context.sessionContext.shutdown()")
    before = picture(right)
    press(alpha, "Home")
    assert differ(before, picture(right)) > 0.3
