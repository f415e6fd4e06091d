"""Clusters: points of each class, of unknown class and of unknown value, and planes with common axes."""

import numpy as np
import pytest

from dgcl_nb.core import IGNORE_INDEX, InputError
from dgcl_nb.looking.clusters import clusters_side_by_side, scatter
from dgcl_nb.looking.figures import UNKNOWN
from dgcl_nb.metrics import ClusterScores

PALETTE = np.uint8([[0, 0, 0], [128, 0, 0], [0, 128, 0]])
NAMES = ("background", "cat", "dog")
LABELS = np.array([0, 2, 2, 0, IGNORE_INDEX, 2])
XY = np.random.default_rng(0).normal(0, 1, (6, 2))


def test_scatter__classes_unknown_and_empty():
    fig = scatter(XY, LABELS, PALETTE, NAMES)
    counts = [(t.name, len(t.x)) for t in fig.data]
    assert counts == [("background", 2), ("dog", 3), ("unknown", 1), ("names", 2)]
    np.testing.assert_allclose(fig.data[1].x, XY[[1, 2, 5], 0], rtol=1e-6)
    assert fig.data[1].customdata.tolist() == [1, 2, 5]
    assert len(scatter(XY[:0], LABELS[:0], PALETTE).data) == 1
    with pytest.raises(InputError, match=r"\(6, 2\) and labels \(5,\)"):
        scatter(XY, LABELS[:5], PALETTE)


def test_scatter__both_axes_have_one_length_and_show_all_points():
    fig = scatter(XY, LABELS, PALETTE, NAMES)
    wide, high = np.diff(fig.layout.xaxis.range)[0], np.diff(fig.layout.yaxis.range)[0]
    assert wide == pytest.approx(high) and wide > np.ptp(XY, axis=0).max()


def test_scatter__a_value_that_is_not_known_is_grey_and_named():
    fig = scatter(XY, LABELS, PALETTE, values=[0.1, 0.2, np.nan, 0.4, 0.5, 0.6])
    unknown, known = fig.data
    assert len(unknown.x) == 1 and len(known.x) == 5
    assert unknown.marker.color == UNKNOWN and unknown.showlegend and unknown.name == "unknown"
    assert not scatter(XY, LABELS, PALETTE, values=np.arange(6)).data[0].showlegend


def test_clusters__common_axes_and_scores_under_each():
    xys, labels = [np.eye(4)[:, :2], 5 * np.eye(4)[:, :2]], [np.arange(4) % 3] * 2
    nan = float("nan")
    scores = [ClusterScores(0.25, 71.4, 1.5, 4, 3), ClusterScores(nan, nan, nan, 4, 1, "one class")]
    fig = clusters_side_by_side(xys, labels, ["a", "b"], scores, PALETTE, NAMES)
    said = [a.text for a in fig.layout.annotations]
    assert said[:2] == ["<b>a</b>", "<b>b</b>"]
    assert said[2] == "silhouette 0.25 ↑<br>Calinski-Harabasz 71 ↑   Davies-Bouldin 1.50 ↓"
    assert said[3] == "no scores: one class"
    assert fig.layout.xaxis.range == fig.layout.xaxis2.range and fig.layout.yaxis2.scaleanchor == "x2"
    assert [t.name for t in fig.data if t.showlegend] == list(NAMES)
