"""`--variant released` sets what the released code computes with, on top of any preset, for every method."""

import pytest
from sync_gate import ROOT

from dgcl_nb.config import parse_run
from dgcl_nb.contrast import contrast_weight_at
from dgcl_nb.pseudo_labels import RELEASED_CONTRAST, RELEASED_LABELS, drop_for_contrast, drop_for_labels
from dgcl_nb.sampling import RELEASED

HERE = ROOT / "tests"  # no settings.ini of its own


@pytest.fixture(scope="module")
def run():
    return parse_run(["--variant", "released"], HERE)


def test_released__self_training_part(run):
    semi = run.semi
    assert run.variant == "released"
    assert (semi.unsup_weight, semi.rescale, semi.ema_decay) == (0.5, True, 0.999)
    assert (semi.ema_buffers, semi.teacher_mode, semi.teacher_start) == ("own", "train", "unsup")
    assert parse_run(["--variant", "released", "--method", "self_training"], HERE).semi == semi


def test_released__filters_and_schedules(run):
    labels, contrast = run.semi.filter, run.dgcl.contrast_filter
    for cfg, released in ((labels, RELEASED_LABELS), (contrast, RELEASED_CONTRAST)):
        assert {k: getattr(cfg, k) for k in released} == released
    assert [drop_for_labels(s, labels.drop_start) for s in (0, 0.5, 1)] == [20, 10, 0]
    dropped = [drop_for_contrast(s, contrast.drop_start, contrast.drop_floor) for s in (0, 0.5, 0.9, 1)]
    assert dropped == pytest.approx([80, 40, 10, 10])


def test_released__contrast(run):
    d = run.dgcl
    assert (d.contrast_view, d.bank_source, d.grid_labels) == ("clean", "student", "nearest")
    assert (d.num_neighbors, d.temperature) == ((8, 16, 32), 0.5)
    assert [contrast_weight_at(d, s) for s in (0.0, 0.5, 1.0)] == [0.5, 0.5, 0.5]
    assert {k: getattr(d.sampling, k) for k in RELEASED} == RELEASED
    assert (d.bank.size, d.bank.min_fill, d.bank.max_new_per_class) == (10_000, 10_000, 1000)
    assert d.bank.refresh == "none"


def test_released__on_top_of_a_preset_and_under_the_flags(tmp_path):
    (tmp_path / "settings.ini").write_text("[mine]\ninherit = digits\nsteps = 44\ndgcl.temperature = 0.1\n")
    run = parse_run(["--preset", "mine", "--variant", "released", "--semi.ema_decay", "0.5"], tmp_path)
    assert (run.steps, run.data.num_labelled, run.dgcl.temperature) == (44, 250, 0.5)
    assert (run.semi.ema_decay, run.semi.unsup_weight) == (0.5, 0.5)
