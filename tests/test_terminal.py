"The log of a run on a screen: a table that fits, reasons once, hints where figures would mislead."

import pytest
import torch
from helpers import few_images, tiny_run
from hypothesis import given, settings
from hypothesis import strategies as st

from dgcl_nb import engine, training
from dgcl_nb.config import METHODS
from dgcl_nb.engine import fit
from dgcl_nb.run_folder import read_lines
from dgcl_nb.terminal import COLUMNS, LogTable, cells_of, hint_of_load, hint_of_val
from dgcl_nb.training import Bar

names = st.sampled_from(
    "loss_sup loss_sup_1 loss_unsup loss_flaw_2 kept pseudo_accuracy miou_teacher".split()
)
figures = st.dictionaries(names, st.floats(0, 1), max_size=6)
reasons = st.dictionaries(st.just("loss_contrast"), st.text("ab ", min_size=1, max_size=200), max_size=1)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(figures, reasons), min_size=1, max_size=5), st.integers(24, 200))
def test_table__no_line_is_wider_than_the_terminal(records, width):
    table = LogTable(1000, "teacher", width)
    for i, (found, inactive) in enumerate(records):
        for line in table.lines(dict(step=i + 1, epoch=0, inactive=inactive) | found):
            assert len(line) <= width and "\n" not in line


def test_table__a_reason_is_said_once():
    table = LogTable(10, "student", 80)
    record = dict(step=1, loss_sup=1.0, inactive=dict(loss_unsup="too early", loss_contrast="too early"))
    said = [line for step in (1, 2, 3) for line in table.lines(record | dict(step=step))]
    assert said[2] == "  loss_unsup, loss_contrast are inactive: too early" and len(said) == 5


@pytest.mark.parametrize("method", list(METHODS))
def test_table__of_every_method(method, tmp_path, monkeypatch, capsys):
    "A run of each method has six columns at most; the loss on labels and another one are among them."
    monkeypatch.setattr(engine, "build_data", few_images)
    monkeypatch.setenv("COLUMNS", "80")
    more = dict(steps=4, loop__sup_only_fraction=0.25, loop__log_every=1, loop__evaluations=1)
    result = fit(tiny_run(method, out=str(tmp_path / "run"), **more), callbacks=[Bar()])
    said = capsys.readouterr().out.splitlines()
    assert max(map(len, said)) <= 80
    heads = [line for line in said if line.lstrip().startswith("step ")]
    assert 1 <= len(heads) <= 3 and "loss_sup" in heads[-1] and "mIoU, %" in heads[-1]
    rows = [line for line in said if "/4 " in line]
    assert len(rows) == 5, "four steps and an evaluation"
    assert rows[-1].split() == ["4/4", f"{result['miou'][result['predictor']]:.1f}"]
    record = read_lines(tmp_path / "run" / "metrics.jsonl")[-2]
    columns = [c for c in COLUMNS if c in cells_of(record, 4, result["predictor"])]
    assert columns[:2] == ["step", "sup"] and ("other" in columns) == (method != "supervised")


def test_bar__few_val_images_are_said_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(engine, "build_data", few_images)
    monkeypatch.setattr(training, "load_here", lambda: (9.0, 2))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    fit(tiny_run("supervised", out=str(tmp_path / "run"), steps=3), callbacks=[Bar()])
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("hint: val has 12 images") == 1
    assert said.count("--loop.threads 1") == 1
    assert not hint_of_val(20) and "1 image:" in hint_of_val(1)


@pytest.mark.parametrize(
    "load, own, cores, threads, is_said",
    [(2.0, 2, 2, 2, False), (3.1, 2, 2, 2, True), (8.0, 0, 2, 1, False), (18.0, 16, 16, 16, False)],
)
def test_load__only_what_others_do_and_only_where_threads_wait(load, own, cores, threads, is_said):
    assert bool(hint_of_load(load, own, cores, threads)) == is_said
