"""Fixtures of the browser tests: skipped with a reason where there is no browser, an error where CI=true."""

import pytest
from lab import FLAGS, Lab, assert_quiet, find_browser, must_have_browser, watch_context


@pytest.fixture(scope="session")
def chromium():
    "The path of the browser."
    path, why = find_browser()
    if path is None and must_have_browser():
        pytest.fail(why)
    if path is None:
        pytest.skip(why)
    return path


@pytest.fixture(scope="session")
def lab(chromium, tmp_path_factory):
    "A running JupyterLab."
    server = Lab(tmp_path_factory.mktemp("lab"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def browser(chromium):
    "Chromium. One a module: while it is open, the main thread, which others may need, has an event loop."
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def new_page(browser, request):
    "Pages in contexts of their own; in the end none may have sent anything to the outside or had an error."
    pages = []

    def make(width=1280, height=1000):
        context = browser.new_context(viewport=dict(width=width, height=height))
        pages.append(watch_context(context, context.new_page()))
        pages[-1].set_default_timeout(30_000)
        return pages[-1]

    yield make
    for page in pages:
        page.context.close()
    if "lab" in request.fixturenames:
        request.getfixturevalue("lab").end_kernels()
    for page in pages:
        assert_quiet(page)


@pytest.fixture
def page(new_page):
    return new_page()
