"""Commands whose reader leaves, whose terminal is closed, or that must print odd names."""

import os
import signal
import subprocess
import sys

import pytest
from helpers import clean_environment, metrics_of, start_child, tiny_args, wait_for

from dgcl_nb import train
from dgcl_nb.processes import Control, catch_signals

NOISE = """
import sys
from dgcl_nb.streams import steady_streams
steady_streams()
for i in range(5000):
    print(i, "\\udcff\\u00fc")
print("end", file=sys.stderr)
"""


def run_noise(shell):
    "What a program that prints much leaves behind it, in a shell with pipes."
    env = clean_environment(CODE=NOISE, PYTHONIOENCODING="ascii")
    words = ["bash", "-c", f"set -o pipefail; {shell}"]
    return subprocess.run(words, env=env, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("end", ["| head -n 2", ">/dev/full", ">&-", ""])
def test_streams__any_end(end):
    done = run_noise(f'{sys.executable} -c "$CODE" {end}')
    assert (done.returncode, done.stderr) == (0, "end\n")
    if end.startswith("|"):
        assert done.stdout == "0 \\udcff\\xfc\n1 \\udcff\\xfc\n"


def train_for_nobody(out):
    "Both streams lead into pipes that nobody reads, as in `train 2>&1 | head`."
    reader, writer = os.pipe()
    os.dup2(writer, 1)
    os.dup2(writer, 2)
    os.close(reader)
    settings = dict(steps=4, out=out, loop__snapshots=0, loop__log_every=1)
    train.main(tiny_args("supervised", **settings))


def test_train__into_a_closed_pipe(tmp_path):
    assert wait_for([start_child(train_for_nobody, tmp_path / "run")]) == [0]
    assert (tmp_path / "run" / "result.json").is_file()
    assert metrics_of(tmp_path / "run")[-1]["step"] == 4


def test_control__a_pause_after_a_stop_holds_nobody():
    control = Control()
    control.stop()
    control.pause()
    assert control.running.wait(0), "the loop would wait here for ever, and the stop with it"
    assert control.should_stop("cpu")


@pytest.mark.parametrize("before, stops", [(signal.SIG_DFL, True), (signal.SIG_IGN, False)])
def test_signals__a_hangup_saves_unless_it_is_ignored(before, stops):
    control, old = Control(), signal.signal(signal.SIGHUP, before)
    try:
        with catch_signals(control):
            os.kill(os.getpid(), signal.SIGHUP)
        assert control.stopping.is_set() == stops
        assert signal.getsignal(signal.SIGHUP) == before
    finally:
        signal.signal(signal.SIGHUP, old)


INTERRUPTED = """
import runpy, sys
class Stop:
    def find_spec(self, name, *_):
        if name == "dgcl_nb.train":
            raise KeyboardInterrupt  # as Ctrl-C does while torch is being imported
sys.meta_path.insert(0, Stop())
sys.argv = ["-m"]
import dgcl_nb
runpy.run_module("dgcl_nb.train", run_name="__main__")
"""


def test_imports__ctrl_c_is_a_word():
    words = [sys.executable, "-c", INTERRUPTED]
    done = subprocess.run(words, env=clean_environment(), capture_output=True, text=True, timeout=60)
    assert done.stderr == "stopped\n" and done.returncode in (130, -signal.SIGINT)
