"""Curves: their panels, whatever the networks of a run are called, and the axes."""

import numpy as np
import pytest

from dgcl_nb.looking.curves import MOST_POINTS, LETTERS, axis_range, curves, line_trace, panel_head, series
from dgcl_nb.looking.figures import CURVE_COLOURS
from dgcl_nb.looking.panels import QUANTITIES, panels_of

NAMES = ("background", "cat", "dog")


def records(until=9, contrast_from=4, networks=("student",)):
    lines = []
    for step in range(1, until + 1):
        line = dict(step=step, loss_sup=1 / step, kept=0.5)
        if step < contrast_from:
            line["inactive"] = {"loss_contrast": f"contrast starts at step {contrast_from}"}
        else:
            line |= dict(loss_contrast=5 - step / 10, bank_fill_per_class=[step / 10, 1.0, None])
        lines.append(line)
        if step % 4 == 0:
            scores = {f"miou_{name}": step for name in networks}
            lines.append(dict(step=step, event="eval", **scores, miou_missing=None))
    return lines


def texts(fig):
    "The titles of the panels, and what stands in empty ones."
    first_lines = [a.text.split("<br>")[0] for a in fig.layout.annotations]
    return [line.removeprefix("<b>").removesuffix("</b>") for line in first_lines]


def test_series__leaves_out_what_was_not_logged():
    steps, values = series(records(), "loss_contrast")
    assert steps.tolist() == [4, 5, 6, 7, 8, 9] and values[0] == 4.6
    steps, values = series(records(), "bank_fill_per_class")
    assert values.shape == (6, 3) and np.isnan(values[:, 2]).all()
    assert series(records(), "miou_missing")[0].tolist() == []
    assert series([], "kept")[1].tolist() == []


def test_curves__one_panel_a_quantity_with_reasons_for_empty_ones():
    fig = curves(records(3), NAMES)
    titles = ["loss on labelled images", "contrastive loss", "pseudo-labels", "mIoU, %"]
    assert texts(fig)[:4] == titles
    assert {"contrast starts at step 4", "not evaluated yet"} <= set(texts(fig))
    fig = curves(records(), NAMES, steps=20)
    heat = next(t for t in fig.data if t.type == "heatmap")
    assert list(heat.y) == list(NAMES) and heat.colorscale[0][1] == "#00224e"
    assert fig.layout.xaxis.range == (0, 20) and fig.layout.uirevision == "curves"
    axes = [fig.layout[a] for a in fig.layout if a.startswith(("xaxis", "yaxis"))]
    shown = [a for a in axes if a.visible is not False and not a.autorange]
    assert shown and all(a.range is not None for a in shown)


@pytest.mark.parametrize("networks", [("network_1", "network_2"), ("mean", "teacher_1", "student")])
def test_curves__networks_have_the_names_that_the_records_give_them(networks):
    lines = records(networks=networks)
    assert list(panels_of(lines)[-1].lines) == [f"miou_{name}" for name in networks]
    scored = curves(lines, NAMES).data[-len(networks) :]
    assert [t.name for t in scored] == list(networks)
    assert {t.mode for t in scored} == {"lines+markers"}
    assert [t.line.color for t in scored] == list(CURVE_COLOURS[: len(networks)])
    titles = texts(curves({"one": lines, "two": lines}))
    assert [t for t in titles if t.startswith("mIoU")] == [f"mIoU, %: {name}" for name in networks]


@pytest.mark.parametrize("num, mode", [(1, "lines+markers"), (2, "lines")])
def test_line__of_one_point_is_seen(num, mode):
    assert line_trace("loss_unsup", np.arange(num), np.ones(num), colour=0, stroke=0).mode == mode


def test_curves__several_runs_have_a_colour_each_and_one_legend():
    fig = curves({"one": records(), "two": records(3), "": []}, NAMES)
    lines = [t for t in fig.data if t.xaxis == "x"]
    assert [t.name for t in lines][:2] == ["one", "two"]
    assert {t.line.color for t in fig.data if t.name == "two"} == {CURVE_COLOURS[1]}
    assert sum(bool(t.showlegend) for t in fig.data) == 3
    assert "━" not in "".join(a.text for a in fig.layout.annotations)  # colours mean runs, no quantities
    assert not [t for t in fig.data if t.type == "heatmap"]


def test_bank__keeps_every_class_where_names_are_numbers():
    fills = [dict(step=1, bank_fill_per_class=[1.0, 0.5, 0.2])]
    fig = curves(fills, ["background", "0", "1"])
    rows = next(t for t in fig.data if t.type == "heatmap")
    assert list(rows.y) == ["background", "0", "1"]
    # plotly takes a list of mostly numbers for a linear axis, on which a word has no place
    assert fig.layout["yaxis" + rows.yaxis[1:]].type == "category"
    alike = curves(fills, ["traffic signal", "traffic signs", "b"]).data[-2]
    assert len(set(alike.y)) == 3


def test_curves__nothing_lies_over_a_curve():
    lines = [dict(step=1, loss_sup=1.0, miou_student=3.0) | dict.fromkeys(QUANTITIES, 0.5)]
    fig = curves(lines, NAMES)
    assert not any(t.showlegend for t in fig.data if t.type == "scatter")
    heads = [a for a in fig.layout.annotations if a.yanchor == "bottom"]
    assert len(heads) == len(panels_of(lines)) and all(a.y == 1 for a in heads)
    shares = next(a.text for a in heads if a.text.startswith("<b>pseudo-labels"))
    assert shares.count("━") == 5 and "right, foreground" in shares
    assert fig.layout.margin.t >= 30 + 13 * (1 + max(a.text.count("<br>") for a in heads[:3]))


@pytest.mark.parametrize("split", [False, True])
def test_heads__are_words_and_fit_above_their_panels(split):
    lines = [dict(step=1, miou_student=3.0) | dict.fromkeys(QUANTITIES, 0.5)]
    for panel in panels_of(lines, split):
        head = panel_head(panel, has_key=not split)
        assert panel.meaning and "_" not in head[0]
        plain = [line for line in head[1:] if "<" not in line]
        assert plain and max(map(len, plain)) <= LETTERS and len(panel.title) <= LETTERS


def test_panels__accuracy_of_labelled_cells_alone_says_so():
    known = dict(step=1, anchor_accuracy=1.0, agreement=0.3)
    labels = panels_of([known])[-2].lines.values()
    assert list(labels) == ["anchors of the right class (labelled only)", "both networks agree"]
    labels = panels_of([known | dict(pseudo_accuracy=0.9)])[-2].lines.values()
    assert "labelled only" not in " ".join(labels)


def test_panels__parts_of_a_loss_that_wait_have_no_panel():
    waiting = {"loss_contrast of classes 1 3": "their banks hold under 4 entries", "loss_unsup": "later"}
    titles = [p.title for p in panels_of([dict(step=1, loss_sup=1.0, inactive=waiting)])]
    assert titles[:3] == ["loss on labelled images", "loss on unlabelled images", "pseudo-labels"]


def test_panels__a_share_that_was_once_no_number_keeps_its_panel():
    lines = [dict(step=1, loss_sup=1.0, margin=0.4), dict(step=2, loss_sup=1.0, margin=None)]
    assert "margin" in [p.title for p in panels_of(lines)]


def test_panels__a_method_without_pseudo_labels_promises_none():
    supervised = [dict(step=1, loss_sup=1.0)]
    assert panels_of(supervised)[1].note == "this method notes none"
    waits = [dict(step=1, loss_sup=1.0, inactive={"loss_unsup": "supervised start until step 3"})]
    assert panels_of(waits)[2].note == "supervised start until step 3"
    assert panels_of([])[1].note == "no value yet"


ODD_VALUES = [
    ([], [0, 1]),
    ([np.nan], [0, 1]),
    ([0, 0], [0, 0.06]),
    ([5], [4.7, 5.3]),
    ([-1, 1], [-1.12, 1.12]),
]


@pytest.mark.parametrize("values, want", ODD_VALUES)
def test_axis_range__odd_values(values, want):
    assert axis_range(np.array(values, float)) == pytest.approx(want)


def test_curves__of_a_long_run_are_thinned_and_keep_their_peaks():
    lines = [dict(step=i, loss_a=1.0, bank_fill_per_class=[0.5, 1.0]) for i in range(1, 60_001)]
    lines[31_234]["loss_a"], lines[2_345]["loss_a"] = 9.0, 0.0
    traces = curves(lines).data
    for t in traces:
        assert len(t.x) <= MOST_POINTS and (not len(t.x) or list(t.x[[0, -1]]) == [1, 60_000])
    line = next(t for t in traces if len(t.x) and t.type == "scatter")
    assert max(line.y) == 9.0 and min(line.y) == 0.0 and line.x[np.argmax(line.y)] == 31_235
