"""What all fronts share: bytes that arrive as they were, pages that need nothing from outside, and sentences where something is missing."""
import base64
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from dgcl_nb.core import InputError
from dgcl_nb.widgets.front import (
    CIVIDIS,
    EXPORTED,
    FRONT_CSS,
    FRONT_JS,
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
)

EMPTY = front_module("function render({ model, el }) { }")


@pytest.mark.parametrize("dtype", PACKED)
def test_pack__is_little_endian_and_loses_nothing(dtype):
    values = np.array([[0, 1], [2, 100]])
    assert np.array_equal(np.frombuffer(pack(values, dtype), np.dtype(dtype).newbyteorder("<")).reshape(2, 2), values)
    assert pack([], dtype) == b""
    assert pack(values.T, dtype) == pack(np.ascontiguousarray(values.T), dtype)


def test_pack__keeps_nan():
    assert np.isnan(np.frombuffer(pack(np.float16([np.nan]), "float32"), "<f4")).all()


@pytest.mark.parametrize("values, dtype, message", [
    ([-1], "uint8", r"values -1 to -1 do not fit uint8 \(0 to 255\); choose a wider one"), ([70000], "uint16", "do not fit uint16"),
    ([1], "float64", "cannot send float64 to the page; choose one of uint8")])
def test_pack__refuses(values, dtype, message):
    with pytest.raises(InputError, match=message): pack(values, dtype)


def test_cividis__ends_nan_and_beyond():
    assert cividis(np.array([-3, 0, 1, 9, np.nan])).tolist() == [list(c) for c in (CIVIDIS[0], CIVIDIS[0], CIVIDIS[-1], CIVIDIS[-1], UNKNOWN)]
    assert cividis(np.zeros((2, 3))).shape == (2, 3, 3)


def test_front_module__ends_with_its_export():
    assert EMPTY.endswith(EXPORTED) and EMPTY.count("export default") == 1
    with pytest.raises(InputError, match="a front needs 'function render"): front_module("let a = 1")


def test_front_js__asks_for_nothing_outside():
    assert not re.search(r"https?:|import\s|fetch\(|XMLHttp|url\(", FRONT_JS + FRONT_CSS)


def test_json__bytes_anywhere_and_no_tag():
    text = json_with_bytes({"a": {"b": [b"\x00\xff", "</script><!--"]}, "n": np.int64(3), "x": None})
    assert "<" not in text
    back = json.loads(text)
    assert base64.b64decode(back["a"]["b"][0]["$bytes"]) == b"\x00\xff" and back["a"]["b"][1] == "</script><!--" and back["n"] == 3


def test_json__refuses_what_a_page_cannot_hold():
    with pytest.raises(InputError, match="cannot write a set into a page"): json_with_bytes({"a": {1}})


def test_front_page__is_one_fragment_that_closes_nothing_early():
    page = front_page(EMPTY, FRONT_CSS, {"name": "</script><b>"}, title="<i> & </script>")
    assert page.startswith("<section") and page.endswith("</section>") and page.count("</script") == 1 and "&lt;i> &amp; &lt;/script>" in page
    assert not re.search(r"https?:|src=|import ", page) and EXPORTED.strip() not in page
    assert front_page(EMPTY, FRONT_CSS, {"a": 1}) == front_page(EMPTY, FRONT_CSS, {"a": 1}) != front_page(EMPTY, FRONT_CSS, {"a": 2})


def test_front_page__refuses_a_strange_module():
    with pytest.raises(InputError, match="no module of front_module"): front_page("export default {}", "", {})


def test_no_browser__is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path)); monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "none"))
    assert find_browser() is None and page_picture("<p>a") is None and show_page("<p>a").startswith("no picture: no Chromium")


def test_browser__named_by_the_environment_comes_first(monkeypatch, tmp_path):
    (tmp_path / "mine").write_text("#!/bin/sh\n"); (tmp_path / "mine").chmod(0o755)
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "mine"))
    assert find_browser() == str(tmp_path / "mine")
    assert page_picture("<p>a", timeout=10) is None                       # it gave no picture


def test_without_anywidget__the_remedy_is_named():
    code = "import sys; sys.modules['anywidget'] = None\ntry: import dgcl_nb.widgets.front\nexcept Exception as e: print(type(e).__name__, e)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ)).stdout
    assert said.startswith("InputError") and "pip install 'dgcl_nb[looking]'" in said
