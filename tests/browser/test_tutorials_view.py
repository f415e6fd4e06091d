"The tutorials that look, in JupyterLab: all cells run, with their views on show, and the page stays quiet."

import pytest
from lab import START_ALL, assert_ran, colours, copy_tutorial, differ, open_notebook, picture, press

pytest.importorskip("dgcl_nb.widgets.monitor")
NAMES = ("02_reading_density", "03_feature_clusters")


def on_view(page, selector):
    found = page.locator(selector).first
    found.wait_for()
    found.scroll_into_view_if_needed()
    return found


def test_tutorials__run_in_jupyterlab(new_page, lab):
    pages = {name: new_page() for name in NAMES}
    for name, page in pages.items():  # at the same time, a core each
        open_notebook(page, lab, copy_tutorial(lab, name))
        page.evaluate(START_ALL)
    for page in pages.values():
        page.wait_for_function("()=>window.ranAll", timeout=400_000)
        assert_ran(page)

    reading, clusters = pages["02_reading_density"], pages["03_feature_clusters"]
    right = on_view(reading, "canvas[data-panel=right]")
    before = picture(right)
    assert colours(before) > 20
    press(reading.get_by_role("slider", name="threshold, lower bound").first, *["ArrowRight"] * 60)
    assert differ(before, picture(right)) > 0.02
    assert on_view(clusters, ".dgcl-mon-state").text_content().startswith("finished")
    for selector in (".dgcl-stage", "canvas[data-panel=left]", ".js-plotly-plot"):
        assert colours(picture(on_view(clusters, selector))) > 10
    assert clusters.locator(".dgcl-stage").count() == 3  # two monitors and the explorer
