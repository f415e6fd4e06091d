"200 000 points in a page without a kernel: slider, lasso and brush by real keys and a real mouse."

import numpy as np
import pytest
from lab import differ, picture, press, two_frames

pytest.importorskip("dgcl_nb.explore")
from dgcl_nb.explore import explorer_page, features_view, points_of  # noqa: E402
from dgcl_nb.looking.features import Features  # noqa: E402

NUM, IMAGES, GRID, CLASSES = 200_000, 40, 100, 7
SIDE = 248
"CSS pixels of the image that one draws on."


def made_sample(num=NUM, images=IMAGES):
    "Made-up cells, each of its own place."
    rng = np.random.default_rng(0)
    label = rng.integers(0, CLASSES, num)
    feats = rng.normal(size=(CLASSES, 8))[label] + 0.6 * rng.normal(size=(num, 8))
    place = rng.permutation(images * GRID**2)[:num]
    names = tuple(f"class {c}" for c in range(CLASSES))
    return Features(
        layer="made up",
        class_names=names,
        palette=rng.integers(0, 256, (CLASSES, 3)).astype(np.uint8),
        image_id=tuple(f"image {i}" for i in range(images)),
        image=rng.integers(0, 256, (images, 50, 50, 3), np.uint8),
        image_size=np.array([400, 400], np.int32),
        grid=np.array([GRID, GRID], np.int32),
        feats=(feats / np.linalg.norm(feats, axis=1, keepdims=True)).astype(np.float16),
        pixel_image=(place // GRID**2).astype(np.int16),
        pixel_row=(place // GRID % GRID).astype(np.int16),
        pixel_col=(place % GRID).astype(np.int16),
        pixel_class=label.astype(np.uint8),
        pixel_pseudo=np.where(rng.random(num) < 0.9, label, 0).astype(np.uint8),
        pixel_density=rng.uniform(0.3, 1, num).astype(np.float32),
        pixel_confidence=rng.uniform(0.2, 1, num).astype(np.float32),
    )


@pytest.fixture(scope="module")
def found():
    return made_sample()


@pytest.fixture(scope="module")
def file(found, tmp_path_factory):
    "The page; one for all tests here."
    file = tmp_path_factory.mktemp("many") / "page.html"
    view, said = features_view(found)
    file.write_text(explorer_page("Many", said, view), encoding="utf-8")
    return file


@pytest.fixture
def shown(page, file):
    page.goto(file.as_uri())
    page.wait_for_selector(".dgcl-explorer[data-draws]")
    two_frames(page)
    return page


def count_of(page):
    return int(page.locator(".dgcl-explorer").get_attribute("data-shown"))


def selected(page):
    cells = page.locator(".dgcl-compare td").nth(1)
    return int(cells.inner_text().replace(" ", "")) if cells.count() else 0


def drag(page, locator, places):
    "Press at the first of some places in an element (CSS pixels) and go along the others."
    locator.scroll_into_view_if_needed()
    box = locator.bounding_box()
    spots = [(box["x"] + x, box["y"] + y) for x, y in places]
    page.mouse.move(*spots[0])
    page.mouse.down()
    for spot in spots[1:]:
        page.mouse.move(*spot, steps=4)
    page.mouse.up()
    two_frames(page)


def test_slider__each_key_filters_and_repaints(shown, found):
    page, stage = shown, shown.locator(".dgcl-stage")
    low = page.get_by_label("Density, lower bound")
    page.get_by_label("Colour by").select_option("density")
    assert count_of(page) == NUM
    before = picture(stage)
    press(low, *["ArrowRight"] * 25)
    bound = float(low.input_value())
    assert count_of(page) == (found.pixel_density >= np.float32(bound)).sum() < NUM
    assert differ(before, picture(stage)) > 0.01
    assert "no neighbours" in page.locator(".notes").inner_text()
    press(low, "Home")
    assert count_of(page) == NUM and differ(before, picture(stage)) < 0.001


def test_lasso__selects_what_lies_inside_and_a_key_keeps_it(shown, found):
    page, over = shown, shown.locator(".dgcl-over")
    box = over.bounding_box()
    width, height = box["width"], box["height"]
    turns = np.linspace(0, 2 * np.pi, 24)[:-1]
    drag(page, over, [(width / 2 + 90 * np.cos(t), height / 2 + 90 * np.sin(t)) for t in turns])
    xy = points_of(found).xy.astype(float)
    low, high = xy.min(0), xy.max(0)
    scale = min((width - 52) / (high - low)[0], (height - 52) / (high - low)[1])
    away = np.hypot(*((xy - (low + high) / 2) * scale).T)
    assert (away < 87).sum() < selected(page) < (away < 92).sum()
    assert page.locator(".dgcl-strip canvas").count() == 16
    inside = selected(page)
    press(page.get_by_label("Confidence, upper bound"), *["ArrowLeft"] * 5)
    assert count_of(page) < NUM and selected(page) == inside


def test_brush__touches_the_cells_on_its_way(shown, found):
    page, stage = shown, shown.locator(".dgcl-stage")
    page.locator(".dgcl-pane select").nth(1).select_option("brush")
    before = picture(stage)
    drag(page, page.locator(".dgcl-sketch"), [(30, 60), (200, 60), (200, 180)])
    x, y = ((a + 0.5) * SIDE / GRID for a in (found.pixel_col, found.pixel_row))
    across = np.hypot(x - x.clip(30, 200), y - 60)
    down = np.hypot(x - 200, y - y.clip(60, 180))
    near, own = np.minimum(across, down), found.pixel_image == 0
    assert (own & (near < 13)).sum() <= selected(page) <= (own & (near < 15)).sum()
    assert selected(page) > 500 and differ(before, picture(stage)) > 0.05


def test_hover__finds_the_point_and_a_click_says_why_it_has_no_neighbours(shown):
    page = shown
    press(page.locator(".dgcl-over"), "ArrowRight", "Enter")
    assert "true class" in page.locator(".dgcl-tip").inner_text()
    assert "no Python behind it" in page.locator(".dgcl-side").inner_text()
