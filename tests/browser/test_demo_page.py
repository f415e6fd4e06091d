"The demo page of the documentation site: its views are as high as what they show."

import re
import sys

import pytest
from sync_gate import ROOT

sys.path.insert(0, str(ROOT / "docs"))
import make  # noqa: E402

RAW = re.compile(r"```\{raw\} html\n(.*?)```", re.S)
COLUMNS = {800: 740, 1366: 760, 1920: 740}
"Pixels that the site's column of text has on a screen of some width."
FITS = """() => {
    const page = document.documentElement;
    return page.scrollWidth <= page.clientWidth && page.scrollHeight <= page.clientHeight;
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "The raw parts of the demo page in a column as wide as `--column`, with the site's style."
    place = tmp_path_factory.mktemp("site")
    (place / "demo").mkdir()
    for name, text in make.demo_views().items():
        (place / "demo" / name.rsplit("/", 1)[1]).write_text(text, encoding="utf-8")
    parts = RAW.findall((ROOT / "docs" / "demo.md").read_text(encoding="utf-8"))
    style = (ROOT / "docs" / "site.css").read_text(encoding="utf-8")
    page = place / "demo.html"
    page.write_text(
        f"<style>{style} body {{ width: var(--column) }}</style>{''.join(parts)}", encoding="utf-8"
    )
    return page


@pytest.mark.parametrize("width", COLUMNS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_demo__no_view_scrolls_by_itself(page, site, width, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size(dict(width=width, height=900))
    page.goto(site.as_uri())
    page.evaluate("pixels => document.body.style.setProperty('--column', `${pixels}px`)", COLUMNS[width])
    views = page.frames[1:]
    assert len(views) == 2
    for view in views:
        view.frame_element().scroll_into_view_if_needed()  # browsers let frames out of sight rest
        view.wait_for_selector("canvas[aria-label]")
        view.wait_for_function(FITS)
