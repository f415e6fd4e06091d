"""The harness itself: it sees an error, a request to the outside and a picture that changes."""

import sys

import numpy as np
import pytest
from lab import assert_quiet, differ, is_inside, kernel_says, picture, press, run_notebook, wait_until


def test_is_inside__only_this_machine():
    here = [
        "http://127.0.0.1:8888/a",
        "http://localhost/",
        "data:text/plain,a",
        "blob:x",
        "file:///tmp/a.html",
    ]
    elsewhere = ["https://example.org/127.0.0.1", "http://127.0.0.1.example.org/", "ws://example.org"]
    assert all(map(is_inside, here))
    assert not any(map(is_inside, elsewhere))


BROKEN = """<p>1</p><script>
    fetch('https://example.org/x').catch(() => 0);
    throw new Error('broken');
</script>"""
SLIDER = """<input type=range id=s value=50><p id=p>50</p><script>
    s.oninput = () => { p.textContent = s.value; };
</script>"""


def test_page__notes_requests_and_errors(page):
    page.set_content(BROKEN)
    wait_until(lambda: page.outside and page.errors, 20, "a request and an error")
    assert page.outside == ["https://example.org/x"]
    assert page.errors == ["broken"]
    with pytest.raises(AssertionError, match="to the outside"):
        assert_quiet(page)
    page.outside.clear()
    page.errors.clear()


def test_picture__changes_with_a_key(page):
    page.set_content(SLIDER)
    text = page.locator("#p")
    before = picture(text)
    assert differ(before, before) == 0
    assert np.unique(before).size > 2
    press(page.locator("#s"), "ArrowRight")
    assert text.inner_text() == "51"
    assert differ(before, picture(text)) > 0


def test_notebook__runs_in_this_python(page, lab):
    run_notebook(page, lab, "harness", "import sys\nfrom dgcl_nb.core import InputError", "x = 2 + 3")
    assert kernel_says(page, "x") == 5
    assert kernel_says(page, "sys.executable") == sys.executable
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run_notebook(page, lab, "fails", "1/0")
