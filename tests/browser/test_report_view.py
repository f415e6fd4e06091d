"""The report, opened as a file: it asks nobody for anything, its figures are drawn, its sliders work."""

import pytest
from lab import colours, differ, picture, press, wait_until

from dgcl_nb.looking.demo_run import make_demo_run

pytest.importorskip("plotly")
report = pytest.importorskip("dgcl_nb.report")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    size = dict(steps=200, snapshots=4, num_images=4)
    return [make_demo_run(place / method, method=method, **size) for method in ("dgcl", "self_training")]


@pytest.fixture(scope="module")
def alone(runs):
    return report.write_report(runs[0])


def show(page, path):
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready]", state="attached")


def shown(view):
    "How many points the explorer says it shows."
    return int(view.locator(".dgcl-count b").inner_text().replace(",", "") or 0)


def test_report__draws_its_figures(page, alone):
    show(page, alone)
    assert page.locator("figure.plot .main-svg").count() >= 3
    assert colours(picture(page.locator("figure.plot").first)) > 20


def test_report__sliders_of_the_explorer_change_count_and_picture(page, alone):
    show(page, alone)
    view = page.locator(".explorer-view")
    view.scroll_into_view_if_needed()
    stage = view.locator(".dgcl-stage")
    wait_until(lambda: shown(view), 10, "points")
    before, drawn = shown(view), picture(stage)
    press(view.get_by_role("slider", name="Density, lower bound"), *["ArrowRight"] * 40)
    assert shown(view) < before and differ(drawn, picture(stage)) > 0.001
    press(view.get_by_role("slider", name="Training step"), "ArrowLeft")
    drawn = picture(stage)

    def moved():
        return differ(drawn, picture(stage)) > 0 or "150" in view.inner_text()

    wait_until(moved, 5, "the step before")


def test_report__sliders_of_the_overlay_change_the_picture(page, alone):
    show(page, alone)
    view = page.locator(".overlay-view")
    view.scroll_into_view_if_needed()
    canvas = view.locator("canvas[data-panel=right]")
    canvas.wait_for()
    drawn = picture(canvas)
    press(view.get_by_role("slider", name="alpha"), "Home")
    assert differ(drawn, picture(canvas)) > 0.3
    drawn = picture(canvas)
    press(view.get_by_role("slider", name="alpha"), "End")
    press(view.get_by_role("slider", name="threshold, lower bound"), *["ArrowRight"] * 20)
    assert differ(drawn, picture(canvas)) > 0.3


def test_report__of_two_runs_in_dark(page, runs):
    page.emulate_media(color_scheme="dark")
    show(page, report.write_report(*runs))
    assert page.locator("figure.plot .main-svg").count() >= 4
    ground = picture(page.locator("header"))
    assert ground[0].mean() < 60  # a dark page
