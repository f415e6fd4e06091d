"""From a key on the explorer's density slider to the paint, in a real JupyterLab and Chromium.

    python tests/bench/bench_explorer.py [--repeats 12] [--quick] [--out results]

A made-up state of n points (19 classes, 64 channels) is shown; a real key moves the lower bound of the
density slider. The clock runs from the page's keydown to the second animation frame after the points were
drawn, and after the picture was seen to change. A burst is 10 keys, 30 ms apart; its figure is the time
from the last key to the last paint: what has piled up.

Goals: median of at least 6 at most 100 ms at 10 000 points and at most 60 ms at 50 000; after a burst at most
200 ms."""

import itertools
import statistics
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "browser")]
from bench_density import command_line, machine, save, table  # noqa: E402
from lab import (  # noqa: E402
    FLAGS,
    Lab,
    assert_quiet,
    differ,
    find_browser,
    kernel_says,
    picture,
    run_notebook,
    watch_context,
)

SIZES = (2_000, 10_000, 50_000)
GOALS = {10_000: 100, 50_000: 60}
BURST_GOAL = 200
CELL = """
import numpy as np
from dgcl_nb.widgets.state import ExplorerState
from dgcl_nb.widgets.explorer import Explorer

n, K, rng = {n}, 19, np.random.default_rng(0)
label = rng.integers(0, K, n)
centre = rng.normal(size=(K, 64)).astype("float32")
feats = centre[label] + rng.normal(size=(n, 64)).astype("float32")
angle = 2 * np.pi * label / K
xy = np.stack([3 * np.cos(angle), 3 * np.sin(angle)], 1) + rng.normal(scale=.45, size=(n, 2))
state = ExplorerState(
    xy=xy.astype("float32"),
    label=label,
    pseudo=np.where(rng.random(n) < .9, label, 0),
    density=rng.uniform(.3, 1, n).astype("float32"),
    confidence=rng.uniform(.2, 1, n).astype("float32"),
    image=np.full(n, -1),
    row=np.zeros(n, int),
    col=np.zeros(n, int),
    role=(rng.random(n) < .05).astype("uint8"),
    feats=feats,
    class_names=tuple(f"class {{c}}" for c in range(K)),
    palette=rng.integers(0, 256, (K, 3)).astype("uint8"),
    image_ids=(),
)
w = Explorer([state], colour_by="{colour}")
w
"""
WATCH = """()=>{
  const root = document.querySelector('.dgcl-explorer'), low = root.querySelector('input[data-bound=low]');
  window.keys = []; window.paints = [];
  low.addEventListener('keydown', () => keys.push(performance.now()), true);
  const note = () => paints.push(performance.now());
  const painted = () => requestAnimationFrame(() => requestAnimationFrame(note));
  new MutationObserver(painted).observe(root, {attributes: true, attributeFilter: ['data-draws']});
}"""


def key_to_paint(page):
    "Milliseconds from one key to its paint."
    page.evaluate("()=>{keys.length = paints.length = 0}")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("()=>paints.length > 0")
    page.wait_for_timeout(120)
    return page.evaluate("()=>paints[0] - keys[0]")


def burst(page, presses=10, pause=30):
    "Milliseconds from the last of some quick keys to the last paint."
    page.evaluate("()=>{keys.length = paints.length = 0}")
    for _ in range(presses):
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(pause)
    page.wait_for_timeout(800)
    return page.evaluate("()=>paints.at(-1) - keys.at(-1)")


def time_size(page, lab, n, colour, repeats):
    "A row of the table for n points."
    run_notebook(page, lab, f"explorer_{n}_{colour}", CELL.format(n=n, colour=colour))
    page.wait_for_selector(".dgcl-explorer[data-draws]")
    page.wait_for_timeout(1500)
    low, stage = page.locator(".dgcl-explorer input[data-bound=low]").first, page.locator(".dgcl-stage")
    stage.scroll_into_view_if_needed()
    page.evaluate(WATCH)
    low.focus()
    before, shown = picture(stage), int(page.locator(".dgcl-explorer").get_attribute("data-shown"))
    key_to_paint(page)
    times = [key_to_paint(page) for _ in range(repeats)]
    bursts = [burst(page) for _ in range(3)]
    left = int(page.locator(".dgcl-explorer").get_attribute("data-shown"))
    said = f"the picture did not follow the slider: {shown} -> {left} points"
    assert left < shown == n, said
    assert differ(before, picture(stage)) > 0.01, said
    assert kernel_says(page, "len(w.shown())") == left
    row = dict(points=n, colour=colour, paint=statistics.median(times), least=min(times), most=max(times))
    return row | dict(burst=statistics.median(bursts), presses=repeats)


def time_sizes(chromium, sizes, repeats):
    "The rows of the table, each in a page of its own."
    from playwright.sync_api import sync_playwright

    rows = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, sync_playwright() as p:
        lab, browser = Lab(Path(folder, "lab")), p.chromium.launch(executable_path=chromium, args=FLAGS)
        try:
            for n, colour in itertools.product(sizes, ("class", "density")):
                context = browser.new_context(viewport=dict(width=1280, height=1000))
                page = watch_context(context, context.new_page())
                page.set_default_timeout(60_000)
                rows.append(time_size(page, lab, n, colour, repeats))
                assert_quiet(page)
                context.close()
                lab.end_kernels()
        finally:
            browser.close()
            lab.close()
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
    columns = dict(points="d", colour="s", paint=".0f", least=".0f", most=".0f", burst=".0f")
    text = table(rows, columns)
    if args.quick:
        print(text)
        return
    worst = {n: max(r["paint"] for r in rows if r["points"] == n) for n in SIZES}
    text += (
        f"\n\nMilliseconds; `paint`: median of {args.repeats} keys, from keydown to the second frame after "
    )
    text += "the drawing; `burst`: from the last of 10 quick keys to the last paint.\n\n"
    goals = [f"at most {ms} at {n} points, measured {worst[n]:.0f}" for n, ms in GOALS.items()]
    goals.append(f"at most {BURST_GOAL} after a burst, measured {max(r['burst'] for r in rows):.0f}")
    text += f"Goals: {'; '.join(goals)}."
    data = dict(machine=found, rows=rows)
    save("bench_explorer", args.out, "Explorer: from a key on the slider to the paint", text, data)


if __name__ == "__main__":
    main()
