"""Tensors packed straight into a sealed file: the bytes of before, any size of part, a disk that is full."""

import errno
import hashlib
import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dgcl_nb.core import InputError
from dgcl_nb.run_folder import Sealing, is_whole, read_torch, seal_of, write_torch

CONTENT = dict(step=3, weights=torch.arange(5000.0), bank=dict(filled=torch.arange(7)), name="x")


def packed_in_memory(content):
    "A sealed file as it was made before: packed in memory first."
    buffer = io.BytesIO()
    torch.save(content, buffer)
    packed = buffer.getvalue()
    assert packed.endswith(b"\0\0")  # the length of the comment
    return packed[:-2] + seal_of(hashlib.sha256(packed[:-2]).hexdigest())


def test_write_torch__writes_the_bytes_of_before(tmp_path):
    path = tmp_path / "w.pt"
    write_torch(path, CONTENT)
    assert path.read_bytes() == packed_in_memory(CONTENT) and is_whole(path)
    assert torch.equal(read_torch(path)["weights"], CONTENT["weights"])


@given(st.lists(st.binary(max_size=5)))
def test_sealing__takes_parts_of_any_size(parts):
    file = io.BytesIO()
    sealing = Sealing(file)
    assert [sealing.write(part) for part in [*parts, b"\0\0"]] == [*map(len, parts), 2]
    sealing.seal()
    whole = b"".join(parts)
    assert file.getvalue() == whole + seal_of(hashlib.sha256(whole).hexdigest())


class FullDisk(io.BytesIO):
    def write(self, data):
        if self.tell() + len(data) > 6000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_sealing__a_full_disk_is_said_at_the_end():
    sealing = Sealing(FullDisk())
    torch.save(CONTENT, sealing)  # torch itself meets with no exception
    with pytest.raises(OSError, match="No space left"):
        sealing.seal()


def test_write_torch__a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "w.pt"
    write_torch(path, dict(step=1))

    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Sealing, "_pass_on", full)
    with pytest.raises(InputError, match="No space left on device; what was there before is intact"):
        write_torch(path, CONTENT)
    assert read_torch(path) == dict(step=1) and [p.name for p in tmp_path.iterdir()] == ["w.pt"]
