"Features of any network in a page: a box and a brush on the image, one step slider, two runs cell by cell."

import numpy as np
import pytest
import torch
from lab import colours, differ, picture, press, two_frames, wait_until
from torch import nn

pytest.importorskip("dgcl_nb.explore")
from dgcl_nb.data.digits import SceneConfig, render_part  # noqa: E402
from dgcl_nb.explore import collect, save_features, write_explorer  # noqa: E402
from dgcl_nb.looking.changes import CHANGES, change_of, paired_states  # noqa: E402
from dgcl_nb.looking.demo_run import make_demo_run  # noqa: E402
from dgcl_nb.looking.runs import open_run  # noqa: E402
from dgcl_nb.report import write_report  # noqa: E402

NAMES = ["background", *map(str, range(10))]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("explore")


@pytest.fixture(scope="module")
def found():
    "Cells of an untrained network on scenes of digits."
    torch.manual_seed(0)
    images, targets = map(torch.as_tensor, render_part("train", 4, SceneConfig()))
    net = nn.Sequential(
        nn.Conv2d(3, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.Conv2d(16, 11, 1)
    )
    return collect(net, [(images.float() / 255, targets.long())], "2", num_cells=500, class_names=NAMES)


@pytest.fixture(scope="module")
def runs(place):
    return [make_demo_run(place / f"r{n}", 400, "dgcl", n, snapshots=4, num_images=3) for n in (200, 400)]


def show(page, file):
    page.goto(file.as_uri())
    page.wait_for_selector(".dgcl-explorer[data-draws]")
    two_frames(page)
    return page


def sketch(page, corners):
    "Drag over the image along places given as shares of width and height."
    canvas = page.locator(".dgcl-sketch")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for spot in places[1:]:
        page.mouse.move(*spot, steps=8)


def release(page):
    page.mouse.up()
    two_frames(page)


def selected(page):
    "How many cells the page says are selected."
    cells = page.locator(".dgcl-compare td").nth(1)
    return int(cells.inner_text().replace(" ", "")) if cells.count() else 0


def cells_within(found, image, top, bottom, left, right):
    "The sampled cells of an image that a box in shares touches, by hand."
    rows, cols = found.grid
    row, col = found.pixel_row, found.pixel_col
    down = (row + 1 > top * rows) & (row < bottom * rows)
    across = (col + 1 > left * cols) & (col < right * cols)
    return int((down & across & (found.pixel_image == image)).sum())


def test_box__lights_up_its_cells_among_the_points(page, place, found):
    show(page, write_explorer(save_features(found, place / "box.npz")))
    stage = page.locator(".dgcl-stage")
    before = picture(stage)
    sketch(page, [(0.26, 0.26), (0.73, 0.61)])
    two_frames(page)
    assert differ(before, picture(stage)) > 0.02  # while the button is down
    assert page.locator(
        ".dgcl-tip"
    ).is_hidden()  # of the cell where the box began: it lay over those that light up
    release(page)
    assert selected(page) == cells_within(found, 0, 0.26, 0.61, 0.26, 0.73) > 20
    page.keyboard.down("Shift")
    sketch(page, [(0.02, 0.02), (0.2, 0.2)])
    release(page)
    page.keyboard.up("Shift")
    more = cells_within(found, 0, 0.02, 0.2, 0.02, 0.2)
    assert selected(page) == cells_within(found, 0, 0.26, 0.61, 0.26, 0.73) + more
    assert page.locator(".dgcl-strip canvas").count() == 1  # and back: marked in their image
    page.keyboard.press("Escape")
    two_frames(page)
    assert selected(page) == 0


def test_box__is_given_up_with_escape(page, place, found):
    show(page, write_explorer(save_features(found, place / "escape.npz")))
    sketch(page, [(0.1, 0.1), (0.5, 0.5)])
    page.keyboard.press("Escape")
    release(page)
    assert selected(page) == 0


def test_brush__touches_the_cells_on_its_way(page, place, found):
    show(page, write_explorer(save_features(found, place / "brush.npz")))
    page.locator(".dgcl-pane select").nth(1).select_option("brush")
    sketch(page, [(0.1, 0.5), (0.9, 0.5)])
    release(page)
    rows = int(found.grid[0])
    radius = 14 / (248 / rows)
    near = np.abs(found.pixel_row + 0.5 - rows / 2) <= radius - 0.1
    own = near & (found.pixel_image == 0) & (found.pixel_col > 1) & (found.pixel_col < found.grid[1] - 2)
    whole = cells_within(found, 0, 0.3, 0.7, 0, 1)
    assert 0 < own.sum() <= selected(page) < whole


def test_image__clicks_hovers_and_follows_the_point(page, place, found):
    show(page, write_explorer(save_features(found, place / "click.npz")))
    canvas = page.locator(".dgcl-sketch")
    i = int(np.flatnonzero(found.pixel_image == 0)[7])
    rows, cols = found.grid
    spot = dict(x=248 * (found.pixel_col[i] + 0.5) / cols, y=248 * (found.pixel_row[i] + 0.5) / rows)
    canvas.hover(position=spot)
    two_frames(page)
    where = f"image 0, row {found.pixel_row[i]}, column {found.pixel_col[i]}"
    assert where in page.locator(".dgcl-tip").inner_text().replace("\n", " ")
    canvas.click(position=spot)
    assert page.locator(".dgcl-near li").count() == 8
    image = page.locator(".dgcl-pane select").first
    image.select_option("3")
    press(page.locator(".dgcl-over"), "ArrowRight", "Enter")
    told = page.locator(".dgcl-tip").inner_text().replace("\n", " ")
    assert f"image {image.input_value()}, row" in told


def test_image__by_keys_alone(page, place, found):
    show(page, write_explorer(save_features(found, place / "keys.npz")))
    canvas = page.locator(".dgcl-sketch")
    press(canvas, "ArrowUp", *["Shift+ArrowRight"] * 3, *["Shift+ArrowDown"] * 2, "Enter")
    rows, cols = found.grid
    row, col = rows // 2, cols // 2
    inside = (found.pixel_row >= row) & (found.pixel_row <= row + 2)
    inside &= (found.pixel_col >= col) & (found.pixel_col <= col + 3)
    assert selected(page) == (inside & (found.pixel_image == 0)).sum() > 0
    press(canvas, "Escape")
    assert selected(page) == 0


def test_words__are_those_of_a_network_that_is_not_trained_here(page, place, found):
    show(page, write_explorer(save_features(found, place / "words.npz")))
    text = page.locator(".dgcl-explorer").inner_text()
    assert "pseudo-label" not in text and "memory bank" not in text and "anchors" not in text
    assert "prediction" in page.get_by_label("Colour by").inner_text()


def test_narrow_place__everything_is_within_reach(page, place, found):
    page.set_viewport_size(dict(width=375, height=800))
    show(page, write_explorer(save_features(found, place / "narrow.npz")))
    page.get_by_role("button", name="Select shown").click()
    parts = page.locator(".dgcl-explorer :is(canvas, button, input, select, table)")
    rights = parts.evaluate_all("all => all.map((part) => part.getBoundingClientRect().right)")
    assert max(rights) <= 375


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page__is_drawn_in_the_readers_theme(page, place, found, scheme):
    page.emulate_media(color_scheme=scheme)
    show(page, write_explorer(save_features(found, place / f"{scheme}.npz")))
    ground = np.median(picture(page.locator(".dgcl-stage")))
    assert ground > 240 if scheme == "light" else ground < 40
    assert colours(picture(page.locator(".dgcl-sketch"))) > 50


def test_report__one_slider_moves_explorer_overlay_and_curves(page, runs, place):
    show(page, write_report(runs[1], out=place / "report.html"))
    page.wait_for_selector("html[data-ready]", timeout=60_000)
    page.wait_for_selector(".overlay-view canvas[aria-label]")
    bar = page.get_by_role("slider", name="Training step of all views")
    explorer = page.get_by_role("slider", name="Training step", exact=True)
    overlay = page.locator(".overlay-view").get_by_role("slider", name="step", exact=True)
    line = page.locator("figure[data-name=curves] .shapelayer path").first
    press(bar, "Home")
    wait_until(lambda: (explorer.input_value(), overlay.input_value()) == ("0", "0"), 5, "the first step")
    before = line.get_attribute("d")
    press(explorer, "ArrowRight", "ArrowRight")
    wait_until(lambda: (bar.input_value(), overlay.input_value()) == ("2", "2"), 5, "the third step")
    wait_until(lambda: line.get_attribute("d") != before, 5, "the line in the curves")
    press(overlay, "End")
    wait_until(lambda: (bar.input_value(), explorer.input_value()) == ("3", "3"), 5, "the last step")
    page.emulate_media(color_scheme="dark")
    wait_until(lambda: page.locator("figure[data-name=curves] .shapelayer path").count(), 5, "the line again")


def test_pair__kinds_are_counted_sorted_and_clicked(page, runs, place):
    show(page, write_explorer(*runs, out=place / "pair.html"))
    states = paired_states(*(open_run(run).latest() for run in runs))
    counts = np.bincount(change_of(*states), minlength=4)
    kinds = page.locator(".dgcl-kinds button")
    for i, name in enumerate(CHANGES):
        said = kinds.nth(i).inner_text().replace("\n", " ")
        assert name in said and f" {counts[i]}" in said
    shift = states[1].density - states[0].density
    cards = page.locator(".dgcl-card")
    assert int(cards.first.get_attribute("data-row")) == int(np.nanargmin(shift))
    page.get_by_label("Sorted by change of density").select_option("rise")
    assert int(cards.first.get_attribute("data-row")) == int(np.nanargmax(shift))
    press(kinds.nth(int(counts[1:].argmax()) + 1), "Enter")
    assert cards.count() == min(24, counts[1:].max())
    pressed = page.evaluate("() => document.activeElement.getAttribute('aria-pressed')")
    assert pressed == "true"  # the focus stays on the button
    stage, before = page.locator(".dgcl-stage"), picture(page.locator(".dgcl-stage"))
    press(cards.first, "Enter")
    assert differ(before, picture(stage)) > 0.0005
    assert "change of density" in page.locator(".dgcl-side").inner_text()


def test_pair__slider_goes_from_run_to_run_and_the_legend_names_what_changed(page, runs, place):
    show(page, write_explorer(*runs, out=place / "slide.html"))
    slider = page.get_by_role("slider", name="Run")
    assert "r400, step 400" in page.locator(".dgcl-time").inner_text()
    before = picture(page.locator(".dgcl-stage"))
    press(slider, "Home")
    page.wait_for_timeout(900)  # a move takes 700 ms
    assert "r200, step 200" in page.locator(".dgcl-time").inner_text()
    assert differ(before, picture(page.locator(".dgcl-stage"))) > 0.002
    assert "wrong → right" in page.locator(".dgcl-legend").inner_text()
    page.get_by_label("Colour by").select_option("shift")
    two_frames(page)
    assert "sparser" in page.locator(".dgcl-legend").inner_text()
