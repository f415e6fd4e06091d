"""Settings of every method with values that nobody can mean: what the tests and `fuzz_settings.py` try."""

import math
from dataclasses import fields, is_dataclass

from helpers import tiny_args
from hypothesis import strategies as st

from dgcl_nb.config import METHODS, parse_run, run_class
from dgcl_nb.core import InputError

HOSTILE_WORDS = (
    ["nan"],
    ["inf"],
    ["-inf"],
    ["-1"],
    ["0"],
    ["1e308"],
    ["-1e308"],
    ["1e-320"],
    [str(2**63)],
    [str(-(2**63) - 1)],
    [""],
    ["x" * 10_000],
    ["\x1b[31m"],
    ["a\nb"],
    [],
    ["1", "1"],
    ["2", "1", "0.5"],
    ["1"] * 200,
    ["nan", "nan"],
    ["True"],
)
"What follows a flag."
HOSTILE_VALUES = (
    *(math.nan, math.inf, -math.inf, -1, -1.0, 1e308, 5e-324, 2**63, 10**400, True, None),
    *("", "x" * 10_000, "\x00", (), (math.nan,), (1,) * 200, ("a", "b"), {}, [[]]),
)
"What a file may hold in place of a setting."


def all_settings(cls, prefix=""):
    "(dotted name, dataclass, name of the field) of every setting of a dataclass with groups."
    for f in fields(cls):
        if is_dataclass(f.default):
            yield from all_settings(type(f.default), f"{prefix}{f.name}.")
        else:
            yield f"{prefix}{f.name}", cls, f.name


def settings_of(method):
    "All settings of a run of one method; those that choose what is read come first and are left out."
    skipped = ("preset", "method", "variant", "resume")
    return [each for each in all_settings(run_class(method)) if each[0] not in skipped]


def outcome(args, folder):
    "What a command line comes to: a run, or the sentence that refuses it. Anything else is raised."
    try:
        return parse_run(args, folder)
    except InputError as e:
        return str(e)


def words_for(method, setting, words):
    "A tiny run's command line with one more setting."
    return [*tiny_args(method), f"--{setting}", *words]


cases = st.sampled_from(list(METHODS)).flatmap(
    lambda method: st.tuples(
        st.just(method),
        st.sampled_from([name for name, *_ in settings_of(method)]),
        st.sampled_from(HOSTILE_WORDS),
    )
)
"(method, setting, words after its flag)."
