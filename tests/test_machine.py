"""What a container allows counts as what there is: memory and cores by made-up control groups."""

import os
import platform
import subprocess
import sys

import psutil
import pytest

from dgcl_nb import machine
from dgcl_nb.core import InputError
from dgcl_nb.machine import free_memory, machine_memory, memory_limit, num_cores
from dgcl_nb.ranges import check_memory, check_workers

GIB = 2**30
SHARE = machine_memory() // 8


@pytest.fixture
def groups(tmp_path, monkeypatch):
    "Write the files of made-up control groups: own groups, {path: content}."

    def write(own, files):
        (tmp_path / "own").write_text(own)
        for path, content in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(f"{content}\n")

    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    return write


V1 = "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/\n"


@pytest.mark.parametrize(
    "own, files",
    [
        ("0::/\n", {"memory.max": SHARE}),
        ("0::/a.slice/b\n", {"a.slice/memory.max": SHARE, "a.slice/b/memory.max": "max"}),
        ("0::/a/b\n", {"a/memory.max": SHARE, "a/b/memory.max": 2 * SHARE}),
        (V1, {"memory/memory.limit_in_bytes": SHARE}),
        (
            V1,
            {"memory/docker/abc/memory.limit_in_bytes": SHARE, "memory/memory.limit_in_bytes": 2**63 - 4096},
        ),
    ],
)
def test_memory__is_the_smallest_limit(groups, own, files):
    groups(own, files)
    assert memory_limit() == SHARE
    with pytest.raises(InputError, match="a bank would need .* the container or group of this process has"):
        check_memory("a bank", SHARE + 1)
    check_memory("a bank", SHARE)
    with pytest.raises(InputError, match="batch.workers 100000: as many processes would need"):
        check_workers("batch.workers", 100_000)


def test_memory__that_is_in_use_is_not_free(groups):
    stat = f"anon 5\ninactive_file {SHARE // 4}\nactive_file 7"
    groups("0::/\n", {"memory.max": SHARE, "memory.current": SHARE // 2, "memory.stat": stat})
    assert free_memory() == min(SHARE - SHARE // 2 + SHARE // 4, psutil.virtual_memory().available)
    groups("0::/\n", {"memory.current": 2 * SHARE})
    assert free_memory() == 0


@pytest.mark.parametrize("files", [{}, {"memory.max": "max"}, {"memory.max": 2**63}, {"memory.max": ""}])
def test_memory__without_a_limit_is_the_machine_s(groups, files):
    groups("0::/\n", files)
    assert memory_limit() == machine_memory()
    with pytest.raises(InputError, match="this machine has"):
        check_memory("a bank", machine_memory() + 1)


@pytest.mark.parametrize(
    "own, files, cores",
    [
        ("0::/\n", {"cpu.max": "150000 100000"}, 2),
        ("0::/\n", {"cpu.max": "20000 100000"}, 1),
        ("0::/\n", {"cpu.max": "max 100000"}, 8),
        ("0::/a\n", {"cpu.max": "300000 100000", "a/cpu.max": "max 100000"}, 3),
        (V1, {"cpu/cpu.cfs_quota_us": 400000, "cpu/cpu.cfs_period_us": 100000}, 4),
        (V1, {"cpu/cpu.cfs_quota_us": -1, "cpu/cpu.cfs_period_us": 100000}, 8),
        ("", {}, 8),
    ],
)
def test_cores__are_a_share_of_those_there(groups, own, files, cores):
    groups(own, files)
    assert num_cores() == cores


def test_machine__where_there_are_no_groups(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "OWN_GROUPS", tmp_path / "none")
    assert memory_limit() == machine_memory() and num_cores() >= 1


# What is freed and taken again

STEPS = """
import resource, sys
import numpy as np
from dgcl_nb.machine import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [np.ones(2**18) for _ in range(30)]  # 60 MiB in pieces of 2
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library decides by itself")
def test_keep_freed_memory__the_kernel_is_not_asked_again():
    "Pages that the last of four equal steps takes from the kernel."
    pages = {}
    for name in ("given back", "kept"):
        done = subprocess.run([sys.executable, "-c", STEPS, name], capture_output=True, text=True, check=True)
        pages[name] = int(done.stdout)
    assert pages["given back"] > 10_000 and pages["kept"] < 100


def test_keep_freed_memory__another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: object())
    assert machine.keep_freed_memory() is False
