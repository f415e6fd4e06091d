"Every case of tests/make_bad_data.py gives its own message or works: no other error, no traceback, no hang."

import re
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from make_bad_data import CASES, NAMED, WORKS, folder, make
from PIL import Image

from dgcl_nb.core import InputError
from dgcl_nb.data import __main__ as command
from dgcl_nb.data.check import check_data
from dgcl_nb.data.sets import LAYOUTS, DataConfig, open_data

PATIENCE = 20  # seconds until a case counts as hanging
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def no_hang():
    def ring(*_):
        raise AssertionError(f"it hangs: nothing came within {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def settings_of(case, root):
    named = {k: v.format(root=root) if isinstance(v, str) else v for k, v in case.settings.items()}
    return dict(name=case.base, root=str(root)) | named


def read_everything(settings):
    data = open_data(DataConfig(**settings))
    return [part[i] for part in (data.labelled, data.unlabelled, data.val) for i in range(len(part))]


def test_corpus__is_large_and_has_no_name_twice():
    assert len(CASES) >= 100 and len({c.name for c in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_reading__says_what_the_table_says(case, tmp_path):
    make(case, tmp_path)
    if case.says != WORKS:
        with pytest.raises(InputError) as caught:
            read_everything(settings_of(case, tmp_path))
        said = str(caught.value)
        assert case.says in said and "\n" not in said and len(said) < 1000
    else:
        for item in read_everything(settings_of(case, tmp_path)):
            assert item["image"].dtype == torch.uint8 and item["image"].shape[0] == 3
            assert item["target"] is None or item["target"].shape == item["image"].shape[1:]


@pytest.mark.parametrize("case", [c for c in CASES if c not in NAMED], ids=lambda c: c.name)
def test_check__ends_and_names_what_is_bad(case, tmp_path, monkeypatch, capsys):
    for name, layout in list(LAYOUTS.items()):
        monkeypatch.setitem(LAYOUTS, name, replace(layout, known_numbers={}))
    make(case, tmp_path)
    with pytest.raises(SystemExit) as ended:
        command.main(["check", str(tmp_path), "--name", case.base])
    said = "".join(capsys.readouterr())
    assert "Traceback" not in said
    if case.base == "folder":
        assert ended.value.code == int(not case.is_good), said
        assert ("all is well" in said) == case.is_good
        if not case.is_good:
            assert re.search(r"MISSING|bad files: [1-9]", said)


def test_check__lists_all_bad_files_at_once(tmp_path):
    bad = {"a": b"", "b": b"<html>", "d": b"\x89PNG\r\n\x1a\n"}
    folder(tmp_path)
    for name, content in bad.items():
        (tmp_path / "images" / f"{name}.png").write_bytes(content)
    Image.fromarray(np.full((8, 12), 9, np.uint8)).save(tmp_path / "masks" / "c.png")
    health = check_data(tmp_path)
    assert len(health.bad) == 4 and not health.missing
    for name in bad:
        assert sum(f"images/{name}.png" in message for message in health.bad) == 1
    assert any("masks/c.png holds the label value 9" in message for message in health.bad)
