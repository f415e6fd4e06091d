"""Figures: their data, their updates in place, their pictures from threads and dead browsers, and the statistics of the claim about sparse features."""
import base64
import io
import os
import signal
import threading
import time

import numpy as np
import pytest
from PIL import Image

from dgcl_nb.looking import figures as plots
from dgcl_nb.core import IGNORE_INDEX, InputError
from dgcl_nb.metrics import ClusterScores
from dgcl_nb.looking.clusters import clusters_side_by_side, scatter
from dgcl_nb.looking.curves import axis_range, curves, series, update_curves
from dgcl_nb.looking.density_claim import Halves, matched_halves, ranges_by_image, split_halves, verdict_line
from dgcl_nb.looking.density_figures import confidence_density, density_histograms
from dgcl_nb.looking.figures import (
    CURVE_COLOURS, THEMES, find_browser, go, picture_of, save_figure, set_theme, show,
)
from dgcl_nb.looking.tiles import colour_labels, predictions_side_by_side

PALETTE = np.uint8([[0, 0, 0], [128, 0, 0], [0, 128, 0]])
NAMES = ("background", "cat", "dog")


def has_browser():
    try: return bool(find_browser())
    except InputError: return False


needs_browser = pytest.mark.skipif(not has_browser(), reason="no Chromium or Chrome to draw figures with")


def bars(**layout): return go.Figure(go.Bar(x=["a", "b"], y=[1, 3]), layout=dict(width=200, height=150) | layout)


def records(until=9, contrast_from=4):
    lines = []
    for step in range(1, until + 1):
        line = dict(step=step, loss_sup=1 / step, kept=.5)
        if step < contrast_from: line["inactive"] = {"loss_contrast": f"contrast starts at step {contrast_from}"}
        else: line |= dict(loss_contrast=5 - step / 10, bank_fill_per_class=[step / 10, 1., None])
        lines.append(line)
        if step % 4 == 0: lines.append(dict(step=step, event="eval", miou_student=step, miou_teacher=None))
    return lines


def contrast(a, b):
    "The contrast of two #rrggbb colours as WCAG defines it."
    def luminance(c):
        parts = [int(c[i:i + 2], 16) / 255 for i in (1, 3, 5)]
        return sum(w * (p / 12.92 if p <= .03928 else ((p + .055) / 1.055)**2.4) for w, p in zip((.2126, .7152, .0722), parts))
    low, high = sorted((luminance(a), luminance(b)))
    return (high + .05) / (low + .05)


@pytest.mark.parametrize("theme, ground, least", [("auto", "#ffffff", 3.9), ("auto", "#111111", 4.5), ("light", "#ffffff", 10), ("dark", "#111111", 10)])
def test_theme__text_is_legible_on_its_ground(theme, ground, least): assert contrast(THEMES[theme]["text"], ground) >= least


def test_theme__changes_without_touching_the_data():
    fig = scatter(np.eye(3)[:, :2], np.arange(3), PALETTE, NAMES); before = [t.to_plotly_json() for t in fig.data]
    assert fig.layout.template.layout.paper_bgcolor == "rgba(0,0,0,0)" and set_theme(fig, "dark").layout.template.layout.paper_bgcolor == "#111111"
    for a, t in zip(before, fig.data): assert str(a) == str(t.to_plotly_json())
    with pytest.raises(InputError, match="unknown theme 'sepia'"): set_theme(fig, "sepia")


def test_series__leaves_out_what_was_not_logged():
    steps, values = series(records(), "loss_contrast"); assert steps.tolist() == [4, 5, 6, 7, 8, 9] and values[0] == 4.6
    steps, values = series(records(), "bank_fill_per_class"); assert values.shape == (6, 3) and np.isnan(values[:, 2]).all()
    assert series(records(), "miou_teacher")[0].tolist() == [] and series([], "kept")[1].tolist() == []


def test_curves__one_panel_a_quantity_with_reasons_for_empty_ones():
    fig = curves(records(3), NAMES)
    assert [a.text for a in fig.layout.annotations[:4]] == ["loss_sup", "loss_contrast", "pseudo-labels", "mIoU, %"]
    assert {"contrast starts at step 4", "not evaluated yet"} <= {a.text for a in fig.layout.annotations}
    fig = curves(records(), NAMES, steps=20)
    heat = next(t for t in fig.data if t.type == "heatmap"); assert list(heat.y) == list(NAMES) and heat.colorscale[0][1] == "#00224e"
    assert fig.layout.xaxis.range == (0, 20) and fig.layout.uirevision == "curves"
    shown = [a for a in fig.layout if a.startswith(("xaxis", "yaxis")) and fig.layout[a].visible is not False and not fig.layout[a].autorange]
    assert shown and all(fig.layout[a].range is not None for a in shown)


def test_curves__several_runs_have_a_colour_each_and_one_legend():
    fig = curves({"one": records(), "two": records(3), "": []}, NAMES)
    lines = [t for t in fig.data if t.xaxis == "x"]
    assert [t.name for t in lines][:2] == ["one", "two"]
    assert {t.line.color for t in fig.data if t.name == "two"} == {CURVE_COLOURS[1]} and sum(bool(t.showlegend) for t in fig.data) == 3
    assert not [t for t in fig.data if t.type == "heatmap"]


@pytest.mark.parametrize("widget", [False, True])
def test_update__ends_where_a_fresh_figure_does(widget):
    fig = curves(records(2), NAMES)
    if widget: fig = pytest.importorskip("plotly.graph_objects").FigureWidget(fig)
    first = fig.data[0]
    update_curves(fig, records(3), class_names=NAMES); assert fig.data[0] is first and len(first.x) == 3
    for until in (5, 9):
        update_curves(fig, records(until), class_names=NAMES); new = curves(records(until), NAMES)
        assert len(fig.data) == len(new.data) and [a.text for a in fig.layout.annotations] == [a.text for a in new.layout.annotations]
        for a, b in zip(fig.data, new.data):
            assert a.type == b.type and a.xaxis == b.xaxis; np.testing.assert_array_equal(a.x, b.x); np.testing.assert_array_equal(a.y, b.y)
        for axis in ("xaxis", "yaxis", "xaxis3", "yaxis5"): assert fig.layout[axis].range == new.layout[axis].range


@pytest.mark.parametrize("values, want", [([], [0, 1]), ([np.nan], [0, 1]), ([0, 0], [0, .06]), ([5], [4.7, 5.3]), ([-1, 1], [-1.12, 1.12])])
def test_axis_range__odd_values(values, want): assert axis_range(np.array(values, float)) == pytest.approx(want)


def test_scatter__classes_unknown_and_empty():
    xy = np.random.default_rng(0).normal(0, 1, (6, 2)); labels = np.array([0, 2, 2, 0, IGNORE_INDEX, 2])
    fig = scatter(xy, labels, PALETTE, NAMES)
    assert [(t.name, len(t.x)) for t in fig.data] == [("background", 2), ("dog", 3), ("unknown", 1), ("names", 2)]
    np.testing.assert_allclose(fig.data[1].x, xy[[1, 2, 5], 0], rtol=1e-6); assert fig.data[1].customdata.tolist() == [1, 2, 5]
    wide = np.diff(fig.layout.xaxis.range)[0]; assert wide == pytest.approx(np.diff(fig.layout.yaxis.range)[0]) and wide > np.ptp(xy, axis=0).max()
    assert len(scatter(xy[:0], labels[:0], PALETTE).data) == 1
    by_value = scatter(xy, labels, PALETTE, values=[.1, .2, np.nan, .4, .5, .6]); assert [len(t.x) for t in by_value.data] == [1, 5]
    with pytest.raises(InputError, match=r"\(6, 2\) and labels \(5,\)"): scatter(xy, labels[:5], PALETTE)


def test_clusters__common_axes_and_scores_under_each():
    xys, labels = [np.eye(4)[:, :2], 5 * np.eye(4)[:, :2]], [np.arange(4) % 3] * 2
    nan = float("nan")
    fig = clusters_side_by_side(xys, labels, ["a", "b"], [ClusterScores(.25, 71.4, 1.5, 4, 3), ClusterScores(nan, nan, nan, 4, 1, "one class")], PALETTE, NAMES)
    said = [a.text for a in fig.layout.annotations]
    assert said[:2] == ["<b>a</b>", "<b>b</b>"] and said[2] == "silhouette 0.25 ↑<br>Calinski-Harabasz 71 ↑   Davies-Bouldin 1.50 ↓" and said[3] == "no scores: one class"
    assert fig.layout.xaxis.range == fig.layout.xaxis2.range and fig.layout.yaxis2.scaleanchor == "x2"
    assert [t.name for t in fig.data if t.showlegend] == list(NAMES)


def test_predictions__tiles_hold_the_very_pixels():
    rng = np.random.default_rng(0); images = rng.integers(0, 256, (2, 8, 6, 3), dtype=np.uint8); targets = rng.integers(0, 3, (2, 8, 6)); targets[0, 0] = IGNORE_INDEX
    fig = predictions_side_by_side(images, targets, {"right": np.where(targets == IGNORE_INDEX, 0, targets), "none": targets * 0}, PALETTE, NAMES, ["one", "two"])
    column = lambda i: np.array(Image.open(io.BytesIO(base64.b64decode(fig.data[i].source.split(",")[1]))))
    assert (column(0)[:8, :, :3] == images[0]).all() and (column(0)[9:, :, :3] == images[1]).all() and (column(0)[8] == 0).all()
    assert (column(1)[9:, :, :3] == PALETTE[targets[1]]).all() and (column(1)[0, :, :3] == plots.IGNORED_COLOUR).all()
    assert "mIoU 100.0 %" in fig.layout.annotations[2].text and list(fig.layout.yaxis.ticktext) == ["one", "two"]
    assert [t.name for t in fig.data if t.type == "scatter"] == [*NAMES, "unknown"]
    with pytest.raises(InputError, match="at least one"): predictions_side_by_side(images[:0], targets[:0], {}, PALETTE)
    with pytest.raises(InputError, match=r"'none' has shape \(1, 8, 6\)"): predictions_side_by_side(images, targets, {"none": targets[:1]}, PALETTE)
    with pytest.raises(InputError, match="class numbers from 0 and 255"): colour_labels(np.array([300]), PALETTE)


def test_density__shares_sum_to_one_and_unknown_is_left_out():
    rng = np.random.default_rng(0); density, labels = rng.uniform(.5, 1, 90).astype(np.float16), np.arange(90) % 3
    density[labels == 2] = np.nan; density[0] = 0
    fig = density_histograms(density, labels, PALETTE, NAMES, before=(density[:30], labels[:30]))
    assert [round(float(t.y.sum()), 6) for t in fig.data if t.type == "bar"] == [1, 1, 0] and fig.layout.annotations[2].text == "<b>dog</b>  none → none"
    assert [len(density_histograms(d, y, PALETTE).data) for d, y in ((density, labels), (density[:0], labels[:0]), (density, labels * 0 + IGNORE_INDEX))] == [3, 0, 0]
    with pytest.raises(InputError, match=r"density has shape \(9,\) and labels \(90,\)"): density_histograms(density[:9], labels, PALETTE)


def test_halves__have_equal_confidence_and_split_at_the_median_of_density():
    rng = np.random.default_rng(0); confidence, density = rng.random((2, 1003)); groups = rng.integers(0, 3, 1003)
    sparse, dense = split_halves(confidence, density, groups)
    assert len(sparse) == len(dense) and not set(sparse) & set(dense) and len(sparse) > 480
    assert (groups[sparse] == groups[dense]).all()
    assert confidence[sparse].mean() == pytest.approx(confidence[dense].mean(), abs=.002) and density[sparse].mean() < density[dense].mean() - .2


def test_halves__verdicts_of_a_teacher_that_errs_by_confidence_alone_are_rarely_wrong():
    said = []
    for seed in range(60):
        rng = np.random.default_rng(seed); confidence = rng.beta(4, 1, 1500); density = .5 * confidence + rng.normal(0, .1, 1500)
        said.append(matched_halves(confidence, density, rng.random(1500) < 1 - confidence).verdict)
    assert said.count("undecided") >= 53


def test_halves__pixels_that_err_together_need_intervals_over_images():
    false_alarms = dict(pixels=0, images=0)
    for seed in range(40):
        rng = np.random.default_rng(seed); images = np.repeat(np.arange(20), 60); shift = rng.normal(0, 1, 20)[images]
        density, wrong = shift + rng.normal(0, .3, 1200), rng.random(1200) < np.where(rng.random(20) < .3, .8, .02)[images]     # both depend on the image only
        confidence = rng.uniform(.89, .91, 1200)
        for name, given in (("pixels", None), ("images", images)): false_alarms[name] += matched_halves(confidence, density, wrong, images=given).verdict != "undecided"
    assert false_alarms["images"] <= 6 < 20 < false_alarms["pixels"]


def test_halves__nothing_to_ask():
    h = matched_halves([.9, .9], [np.nan, .5], [True, False], conf_thresh=.5); assert h.count == 0 and h.verdict == "undecided"
    assert verdict_line(h) == "no pixel to ask: density is unknown, or none is that confident"
    assert "the claim is refuted" in verdict_line(Halves(.1, .5, (.05, .2), (.4, .6), (-.5, -.3), 100))
    assert ranges_by_image([np.ones(3, bool)] * 2, [np.arange(3)] * 2)[2] == (0, 0)


def test_claim__figure_counts_each_known_pixel_once():
    rng = np.random.default_rng(0); confidence, density = rng.random((2, 500)); density[:50] = np.nan; wrong = rng.random(500) < .2
    fig = confidence_density(confidence, density, wrong, rng.integers(0, 3, 500), rng.integers(0, 9, 500))
    assert fig.data[0].customdata.sum() == 450 and fig.layout.uirevision == "claim" and fig.data[0].colorscale[0][1] == "#00224e"
    assert np.isfinite(fig.data[2].error_y.array).all() and (np.array(fig.data[2].error_y.arrayminus) >= 0).all()
    assert "no pixel" in confidence_density(confidence[:0], density[:0], wrong[:0]).layout.annotations[-1].text
    with pytest.raises(InputError, match="a value a pixel"): confidence_density(confidence, density, wrong[:3])


def test_picture__without_a_browser_is_a_sentence(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "none"))
    with pytest.raises(InputError, match="needs Chromium or Chrome .*which is no program.*apt-get install chromium"): save_figure(bars(), tmp_path / "x.png")
    show(bars()); assert capsys.readouterr().out.startswith("(no picture here: a picture of a figure needs Chromium")
    monkeypatch.delenv("BROWSER_PATH"); monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="none of chromium, .* is on the PATH"): picture_of(bars())
    assert list(tmp_path.iterdir()) == []


def test_picture__bad_format_and_missing_kaleido(monkeypatch, tmp_path):
    with pytest.raises(InputError, match="unknown picture format 'bmp'"): save_figure(bars(), tmp_path / "x.bmp")
    monkeypatch.setattr(plots.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package kaleido; pip install 'dgcl_nb\[looking\]'"): picture_of(bars())


@pytest.mark.parametrize("program, message", [("/bin/false", "could not draw the figure")])
def test_picture__a_browser_that_does_not_start_is_a_sentence(monkeypatch, program, message):
    monkeypatch.setenv("BROWSER_PATH", program); monkeypatch.setattr(plots, "RENDERER", plots.Renderer()); monkeypatch.setattr(plots, "RENDER_SECONDS", 20)
    with pytest.raises(InputError, match=message): picture_of(bars())


@needs_browser
def test_picture__size_theme_and_the_figure_stays_as_it_was(tmp_path):
    fig = set_theme(bars()); before = fig.to_json()
    for theme, ground in (("light", (255, 255, 255, 255)), ("dark", (17, 17, 17, 255)), ("auto", (0, 0, 0, 0))):
        image = Image.open(save_figure(fig, tmp_path / "deep" / f"{theme}.png", theme)); assert image.size == (400, 300) and image.convert("RGBA").getpixel((2, 2)) == ground
    assert fig.to_json() == before and save_figure(fig, tmp_path / "x.svg").read_text().startswith("<svg")
    with pytest.raises(InputError, match="cannot write"): save_figure(fig, tmp_path / "x.svg" / "y.png")


@needs_browser
def test_picture__from_several_threads_each_gets_its_own():
    found = {}
    threads = [threading.Thread(target=lambda w=w: found.update({w: Image.open(io.BytesIO(picture_of(bars(width=w), scale=1))).size})) for w in (120, 160, 240)]
    for t in threads: t.start()
    for t in threads: t.join(60)
    assert found == {w: (w, 150) for w in (120, 160, 240)}


@needs_browser
def test_picture__a_killed_browser_is_replaced():
    picture_of(bars())
    os.kill(plots.RENDERER.browser.subprocess.pid, signal.SIGKILL)
    assert picture_of(bars()).startswith(b"\x89PNG")
    plots.RENDERER.close(); assert plots.RENDERER.browser is None


@needs_browser
def test_picture__an_idle_browser_is_closed(monkeypatch):
    monkeypatch.setattr(plots, "IDLE_SECONDS", .1); picture_of(bars())
    end = time.monotonic() + 10
    while plots.RENDERER.browser is not None and time.monotonic() < end: time.sleep(.05)
    assert plots.RENDERER.browser is None
