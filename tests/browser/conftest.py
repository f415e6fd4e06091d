"""Fixtures of the browser tests: skipped with a reason where there is no browser, an error where CI=true."""
import pytest
from lab import FLAGS, Lab, assert_quiet, find_browser, must_have_browser, watch_context


@pytest.fixture(scope="session")
def chromium():
    "The path of the browser."
    path, why = find_browser()
    if path is None: (pytest.fail if must_have_browser() else pytest.skip)(why)
    return path


@pytest.fixture(scope="session")
def lab(chromium, tmp_path_factory):
    "A running JupyterLab."
    server = Lab(tmp_path_factory.mktemp("lab"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def browser(chromium):
    "Chromium. One a module: while it is open an event loop belongs to the main thread, which other tests may need."
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, request):
    "A page in a context of its own; in the end it must have sent nothing to the outside and had no error."
    context = browser.new_context(viewport=dict(width=1280, height=1000))
    page = watch_context(context, context.new_page())
    page.set_default_timeout(30_000)
    yield page
    context.close()
    if "lab" in request.fixturenames: request.getfixturevalue("lab").end_kernels()
    assert_quiet(page)
