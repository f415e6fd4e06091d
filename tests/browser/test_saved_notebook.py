"A notebook that was saved with its views and is opened with another kernel shows pictures of them."

import nbformat
import pytest
from lab import open_notebook, run_notebook, wait_until

pytest.importorskip("dgcl_nb.widgets.monitor")
IMPORTS = """from dgcl_nb.looking.demo_run import make_demo_run
from dgcl_nb.widgets.explorer import explore
from dgcl_nb.widgets.monitor import watch
from dgcl_nb.widgets.overlay import overlay
run = make_demo_run("saved-run", steps=200, snapshots=2, num_images=2, max_per_class=30)"""
VIEWS = ("explore(run)", "overlay(run)", "watch(run)")
ERROR = "Error displaying widget"


def test_saved_notebook__shows_pictures_and_names_the_report(page, lab):
    run_notebook(page, lab, "saved", IMPORTS, *VIEWS)
    live = page.locator(".dgcl-explorer, .dgcl-monitor")
    live.first.wait_for()
    assert not page.locator(".dgcl-saved").first.is_visible()
    page.evaluate("async () => jupyterapp.commands.execute('docmanager:save')")

    book = nbformat.read(lab.root / "saved.ipynb", 4)
    bundles = [out.data for cell in book.cells for out in cell.get("outputs", []) if "data" in out]
    views = [b for b in bundles if "application/vnd.jupyter.widget-view+json" in b]
    assert len(views) == 3 and all("image/png" in b for b in views)
    assert max(len(str(b)) for b in bundles) < 400_000

    page.goto("about:blank")
    lab.end_kernels()
    open_notebook(page, lab, "saved")
    saved = page.locator(".dgcl-saved")
    wait_until(lambda: saved.count() == 3, 20, "what the views left")
    pictures = [saved.nth(i).locator("img") for i in range(3)]
    assert [p.count() for p in pictures] == [1, 1, 3]
    for picture in (p for found in pictures for p in found.all()):
        picture.scroll_into_view_if_needed()
        assert picture.is_visible() and picture.evaluate("e => e.naturalWidth") > 200
    assert "saved-run/report.html" in saved.nth(2).inner_text()
    errors = page.get_by_text(ERROR)
    assert not any(errors.nth(i).is_visible() for i in range(errors.count()))
