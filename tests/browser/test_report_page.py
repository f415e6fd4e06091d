"""The report in a browser, as a file: figures, keys, colours, paper, and nothing that leaves it."""

import re
from itertools import combinations

import numpy as np
import pytest
from lab import differ, picture, press, wait_until
from pdf import pdf_pages

from dgcl_nb.looking.demo_run import make_demo_run

report = pytest.importorskip("dgcl_nb.report")
SMALL = dict(steps=200, snapshots=4, num_images=3, max_per_class=60)
INK = "e => getComputedStyle(e).fill"
SIZE = "e => { const r = e.getBoundingClientRect(); return r.width > 0 && r.height > 0; }"
UNLABELLED = """[...document.querySelectorAll("main input, main select, main button")]
    .filter(e => e.offsetParent && !(e.labels && e.labels.length))
    .filter(e => !e.getAttribute("aria-label") && !e.textContent.trim())
    .map(e => e.outerHTML.slice(0, 120))"""

TAKEN_AWAY = re.compile(rb"/SMask <<[^>]*/TR ")
"How a printed canvas that was cleared takes away what lies below it: an inverted mask."
WORDS = """[...document.querySelectorAll("figure.plot")].map((figure) => {
    const words = [...figure.querySelectorAll("text.annotation-text, text.legendtext")];
    return words.map((word) => [word.textContent, word.getBoundingClientRect().toJSON()]);
})"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    "Reports of one run, of two, and of two with long names."
    place = tmp_path_factory.mktemp("runs")
    a, b = (make_demo_run(place / method, method=method, **SMALL) for method in ("dgcl", "self_training"))
    names = [f"camvid-{method}-s0-with-a-name-of-its-own" for method in ("mean_teacher", "self_training")]
    long = [make_demo_run(place / name, **SMALL) for name in names]
    both, wide = place / "both.html", place / "wide.html"
    return report.write_report(a), report.write_report(a, b, out=both), report.write_report(*long, out=wide)


def show(page, file):
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready]", timeout=60_000)
    page.wait_for_selector(".overlay-view canvas[aria-label]")
    page.wait_for_selector(".explorer-view canvas[aria-label]")
    return page


def count(page):
    "How many points the explorer says it shows."
    text = page.locator(".explorer-view .dgcl-count").first.inner_text().replace("\u202f", " ")
    return int(re.search(r"([\d ]+) of", text)[1].replace(" ", ""))


def ground(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def first_tick(page):
    "A text of a figure, which has the ink of the figure's theme."
    return page.locator("figure.plot .xtick text").first


def test_page__draws_every_figure_and_asks_for_nothing(page, pages):
    asked = []
    page.on("request", lambda r: asked.append(r.url))
    for file, num in zip(pages, (4, 9)):
        show(page, file)
        figures = page.locator("figure.plot")
        assert figures.count() == num and page.locator("figure.plot .main-svg").count() >= num
        for f in figures.all():
            image = picture(f.locator(".canvas"))
            assert np.unique(image.reshape(-1, 3), axis=0).shape[0] > 10
        assert not page.locator("text=could not be drawn").count()
    assert not [u for u in asked if not u.startswith(("file:", "data:", "blob:"))]
    assert sum(u.startswith("file:") for u in asked) == 2


def test_page__without_plotly_says_why_and_keeps_its_tables(page, pages, tmp_path):
    damaged = tmp_path / "damaged.html"
    packed = re.compile(r'(<script type="text/plain" id="plotly">).*?(?=</script>)', re.S)
    damaged.write_text(packed.sub(r"\1AAAA", pages[0].read_text()))
    page.goto(damaged.as_uri())
    wait_until(lambda: page.locator("text=could not be drawn").count() == 4, 20, "a sentence in each figure")
    assert page.locator("table.classes").is_visible()
    page.errors.clear()  # the fault is thrown on, for whoever looks into the console


def test_density_slider__hides_points_with_keys(page, pages):
    show(page, pages[0])
    stage, all_points = page.locator(".explorer-view canvas").first, count(page)
    before = picture(stage)
    press(page.locator(".explorer-view input[data-bound=low]").first, *["ArrowRight"] * 20)
    assert 0 < count(page) < all_points and differ(before, picture(stage)) > 0


def test_step_slider__shows_the_first_snapshot(page, pages):
    show(page, pages[0])
    view = page.locator(".explorer-view")
    stage = view.locator("canvas").first
    before = picture(stage)
    press(view.get_by_role("slider", name="Training step"), "Home")
    wait_until(lambda: "1 of 4" in view.inner_text(), 5, "the first step")
    wait_until(lambda: differ(before, picture(stage)) > 0, 5, "another picture")


def test_overlay__another_image_and_threshold_change_pixels(page, pages):
    show(page, pages[0])
    view = page.locator(".overlay-view")
    left = view.locator("canvas[data-panel=left]")
    before = picture(left)
    view.get_by_role("button", name="next").press("Enter")
    other = picture(left)
    assert differ(before, other) > 0.1
    press(view.get_by_label("threshold, lower bound"), *["ArrowRight"] * 60)
    assert differ(other, picture(left)) > 0


def test_keyboard__reaches_everything_in_order(page, pages):
    show(page, pages[0])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    page.keyboard.press("Enter")
    assert page.url.endswith("#results")
    settings = page.locator("table.settings").first
    assert not settings.evaluate(SIZE)
    press(page.locator("summary", has_text="settings of dgcl"), "Enter")
    assert settings.evaluate(SIZE)
    assert not page.evaluate(UNLABELLED)


def luminance(colour):
    "The relative luminance of an rgb() colour (WCAG 2.1)."
    values = np.array([int(x) / 255 for x in re.findall(r"\d+", colour)[:3]])
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(page, selector):
    "Contrast of an element's text with the page's ground."
    ink = page.evaluate("s => getComputedStyle(document.querySelector(s)).color", selector)
    dark, light = sorted([luminance(ink), luminance(ground(page))])
    return (light + 0.05) / (dark + 0.05)


THEMES = [
    ("light", "rgb(255, 255, 255)", "rgb(34, 34, 34)"),
    ("dark", "rgb(18, 22, 28)", "rgb(224, 224, 224)"),
]


@pytest.mark.parametrize("scheme, paper, ink", THEMES)
def test_colours__follow_the_system(page, pages, scheme, paper, ink):
    page.emulate_media(color_scheme=scheme)
    show(page, pages[1])
    assert ground(page) == paper
    for selector in ("h1", "p.lead", "figcaption", "nav a", ".better", "caption", "footer"):
        assert contrast(page, selector) >= 4.5, selector
    assert first_tick(page).evaluate(INK) == ink
    page.emulate_media(color_scheme="dark" if scheme == "light" else "light")
    wait_until(lambda: first_tick(page).evaluate(INK) != ink, 10, "figures in the other theme")


def test_print__unfolds_everything_in_dark_on_white(page, pages):
    page.emulate_media(color_scheme="dark")
    show(page, pages[0])
    pdf = page.pdf(format="A4")
    assert pdf[:4] == b"%PDF" and len(pdf) > 50_000
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0 and not page.locator("nav").is_visible()
    assert ground(page) == "rgb(255, 255, 255)"
    wait_until(lambda: first_tick(page).evaluate(INK) == "rgb(34, 34, 34)", 10, "dark ink")


@pytest.mark.parametrize("paper", ["A4", "Letter"])
def test_print__cuts_nothing(page, pages, paper):
    page.set_viewport_size(dict(width=1366, height=900))
    show(page, pages[0])
    pdf = page.pdf(format=paper)
    assert not TAKEN_AWAY.search(pdf)
    printed = pdf_pages(pdf)
    assert 5 <= len(printed) <= 12, "no page too many"
    text = "".join(printed)
    for right in ("theteacherasabar", "lowerisbetter", "wrongat200", "Selection", "nothingishidden"):
        assert right in text, f"what stands at the right: {right}"
    assert "loop.sup_only_fraction0.25" in text and "Everythingisinthisfile;itneedsnonetwork." in text


@pytest.mark.parametrize("number, most", [(0, 7), (1, 11)])
def test_print__sheets_are_filled(page, pages, number, most):
    page.set_viewport_size(dict(width=1366, height=900))
    show(page, pages[number])
    printed = pdf_pages(page.pdf(format="Letter"))
    assert len(printed) <= most
    [results] = [text for text in printed if "peakmemory" in text]
    assert "background" in results and "Davies-Bouldin" in results  # both tables, side by side


@pytest.fixture(scope="module", params=[2, 6])
def compared(request, tmp_path_factory):
    "A report of two runs, by how many images their snapshots hold."
    place = tmp_path_factory.mktemp("compared")
    size = SMALL | dict(num_images=request.param)
    both = [make_demo_run(place / method, method=method, **size) for method in ("dgcl", "self_training")]
    return report.write_report(*both)


@pytest.mark.parametrize("paper, most", [("A4", 10), ("Letter", 11)])
def test_print__clusters_and_predictions_of_two_runs_share_a_sheet(page, compared, paper, most):
    page.set_viewport_size(dict(width=1366, height=900))
    show(page, compared)
    printed = pdf_pages(page.pdf(format=paper))
    [sheet] = [text for text in printed if "Clusterssidebyside" in text]
    assert "Predictionssidebyside" in sheet and "standsamongthescores" in sheet  # down to its caption
    assert len(printed) <= most


LEADS = {
    "Eachloss,whatbecomesof": "lossonlabelledimages",
    "Imagesofvalwitheverymap": "leftlayer",
    "Eachpointisthefeature": "Trainingstep",
}


@pytest.mark.parametrize("number", [0, 1])
def test_print__what_is_seen_stands_below_its_lead(page, pages, number):
    page.set_viewport_size(dict(width=1366, height=900))
    show(page, pages[number])
    printed = pdf_pages(page.pdf(format="A4"))
    for lead, seen in LEADS.items():
        [sheet] = [text for text in printed if lead in text]
        assert seen in sheet, f"{lead} stands on a sheet without it"


def test_print__nothing_is_wider_than_paper_and_bars_have_ink(page, pages):
    page.set_viewport_size(dict(width=1366, height=900))
    show(page, pages[1])
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.set_viewport_size(dict(width=703, height=990))  # between the margins of A4
    page.emulate_media(media="print")
    ends = """[...document.querySelectorAll(".canvas .main-svg, .view canvas, .view button, td, figcaption")]
        .filter(e => e.getBoundingClientRect().width).map(e => e.getBoundingClientRect().right)"""
    assert max(page.evaluate(ends)) <= 703
    for part in (".swatch", ".better"):
        assert (
            page.evaluate("s => getComputedStyle(document.querySelector(s)).printColorAdjust", part)
            == "exact"
        )


def test_tables__of_two_runs_fit_a_laptop(page, pages):
    page.set_viewport_size(dict(width=1366, height=768))
    show(page, pages[2])
    sticks_out = (
        "[...document.querySelectorAll('.wide')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    )
    assert page.locator("table.compared").count() == 2 and page.evaluate(sticks_out) == 0


def test_tools__save_a_picture_and_upload_nothing(page, pages):
    show(page, pages[0])
    titles = page.evaluate("[...document.querySelectorAll('.modebar-btn')].map(e => e.dataset.title)")
    assert any("PNG" in t for t in titles)
    assert not [t for t in titles if "Share" in t or "Plotly" in t]


def test_narrow_screen__words_of_a_figure_do_not_overlap(page, pages):
    page.set_viewport_size(dict(width=800, height=900))
    show(page, pages[0])
    figures = page.evaluate(WORDS)
    assert sum(map(len, figures)) > 10
    for words in figures:
        for (text, a), (other, b) in combinations(words, 2):
            apart = a["right"] <= b["x"] + 1 or b["right"] <= a["x"] + 1
            apart = apart or a["bottom"] <= b["y"] + 1 or b["bottom"] <= a["y"] + 1
            assert apart, f"{text!r} lies over {other!r}"


def test_narrow_screen__nothing_sticks_out(page, pages):
    page.set_viewport_size(dict(width=420, height=900))
    show(page, pages[1])
    root = "document.documentElement"
    assert page.evaluate(f"{root}.scrollWidth - {root}.clientWidth") <= 1


NAMES_OF_CLASSES = """[...document.querySelectorAll(".plot[data-name=clusters] .textpoint text")]
    .map((name) => name.getBoundingClientRect().toJSON())"""


def test_clusters__names_of_classes_lie_apart(page, pages):
    page.set_viewport_size(dict(width=1366, height=900))
    show(page, pages[1])
    boxes = page.evaluate(NAMES_OF_CLASSES)
    assert len(boxes) > 8
    for a, b in combinations(boxes, 2):
        across = min(a["right"], b["right"]) - max(a["x"], b["x"])
        down = min(a["bottom"], b["bottom"]) - max(a["y"], b["y"])
        assert min(across, down) <= 1, "two names of classes lie over each other"


EDGES = """[...document.querySelectorAll(".plot .barlayer path")].map((bar) => {
    const {stroke, strokeWidth} = getComputedStyle(bar);
    return [stroke, parseFloat(strokeWidth)];
})"""


def test_bars__of_dark_classes_are_seen_in_a_dark_theme(page, pages):
    page.emulate_media(color_scheme="dark")
    show(page, pages[0])
    edges = [(colour, width) for colour, width in page.evaluate(EDGES) if width]
    assert len(edges) > 10 and min(width for _, width in edges) >= 1
    ground_light = luminance(ground(page))
    assert all((luminance(colour) + 0.05) / (ground_light + 0.05) >= 3 for colour, _ in edges)


CUT = """[...document.querySelectorAll(".plot .canvas, .wide > table")].filter((part) => {
    const place = part.closest(".plot, .wide").getBoundingClientRect();
    return part.getBoundingClientRect().right > place.right + 1;
}).map((part) => part.closest("figure")?.dataset.name ?? part.innerText.slice(0, 80))"""


def test_narrow_screen__figures_and_tables_are_whole(page, pages):
    page.set_viewport_size(dict(width=800, height=900))
    show(page, pages[0])
    page.evaluate("document.querySelectorAll('details').forEach((part) => (part.open = true))")
    assert page.evaluate(CUT) == []


def test_narrow_screen__the_pointer_reads_what_is_below_it(page, pages):
    page.set_viewport_size(dict(width=800, height=900))
    show(page, pages[0])
    figure = page.locator("figure.plot[data-name=curves]")
    point = figure.locator(".scatterlayer .point").first  # of the scores
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 10, y)
    page.mouse.move(x, y, steps=3)
    label = figure.locator(".hovertext").first
    label.wait_for()
    assert "(40, " in label.text_content()  # the step of the first scores
