"""How every command ends: the same trouble has the same exit status, and a sentence without a traceback."""

import importlib
import re

import pytest
from sync_gate import ROOT

from dgcl_nb.core import InputError
from dgcl_nb.endings import BAD_INPUT, FAILED, INTERRUPTED, end_if_failed
from dgcl_nb.engine import Stopped
from dgcl_nb.onnx_export import OnnxFailed
from dgcl_nb.processes import LostProcess

# command -> what does its work, an argument or two that it parses, and what it says when it is stopped
COMMANDS = {
    "train": ("train", [], "stopped; what was saved is whole: --resume goes on\n"),
    "bench": ("bench_all", [], "stopped; the same command goes on\n"),
    "predict": ("predict_all", [], "stopped; --existing skip goes on\n"),
    "evaluate": ("evaluate_runs", [], "stopped\n"),
    "suggest": ("suggest_all", [], "stopped; nothing that was there is lost\n"),
    "audit": ("parse_audit", [], "stopped; folds that are trained are kept, others go on where they were\n"),
    "data.__main__": ("run_command", ["check", "photos"], ""),
    "report": ("write_report", ["runs/x"], "stopped\n"),
    "explore": ("write_explorer", ["runs/x"], "stopped; no page was written\n"),
}


@pytest.fixture
def ending(monkeypatch, capsys):
    "The exit status of a command whose work comes to this, with what it printed and what it complained of."

    def run(command, error=None, answer=None):
        module = importlib.import_module(f"dgcl_nb.{command}")
        work, args, _ = COMMANDS[command]

        def fake(*_, **__):
            if error is not None:
                raise error
            return answer

        monkeypatch.setattr(module, work, fake)
        try:
            module.main(args)
            status = 0
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_input(ending, command):
    assert ending(command, InputError("no folder x; name another")) == (
        BAD_INPUT,
        "",
        "error: no folder x; name another\n",
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_interrupted(ending, command):
    assert ending(command, KeyboardInterrupt()) == (INTERRUPTED, "", COMMANDS[command][-1])


@pytest.mark.parametrize("command", COMMANDS)
def test_a_fault_of_ours_keeps_its_traceback(ending, command):
    with pytest.raises(ZeroDivisionError):
        ending(command, ZeroDivisionError("where?"))


def test_failures_that_explain_themselves(ending, monkeypatch):
    assert ending("train", LostProcess("process 1 has ended")) == (
        FAILED,
        "",
        "error: process 1 has ended\n",
    )
    assert ending("predict", OnnxFailed("it differs")) == (FAILED, "", "error: it differs\n")
    lost = RuntimeError("[gloo] Connection closed by peer [127.0.0.1]:1")
    with pytest.raises(RuntimeError, match="closed by peer"):
        ending("evaluate", lost)  # alone it has no peers
    monkeypatch.setenv("WORLD_SIZE", "2")
    said = "error: another process has ended; what it printed says why\n"
    assert ending("evaluate", lost) == (FAILED, "", said)


def test_train__stopped_after_saving(ending):
    "That sentence is an answer, and goes where answers go."
    stopped = Stopped.__new__(Stopped, "saved at step 7")  # without a run
    assert ending("train", stopped) == (INTERRUPTED, "saved at step 7\n", "")


@pytest.mark.parametrize(
    "command, beginning", (("bench", "FAILED"), ("predict", "not done:"), ("suggest", "error:"))
)
def test_failed_in_part(ending, command, beginning):
    failed = {"a.png": "it is cut short", "b.png": "it is no image"}
    lines = "".join(f"{beginning} {name}: {why}\n" for name, why in failed.items())
    assert ending(command, answer=failed) == (FAILED, "", lines)
    assert ending(command, answer={}) == (0, "", "")


def test_data__a_check_that_found_faults(ending):
    assert [ending("data.__main__", answer=n)[0] for n in (0, 1)] == [0, 1]


def test_end_if_failed__nothing():
    assert end_if_failed({}, "FAILED") is None


def test_one_place():
    "No other room writes them out, but for the one that answers --help before the package is imported."
    own = re.compile(r"sys\.exit\((2|130)\)|print\(f\"error: \{e\}\"")
    found = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "dgcl_nb").rglob("*.py"))
        if own.search(path.read_text(encoding="utf-8"))
    ]
    assert found == ["dgcl_nb/endings.py", "dgcl_nb/help.py"]
