"""The feature explorer in a page without a kernel: what JavaScript filters, finds, counts and saves is what Python says."""
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

DARK = "<style>body{background:#111; --jp-ui-font-color1:#eee; --jp-ui-font-color2:#aaa; --jp-layout-color1:#111; --jp-layout-color2:#222}</style>"


@pytest.fixture(scope="module")
def demo(tmp_path_factory): return explore(open_run(make_demo_run(tmp_path_factory.mktemp("runs") / "demo", steps=200, snapshots=4)))


@pytest.fixture
def show(page, tmp_path):
    "Open pages of explorers, one below the other, as a file."
    def opened(*fragments, head=""):
        (tmp_path / "page.html").write_text("<!doctype html><meta charset=utf-8>" + head + "".join(fragments), encoding="utf-8")
        page.goto((tmp_path / "page.html").as_uri()); page.wait_for_selector(".dgcl-explorer[data-draws]"); two_frames(page)
        return page
    return opened


def fragment(w, **settings): return front_page(EXPLORER_ESM, EXPLORER_CSS, explorer_values(w.states, w.snapshots, **settings))
def shown(page): two_frames(page); return int(page.locator(".dgcl-explorer").first.get_attribute("data-shown"))


def lasso(page, *corners, shift=False):
    "Drag along corners given as shares of the picture's width and height."
    box = page.locator(".dgcl-over").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    if shift: page.keyboard.down("Shift")
    page.mouse.move(*places[0]); page.mouse.down()
    for p in places[1:]: page.mouse.move(*p, steps=5)
    page.mouse.up()
    if shift: page.keyboard.up("Shift")
    two_frames(page)


@pytest.mark.parametrize("settings", [dict(density_range=(.7, .95)), dict(confidence_range=(.5, .9), classes=[0, 2]), dict(density_range=(-1, .8)),
                                      dict(step_index=0, density_range=(-1, 1)), dict(classes=[])])
def test_filter__counts_as_python_does(demo, show, settings):
    state = demo.states[settings.get("step_index", -1)]
    wanted = state.mask(settings.get("density_range"), settings.get("confidence_range"), settings.get("classes"))
    page = show(fragment(demo, **settings))
    assert shown(page) == wanted.sum()
    counts = [int(t.replace(" ", "")) for t in page.locator(".dgcl-classes .dgcl-value").all_inner_texts()]
    assert counts == [int((state.kind[wanted] == c).sum()) for c in range(len(state.class_names))]


def test_sliders__keys_filter_and_ends_let_all_in(demo, show):
    page = show(fragment(demo)); low = page.get_by_label("Density, lower bound")
    everything, before = shown(page), picture(page.locator(".dgcl-stage"))
    press(low, *["ArrowRight"] * 30)
    bound = float(low.input_value())
    assert shown(page) == demo.states[-1].mask(density=(bound, 1)).sum() < everything and differ(before, picture(page.locator(".dgcl-stage"))) > .001
    press(low, "Home"); assert shown(page) == everything
    press(page.get_by_label("Confidence, upper bound"), *["ArrowLeft"] * 10); assert shown(page) < everything


def test_slider__bounds_do_not_pass_each_other(demo, show):
    page = show(fragment(demo)); low, high = page.get_by_label("Density, lower bound"), page.get_by_label("Density, upper bound")
    press(high, *["ArrowLeft"] * 5); press(low, "End")
    assert low.input_value() == high.input_value()


def test_unknown_density__is_counted_and_named(demo, show):
    page = show(fragment(demo, step_index=0))
    assert np.isnan(demo.states[0].density).all() and shown(page) == len(demo.states[0])
    assert f"Density unknown: {len(demo.states[0])} points" in page.locator(".dgcl-explorer").inner_text()
    assert "unknown at this step" in page.locator(".dgcl-range").first.inner_text()


def test_classes__by_key_and_by_link(demo, show):
    page = show(fragment(demo)); everything = shown(page)
    press(page.get_by_role("checkbox", name="background"), "Space")
    assert shown(page) == everything - (demo.states[-1].kind == 0).sum()
    page.get_by_role("button", name="none classes").click(); assert shown(page) == 0
    page.get_by_role("button", name="all classes").click(); assert shown(page) == everything


def test_lasso__marks_lists_and_saves_what_python_says(demo, show, tmp_path):
    page = show(fragment(demo)); state = demo.states[-1]
    lasso(page, (.02, .02), (.98, .02), (.98, .5), (.02, .5))
    with page.expect_download() as waiting: page.get_by_role("button", name="Save CSV").click()
    waiting.value.save_as(tmp_path / "got.csv")
    text = (tmp_path / "got.csv").read_bytes().decode()
    rows = [int(line.split(",")[1]) for line in text.splitlines()[1:]]
    assert 0 < len(rows) < len(state) and waiting.value.suggested_filename == f"selection_step_{state.step}.csv"
    middle = sorted(state.xy[:, 1])[len(state) - len(rows)]                          # the upper half of the picture: rows with the largest y
    assert set(rows) == set(np.flatnonzero(state.xy[:, 1] >= middle))
    ours = [line.split(",") for line in csv_text(state.table(rows)).splitlines()]
    for a, b in zip(text.splitlines(), ours): assert a.split(",")[4:12] == b[4:12] and a.split(",")[:2] == b[:2]
    summary, words = state.summary(rows), page.locator(".dgcl-box").first.inner_text()
    assert f"{summary['density']:.3f}" in words and f"{summary['confidence']:.3f}" in words and f"{100 * summary['right']:.1f} %" in words
    assert f"{max(summary['classes'].values())} (" in words
    marked = page.locator(".dgcl-strip canvas"); images = {state.image[i] for i in rows}
    assert marked.count() == len(images) and colours(picture(marked.first)) > 50
    lasso(page, (.02, .5), (.98, .5), (.98, .98), (.02, .98), shift=True)
    assert f"{len(state)}" in page.locator(".dgcl-compare").inner_text()
    page.keyboard.press("Escape"); two_frames(page)
    assert marked.count() == 0 and page.get_by_role("button", name="Save CSV").is_disabled()


def test_keyboard__reaches_selects_clicks_and_clears(demo, show):
    page = show(fragment(demo)); over = page.locator(".dgcl-over")
    press(over, "ArrowRight"); first = page.locator(".dgcl-tip").inner_text()
    assert "true class" in first and "density" in first and page.locator(".dgcl-tip canvas").is_visible()
    press(over, "ArrowLeft", "ArrowLeft"); assert page.locator(".dgcl-tip").inner_text() != first
    press(over, "Enter"); assert page.locator(".dgcl-near li").count() == 8
    cosines = [float(t.split()[0]) for t in page.locator(".dgcl-near .dgcl-value").all_inner_texts()]
    assert any(np.allclose(cosines, demo.states[-1].neighbours(i, 8)[1], atol=6e-4) for i in range(len(demo.states[-1]))) and cosines == sorted(cosines, reverse=True)
    press(page.get_by_role("button", name="Select shown"), "Enter"); assert page.locator(".dgcl-strip canvas").count() > 0
    press(page.get_by_role("button", name="Clear"), "Enter"); assert page.locator(".dgcl-near li").count() == 0
    controls = page.locator(".dgcl-explorer :is(input, select, button)")
    assert all(name.strip() for name in controls.evaluate_all("all=>all.map(e=>e.ariaLabel || e.labels?.[0]?.innerText || e.innerText)"))


def test_steps__slider_play_and_selection_that_stays(demo, show):
    page = show(fragment(demo)); slider = page.get_by_role("slider", name="Training step")
    lasso(page, (.02, .02), (.98, .02), (.98, .5), (.02, .5)); count = page.locator(".dgcl-compare td").nth(1).inner_text()
    before = picture(page.locator(".dgcl-stage"))
    press(slider, "Home"); page.wait_for_timeout(900)
    assert differ(before, picture(page.locator(".dgcl-stage"))) > .005 and page.locator(".dgcl-compare td").nth(1).inner_text() == count
    page.get_by_role("button", name="Play").click()
    wait_until(lambda: slider.input_value() == "3", 15, "the last step"); wait_until(page.get_by_role("button", name="Play").count, 5, "the end of the play")


def test_colours__legends_name_scale_and_range(demo, show):
    page = show(fragment(demo)); stage, seen = page.locator(".dgcl-stage"), []
    for by, words in (("class", "see Classes"), ("pseudo", "see Classes"), ("density", "cividis"), ("confidence", "≤"), ("right", "pseudo-label wrong")):
        page.get_by_label("Colour by").select_option(by); two_frames(page)
        assert words in page.locator(".dgcl-legend").inner_text()
        seen.append(picture(stage))
    assert all(differ(a, b) > .001 for a, b in zip(seen[1:], seen[2:]))
    plain = picture(stage); page.get_by_label("anchors").check(); assert differ(plain, picture(stage)) > .001


def test_dark_theme__ground_and_black_points(demo, show):
    page = show(fragment(demo), head=DARK); got = picture(page.locator(".dgcl-stage"))
    assert np.median(got) < 40 and (got.max(-1) > 90).mean() > .003           # dark ground; the points, black ones by their rims, stand out


def test_two_on_a_page__are_independent(demo, show):
    page = show(fragment(demo), fragment(demo)); both = page.locator(".dgcl-explorer")
    everything = int(both.nth(1).get_attribute("data-shown"))
    press(page.get_by_label("Density, lower bound").first, *["ArrowRight"] * 30); two_frames(page)
    assert int(both.nth(0).get_attribute("data-shown")) < everything == int(both.nth(1).get_attribute("data-shown"))


def test_little__one_point_no_image_no_point(demo, show):
    last = demo.states[-1]
    for n in (0, 1, 2):
        small = replace(last, **{name: getattr(last, name)[:n] for name in COLUMNS}, image_ids=last.image_ids)
        page = show(front_page(EXPLORER_ESM, EXPLORER_CSS, explorer_values([small])))
        assert shown(page) == n and "points shown" in page.locator(".dgcl-count").inner_text()
        if n: press(page.locator(".dgcl-over"), "ArrowRight", "ArrowLeft", "Enter"); assert page.locator(".dgcl-near li").count() == (n - 1)


def test_many_points__the_page_says_that_neighbours_need_python(demo, show, monkeypatch):
    monkeypatch.setattr("dgcl_nb.widgets.explorer.NEAR_LIMIT", 10)
    page = show(fragment(demo)); press(page.locator(".dgcl-over"), "ArrowRight", "Enter")
    assert "this page has no Python behind it" in page.locator(".dgcl-explorer").inner_text()


def test_zoom__wheel_after_a_click_and_double_click_back(demo, show):
    page = show(fragment(demo)); stage, box = page.locator(".dgcl-stage"), page.locator(".dgcl-over").bounding_box()
    centre = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 5, box["y"] + 5); page.wait_for_timeout(100); fitted = picture(stage)
    page.mouse.wheel(0, -400); assert differ(fitted, picture(stage)) < .001                          # not before a click: the page scrolls
    page.locator(".dgcl-over").focus(); page.mouse.move(*centre); page.mouse.wheel(0, -400); page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.wait_for_timeout(150); assert differ(fitted, picture(stage)) > .002
    press(page.locator(".dgcl-over"), "0"); page.locator(".dgcl-over").blur(); page.wait_for_timeout(150)
    assert differ(fitted, picture(stage)) < .001
