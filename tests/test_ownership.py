"""One run folder, one owner; files that replace nothing but files."""

import os
import signal
import stat
import subprocess
import sys
import time

import pytest
from helpers import clean_environment, tiny_run

from dgcl_nb import ownership
from dgcl_nb.core import InputError
from dgcl_nb.engine import fit
from dgcl_nb.ownership import choose_run_folder, hold_folder, is_held, release_folder
from dgcl_nb.run_folder import RunFolder, write_atomic, write_whole

HOLDER = """
import os, sys, time
from dgcl_nb.ownership import hold_folder
from dgcl_nb.run_folder import RunFolder

hold_folder(RunFolder(sys.argv[1]))
if os.fork() == 0:  # as a loader's worker
    print(os.getpid(), flush=True)
time.sleep(60)
"""


def holding(path):
    "A process that holds a folder, and a fork of it that lives on."
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True, env=clean_environment()
    )
    return child, int(child.stdout.readline())


def test_hold__names_the_owner_and_ends_with_it(tmp_path):
    folder = RunFolder(tmp_path / "run").create()
    child, fork = holding(folder.path)
    try:
        with pytest.raises(InputError, match=f"is in use: process {child.pid} on .* trains in it; wait"):
            hold_folder(folder)
        with pytest.raises(InputError, match="is in use"):
            fit(tiny_run("supervised", out=folder.path), callbacks=[])
        assert is_held(folder)
        assert choose_run_folder(None, folder.path).path.name == "run-2"
        child.kill()
        child.wait()
        os.kill(fork, 0)  # the fork lives, and does not hold the folder
        assert folder.lock.exists()
        hold_folder(folder)
        release_folder(folder)
    finally:
        child.kill()
        os.kill(fork, signal.SIGKILL)


def test_hold__in_one_process(tmp_path):
    folder = RunFolder(tmp_path).create()
    hold_folder(folder)
    with pytest.raises(InputError, match="another run of this process"):
        hold_folder(RunFolder(f"{tmp_path}/."))
    release_folder(folder)
    assert not folder.lock.exists() and not is_held(folder)


def test_hold__what_the_file_says_is_not_believed(tmp_path):
    folder = RunFolder(tmp_path).create()
    hold_folder(folder)
    folder.lock.write_bytes(b"1 \x1b]0;evil\n")
    with pytest.raises(InputError, match="is in use: another process trains"):
        hold_folder(folder)
    release_folder(folder)
    (tmp_path / "elsewhere").write_text("kept")
    folder.lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="cannot write the run folder"):
        hold_folder(folder)
    assert (tmp_path / "elsewhere").read_text() == "kept"


def test_hold__a_file_that_was_removed_locks_nothing(tmp_path, monkeypatch):
    "Its owner removes it between our opening and our locking: the next file is taken."
    folder, opened = RunFolder(tmp_path).create(), []

    def open_lock(path, real=ownership._open_lock):
        opened.append(real(path))
        if len(opened) == 1:
            path.unlink()
        return opened[-1]

    monkeypatch.setattr(ownership, "_open_lock", open_lock)
    hold_folder(folder)
    assert len(opened) == 2 and is_held(folder)
    release_folder(folder)


def test_folder__that_holds_nothing_yet_is_free(tmp_path):
    "SIGTERM came before anything was written: the same command may be given again."
    folder = RunFolder(tmp_path / "run").create()
    hold_folder(folder)
    assert not folder.is_used()
    release_folder(folder)
    folder.launch.write_text("x")
    (folder.path / ".writable.part").touch()
    assert choose_run_folder(folder.path, "x").path == folder.path
    folder.metrics.write_text("{}\n")
    with pytest.raises(InputError, match="is not empty"):
        choose_run_folder(folder.path, "x")


@pytest.mark.parametrize("name", ["n" * 300, "a\0b", "p/" * 3000])
def test_folder__odd_names(tmp_path, name):
    with pytest.raises(InputError, match="cannot write the run folder"):
        choose_run_folder(f"{tmp_path}/{name}", "x").create()


def fifo(path):
    os.mkfifo(path)


def device(path):
    if os.geteuid():
        pytest.skip("only root makes devices")
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("devices cannot be made here")


@pytest.mark.parametrize("make", [fifo, device, os.mkdir])
def test_write__replaces_files_only(tmp_path, make):
    path = tmp_path / "there"
    make(path)
    kind = stat.S_IFMT(path.stat().st_mode)
    with pytest.raises(InputError, match="no regular file"):
        write_whole(path, "text")
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OSError, match="no regular file"):
        write_atomic(tmp_path / "link", "text")
    assert stat.S_IFMT(path.stat().st_mode) == kind
    assert len(list(tmp_path.iterdir())) == 2, "nothing unfinished is left"


@pytest.mark.parametrize("name", ["n" * 300, "a\0b", "\ud800", "a/b/c", "."])
def test_write__odd_names(tmp_path, name):
    with pytest.raises(InputError, match="cannot write"):
        write_whole(tmp_path / name, "text")


@pytest.mark.parametrize("umask, mode", [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_write__keeps_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_atomic(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_time__is_not_spent_waiting(tmp_path):
    "A folder in use is refused at once."
    folder, began = RunFolder(tmp_path).create(), time.monotonic()
    hold_folder(folder)
    with pytest.raises(InputError):
        hold_folder(folder)
    release_folder(folder)
    assert time.monotonic() - began < 2
