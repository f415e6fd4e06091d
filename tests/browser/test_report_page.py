"""The report in a browser, as a file: its figures are drawn, its views answer to keys, it turns dark, it can be printed, and nothing leaves it."""
import re

import numpy as np
import pytest
from lab import differ, picture, press, wait_until

from dgcl_nb.looking.demo_run import make_demo_run

report = pytest.importorskip("dgcl_nb.report")
SMALL = dict(steps=200, snapshots=4, num_images=3, max_per_class=60)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    "Reports of one run and of two."
    folder = tmp_path_factory.mktemp("runs")
    a, b = (make_demo_run(folder/method, method=method, **SMALL) for method in ("dgcl", "self_training"))
    return report.write_report(a), report.write_report(a, b, out=folder/"both.html")


def show(page, file):
    page.goto(file.as_uri()); page.wait_for_selector("html[data-ready]", timeout=60_000)
    page.wait_for_selector(".overlay-view canvas[aria-label]"); page.wait_for_selector(".explorer-view canvas[aria-label]")
    return page


def count(page): return int(re.search(r"([\d ]+) of", page.locator(".explorer-view .dgcl-count").first.inner_text().replace("\u202f", " "))[1].replace(" ", ""))
def is_visible(page, locator): return locator.evaluate("e => { const r = e.getBoundingClientRect(); return r.width > 0 && r.height > 0; }")


def test_page__draws_every_figure_and_asks_for_nothing(page, pages):
    asked = []
    page.on("request", lambda r: asked.append(r.url))
    for file, num in zip(pages, (3, 7)):
        show(page, file)
        figures = page.locator("figure.plot")
        assert figures.count() == num and page.locator("figure.plot .main-svg").count() >= num
        for f in figures.all():
            image = picture(f.locator(".canvas")); assert np.unique(image.reshape(-1, 3), axis=0).shape[0] > 10
        assert not page.locator("text=could not be drawn").count()
    assert not [u for u in asked if not u.startswith(("file:", "data:", "blob:"))] and sum(u.startswith("file:") for u in asked) == 2


def test_density_slider__hides_points_with_keys(page, pages):
    show(page, pages[0])
    stage, all_points = page.locator(".explorer-view canvas").first, count(page)
    before = picture(stage)
    press(page.locator(".explorer-view input[data-bound=low]").first, *["ArrowRight"] * 20)
    assert 0 < count(page) < all_points and differ(before, picture(stage)) > 0


def test_step_slider__shows_the_first_snapshot(page, pages):
    show(page, pages[0])
    stage = page.locator(".explorer-view canvas").first
    before = picture(stage)
    press(page.locator(".explorer-view").get_by_role("slider", name="Training step"), "Home")
    wait_until(lambda: "1 of 4" in page.locator(".explorer-view").inner_text(), 5, "the first step")
    wait_until(lambda: differ(before, picture(stage)) > 0, 5, "another picture")


def test_overlay__another_image_and_threshold_change_pixels(page, pages):
    show(page, pages[0])
    view = page.locator(".overlay-view"); left = view.locator("canvas[data-panel=left]")
    before = picture(left)
    view.get_by_role("button", name="next").press("Enter")
    other = picture(left); assert differ(before, other) > .1
    press(view.get_by_label("threshold", exact=True), *["ArrowRight"] * 60)
    assert differ(other, picture(left)) > 0


def test_keyboard__reaches_everything_in_order(page, pages):
    show(page, pages[0])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    page.keyboard.press("Enter"); assert page.url.endswith("#results")
    summary = page.locator("summary", has_text="settings of dgcl")
    assert not is_visible(page, page.locator("table.settings").first)
    press(summary, "Enter"); assert is_visible(page, page.locator("table.settings").first)
    unlabelled = page.evaluate("""[...document.querySelectorAll("main input, main select, main button")]
        .filter(e => e.offsetParent && !(e.labels && e.labels.length) && !e.getAttribute("aria-label") && !e.textContent.trim()).map(e => e.outerHTML.slice(0, 120))""")
    assert not unlabelled


def contrast(page, selector):
    "Contrast of an element's text with the page's ground."
    rgb = page.evaluate("s => [getComputedStyle(document.querySelector(s)).color, getComputedStyle(document.body).backgroundColor]", selector)
    values = np.array([[int(x) / 255 for x in re.findall(r"\d+", c)[:3]] for c in rgb])
    b, a = sorted(np.where(values <= .04045, values / 12.92, ((values + .055) / 1.055)**2.4) @ (.2126, .7152, .0722))
    return (a + .05) / (b + .05)


@pytest.mark.parametrize("scheme,ground", [("light", "rgb(255, 255, 255)"), ("dark", "rgb(18, 22, 28)")])
def test_colours__follow_the_system(page, pages, scheme, ground):
    page.emulate_media(color_scheme=scheme); show(page, pages[1])
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground
    for selector in ("h1", "p.lead", "figcaption", "nav a", ".better", "caption", "footer"): assert contrast(page, selector) >= 4.5, selector
    text = page.locator("figure.plot .xtick text").first.evaluate("e => getComputedStyle(e).fill")
    assert text == ("rgb(34, 34, 34)" if scheme == "light" else "rgb(224, 224, 224)")
    page.emulate_media(color_scheme="dark" if scheme == "light" else "light")
    wait_until(lambda: page.locator("figure.plot .xtick text").first.evaluate("e => getComputedStyle(e).fill") != text, 10, "figures in the other theme")


def test_print__unfolds_everything_in_dark_on_white(page, pages):
    page.emulate_media(color_scheme="dark"); show(page, pages[0])
    pdf = page.pdf(format="A4")
    assert pdf[:4] == b"%PDF" and len(pdf) > 50_000
    page.emulate_media(media="print"); page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0 and not page.locator("nav").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    wait_until(lambda: page.locator("figure.plot .xtick text").first.evaluate("e => getComputedStyle(e).fill") == "rgb(34, 34, 34)", 10, "dark ink")


def test_narrow_screen__nothing_sticks_out(page, pages):
    page.set_viewport_size(dict(width=420, height=900)); show(page, pages[1])
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 1
