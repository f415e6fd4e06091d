"""The explorer's page with hundreds of thousands of points: from a key to the paint, lasso, brush, memory.

    python tests/bench/bench_explorer_many.py [--repeats 12] [--quick] [--out results]

A made-up sample (11 classes, 100 images of 100 x 100 cells) becomes a page as `python -m dgcl_nb.explore`
writes it, and real keys and a real mouse use it in Chromium, which has no window here and draws by the
processor. Each key is timed twice by the page's own clock, so that what drives the browser costs nothing:

- `frame`: from keydown until its frame was on the screen, as the browser itself reports it (Event Timing,
  in steps of 8 ms from 16 on);
- `key`: from keydown to the second animation frame after the drawing, as in bench_explorer: the frame has
  been seen by then, so this is the stricter of the two.

`cpu`: what the page's main thread computed for a key, which other work on the machine does not lengthen much;
`load`: the machine's load average of the last minute when the row was done, with the browser's own share;
`chosen`: a key while half of the points are selected; `lasso`, `brush`: from the end of the movement to the
paint. 2000 points stand beside for what the machine takes anyway.

Goal: median of `key` at most 60 ms at 500 000 points."""

import math
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "browser")]
from bench_density import command_line, machine, save, table  # noqa: E402
from bench_explorer import WATCH, burst, key_to_paint  # noqa: E402
from lab import FLAGS, assert_quiet, find_browser, two_frames, watch_context  # noqa: E402

from dgcl_nb.explore import explorer_page, features_view  # noqa: E402
from dgcl_nb.looking.features import Features  # noqa: E402

SIZES = (2_000, 200_000, 500_000)
GOALS = {500_000: 60}
IMAGES, GRID, CLASSES, CHANNELS = 100, 100, 11, 16
HEAP = "()=>performance.memory.usedJSHeapSize / 1e6"
COLUMNS = dict(
    points="d",
    colour="s",
    page=".1f",
    open=".1f",
    frame=".0f",
    key=".0f",
    least=".0f",
    most=".0f",
    cpu=".0f",
    burst=".0f",
    chosen=".0f",
    lasso=".0f",
    brush=".0f",
    heap=".0f",
    load=".1f",
)
SHOWN = """()=>{
  window.shown = [];
  const note = (list) => shown.push(...list.getEntriesByName('keydown').map((entry) => entry.duration));
  new PerformanceObserver(note).observe({type: 'event', durationThreshold: 16});
}"""
LEAST_SHOWN = 16
"Milliseconds; the browser reports no faster frame."
NOTES = """

Drawn on a canvas, by the processor. `page`: MB; `open`: seconds until it is drawn; `frame`: milliseconds \
from a key to its frame on the screen, median of {repeats} keys, as the browser reports it in steps of 8; \
`key`, `least`, `most`: to the second animation frame after the drawing; `cpu`: milliseconds that the page's \
main thread computed for a key; `burst`: from the last of 10 quick keys; `chosen`: a key with half of the \
points selected; `lasso`, `brush`: from letting go to the paint; `heap`: MB of JavaScript at the end; \
`load`: the machine's, with the browser's own share.

"""


def made_sample(n):
    "Made-up cells, each of its own place."
    rng = np.random.default_rng(0)
    label = rng.integers(0, CLASSES, n)
    feats = rng.normal(size=(CLASSES, CHANNELS))[label] + 0.8 * rng.normal(size=(n, CHANNELS))
    place = rng.permutation(IMAGES * GRID**2)[:n]
    return Features(
        layer="made up",
        class_names=tuple(f"class {c}" for c in range(CLASSES)),
        palette=rng.integers(0, 256, (CLASSES, 3)).astype(np.uint8),
        image_id=tuple(f"image {i}" for i in range(IMAGES)),
        image=rng.integers(0, 256, (IMAGES, 64, 64, 3), np.uint8),
        image_size=np.array([400, 400], np.int32),
        grid=np.array([GRID, GRID], np.int32),
        feats=(feats / np.linalg.norm(feats, axis=1, keepdims=True)).astype(np.float16),
        pixel_image=(place // GRID**2).astype(np.int16),
        pixel_row=(place // GRID % GRID).astype(np.int16),
        pixel_col=(place % GRID).astype(np.int16),
        pixel_class=label.astype(np.uint8),
        pixel_pseudo=np.where(rng.random(n) < 0.9, label, 0).astype(np.uint8),
        pixel_density=rng.uniform(0.3, 1, n).astype(np.float32),
        pixel_confidence=rng.uniform(0.2, 1, n).astype(np.float32),
    )


def write_made_page(n, folder):
    "The page of n points."
    view, left_out = features_view(made_sample(n))
    file = Path(folder, f"{n}.html")
    file.write_text(explorer_page(f"{n} points", left_out, view), encoding="utf-8")
    return file


def task_ms(devtools):
    "Milliseconds that the page's main thread has computed so far."
    metrics = devtools.send("Performance.getMetrics")["metrics"]
    return 1000 * next(m["value"] for m in metrics if m["name"] == "TaskDuration")


def time_key(page):
    "Milliseconds from one key to its frame on the screen, and to the second frame after the drawing."
    page.evaluate("()=>{shown.length = 0}")
    key = key_to_paint(page)
    frame = page.evaluate("()=>Math.max(0, ...shown)")
    return max(frame, LEAST_SHOWN), key


def released(page):
    "Milliseconds from letting the button go to the last paint."
    page.evaluate("()=>{paints.length = 0; window.began = performance.now()}")
    page.mouse.up()
    page.wait_for_timeout(1500)  # what was drawn before the button went up may be painted after it
    return page.evaluate("()=>paints.at(-1) - began")


def draw_lasso(page):
    "A circle round the middle."
    box = page.locator(".dgcl-over").bounding_box()
    x, y, radius = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, 0.3 * box["height"]
    page.mouse.move(x + radius, y)
    page.mouse.down()
    for step in range(60):
        page.mouse.move(x + radius * math.cos(step / 9.5), y + radius * math.sin(step / 9.5))
    return released(page)


def draw_brush(page):
    "A line across the image."
    page.locator(".dgcl-pane select").nth(1).select_option("brush")
    sketch = page.locator(".dgcl-sketch")
    sketch.scroll_into_view_if_needed()
    box = sketch.bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    for step in range(20):
        page.mouse.move(box["x"] + 20 + 10 * step, box["y"] + 20 + 8 * step)
    return released(page)


def time_page(page, file, n, colour, repeats):
    "A row of the table."
    began = time.perf_counter()
    page.goto(file.as_uri())
    page.wait_for_selector(".dgcl-explorer[data-draws]")
    two_frames(page)
    row = dict(points=n, colour=colour, page=file.stat().st_size / 1e6, open=time.perf_counter() - began)
    page.get_by_label("Colour by").select_option(colour)
    page.evaluate(WATCH)
    page.evaluate(SHOWN)
    low = page.locator("input[data-bound=low]").first
    low.focus()
    for _ in range(3):  # the browser compiles
        key_to_paint(page)
    devtools = page.context.new_cdp_session(page)
    devtools.send("Performance.enable", dict(timeDomain="threadTicks"))
    computed = task_ms(devtools)
    frames, times = zip(*(time_key(page) for _ in range(repeats)))
    row |= dict(cpu=(task_ms(devtools) - computed) / repeats)
    row |= dict(frame=statistics.median(frames), key=statistics.median(times))
    row |= dict(least=min(times), most=max(times), burst=burst(page), lasso=draw_lasso(page))
    low.focus()
    row |= dict(chosen=statistics.median(key_to_paint(page) for _ in range(repeats)), brush=draw_brush(page))
    return row | dict(heap=page.evaluate(HEAP), load=os.getloadavg()[0])


def time_sizes(chromium, sizes, repeats):
    "The rows of the table, each in a page of its own."
    from playwright.sync_api import sync_playwright

    rows = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=FLAGS)
        for n in sizes:
            file = write_made_page(n, folder)
            for colour in ("class", "density"):
                context = browser.new_context(viewport=dict(width=1280, height=1000))
                page = watch_context(context, context.new_page())
                page.set_default_timeout(120_000)
                rows.append(time_page(page, file, n, colour, repeats))
                assert_quiet(page)
                context.close()
        browser.close()
    return rows


def main():
    parser = command_line(__doc__, quick="the smallest size only")
    parser.add_argument("--repeats", type=int, default=12, help="timed keys of each size (default 12)")
    args = parser.parse_args()
    chromium, why = find_browser()
    if chromium is None:
        sys.exit(why)
    found = machine()
    rows = time_sizes(chromium, SIZES[:1] if args.quick else SIZES, args.repeats)
    text = table(rows, COLUMNS)
    if args.quick:
        print(text)
        return
    text += NOTES.format(repeats=args.repeats)
    for n, most in GOALS.items():
        own = [row for row in rows if row["points"] == n]
        frame, key, cpu = (max(row[name] for row in own) for name in ("frame", "key", "cpu"))
        text += f"Goal: `key` at most {most} at {n} points; measured {key:.0f} (`frame` {frame:.0f}, "
        text += f"`cpu` {cpu:.0f}), the worse colour."
    save("bench_explorer_many", args.out, "Explorer: many points", text, dict(machine=found, rows=rows))


if __name__ == "__main__":
    main()
