"What all fronts share: bytes that arrive as they were, pages that need nothing from outside, and sentences."

import base64
import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from dgcl_nb.core import InputError
from dgcl_nb.data.segdata import distinct_palette
from dgcl_nb.widgets import front
from dgcl_nb.widgets.front import (
    CIVIDIS,
    EXPORTED,
    FRONT_CSS,
    PACKED,
    UNKNOWN,
    cividis,
    find_browser,
    front_module,
    front_page,
    json_with_bytes,
    pack,
    page_picture,
    show_page,
    small_png,
)

EMPTY = front_module("function render({ model, el }) { }")


@pytest.mark.parametrize("dtype", PACKED)
def test_pack__is_little_endian_and_loses_nothing(dtype):
    values = np.array([[0, 1], [2, 100]])
    back = np.frombuffer(pack(values, dtype), np.dtype(dtype).newbyteorder("<"))
    assert np.array_equal(back.reshape(2, 2), values)
    assert pack([], dtype) == b""
    assert pack(values.T, dtype) == pack(np.ascontiguousarray(values.T), dtype)


def test_pack__keeps_nan():
    assert np.isnan(np.frombuffer(pack(np.float16([np.nan]), "float32"), "<f4")).all()


@pytest.mark.parametrize(
    "values, dtype, message",
    [
        ([-1], "uint8", r"values -1 to -1 do not fit uint8 \(0 to 255\); choose a wider one"),
        ([70000], "uint16", "do not fit uint16"),
        ([1], "float64", "cannot send float64 to the page; choose one of uint8"),
    ],
)
def test_pack__refuses(values, dtype, message):
    with pytest.raises(InputError, match=message):
        pack(values, dtype)


def test_cividis__ends_nan_and_beyond():
    wanted = [CIVIDIS[0], CIVIDIS[0], CIVIDIS[-1], CIVIDIS[-1], UNKNOWN]
    assert cividis(np.array([-3, 0, 1, 9, np.nan])).tolist() == [list(colour) for colour in wanted]
    assert cividis(np.zeros((2, 3))).shape == (2, 3, 3)


def test_front_module__ends_with_its_export():
    assert EMPTY.endswith(EXPORTED)
    assert EMPTY.count("export default") == 1
    with pytest.raises(InputError, match="a front needs 'function render"):
        front_module("let a = 1")


def test_front__asks_for_nothing_outside():
    assert not re.search(r"https?:|import\s|fetch\(|XMLHttp|url\(", EMPTY + FRONT_CSS)


def test_json__bytes_anywhere_and_no_tag():
    text = json_with_bytes({"a": {"b": [b"\x00\xff", "</script><!--"]}, "n": np.int64(3), "x": None})
    assert "<" not in text
    back = json.loads(text)
    packed, tag = back["a"]["b"]
    assert base64.b64decode(packed["$bytes"]) == b"\x00\xff"
    assert tag == "</script><!--"
    assert back["n"] == 3


def test_json__refuses_what_a_page_cannot_hold():
    with pytest.raises(InputError, match="cannot write a set into a page"):
        json_with_bytes({"a": {1}})


def test_front_page__is_one_fragment_that_closes_nothing_early():
    page = front_page(EMPTY, FRONT_CSS, {"name": "</script><b>"}, title="<i> & </script>")
    assert page.startswith("<section") and page.endswith("</section>")
    assert page.count("</script") == 1
    assert "&lt;i> &amp; &lt;/script>" in page
    assert not re.search(r"https?:|src=|import ", page)
    assert EXPORTED.strip() not in page


def test_front_page__is_the_same_for_the_same_values():
    first, again, other = (front_page(EMPTY, FRONT_CSS, {"a": a}) for a in (1, 1, 2))
    assert first == again != other


def test_front_page__refuses_a_strange_module():
    with pytest.raises(InputError, match="no module of front_module"):
        front_page("export default {}", "", {})


def test_no_browser__is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "none"))
    assert find_browser() is None
    assert page_picture("<p>a") is None
    assert show_page("<p>a").startswith("no picture: no Chromium")


def test_browser__named_by_the_environment_comes_first(monkeypatch, tmp_path):
    browser = tmp_path / "mine"
    browser.write_text("#!/bin/sh\n")
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER_PATH", str(browser))
    assert find_browser() == str(browser)
    assert page_picture("<p>a", timeout=10) is None  # it gave no picture


WITHOUT_ANYWIDGET = """
import sys
sys.modules['anywidget'] = None
try:
    import dgcl_nb.widgets.front
except Exception as e:
    print(type(e).__name__, e)
"""


def test_without_anywidget__the_remedy_is_named():
    command = [sys.executable, "-c", WITHOUT_ANYWIDGET]
    said = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ)).stdout
    assert said.startswith("InputError")
    assert "pip install 'dgcl_nb[looking]'" in said


def test_front__leaves_a_sentence_for_a_notebook_that_is_opened_without_its_kernel(monkeypatch):
    class Plain(front.Front):
        _esm = front.front_module("function render({ model, el }) {}")
        elsewhere = "Look at <runs/x>."

    shown = []
    monkeypatch.setattr("IPython.display.display", lambda output, **options: shown.append(output.data))
    bundle = Plain()._repr_mimebundle_()
    assert "widget-view" in str(bundle) and "image/png" not in str(bundle)
    assert "run its cell again to see it. Look at &lt;runs/x&gt;." in shown[0]
    assert "<img" not in shown[0]

    class Drawn(Plain):
        def stills(self):
            return [b"first", b"second"]

    data, _ = Drawn()._repr_mimebundle_()
    first, second = (base64.b64encode(png).decode() for png in (b"first", b"second"))
    assert data["image/png"] == first  # for a page that knows no widgets
    assert f"base64,{first}" in shown[1] and f"base64,{second}" in shown[1]


def test_report_words__name_the_report_of_the_run_that_is_shown(tmp_path):
    assert str(tmp_path / "report.html") in front.report_words(tmp_path)
    assert "dgcl_nb.report runs/NAME" in front.report_words(tmp_path / "step_0000001.npz")
    assert "dgcl_nb.report runs/NAME" in front.report_words(None)


def test_small_png__classes_keep_their_colours_beside_a_photograph():
    palette = distinct_palette(11, background=0)
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    photo = np.sort(noise, axis=0)
    for k, rgb in enumerate(palette):
        photo[10:18, 20 * k + 10 : 20 * k + 18] = rgb
    png = small_png(Image.fromarray(photo))
    shown = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) <= 255
    for k, rgb in enumerate(palette):
        assert (shown[14, 20 * k + 14] == rgb).all(), f"class {k}"


def test_small_png__a_class_with_one_point_keeps_its_hue_beside_many_photographs():
    rng = np.random.default_rng(0)
    photo = np.sort(rng.integers(0, 256, (400, 400, 3)), axis=0)  # greyish, of many colours
    purple = np.array([106, 61, 154])
    photo[200:203, 200:203] = purple
    png = small_png(Image.fromarray(photo.astype(np.uint8)))
    shown = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    assert np.abs(shown[201, 201] - purple).max() < 24
