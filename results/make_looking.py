"""The pictures of README.md that show the looking, from two finished runs with the same probe images.

    python results/make_looking.py [DGCL_RUN] [SELF_TRAINING_RUN]

explorer.png and overlay.png are the report's views as a browser draws them, after some real keys and clicks;
clusters.png and predictions.png are the figures that compare two runs, the baseline left.
"""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from dgcl_nb.run_folder import write_atomic
from dgcl_nb.looking.figures import save_figure
from dgcl_nb.looking.report_figures import cluster_figure, prediction_figure
from dgcl_nb.report import open_runs, write_report
from dgcl_nb.widgets.front import find_browser

RESULTS = Path(__file__).resolve().parent
RUNS = [RESULTS.parent / "runs" / f"digits-{method}-s0" for method in ("dgcl", "self_training")]
IMAGE, PRESSES = 3, 60
MAX_BYTES = 200_000


def save_small(png: bytes, path: Path) -> None:
    "Write a PNG as small as it can be; if that is still large, with a palette of 256 colours."
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for picture in (image, image.quantize(256, dither=Image.Dither.NONE)):
        out = io.BytesIO()
        picture.save(out, "PNG", optimize=True)
        if len(out.getvalue()) <= MAX_BYTES:
            break
    write_atomic(path, out.getvalue())
    print(f"{path}: {len(out.getvalue()) // 1000} kB")


def explorer(page: Page) -> bytes:
    "The features of the last step: the denser are hidden, and a sparse one with a wrong label is clicked."
    view = page.locator(".explorer-view")
    upper = view.locator("input[type=range][data-bound=high]").first
    low, high = (float(upper.get_attribute(name)) for name in ("min", "max"))
    change = "(input, value) => { input.value = value; input.dispatchEvent(new Event('input')); }"
    upper.evaluate(change, low + 0.7 * (high - low))
    stage, tip = view.locator("canvas.dgcl-over"), view.locator(".dgcl-tip")
    stage.focus()
    for _ in range(PRESSES):
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(30)
        if "wrong" in tip.inner_text():
            break
    page.keyboard.press("Enter")
    stage.evaluate("canvas => canvas.blur()")
    page.mouse.move(5, 5)
    page.wait_for_timeout(1000)
    tip.evaluate("tip => { tip.hidden = true; }")  # it hides the lines, and its values stand at the side too
    return view.screenshot()


def overlay(page: Page) -> bytes:
    "A probe image: right and wrong beside density, and the values of a pixel under the pointer."
    view = page.locator(".overlay-view")
    view.get_by_role("combobox", name="left layer", exact=True).select_option("right_wrong")
    view.get_by_role("combobox", name="image", exact=True).select_option(index=IMAGE)
    view.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    view.locator("canvas[data-panel=left]").hover(position=dict(x=175, y=190))
    page.wait_for_timeout(500)
    return view.screenshot()


def views(run: Path) -> dict[str, bytes]:
    "Both views of a run's report as pictures."
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        file = write_report(run, out=Path(folder, "report.html"), layout="umap")
        browser = p.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        page = browser.new_page(viewport=dict(width=1180, height=900))
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready]")
        page.wait_for_timeout(1500)
        pictures = dict(explorer=explorer(page), overlay=overlay(page))
        browser.close()
    return pictures


def main(dgcl: Path, baseline: Path) -> None:
    "Write all four."
    runs = open_runs([baseline, dgcl])
    for name, png in views(dgcl).items():
        save_small(png, RESULTS / f"{name}.png")
    with tempfile.TemporaryDirectory() as folder:
        for figure in (cluster_figure(*runs, layout="umap"), prediction_figure(*runs)):
            path = Path(folder, f"{figure.name}.png")
            save_figure(figure.drawing, path)
            save_small(path.read_bytes(), RESULTS / path.name)


if __name__ == "__main__":
    given = sys.argv[1:3] if len(sys.argv) > 2 else RUNS
    main(*map(Path, given))
