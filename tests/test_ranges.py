"""No setting of any method can be set to something that ends in a traceback."""

import contextlib
import io
import math
from typing import Annotated, get_args, get_origin

import pytest
from helpers import few_images, parsed_run, tiny_run
from hostile import HOSTILE_VALUES, cases, outcome, settings_of, words_for
from hypothesis import HealthCheck, given, settings
from sync_gate import ROOT

from dgcl_nb import engine
from dgcl_nb.config import METHODS, Run, parse_run, run_from_dict, run_to_dict
from dgcl_nb.core import InputError
from dgcl_nb.finite import NonFiniteLoss, NonFiniteWeights
from dgcl_nb.ranges import Length, Range, Ranged, Words, check_memory, check_workers, declared, shown

EVERY = {name: (m, cls, field) for m in METHODS for name, cls, field in settings_of(m)}
"Each setting of each method once: dotted name -> (a method that has it, dataclass, name of the field)."


def rules_of(hint):
    "All rules that a type declares, those of its entries included."
    if get_origin(hint) is Annotated:
        return [*hint.__metadata__]
    return [rule for part in get_args(hint) for rule in rules_of(part)]


def kind_of(hint):
    return hint.__origin__ if get_origin(hint) is Annotated else hint


@pytest.mark.parametrize("name", EVERY)
def test_settings__each_declares_its_range(name):
    _, cls, field = EVERY[name]
    hint = declared(cls)[field]
    assert issubclass(cls, Ranged)
    assert hint is bool or any(isinstance(rule, (Range, Words, Length)) for rule in rules_of(hint)), hint


def changed(method, name, value):
    "A tiny run with one value changed, as a config.json may say it."
    values = run_to_dict(parsed_run(method))
    *groups, last = name.split(".")
    place = values
    for group in groups:
        place = place[group]
    place[last] = value
    return run_from_dict(values)


def test_values_of_a_file__are_refused_by_name_or_make_a_run():
    refused = 0
    for name, (method, _, field) in EVERY.items():
        for value in HOSTILE_VALUES:
            try:
                assert isinstance(changed(method, name, value), Run)
            except InputError as e:
                refused += 1
                assert field in str(e) and len(str(e)) < 500 and str(e).isprintable(), (name, value, str(e))
    assert refused > 15 * len(EVERY)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers__no_setting_may_be_nan_or_infinite(value):
    for name, (method, cls, field) in EVERY.items():
        if kind_of(declared(cls)[field]) in (int, float):
            with pytest.raises(InputError, match=f"{field}'? is "):
                changed(method, name, value)


@given(case=cases)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_command_line__is_refused_in_words_or_makes_a_run(case):
    method, name, words = case
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            found = outcome(words_for(method, name, words), ROOT / "tests")
    except SystemExit as e:
        assert e.code == 2 and len(said.getvalue().split()) > 3 and "Traceback" not in said.getvalue()
    else:
        assert isinstance(found, Run) or (found and found.isprintable()), (case, found)


def test_command_line__says_types_as_before(capsys):
    with pytest.raises(SystemExit):
        parse_run(["--help"])
    said = capsys.readouterr().out
    for shown_type in (
        "--optim.lr FLOAT",
        "--steps INT",
        "--loop.precision STR",
        "--views.mean FLOAT FLOAT FLOAT",
    ):
        assert shown_type in said
    assert "Range" not in said and "Annotated" not in said and "Words" not in said


WRONG_BEFORE = {
    "optim.clip_norm": (-1, math.nan),
    "optim.weight_decay": (-1, math.inf),
    "optim.encoder_lr_scale": (-1,),
    "optim.momentum": (1, -1, math.nan),
    "optim.poly_power": (-1, math.nan),
    "eval.scales": ((), (math.nan,), (1e308,), (-1.0,)),
    "views.scale": ((math.nan, 1.0), (1.0, math.inf)),
    "views.blur_sigma": ((0.1, math.inf), (math.nan, math.nan)),
    "views.brightness": (math.inf,),
    "loop.num_probes": (-1, 0),
    "loop.sup_only_fraction": (math.nan,),
    "sup.ohem_thresh": (math.nan, 2),
    "sup.aux_weight": (-1, math.nan),
    "semi.unsup_weight": (math.nan, math.inf),
    "dgcl.new_density_at": (-1, 0),
    "dgcl.temperature": (math.nan, math.inf),
    "dgcl.num_neighbors": ((), (0,), (-1, 8)),
    "batch.workers": (10**6,),
}
"What was accepted, and then failed, diverged, or climbed the gradient."


@pytest.mark.parametrize("name", WRONG_BEFORE)
def test_settings__refuse_what_failed_later(name):
    for value in WRONG_BEFORE[name]:
        with pytest.raises(InputError, match=name.split(".")[-1]):
            changed("dgcl", name, value)


def test_file_of_settings__the_line_is_named(tmp_path):
    (tmp_path / "settings.ini").write_text("[digits]\nloop.log_every = 5\noptim.clip_norm = -1\n")
    with pytest.raises(InputError, match=r"settings.ini \[digits\].*optim.clip_norm = -1.*0 or more"):
        parse_run([], tmp_path)


def test_memory__says_how_much_is_missing():
    check_memory("nothing", 0)
    with pytest.raises(InputError, match=r"a bank would need [\d,]+\.0 GiB of memory; this machine has"):
        check_memory("a bank", 2**80)
    with pytest.raises(InputError, match="batch.workers 100000000: as many processes would need"):
        check_workers("batch.workers", 10**8)
    run = changed("dgcl", "dgcl.bank.size", 10**9)
    with pytest.raises(InputError, match="1000000000 entries for each of 11 classes would need"):
        engine.build_method(run, 11, 0)


def test_shown__long_and_unprintable_values():
    assert shown("a" * 100) == "a" * 60 + "…" and shown("\x1b[31m") == "?[31m" and shown(()) == "empty"


ENDS = {
    "supervised": {
        "optim.lr": (5e-324, 100.0),
        "optim.clip_norm": (5e-324,),
        "optim.weight_decay": (100.0,),
        "optim.poly_power": (100.0,),
        "views.scale": ((0.01, 0.01), (0.01, 2.0)),
        "views.blur_sigma": ((0.01, 100.0),),
        "views.brightness": (100.0,),
        "views.std": ((0.001, 0.5, 1.0),),
        "views.cutmix_area": (5e-324,),
        "eval.scales": ((0.01,),),
        "eval.batch_size": (1024,),
        "loop.num_probes": (10**9,),
        "loop.log_every": (10**9,),
        "loop.sup_only_fraction": (0.0, 1.0),
        "loop.evaluations": (0, 10**9),
        "loop.checkpoints": (0, 10**9),
        "sup.ohem_min_kept": (0, 10**9),
        "sup.aux_weight": (1e6,),
        "seed": (-(2**63), 2**63 - 1),
    },
    "dgcl": {
        "dgcl.temperature": (5e-324, 1e6),
        "dgcl.new_density_at": (1, 10**9),
        "dgcl.num_neighbors": ((10**9,),),
        "dgcl.sampling.num_anchors": (10**9,),
        "dgcl.sampling.num_negatives": (10**6,),
    },
}
"Values at the ends of their ranges, which are accepted, and so must train."
RUNS = [(m, name, value) for m, found in ENDS.items() for name, values in found.items() for value in values]


@pytest.mark.parametrize("method, name, value", RUNS, ids=[f"{n}={v}" for _, n, v in RUNS])
def test_ends_of_ranges__train_or_say_why_not(tmp_path, monkeypatch, method, name, value):
    assert len(RUNS) <= 40
    monkeypatch.setattr(engine, "build_data", few_images)
    short = {name.replace(".", "__"): value} if "." in name else {name: value}
    start = {} if "sup_only" in name else dict(loop__sup_only_fraction=0.5)
    run = tiny_run(method, **dict(steps=2, out=tmp_path / "run", loop__checkpoints=0) | start | short)
    try:
        assert engine.fit(run, callbacks=[])["steps"] == 2
    except (InputError, NonFiniteWeights, NonFiniteLoss) as e:
        assert str(e).isprintable() and len(str(e).split()) > 5, str(e)
