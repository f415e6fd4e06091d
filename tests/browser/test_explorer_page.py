"The feature explorer in a page without a kernel: it filters, finds, counts and saves as Python does."

from dataclasses import replace

import numpy as np
import pytest
from lab import colours, differ, picture, press, two_frames, wait_until

pytest.importorskip("dgcl_nb.widgets.explorer")
from dgcl_nb.looking.demo_run import make_demo_run  # noqa: E402
from dgcl_nb.looking.runs import open_run  # noqa: E402
from dgcl_nb.widgets.explorer import EXPLORER_CSS, EXPLORER_ESM, explore, explorer_values  # noqa: E402
from dgcl_nb.widgets.front import front_page  # noqa: E402
from dgcl_nb.widgets.state import COLUMNS, csv_text  # noqa: E402

DARK = """<style>body { background: #111; --jp-ui-font-color1: #eee; --jp-ui-font-color2: #aaa;
    --jp-layout-color1: #111; --jp-layout-color2: #222 }</style>"""
NAMES_OF_CONTROLS = "all => all.map((e) => e.ariaLabel || e.labels?.[0]?.innerText || e.innerText)"
UPPER_HALF = ((0.02, 0.02), (0.98, 0.02), (0.98, 0.5), (0.02, 0.5))
LOWER_HALF = ((0.02, 0.5), (0.98, 0.5), (0.98, 0.98), (0.02, 0.98))


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "demo"
    return explore(open_run(make_demo_run(folder, steps=200, snapshots=4)))


@pytest.fixture
def show(page, tmp_path):
    "Open pages of explorers, one below the other, as a file."

    def opened(*fragments, head=""):
        file = tmp_path / "page.html"
        html = "".join(["<!doctype html><meta charset=utf-8>", head, *fragments])
        file.write_text(html, encoding="utf-8")
        page.goto(file.as_uri())
        page.wait_for_selector(".dgcl-explorer[data-draws]")
        two_frames(page)
        return page

    return opened


def fragment(w, **settings):
    return front_page(EXPLORER_ESM, EXPLORER_CSS, explorer_values(w.states, w.snapshots, **settings))


def shown(page):
    two_frames(page)
    return int(page.locator(".dgcl-explorer").first.get_attribute("data-shown"))


def stage_of(page):
    return page.locator(".dgcl-stage")


def text_of(page, selector):
    "What the first element of a kind says."
    return page.locator(selector).first.inner_text()


def begin_lasso(page, corners):
    "Press the button at the first corner and drag along the others, given as shares of width and height."
    box = page.locator(".dgcl-over").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=5)


def lasso(page, corners):
    begin_lasso(page, corners)
    page.mouse.up()
    two_frames(page)


def save_csv(page, path):
    "Press the button; returns the name that the browser would give the file, and its text."
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save CSV").click()
    waiting.value.save_as(path)
    return waiting.value.suggested_filename, path.read_bytes().decode()


@pytest.mark.parametrize(
    "settings",
    [
        dict(density_range=(0.7, 0.95)),
        dict(confidence_range=(0.5, 0.9), classes=[0, 2]),
        dict(density_range=(-1, 0.8)),
        dict(step_index=0, density_range=(-1, 1)),
        dict(classes=[]),
    ],
)
def test_filter__counts_as_python_does(demo, show, settings):
    state = demo.states[settings.get("step_index", -1)]
    conditions = [settings.get(name) for name in ("density_range", "confidence_range", "classes")]
    wanted = state.mask(*conditions)
    page = show(fragment(demo, **settings))
    assert shown(page) == wanted.sum()
    texts = page.locator(".dgcl-classes .dgcl-value").all_inner_texts()
    counts = np.bincount(state.kind[wanted], minlength=len(state.class_names))
    assert [int(text.replace(" ", "")) for text in texts] == counts.tolist()


def test_sliders__keys_filter_and_ends_let_all_in(demo, show):
    page = show(fragment(demo))
    low = page.get_by_label("Density, lower bound")
    everything, before = shown(page), picture(stage_of(page))
    press(low, *["ArrowRight"] * 30)
    bound = float(low.input_value())
    assert shown(page) == demo.states[-1].mask(density=(bound, 1)).sum() < everything
    assert differ(before, picture(stage_of(page))) > 0.001
    press(low, "Home")
    assert shown(page) == everything
    press(page.get_by_label("Confidence, upper bound"), *["ArrowLeft"] * 10)
    assert shown(page) < everything


def test_slider__bounds_do_not_pass_each_other(demo, show):
    page = show(fragment(demo))
    low, high = page.get_by_label("Density, lower bound"), page.get_by_label("Density, upper bound")
    press(high, *["ArrowLeft"] * 5)
    press(low, "End")
    assert low.input_value() == high.input_value()


def test_unknown_density__is_counted_and_named(demo, show):
    state = demo.states[0]
    page = show(fragment(demo, step_index=0, colour_by="density"))
    assert np.isnan(state.density).all()
    assert shown(page) == len(state)
    assert f"Density unknown: {len(state)} cells" in text_of(page, ".dgcl-explorer")
    assert "no density yet" in text_of(page, ".dgcl-range")
    assert "Grey: no density yet" in text_of(page, ".dgcl-legend")
    press(page.locator(".dgcl-over"), "ArrowRight")
    assert "unknown" in text_of(page, ".dgcl-tip")


def test_classes__by_key_and_by_link(demo, show):
    page = show(fragment(demo))
    everything = shown(page)
    press(page.get_by_role("checkbox", name="background"), "Space")
    assert shown(page) == everything - (demo.states[-1].kind == 0).sum()
    page.get_by_role("button", name="none classes").click()
    assert shown(page) == 0
    page.get_by_role("button", name="all classes").click()
    assert shown(page) == everything


def test_lasso__marks_lists_and_saves_what_python_says(demo, show, tmp_path):
    page = show(fragment(demo))
    state = demo.states[-1]
    lasso(page, UPPER_HALF)
    name, text = save_csv(page, tmp_path / "got.csv")
    assert name == f"selection_step_{state.step}.csv"
    lines = [line.split(",") for line in text.splitlines()]
    rows = [int(line[1]) for line in lines[1:]]
    assert 0 < len(rows) < len(state)
    lowest = sorted(state.xy[:, 1])[len(state) - len(rows)]  # the upper half has the largest y
    assert set(rows) == set(np.flatnonzero(state.xy[:, 1] >= lowest))
    ours = [line.split(",") for line in csv_text(state.table(rows)).splitlines()]
    assert [line[:2] + line[4:12] for line in lines] == [line[:2] + line[4:12] for line in ours]
    summary, words = state.summary(rows), text_of(page, ".dgcl-box:not(.dgcl-pane)")
    assert f"{summary['density']:.3f}" in words
    assert f"{summary['confidence']:.3f}" in words
    assert f"{100 * summary['right']:.1f} %" in words
    assert f"{max(summary['classes'].values())} (" in words


def test_lasso__marks_images_adds_with_shift_and_is_cleared(demo, show):
    page = show(fragment(demo))
    state, marked = demo.states[-1], page.locator(".dgcl-strip canvas")
    lasso(page, UPPER_HALF)
    rows = np.flatnonzero(state.xy[:, 1] >= np.mean([state.xy[:, 1].min(), state.xy[:, 1].max()]))
    assert marked.count() == len({state.image[row] for row in rows})
    assert colours(picture(marked.first)) > 50
    page.keyboard.down("Shift")
    lasso(page, LOWER_HALF)
    page.keyboard.up("Shift")
    assert f"{len(state)}" in text_of(page, ".dgcl-compare")
    page.keyboard.press("Escape")
    two_frames(page)
    assert marked.count() == 0
    assert page.get_by_role("button", name="Save CSV").is_disabled()


def test_lasso__is_given_up_with_escape(demo, show):
    page = show(fragment(demo))
    begin_lasso(page, UPPER_HALF)
    page.keyboard.press("Escape")
    page.mouse.up()
    two_frames(page)
    assert page.locator(".dgcl-strip canvas").count() == 0
    lasso(page, UPPER_HALF)
    assert page.locator(".dgcl-strip canvas").count() > 0


def test_keyboard__reaches_selects_clicks_and_clears(demo, show):
    page, state = show(fragment(demo)), demo.states[-1]
    over = page.locator(".dgcl-over")
    press(over, "ArrowRight")
    first = text_of(page, ".dgcl-tip")
    assert "true class" in first and "density" in first
    assert page.locator(".dgcl-tip canvas").is_visible()
    press(over, "ArrowLeft", "ArrowLeft")
    assert text_of(page, ".dgcl-tip") != first
    press(over, "Enter")
    assert page.locator(".dgcl-near li").count() == 8
    texts = page.locator(".dgcl-near .dgcl-value").all_inner_texts()
    cosines = [float(text.split()[0]) for text in texts]
    assert cosines == sorted(cosines, reverse=True)
    true_cosines = [state.neighbours(row, 8)[1] for row in range(len(state))]
    assert any(np.allclose(cosines, wanted, atol=6e-4) for wanted in true_cosines)
    press(page.get_by_role("button", name="Select shown"), "Enter")
    assert page.locator(".dgcl-strip canvas").count() > 0
    press(page.get_by_role("button", name="Clear"), "Enter")
    assert page.locator(".dgcl-near li").count() == 0


FOCUSED = "() => document.activeElement.innerText || document.activeElement.labels?.[0].innerText"


def test_focus__stays_where_a_key_was_pressed(demo, show):
    page = show(fragment(demo, colour_by="density"))
    press(page.get_by_label("one scale for all steps"), "Space")
    assert page.evaluate(FOCUSED) == "one scale for all steps"
    assert page.get_by_label("one scale for all steps").is_checked()
    press(page.get_by_role("button", name="Select shown"), "Enter")
    press(page.get_by_role("button", name="Clear"), "Enter")
    assert page.evaluate(FOCUSED) == "Select shown"


def test_escape__on_a_slider_or_a_list_clears_nothing(demo, show):
    page = show(fragment(demo))
    page.get_by_role("button", name="Select shown").click()
    for control in ("Density, lower bound", "Colour by", "anchors"):
        press(page.get_by_label(control), "Escape")
        assert page.locator(".dgcl-strip canvas").count() > 0
    press(page.get_by_role("button", name="Select shown"), "Escape")
    assert page.locator(".dgcl-strip canvas").count() == 0


def test_controls__have_names(demo, show):
    page = show(fragment(demo))
    controls = page.locator(".dgcl-explorer :is(input, select, button)")
    names = controls.evaluate_all(NAMES_OF_CONTROLS)
    assert len(names) > 20
    assert all(name.strip() for name in names)


def test_ranks__as_many_cells_and_others_are_counted_anew(demo, show):
    density = np.linspace(0.1, 0.9, len(demo.states[-1]), dtype=np.float32)
    page = show(
        front_page(EXPLORER_ESM, EXPLORER_CSS, explorer_values([replace(demo.states[-1], density=density)]))
    )
    page.get_by_role("button", name="Select shown").click()
    said = []
    for rank in ("sparsest 20 %", "densest 20 %"):
        page.get_by_label("Density rank").select_option(label=rank)
        said.append((shown(page), page.locator(".dgcl-compare td").nth(4).inner_text()))
    (first, sparse), (second, dense) = said
    assert first == second
    assert (sparse, dense) == (f"{density[:first].mean():.3f}", f"{density[-first:].mean():.3f}")


def test_steps__slider_play_and_selection_that_stays(demo, show):
    page = show(fragment(demo))
    slider = page.get_by_role("slider", name="Training step")
    lasso(page, UPPER_HALF)
    selected = page.locator(".dgcl-compare td").nth(1)
    count, before = selected.inner_text(), picture(stage_of(page))
    press(slider, "Home")
    page.wait_for_timeout(900)  # a move takes 700 ms
    assert differ(before, picture(stage_of(page))) > 0.005
    assert selected.inner_text() == count
    page.get_by_role("button", name="Play").click()
    wait_until(lambda: slider.input_value() == "3", 15, "the last step")
    wait_until(page.get_by_role("button", name="Play").count, 5, "the end of the play")


def test_colours__legends_name_scale_and_range(demo, show):
    page = show(fragment(demo))
    words = {"class": "see Classes", "pseudo": "see Classes", "density": "sparse", "confidence": "≤"}
    words["right"] = "pseudo-label wrong"
    stage, seen = stage_of(page), []
    for by, text in words.items():
        page.get_by_label("Colour by").select_option(by)
        two_frames(page)
        assert text in text_of(page, ".dgcl-legend")
        seen.append(picture(stage))
    assert all(differ(a, b) > 0.001 for a, b in zip(seen[1:], seen[2:]))
    plain = picture(stage)
    page.get_by_label("anchors").check()
    assert differ(plain, picture(stage)) > 0.001


def test_dark_theme__ground_and_black_points(demo, show):
    page = show(fragment(demo), head=DARK)
    got = picture(stage_of(page))
    assert np.median(got) < 40  # dark ground
    assert (got.max(-1) > 90).mean() > 0.003  # the points, black ones by their rims, stand out


CORNER = """event => {
    dispatchEvent(new Event(event));
    const canvas = document.querySelector(".dgcl-stage canvas");
    return [...canvas.getContext("2d").getImageData(2, 2, 1, 1).data.slice(0, 3)];
}"""


def test_paper__is_white_before_a_frame_passes_and_has_the_whole_legend(demo, show):
    page = show(fragment(demo), head=DARK)
    assert page.evaluate(CORNER, "beforeprint") == [255, 255, 255]
    assert max(page.evaluate(CORNER, "afterprint")) < 40
    page.emulate_media(media="print")
    ink = page.evaluate("getComputedStyle(document.querySelector('.dgcl-count')).color")
    assert ink == "rgb(34, 34, 34)"
    assert not page.get_by_role("button", name="Play").is_visible()
    room = "e => [e.scrollHeight, e.clientHeight]"
    whole, seen = page.locator(".dgcl-classes .dgcl-scroll").evaluate(room)
    assert whole <= seen


INK = """event => {
    dispatchEvent(new Event(event));
    const canvas = document.querySelector(".dgcl-stage canvas");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return data.filter((level, i) => i % 4 === 0 && level < 200).length;
}"""


def test_paper__has_what_lies_over_the_points_in_the_picture(demo, show):
    page = show(fragment(demo))
    press(page.locator(".dgcl-over"), "ArrowRight", "Enter")  # a click: rings around the neighbours
    assert page.evaluate(INK, "beforeprint") > page.evaluate(INK, "afterprint") > 0


SHARPNESS = """() => {
    const canvases = document.querySelectorAll(".dgcl-stage canvas, .dgcl-sketch, .dgcl-pictures canvas");
    return [...canvases].map((canvas) => canvas.width / canvas.clientWidth);
}"""


def test_finer_screen__all_is_drawn_as_fine(demo, show):
    page = show(fragment(demo))
    page.get_by_role("button", name="Select shown").click()
    assert max(page.evaluate(SHARPNESS)) < 1.1
    devtools = page.context.new_cdp_session(page)
    screen = dict(width=0, height=0, deviceScaleFactor=2, mobile=False)  # as large as before
    devtools.send("Emulation.setDeviceMetricsOverride", screen)
    wait_until(lambda: min(page.evaluate(SHARPNESS)) > 1.9, 5, "a finer drawing")


def test_two_on_a_page__are_independent(demo, show):
    page = show(fragment(demo), fragment(demo))
    both = page.locator(".dgcl-explorer")
    everything = int(both.nth(1).get_attribute("data-shown"))
    press(page.get_by_label("Density, lower bound").first, *["ArrowRight"] * 30)
    two_frames(page)
    first, second = (int(both.nth(i).get_attribute("data-shown")) for i in (0, 1))
    assert first < everything == second


@pytest.mark.parametrize("n", [0, 1, 2])
def test_little__one_point_no_image_no_point(demo, show, n):
    last = demo.states[-1]
    few = replace(last, **{name: getattr(last, name)[:n] for name in COLUMNS})
    page = show(front_page(EXPLORER_ESM, EXPLORER_CSS, explorer_values([few])))
    assert shown(page) == n
    assert "cells shown" in text_of(page, ".dgcl-count")
    if n:
        press(page.locator(".dgcl-over"), "ArrowRight", "ArrowLeft", "Enter")
        assert page.locator(".dgcl-near li").count() == n - 1


def test_many_points__the_page_says_that_neighbours_need_python(demo, show, monkeypatch):
    monkeypatch.setattr("dgcl_nb.widgets.scene.NEAR_LIMIT", 10)
    page = show(fragment(demo))
    press(page.locator(".dgcl-over"), "ArrowRight", "Enter")
    assert "this page has no Python behind it" in text_of(page, ".dgcl-explorer")


def test_zoom__wheel_after_a_click_and_double_click_back(demo, show):
    page = show(fragment(demo))
    stage, over = stage_of(page), page.locator(".dgcl-over")
    box = over.bounding_box()
    centre = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.wait_for_timeout(100)
    fitted = picture(stage)
    page.mouse.wheel(0, -400)
    assert differ(fitted, picture(stage)) < 0.001  # not before a click: the page scrolls
    over.focus()
    page.mouse.move(*centre)
    page.mouse.wheel(0, -400)
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.wait_for_timeout(150)
    assert differ(fitted, picture(stage)) > 0.002
    press(over, "0")
    over.blur()
    page.wait_for_timeout(150)
    assert differ(fitted, picture(stage)) < 0.001
