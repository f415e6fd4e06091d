"The wheel holds all that training needs: built from this tree, alone in a light environment, it trains."

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from sync_gate import ROOT

METADATA = ("pyproject.toml", "README.md", "LICENSE", "settings.ini")
OF_THIS_TREE = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "IN_TEST")


def run(*command, cwd, timeout=600):
    "Run a command that knows nothing of this tree; its output is the message if it fails."
    words = [str(c) for c in command]
    env = {k: v for k, v in os.environ.items() if k not in OF_THIS_TREE}
    options = dict(capture_output=True, text=True, timeout=timeout)
    done = subprocess.run(words, cwd=cwd, env=env, **options)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    "The wheel, built from a copy: a build in the tree leaves folders with modules that grow stale."
    source = tmp_path_factory.mktemp("source")
    for name in METADATA:
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "dgcl_nb", source / "dgcl_nb", symlinks=True, ignore=ignored)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", cwd=source)
    return next((source / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def light_python(wheel, tmp_path_factory):
    "Python of an environment that holds the wheel and sees this one's packages, but not this tree."
    home = tmp_path_factory.mktemp("light") / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", "venv", vars=dict(base=str(home))))
    # .pth files of the folder that is named here, the editable install's among them, are not read
    (site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = ["install", "--no-deps", "--no-index", "--disable-pip-version-check", wheel]
    run(sys.executable, "-m", "pip", "--python", python, *install, cwd=home)
    return python


def test_wheel__holds_presets_modules_and_licence(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert (
            archive.read("dgcl_nb/help.txt").startswith(b"### train --help") and "dgcl_nb/py.typed" in names
        )
        assert archive.read("dgcl_nb/settings.ini") == (ROOT / "settings.ini").read_bytes()
        assert "dgcl_nb/data/neu_seg_val.txt" in names
    here = {p.relative_to(ROOT).as_posix() for p in (ROOT / "dgcl_nb").rglob("*.py")}
    inside = {n for n in names if n.endswith(".py")}
    assert inside == here, (
        f"only in the wheel: {sorted(inside - here)}; not in the wheel: {sorted(here - inside)}"
    )
    assert any(n.endswith("licenses/LICENSE") for n in names)


def test_wheel__is_imported_from_the_light_environment(light_python, tmp_path):
    where = run(light_python, "-c", "import dgcl_nb.core; print(dgcl_nb.core.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(light_python.parent.parent), where


def test_wheel__trains_outside_the_tree(light_python, tmp_path):
    "Four steps of the default preset; data are rendered, the encoder's weights come from a package."
    out = tmp_path / "run"
    flags = "--preset digits --method dgcl --steps 4 --seed 0 --device cpu"
    small = "--batch.labelled 2 --batch.unlabelled 2"
    run(light_python, "-m", "dgcl_nb.train", *flags.split(), *small.split(), "--out", out, cwd=tmp_path)
    result = json.loads((out / "result.json").read_text())
    assert (result["method"], result["preset"], result["steps"]) == ("dgcl", "digits", 4)
    written = {p.name for p in out.iterdir()}
    assert {"config.json", "metrics.jsonl", "timings.jsonl", "checkpoints", "snapshots"} <= written
