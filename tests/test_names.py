"""No name is more than text in any figure: plotly reads links, values to be filled in and formulas."""

import importlib
import re

import numpy as np
import pytest

from dgcl_nb.looking.clusters import clusters_side_by_side, scatter
from dgcl_nb.looking.curves import curves
from dgcl_nb.looking.density_figures import confidence_density, density_histograms
from dgcl_nb.looking.figures import go
from dgcl_nb.looking.tiles import contact_sheet, predictions_side_by_side
from dgcl_nb.metrics import ClusterScores
from dgcl_nb.plots import new_figure, svg_of

EVIL = "<a href=javascript:x>%{evil}$\\href{x}{y}$\x1b[2J</a>"
"A name that would be a link, a value to be filled in, a formula, and an order to a terminal."
NAMES, IDS = (EVIL, f"{EVIL}2"), (f"{EVIL} a", f"{EVIL} b")
PALETTE = np.uint8([[0, 0, 0], [255, 0, 0]])
XY, LABELS, DENSITY = np.random.default_rng(0).random((40, 2)), np.arange(40) % 2, np.linspace(0, 1, 40)
IMAGES, MAPS = np.zeros((2, 8, 8, 3), np.uint8), np.arange(128).reshape(2, 8, 8) % 2
LINES = [
    *({"step": i, f"loss_{EVIL}": 1.0, EVIL: 0.5, f"of {EVIL}": 0.5, f"miou_{EVIL}": 3.0} for i in (1, 2)),
    {"step": 3, "inactive": {"loss_x": EVIL}, "bank_fill_per_class": [0.5, 1.0]},
]
SCORES = [ClusterScores(0.1, 2.0, 3.0, 4, 3), ClusterScores(0.1, 2.0, 3.0, 4, 3, EVIL)]
FIGURES = dict(
    curves=[lambda: curves(LINES, NAMES, title=EVIL), lambda: curves({n: LINES for n in NAMES}, NAMES)],
    scatter=[
        lambda: scatter(XY, LABELS, PALETTE, NAMES, title=EVIL),
        lambda: scatter(XY, LABELS, PALETTE, NAMES, DENSITY, EVIL),
    ],
    clusters_side_by_side=[
        lambda: clusters_side_by_side([XY, XY], [LABELS, LABELS], NAMES, SCORES, PALETTE, NAMES)
    ],
    predictions_side_by_side=[
        lambda: predictions_side_by_side(IMAGES, MAPS, {n: MAPS for n in NAMES}, PALETTE, NAMES, IDS)
    ],
    contact_sheet=[lambda: contact_sheet(IMAGES, MAPS, 1 - MAPS, IDS)],
    density_histograms=[lambda: density_histograms(DENSITY, LABELS, PALETTE, NAMES, DENSITY, NAMES)],
    confidence_density=[lambda: confidence_density(DENSITY, DENSITY, LABELS == 0, title=EVIL)],
)
"Every figure function, with that name wherever it takes one."
ROOMS = ("curves", "clusters", "tiles", "density_figures")
"Of `looking`, those that draw."


def strings_of(value):
    "All strings in a figure's values."
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inside in value.values():
            yield from strings_of(inside)
    elif isinstance(value, (list, tuple, np.ndarray)):
        for inside in value:
            yield from strings_of(inside)


def test_names__every_figure_function_is_tried():
    made = set()
    for room in map(importlib.import_module, (f"dgcl_nb.looking.{room}" for room in ROOMS)):
        hints = {name: getattr(getattr(room, name), "__annotations__", {}) for name in room.__all__}
        made |= {name for name, hint in hints.items() if hint.get("return") is go.Figure}
    assert made - {"panel_grid"} == FIGURES.keys(), "panel_grid takes what is written for plotly already"


@pytest.mark.parametrize("name", FIGURES)
def test_names__are_text_in_every_figure(name):
    for draw in FIGURES[name]:
        # the group of a trace is compared and never shown
        fig = draw().for_each_trace(lambda t: t.update(legendgroup=None) if "legendgroup" in t else None)
        shown = [text for text in strings_of(fig.to_dict()) if not text.startswith("data:")]
        assert any("evil" in text for text in shown)
        for text in shown:
            assert not re.search(r"<a|%\{evil|\$|\x1b", text), text


def test_names__half_a_formula_is_text_in_a_plot():
    fig, panel = new_figure(2.0)
    panel.plot([0, 1], [0, 1], label=r"$\nothing{ $")
    panel.set_yticks([0], ["$_$"])
    fig.legend()
    assert "$_$" in svg_of(fig)
