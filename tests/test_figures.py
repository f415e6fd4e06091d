"""Figures: their themes, and their pictures from threads, forked processes and dead browsers."""

import io
import os
import signal
import threading
import time

import numpy as np
import pytest
from PIL import Image

from dgcl_nb.core import InputError
from dgcl_nb.looking import figures
from dgcl_nb.looking.clusters import scatter
from dgcl_nb.looking.figures import THEMES, find_browser, go, picture_of, save_figure, set_theme, show

PALETTE = np.uint8([[0, 0, 0], [128, 0, 0], [0, 128, 0]])
NAMES = ("background", "cat", "dog")


def has_browser():
    try:
        return bool(find_browser())
    except InputError:
        return False


needs_browser = pytest.mark.skipif(not has_browser(), reason="no Chromium or Chrome to draw figures with")


def bars(**layout):
    return go.Figure(go.Bar(x=["a", "b"], y=[1, 3]), layout=dict(width=200, height=150) | layout)


def opened(picture):
    return Image.open(io.BytesIO(picture))


def linear(part):
    "A colour channel 0..255 as WCAG takes it into luminance."
    part /= 255
    return part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4


def luminance(colour):
    red, green, blue = (linear(int(colour[i : i + 2], 16)) for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(a, b):
    "The contrast of two #rrggbb colours as WCAG defines it."
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


GROUNDS = [
    ("auto", "#ffffff", 3.9),
    ("auto", "#111111", 4.5),
    ("light", "#ffffff", 10),
    ("dark", "#111111", 10),
]


@pytest.mark.parametrize("theme, ground, least", GROUNDS)
def test_theme__text_is_legible_on_its_ground(theme, ground, least):
    assert contrast(THEMES[theme]["text"], ground) >= least


def test_theme__changes_without_touching_the_data():
    fig = scatter(np.eye(3)[:, :2], np.arange(3), PALETTE, NAMES)
    before = [t.to_plotly_json() for t in fig.data]
    assert fig.layout.template.layout.paper_bgcolor == "rgba(0,0,0,0)"
    assert set_theme(fig, "dark").layout.template.layout.paper_bgcolor == "#111111"
    for a, t in zip(before, fig.data):
        assert str(a) == str(t.to_plotly_json())
    with pytest.raises(InputError, match="unknown theme 'sepia'"):
        set_theme(fig, "sepia")


def test_browser__the_first_that_is_installed(monkeypatch, tmp_path):
    for name in ("msedge", "chrome"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_browser() == str(tmp_path / "chrome")
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "msedge"))
    assert find_browser() == str(tmp_path / "msedge")


def test_picture__without_a_browser_is_a_sentence(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "none"))
    said = "needs Chromium or Chrome .*which is no program.*apt-get install chromium"
    with pytest.raises(InputError, match=said):
        save_figure(bars(), tmp_path / "x.png")
    show(bars())
    assert capsys.readouterr().out.startswith("(no picture here: a picture of a figure needs Chromium")
    monkeypatch.delenv("BROWSER_PATH")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="none of chromium, .* is on the PATH"):
        picture_of(bars())
    assert list(tmp_path.iterdir()) == []


def test_picture__bad_format_and_missing_kaleido(monkeypatch, tmp_path):
    with pytest.raises(InputError, match="unknown picture format 'bmp'"):
        save_figure(bars(), tmp_path / "x.bmp")
    monkeypatch.setattr(figures.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package kaleido; pip install 'dgcl_nb\[looking\]'"):
        picture_of(bars())


@pytest.mark.parametrize("program, message", [("/bin/false", "could not draw the figure")])
def test_picture__a_browser_that_does_not_start_is_a_sentence(monkeypatch, program, message):
    monkeypatch.setenv("BROWSER_PATH", program)
    monkeypatch.setattr(figures, "RENDERER", figures.Renderer())
    monkeypatch.setattr(figures, "RENDER_SECONDS", 20)
    with pytest.raises(InputError, match=message):
        picture_of(bars())


@needs_browser
def test_picture__size_theme_and_the_figure_stays_as_it_was(tmp_path):
    fig = set_theme(bars())
    before = fig.to_json()
    grounds = dict(light=(255, 255, 255, 255), dark=(17, 17, 17, 255), auto=(0, 0, 0, 0))
    for theme, ground in grounds.items():
        image = Image.open(save_figure(fig, tmp_path / "deep" / f"{theme}.png", theme))
        assert image.size == (400, 300)
        assert image.convert("RGBA").getpixel((2, 2)) == ground
    assert fig.to_json() == before
    assert save_figure(fig, tmp_path / "x.svg").read_text().startswith("<svg")
    with pytest.raises(InputError, match="cannot write"):
        save_figure(fig, tmp_path / "x.svg" / "y.png")


@needs_browser
def test_picture__from_several_threads_each_gets_its_own():
    found = {}

    def draw(width):
        found[width] = opened(picture_of(bars(width=width), scale=1)).size

    threads = [threading.Thread(target=draw, args=(width,)) for width in (120, 160, 240)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert found == {w: (w, 150) for w in (120, 160, 240)}


@needs_browser
def test_picture__a_killed_browser_is_replaced():
    picture_of(bars())
    os.kill(figures.RENDERER.browser.subprocess.pid, signal.SIGKILL)
    assert picture_of(bars()).startswith(b"\x89PNG")
    figures.RENDERER.close()
    assert figures.RENDERER.browser is None


@needs_browser
def test_picture__an_idle_browser_is_closed(monkeypatch):
    monkeypatch.setattr(figures, "IDLE_SECONDS", 0.1)
    picture_of(bars())
    end = time.monotonic() + 10
    while figures.RENDERER.browser is not None and time.monotonic() < end:
        time.sleep(0.05)
    assert figures.RENDERER.browser is None
