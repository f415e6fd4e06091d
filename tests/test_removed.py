"""Settings that are gone: who asks for one is told why; what was saved with one is read as before."""

import json
import logging

import pytest
from helpers import TINY, flags
from sync_gate import ROOT

from dgcl_nb.config import config_record, parse_run, run_class, run_from_dict, run_to_dict
from dgcl_nb.core import InputError
from dgcl_nb.jobs import Job, Row, check_folder
from dgcl_nb.removed import REMOVED
from dgcl_nb.resuming import history_of, resumed_run, write_config
from dgcl_nb.run_folder import RunFolder
from dgcl_nb.settings import rebuild, setting_names
from dgcl_nb.store import key_of, keyed_settings
from dgcl_nb.train import main

WHY = "loop.compile is gone: torch.compile made no step faster"


def nested(settings):
    "Settings by dotted name as groups in groups."
    values = {}
    for name, value in settings.items():
        *groups, last = name.split(".")
        inner = values
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[last] = value
    return values


def saved_with(run, compile):
    "What an earlier package saved of a run."
    values = run_to_dict(run)
    return values | dict(loop=values["loop"] | dict(compile=compile))


def records():
    found = [(path, json.loads(path.read_text())) for path in sorted(ROOT.glob("results/**/*-s*-*.json"))]
    return [(path, record) for path, record in found if "key" in record and "settings" in record]


def test_keys__of_all_committed_records():
    "A package that would not find them would train them all again."
    found = records()
    assert len(found) > 150
    for path, record in found:
        run = rebuild(run_class(record["result"]["method"])(), nested(record["settings"]))
        assert f"{run.method}-s{run.seed}-{key_of(run)}.json" == path.name


def test_keys__hold_what_is_gone():
    run = run_class("dgcl")()
    for name, removed in REMOVED.items():
        assert name not in setting_names(run) and keyed_settings(run)[name] == removed.off


@pytest.mark.parametrize("args", (["--loop.compile", "True"], ["--loop.compile=False"]))
def test_asked_for__on_the_command_line(args, capsys):
    with pytest.raises(SystemExit) as end:
        main(["--preset", "digits", *args])
    assert end.value.code == 2 and f"error: --{WHY}" in capsys.readouterr().err


def test_asked_for__with_dashes(monkeypatch):
    "tyro takes --a-name for --a_name, so this does too."
    monkeypatch.setitem(REMOVED, "loop.some_name", REMOVED["loop.compile"])
    with pytest.raises(InputError, match="--loop.some_name is gone"):
        parse_run(["--loop.some-name", "3"])


@pytest.mark.parametrize("section", ("digits", "digits for dgcl", "variant mine"))
def test_asked_for__in_a_file(tmp_path, section):
    (tmp_path / "settings.ini").write_text(f"[{section}]\nloop.compile = False\n")
    variant = ["--variant", "mine"] if section.startswith("variant") else []
    with pytest.raises(InputError, match=rf"settings.ini \[{section}\]: {WHY}.*; remove that line"):
        parse_run(["--method", "dgcl", *variant], tmp_path)


def test_saved__off(caplog):
    run = parse_run(flags(TINY))
    with caplog.at_level(logging.WARNING):
        assert run_from_dict(saved_with(run, False)) == run
    assert not caplog.records


@pytest.mark.parametrize("value", (True, "yes\n", None, [1], {"a": 1}, 1e400))
def test_saved__on_or_damaged(value, caplog):
    "It is read all the same, and the log has one line that can be printed."
    run = parse_run(flags(TINY))
    assert run_from_dict(saved_with(run, value), "config.json") == run
    (line,) = [r.getMessage() for r in caplog.records]
    assert line.startswith("config.json: loop.compile ") and "is gone and is not used" in line
    assert line.isprintable()


def test_saved__another_unknown_name_is_still_refused():
    values = run_to_dict(parse_run(flags(TINY)))
    with pytest.raises(InputError, match="written by another version"):
        run_from_dict(values | dict(loop=values["loop"] | dict(compil=False)))


def begun(folder, run, compile):
    files = RunFolder(folder).create()
    record = config_record(run) | saved_with(run, compile)
    files.config.write_text(json.dumps(record | dict(effective={}, images={}, history=[])))
    return files


@pytest.mark.parametrize("compile, noted", ((False, {}), (True, {"loop.compile": [True, False]})))
def test_resumed(tmp_path, compile, noted):
    "A run goes on; what it was begun with stands in its history."
    out = tmp_path / "run"
    args = [*flags(TINY), "--out", str(out), "--resume", "True"]
    asked = parse_run(args)
    files = begun(out, asked, compile)
    run = resumed_run(args, asked)
    assert run == asked
    write_config(files, run, {}, {}, step=3)
    assert [entry["settings"] for entry in history_of(files)] == ([noted] if noted else [])
    assert "compile" not in json.loads(files.config.read_text())["loop"]


def test_bench__tells_a_run_that_had_it_from_one_that_had_not(tmp_path):
    run = parse_run(flags(TINY))
    job = Job(Row(run.method, run.method), run.seed, (), run, RunFolder(tmp_path / "run"))
    begun(tmp_path / "run", run, False)
    assert check_folder(job) == "interrupted"
    begun(tmp_path / "run", run, True)
    with pytest.raises(InputError, match="other settings: loop.compile was True, and is gone"):
        check_folder(job)
