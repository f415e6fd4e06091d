"""The image overlay in a browser: what it paints, its sliders beside a busy and a closed kernel, its readout, keys and rings."""

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
from dgcl_nb.widgets.overlay import OVERLAY_CSS, OVERLAY_JS, overlay_values  # noqa: E402

PALETTE = np.array([[10, 20, 30], [200, 0, 0], [0, 160, 0], [0, 0, 250]], np.uint8)


def snap(step=200, seed=0, **kwargs):
    s = replace(
        make(step=step, seed=seed, **kwargs)[0], palette=PALETTE, class_names=("sky", "road", "tree", "car")
    )
    target = s.target.copy()
    target[0, 0, 0] = IGNORE_INDEX
    per_k = s.density_per_k.copy()
    per_k[0, :, 15, 15] = np.nan
    return replace(s, target=target, density_per_k=per_k)


def show(page, tmp_path, snaps, **controls):
    "The view in a page without a kernel."
    html = front.front_page(
        front.front_module(*OVERLAY_JS),
        front.FRONT_CSS + OVERLAY_CSS,
        overlay_values(snaps, **controls),
        "Overlay",
    )
    (tmp_path / "page.html").write_text(
        f"<!doctype html><meta charset=utf-8><body>{html}</body>", encoding="utf-8"
    )
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_selector("canvas[aria-label]")
    return page.locator("canvas[data-panel=left]"), page.locator("canvas[data-panel=right]")


def control(page, role, name):
    return page.get_by_role(role, name=name, exact=True)


def painted(canvas):
    "The canvas at one point a pixel of the image: (64, 64, 3)."
    two_frames(canvas.page)
    return np.array(
        canvas.evaluate("""c => { const x = c.getContext("2d"), s = c.width / 64, out = [];
        for (let i = 0; i < 64; i++) for (let j = 0; j < 64; j++) out.push([...x.getImageData((j + .5) * s, (i + .5) * s, 1, 1).data.slice(0, 3)]);
        return out; }""")
    ).reshape(64, 64, 3)


def test_layers__are_painted_as_they_are(page, tmp_path):
    s = snap()
    left, right = show(page, tmp_path, [s], left="image", right="target", alpha=1)
    np.testing.assert_array_equal(painted(left), s.image[0])  # nearest neighbour: every pixel, unchanged
    known = s.target[0] != IGNORE_INDEX
    np.testing.assert_array_equal(painted(right)[known], PALETTE[s.target[0][known]])
    np.testing.assert_array_equal(painted(right)[0, 0], front.UNKNOWN)
    control(page, "combobox", "right layer").select_option("density_16")
    density = s.density_per_k[0, 1].astype(float)
    low, high, _ = overlay_values([s])["meta"]["ranges"]["density"]
    wanted = front.cividis((density - low) / (high - low)).repeat(4, 0).repeat(4, 1)
    assert np.abs(painted(right).astype(int) - wanted).max() <= 2
    np.testing.assert_array_equal(painted(right)[60:, 60:].reshape(-1, 3), np.tile(front.UNKNOWN, (16, 1)))
    assert "unknown" in page.locator(".dgcl-ov-legend").nth(1).inner_text()
    control(page, "combobox", "right layer").select_option("right_wrong")
    is_right = s.target[0] == s.prediction[0]
    np.testing.assert_array_equal(
        painted(right)[known & is_right], np.tile(front.RIGHT_WRONG[0], ((known & is_right).sum(), 1))
    )
    np.testing.assert_array_equal(
        painted(right)[known & ~is_right], np.tile(front.RIGHT_WRONG[1], ((known & ~is_right).sum(), 1))
    )
    plain = picture(right)
    control(page, "combobox", "right layer").select_option("pseudo_label")
    assert differ(plain, picture(right)) > 0.3 and colours(picture(right)) > 20  # classes and hatching
    assert "dropped by the filter" in page.locator(".dgcl-ov-legend").nth(1).inner_text()


def test_keys__alpha_threshold_image_step_and_play(page, tmp_path):
    left, right = show(
        page,
        tmp_path,
        [snap(10), snap(20, seed=1), snap(30, seed=2)],
        left="prediction",
        right="confidence",
        threshold_of="confidence",
    )
    before = picture(right)
    press(control(page, "slider", "alpha"), "ArrowLeft", "ArrowLeft", "ArrowLeft")
    assert differ(before, picture(right)) > 0.3
    before = picture(right), picture(left)
    press(control(page, "slider", "threshold"), *["ArrowRight"] * 30)
    assert (
        differ(before[0], picture(right)) > 0.1 and differ(before[1], picture(left)) > 0.1
    )  # hidden in both panels
    assert "% hidden" in page.locator(".dgcl-front").inner_text()
    press(control(page, "slider", "threshold"), "Home")
    assert "nothing is hidden" in page.locator(".dgcl-front").inner_text()
    before = picture(left)
    press(control(page, "button", "next"), "Enter")
    assert differ(before, picture(left)) > 0.3
    assert control(page, "combobox", "image").input_value() == "1"
    press(control(page, "button", "previous"), "Enter", "Enter")
    two_frames(page)
    assert control(page, "combobox", "image").input_value() == "2"  # round the end
    before = picture(left)
    press(control(page, "slider", "step"), "ArrowLeft")
    assert differ(before, picture(left)) > 0.3
    assert "20 (2 of 3)" in page.locator(".dgcl-front").inner_text()
    press(control(page, "slider", "step"), "ArrowLeft")
    control(page, "button", "play").click()
    wait_until(
        lambda: (
            "30 (3 of 3)" in page.locator(".dgcl-front").inner_text()
            and control(page, "button", "play").count()
        ),
        5,
        "the last step, and the end of playing",
    )


def test_pixel__all_values_by_mouse_and_keys(page, tmp_path):
    s = snap()
    left, right = show(page, tmp_path, [s], image_index=1, marks=[[1, 3, 4], [1, 3, 5], [2, 0, 0]])
    assert (
        "2 marked cells" in page.locator(".dgcl-ov-readout").inner_text()
        and "(2 marked)" in control(page, "combobox", "image").inner_text()
    )
    before = picture(left), picture(right)
    r, c = 14, 37
    left.hover(position=dict(x=(c + 0.5) * 5, y=(r + 0.5) * 5))
    two_frames(page)
    text = page.locator(".dgcl-ov-readout").inner_text()
    cell = r // 4, c // 4
    names = [("sky", "road", "tree", "car")[m[1, r, c]] for m in (s.target, s.prediction, s.pseudo_label)]
    assert (
        f"row {r}, column {c}" in text
        and all(n in text for n in names)
        and ("keeps it" if s.kept[1, r, c] else "drops it") in text
    )
    for value in (
        s.confidence[1, r, c],
        s.entropy[1, r, c],
        s.density[1][cell],
        *s.density_per_k[1][(slice(None), *cell)],
    ):
        assert f"{float(value):.3f}" in text
    assert (
        all(f"k = {k}" in text for k in (8, 16, 32))
        and differ(before[0], picture(left)) > 0
        and differ(before[1], picture(right)) > 0
    )  # crosshairs in both
    press(right, "ArrowRight", "ArrowDown")
    two_frames(page)
    assert f"row {r + 1}, column {c + 1}" in page.locator(".dgcl-ov-readout").inner_text()
    page.keyboard.press("Escape")
    page.mouse.move(5, 5)
    two_frames(page)
    assert "Point at a pixel" in page.locator(".dgcl-ov-readout").inner_text()
    blank = picture(left)
    control(page, "combobox", "image").select_option("0")
    control(page, "combobox", "image").select_option("2")
    assert (
        differ(blank, picture(left)) > 0 and "1 marked cell" in page.locator(".dgcl-ov-readout").inner_text()
    )


def test_every_control__has_a_name(page, tmp_path):
    show(page, tmp_path, [snap(10), snap(20)])
    nameless = page.locator(
        ".dgcl-front"
    ).evaluate("""root => [...root.querySelectorAll("input, select, button, canvas")]
        .filter(x => !(x.labels?.length || x.getAttribute("aria-label") || x.textContent.trim())).map(x => x.outerHTML)""")
    assert nameless == []
    for role, name in [
        ("combobox", "image"),
        ("combobox", "left layer"),
        ("combobox", "hide pixels by"),
        ("slider", "step"),
        ("slider", "alpha"),
        ("slider", "threshold"),
    ]:
        assert control(page, role, name).count() == 1


def test_notebook__sliders_beside_a_busy_and_a_closed_kernel(page, lab):
    run_notebook(
        page,
        lab,
        "overlay",
        "import time\nfrom test_snapshots import make\nfrom dgcl_nb.widgets.overlay import overlay",
        "view = overlay([make(step=n, seed=n)[0] for n in (10, 20)], right='density')\nview",
    )
    right = page.locator("canvas[data-panel=right]")
    right.wait_for()
    right.scroll_into_view_if_needed()
    alpha, threshold = control(page, "slider", "alpha"), control(page, "slider", "threshold")
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
    wait_until(
        lambda: "1 marked cell" in page.locator(".dgcl-ov-readout").inner_text(), 10, "what Python set"
    )
    assert (
        differ(before, picture(right)) > 0.3
        and control(page, "combobox", "right layer").input_value() == "entropy"
    )
    run_code(page, "view.set_snapshot(make(step=77, seed=7, num=2)[0])")
    wait_until(lambda: "step 77" in right.get_attribute("aria-label"), 10, "the new snapshot")
    page.evaluate("()=>jupyterapp.shell.currentWidget.context.sessionContext.shutdown()")
    before = picture(right)
    press(alpha, "Home")
    assert differ(before, picture(right)) > 0.3
