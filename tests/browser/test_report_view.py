"""The report, opened as a file: it asks nobody for anything, its figures are drawn, its sliders work."""
import pytest
from lab import colours, differ, picture, press, wait_until

from dgcl_nb.looking.demo_run import make_demo_run

pytest.importorskip("plotly")
report = pytest.importorskip("dgcl_nb.report")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    return [make_demo_run(place/method, steps=200, snapshots=4, num_images=4, method=method) for method in ("dgcl", "self_training")]


def show(page, path):
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready]", state="attached")


def test_report__sliders_change_count_and_pictures(page, runs):
    show(page, report.write_report(runs[0]))
    assert page.locator("figure.plot .main-svg").count() >= 3 and colours(picture(page.locator("figure.plot").first)) > 20
    view = page.locator(".explorer-view"); view.scroll_into_view_if_needed()
    count, stage = view.locator(".dgcl-count b"), view.locator(".dgcl-stage")
    wait_until(lambda: count.inner_text() not in ("", "0"), 10, "points")
    before, drawn = count.inner_text(), picture(stage)
    press(view.get_by_role("slider", name="Density, lower bound"), *["ArrowRight"] * 40)
    assert int(count.inner_text().replace(",", "")) < int(before.replace(",", "")) and differ(drawn, picture(stage)) > .001
    press(view.get_by_role("slider", name="Training step"), "ArrowLeft"); drawn = picture(stage)
    wait_until(lambda: differ(drawn, picture(stage)) > 0 or "150" in view.inner_text(), 5, "the step before")
    view = page.locator(".overlay-view"); view.scroll_into_view_if_needed(); canvas = view.locator("canvas[data-panel=right]"); canvas.wait_for()
    drawn = picture(canvas); press(view.get_by_role("slider", name="alpha"), "Home"); assert differ(drawn, picture(canvas)) > .3
    drawn = picture(canvas); press(view.get_by_role("slider", name="alpha"), "End"); press(view.get_by_role("slider", name="threshold"), *["ArrowRight"] * 20)
    assert differ(drawn, picture(canvas)) > .3


def test_report__of_two_runs_in_dark(browser, page, runs):
    page.emulate_media(color_scheme="dark")
    show(page, report.write_report(*runs, out=runs[0]/"both.html"))
    assert page.locator("figure.plot .main-svg").count() >= 4
    ground = picture(page.locator("header"))
    assert ground[0].mean() < 60                                                  # a dark page
