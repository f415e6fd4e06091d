"""What the repository holds: nothing large. A data set that a tutorial had made once lay in it unseen."""

import subprocess

import pytest
from sync_gate import ROOT

LARGEST = 1_500_000
"Bytes of a file, the 1 MB of a notebook with pictures and a checkpoint of an older run included."


def test_tracked_files__none_is_large():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no git checkout")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    large = [str(path.relative_to(ROOT)) for path in paths if path.exists() and path.stat().st_size > LARGEST]
    assert paths and large == []
