"""What is read back of a run: a file that is damaged, hostile or of wrong types is a sentence or left out."""

import hashlib
import json
import logging
import math
import os
import shutil
import zipfile

import numpy as np
import pytest
import torch
from fuzz_files import fuzz
from helpers import few_images, register_toys, tiny_run

from dgcl_nb import config, engine
from dgcl_nb.checkpoints import checkpoints_of, go_back, load_checkpoint
from dgcl_nb.core import InputError
from dgcl_nb.data.digits import SceneConfig, cache_path, load_part
from dgcl_nb.data.files import _kept
from dgcl_nb.engine import finished_result, fit, start_training
from dgcl_nb.looking.curves import curves, series
from dgcl_nb.looking.figures import class_label
from dgcl_nb.looking.run_files import JsonFile, LogTail
from dgcl_nb.looking.runs import open_run
from dgcl_nb.looking.scores import sentence_of
from dgcl_nb.processes import Control, folder_of_launch
from dgcl_nb.resuming import read_record, resumed_run
from dgcl_nb.run_folder import RunFolder, append_line, cut_lines_after, read_torch, seal_of, write_torch
from dgcl_nb.snapshots import list_snapshots, load_snapshot
from dgcl_nb.trained import open_trained
from dgcl_nb.typed_files import MAX_LINE, read_json, read_lines, to_json


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(config, "METHODS", dict(config.METHODS))
    register_toys()
    monkeypatch.setattr(engine, "build_data", few_images)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    "A finished run; nobody changes it."
    out, patch = tmp_path_factory.mktemp("runs") / "run", pytest.MonkeyPatch()
    patch.setattr(engine, "build_data", few_images)
    fit(tiny_run("supervised", out=str(out), steps=4, loop__log_every=1), callbacks=[])
    patch.undo()
    return out


@pytest.fixture
def out(finished, tmp_path):
    "A copy of it."
    return shutil.copytree(finished, tmp_path / "run")


# Logs


def test_log__is_strict_json(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_line(path, dict(step=1, loss=math.nan, kept=dict(a=[math.inf, 0.5])))
    assert path.read_text() == '{"step": 1, "loss": null, "kept": {"a": [null, 0.5]}}\n'


def test_log__numbers_that_are_none_are_unknown_and_told(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": NaN, "miou_student": 1e999}\n{"step": 2, "lr": Infinity}\n')
    assert read_lines(path) == [dict(step=1, loss=None, miou_student=None)], "a rate must be a number"
    assert "1 damaged line is left out" in caplog.text
    assert "3 NaN or infinities are read as unknown (null)" in caplog.text
    tail = LogTail(path)
    assert tail.refresh() and tail.records == read_lines(path)
    assert any("read as unknown" in problem for problem in tail.problems)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_log__that_is_no_file_is_a_sentence(tmp_path, make):
    make(tmp_path / "metrics.jsonl")
    make(tmp_path / "result.json")
    tail, result = LogTail(tmp_path / "metrics.jsonl"), JsonFile(tmp_path / "result.json")
    assert not tail.refresh() and not result.refresh()
    assert "cannot be read (it is no regular file)" in tail.problems[0]
    assert "it is no regular file" in result.problems[0]


BAD_LINES = dict(
    zeros=b"\0" * 500,
    half=b'{"step": 3, "loss_s',
    list=b"[]",
    huge=b'{"step": 3, "x": "' + b"x" * MAX_LINE + b'"}',
    latin=b'{"step": 3, "x": "\xe4"}',
    step=b'{"step": -3}',
    text=b'{"step": 3, "loss_sup": "low"}',
    deep=b'{"step": 3, "x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    digits=b'{"step": ' + b"9" * 5000 + b"}",
)


@pytest.mark.parametrize("line", BAD_LINES.values(), ids=BAD_LINES)
def test_read_lines__a_bad_line_is_left_out_with_a_warning(tmp_path, caplog, line):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 2}\n' + line + b'\n{"step": 4}\n')
    with caplog.at_level(logging.WARNING):
        assert [r["step"] for r in read_lines(path)] == [2, 4]
    assert "metrics.jsonl: 1 damaged line is left out" in caplog.text


def test_resume__goes_on_though_both_logs_are_damaged(out):
    (out / "result.json").unlink()
    checkpoints_of(RunFolder(out))[-1].unlink()
    for name in ("metrics.jsonl", "timings.jsonl"):
        lines = (out / name).read_bytes().splitlines()
        (out / name).write_bytes(b"\n".join([lines[0], *BAD_LINES.values(), *lines[1:]]) + b"\n")
    before = (out / "metrics.jsonl").read_bytes()
    result = fit(tiny_run("supervised", out=str(out), steps=4, loop__log_every=1, resume=True), callbacks=[])
    assert result["steps"] == 4
    assert [r["step"] for r in read_lines(out / "metrics.jsonl")] == [1, 2, 3, 4, 4]
    assert (out / "metrics.jsonl.damaged").read_bytes() == before, "nothing is lost"


def test_cut_lines__good_lines_stay_to_the_byte(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step":1,  "x":0.10}\n{"step": 2}\n{"step": 3}\n{"st')
    cut_lines_after(path, 2)
    assert path.read_bytes() == b'{"step":1,  "x":0.10}\n{"step": 2}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"], "half a last line is no damage"


# config.json and result.json


@pytest.mark.parametrize(
    "change, said",
    [
        (dict(steps="4"), "'steps' is '4'; allowed: a whole number"),
        (dict(steps=True), "'steps' is True"),
        (dict(optim=5), "'optim' is 5; allowed: a dictionary"),
        (dict(method=["dgcl"]), "'method' is a list; allowed: a text"),
        (dict(config_version="2"), "'config_version' is '2'"),
        (dict(history=5), "'history' is 5"),
        (dict(views=dict(std=[0.2, "x", 0.4])), "'std' is a list; allowed: a list of 3 values"),
        (dict(optim=dict(lr=10**400)), "'lr' is a whole number of too many digits"),
    ],
)
def test_config__of_other_types_is_a_sentence(out, change, said):
    file = out / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    args = ["--out", str(out), "--resume", "True"]
    for read in (lambda: resumed_run(args, tiny_run("supervised", out=str(out), resume=True)),
                 lambda: open_trained(out, device="cpu")):  # fmt: skip
        with pytest.raises(InputError, match="config.json") as error:
            read()
        assert said in str(error.value)


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b"\xff\xfe{}", b"[]", b"5", b"{", b'{"method": NaN}', b""]
)
def test_config__that_is_no_dictionary_is_a_sentence(out, content):
    (out / "config.json").write_bytes(content)
    with pytest.raises(InputError, match="config.json is damaged"):
        read_record(out / "config.json")
    with pytest.raises(InputError, match="config.json cannot be read as the settings"):
        open_trained(out, device="cpu")
    assert "config.json is damaged" in " ".join(open_run(out).problems)


@pytest.mark.parametrize(
    "content", [b"[]", b"{}", b'{"steps": NaN}', b'{"steps": "4"}', b"[" * 100_000, b"\0"]
)
def test_result__that_is_none_is_a_sentence(out, content):
    (out / "result.json").write_bytes(content)
    with pytest.raises(InputError, match="result.json cannot be read"):
        finished_result(RunFolder(out), 4)


def test_result__is_strict_json(tmp_path):
    assert json.loads(to_json(dict(miou=float("nan"), x=[float("inf"), 0.5]))) == dict(
        miou=None, x=[None, 0.5]
    )


def test_result__without_a_number_is_written_as_null(tmp_path, monkeypatch):
    make = engine.make_result
    monkeypatch.setattr(engine, "make_result", lambda *args: make(*args) | dict(silhouette=float("nan")))
    fit(tiny_run("supervised", out=str(tmp_path / "a"), steps=1), callbacks=[])
    text = (tmp_path / "a" / "result.json").read_text()
    assert "NaN" not in text and json.loads(text)["silhouette"] is None


@pytest.mark.parametrize(
    "change", [dict(miou=5), dict(seconds="long"), dict(iou_per_class=[1]), dict(steps=[])]
)
def test_view__a_result_of_other_types_is_a_sentence(out, change):
    file = out / "result.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    run = open_run(out)
    assert run.result is None and f"'{next(iter(change))}' is" in " ".join(run.problems)


# Snapshots


def with_arrays(path, **changes):
    "Write a snapshot again with other arrays."
    with np.load(path) as file:
        arrays = dict(file) | changes
    np.savez_compressed(path, **arrays)


def with_header(path, name, shape):
    "Replace an array of an archive by a header that speaks of `shape`."
    with zipfile.ZipFile(path) as z:
        rest = {n: z.read(n) for n in z.namelist() if n != f"{name}.npy"}
    with zipfile.ZipFile(path, "w") as z:
        for n, data in rest.items():
            z.writestr(n, data)
        with z.open(f"{name}.npy", "w") as f:
            np.lib.format.write_array_header_1_0(f, dict(descr="|u1", fortran_order=False, shape=shape))


@pytest.fixture
def snapshot(out):
    return list_snapshots(out)[-1]


def test_snapshot__a_header_of_terabytes(snapshot):
    with_header(snapshot, "image", (2, 10**6, 10**6, 3))
    with pytest.raises(InputError, match=f"{snapshot.name} cannot be read .*says another size than it has"):
        load_snapshot(snapshot)


def test_snapshot__five_megabytes_that_unpack_to_five_gigabytes(snapshot):
    with zipfile.ZipFile(snapshot, "w", zipfile.ZIP_DEFLATED) as z:
        for name in ("image.npy", "target.npy"):
            z.writestr(name, bytes(10**6))
            z.getinfo(name).file_size = 5 * 2**29  # as the archive's list of contents says
    assert snapshot.stat().st_size < 10**4
    with pytest.raises(InputError, match="its arrays would take more than"):
        load_snapshot(snapshot)


def test_snapshot__an_entry_that_unpacks_to_more_than_it_says(snapshot):
    with zipfile.ZipFile(snapshot, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("image.npy", bytes(10**7))
        z.getinfo("image.npy").file_size = 100
    with pytest.raises(InputError, match="cannot be read as a whole snapshot"):
        load_snapshot(snapshot)


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("prediction", 99, "'prediction' holds 99; allowed: 0 to 10 and 255"),
        ("target", 11, "'target' holds 11"),
        ("pixel_class", 200, "'pixel_class' holds 200"),
        ("pixel_role", 3, "'pixel_role' holds 3; allowed: 0 to 2"),
        ("pixel_image", 7, "'pixel_image' holds 7; allowed: -1 to 1"),
        ("pixel_row", -1, "'pixel_row' holds -1"),
        ("step", "x", "its step is 'x'; allowed: a whole number"),
        ("step", -4, "its step is -4"),
        ("version", 1.5, "its version is 1.5"),
        ("class_names", 5, "its class_names is no list of texts"),
    ],
)
def test_snapshot__values_that_do_not_exist(snapshot, name, value, said):
    with np.load(snapshot) as file:
        old = file[name]
    new = np.full_like(old, value) if name.startswith(("pixel", "pred", "target")) else np.array(value)
    with_arrays(snapshot, **{name: new})
    with pytest.raises(InputError) as error:
        load_snapshot(snapshot)
    assert said in str(error.value) and snapshot.name in str(error.value)


def test_predict__needs_no_snapshot(out, snapshot):
    whole = open_trained(out, device="cpu")
    snapshot.write_bytes(b"PK")
    assert open_trained(out, device="cpu").class_names == whole.class_names, "from the result"
    (out / "result.json").write_text("[]")
    assert open_trained(out, device="cpu").class_names == tuple(map(str, range(11)))


# Checkpoints

WRONG_BEST = [
    [],
    {},
    dict(predictor=5),
    dict(step=-5),
    dict(networks={}),
    dict(step=True),
    dict(networks=[1]),
]


@pytest.mark.parametrize("change", WRONG_BEST, ids=str)
def test_best__of_other_content_is_a_sentence(out, change):
    path = out / "checkpoints" / "best.pt"
    write_torch(path, read_torch(path) | change if change else change)
    with pytest.raises(InputError, match="best.pt"):
        open_trained(out, "best", "cpu")


def optimizers(saved, **changes):
    return dict(optimizers=dict(main=saved["optimizers"]["main"] | changes))


WRONG_STATES = dict(
    list=lambda s: [1],
    empty=lambda s: {},
    step=lambda s: s | dict(step=-5),
    steps=lambda s: s | dict(step=2.5),
    method=lambda s: s | dict(method=5),
    names=lambda s: s | dict(method={1: torch.zeros(1)}),
    best=lambda s: s | dict(best={}),
    windows=lambda s: s | dict(windows=[dict(loss=["x", 1])]),
    settings=lambda s: s | dict(config=dict(method="supervised", steps="x")),
    no_optimizer=lambda s: s | dict(optimizers={}),
    bare_optimizer=lambda s: s | dict(optimizers=dict(main={})),
    forgotten=lambda s: s | optimizers(s, state={}),
    groups=lambda s: s | optimizers(s, param_groups=[]),
    memory=lambda s: s | optimizers(s, state={0: dict(step=torch.tensor(1.0))}),
    shapes=lambda s: (
        s
        | optimizers(
            s, state={0: dict(step=torch.tensor(1.0), exp_avg=torch.zeros(7), exp_avg_sq=torch.zeros(7))}
        )
    ),
    number=lambda s: s | optimizers(s, state={10**6: {}}),
)


@pytest.mark.parametrize("change", WRONG_STATES.values(), ids=WRONG_STATES)
def test_checkpoint__of_other_content_is_a_sentence(out, change):
    path = checkpoints_of(RunFolder(out))[-1]
    write_torch(path, change(read_torch(path)))
    t = start_training(
        tiny_run("supervised", out=str(out), steps=4, loop__log_every=1), RunFolder(out), Control()
    )
    with pytest.raises(InputError, match=path.name):
        load_checkpoint(t, go_back(RunFolder(out)))


def test_checkpoint__that_is_packed_is_refused(out):
    path = checkpoints_of(RunFolder(out))[-1]
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out / "new", "w", zipfile.ZIP_DEFLATED) as new:
        for number, name in enumerate(old.namelist()):
            new.writestr(name, old.read(name) + bytes(0 if number else 10**7))
    packed = (out / "new").read_bytes()
    assert len(packed) < len(whole)
    path.write_bytes(packed[:-2] + seal_of(hashlib.sha256(packed[:-2]).hexdigest()))
    with pytest.raises(InputError, match="it is packed, as training packs nothing"):
        read_torch(path)


# What the data keep


def test_digits__a_cache_of_other_classes_is_rendered_again(tmp_path, caplog):
    cfg = SceneConfig()
    images, targets = load_part("val", 2, cfg, 0, tmp_path)
    path = cache_path(tmp_path, "val", 2, cfg, 0)
    for changed in (dict(targets=targets.numpy() + 90), dict(images=images.numpy().astype("f8"))):
        np.savez(path, **(dict(images=images.numpy(), targets=targets.numpy()) | changed))
        with caplog.at_level(logging.WARNING):
            assert torch.equal(load_part("val", 2, cfg, 0, tmp_path)[1], targets)
    assert caplog.text.count("rendering them again") == 2
    with_header(path, "images", (2, 3, 10**6, 10**6))
    assert torch.equal(load_part("val", 2, cfg, 0, tmp_path)[0], images)


@pytest.mark.parametrize("known", [[[0], [99]], [[0], "12"], [[0], [[1]]], [[0], [True]], [[0]], {}])
def test_class_sets__of_other_content_are_made_anew(tmp_path, known):
    path = tmp_path / "sets.json"
    path.write_text(json.dumps([[0], [1, 2]]))
    assert _kept(path, 2, 3) == [[0], [1, 2]]
    path.write_text(json.dumps(known))
    assert _kept(path, 2, 3) is None


# Names


def test_names__are_shown_as_text(out, snapshot):
    link = "<a href='http://a'>x</a>\x1b[2J"
    with np.load(snapshot) as file:
        names = file["class_names"].tolist()
    with_arrays(snapshot, class_names=np.array([link, *names[1:]]))
    found = load_snapshot(snapshot).class_names[0]
    assert "\x1b" not in found and r"\x1b[2J" in found
    assert class_label(0, [link]) == r"&lt;a href='http://a'&gt;x&lt;/a&gt;\x1b[2J"
    assert "\x1b" not in str(InputError(f"no folder {link}"))
    run = open_run(out.rename(out.with_name("run\x1b[31m")))
    assert run.name == r"run\x1b[31m" and "\x1b" not in repr(run)


# What is shown of them


@pytest.mark.parametrize("odd", [{"a": 1}, "0.5", True, [], [[0.5]], [0.5, {}], 10**400, [0.1, 0.2, 0.3]])
def test_curves__leave_out_what_is_no_figure(odd):
    "Found by tests/fuzz_files.py --seed 288."
    lines = [dict(step=1, kept=odd, loss_a=odd), dict(step=2, kept=0.5, loss_a=1.0)]
    assert [len(t.x) for t in curves(lines).data if t.name == "kept"] in ([1], [])
    assert [axis.tolist() for axis in series(lines, "loss_a")] == [[2], [1.0]]


@pytest.mark.parametrize("name", ["num_labelled", "num_unlabelled", "split_seed", "steps", "seconds"])
def test_report__says_what_it_knows_of_a_result(out, name):
    "Found by tests/fuzz_files.py --seed 254."
    result = json.loads((out / "result.json").read_text())
    (out / "result.json").write_text(json.dumps({k: v for k, v in result.items() if k != name}))
    run = open_run(out)
    assert sentence_of(run) and repr(run)


# What a torchrun notes


@pytest.mark.parametrize("noted", [b"\xff\xfe", b"host 7 1.5 and more", b"x" * 2**20, b"", "pipe", "folder"])
def test_launch__what_is_no_note_is_another_run(tmp_path, noted):
    folder = RunFolder(tmp_path)
    if isinstance(noted, bytes):
        folder.launch.write_bytes(noted)
    elif noted == "pipe":
        os.mkfifo(folder.launch)
    else:
        folder.launch.mkdir()
    assert folder_of_launch(str(tmp_path), "", "host 7 1.5") is None


def test_launch__its_own_note_is_known(tmp_path):
    RunFolder(tmp_path).launch.write_text("host 7 1.5")
    assert folder_of_launch(str(tmp_path), "", "host 7 1.5").path == tmp_path


# All together


def test_fuzz__sixty_mutations():
    counts, faults = fuzz(60)
    assert not faults, faults[0]
    assert counts["InputErrors"] > 10


def test_read_json__a_number_of_thousands_of_digits_is_no_endless_sentence(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"lr": ' + 5000 * "9" + ".5}")
    with pytest.raises(InputError, match="99… is no number of JSON") as error:
        read_json(path)
    assert len(str(error.value)) < 500
