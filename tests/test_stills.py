"The pictures that views leave in a saved notebook: nothing covers a curve, and the words can be read."

import numpy as np

from dgcl_nb.widgets import stills

CELL = 9
"Inches that a notebook's cell is wide, at 100 dots an inch."
RECORD = dict(
    loss_sup=1.0,
    loss_unsup=0.5,
    loss_contrast=5.0,
    kept=0.9,
    pseudo_accuracy=0.8,
    pseudo_accuracy_fg=0.3,
    confidence=0.85,
    contrast_kept=0.7,
    anchor_accuracy=0.7,
    positive_accuracy=0.8,
    miou_teacher=20.0,
    miou_student=21.0,
)


def test_curves__their_names_lie_beside_them_and_are_not_scaled_down(monkeypatch):
    monkeypatch.setattr(stills, "still_of", lambda figure: figure)
    figure = stills.curves_still([RECORD | dict(step=step) for step in (100, 200)])
    figure.draw_without_rendering()
    assert figure.get_figwidth() <= CELL
    named = [ax for ax in figure.axes if ax.get_legend()]
    assert len(named) == 3
    for ax in named:
        words = ax.get_legend().get_window_extent()
        assert not any(words.overlaps(other.get_window_extent()) for other in figure.axes if other.axison)
        assert words.x0 >= 0 and words.x1 <= figure.bbox.width and words.y0 >= 0


def test_stills__names_are_no_formulas_and_many_classes_are_counted(monkeypatch):
    names = ["$a^$", *(f"class {c}" for c in range(250))]
    legend = dict.fromkeys(names, (0, 0, 0))
    assert stills.points_still(np.zeros((3, 2)), np.zeros((3, 3)), "layer $x^$", legend)
    assert stills.images_still({"$a^$": np.zeros((4, 4, 3), np.uint8)}, "image $x^$")
    monkeypatch.setattr(stills, "still_of", lambda figure: figure)
    figure = stills.points_still(np.zeros((3, 2)), np.zeros((3, 3)), "many", legend)
    figure.draw_without_rendering()
    box, words = figure.legends[0].get_window_extent(), figure.legends[0].get_texts()
    assert box.y0 >= 0 and words[-1].get_text() == "and 231 more"
