"README.md shows the tables of results/ as they are."

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "results"))

from update_readme import in_words, short_table  # noqa: E402


def test_readme__its_tables_are_those_of_results():
    check = [sys.executable, ROOT / "results" / "update_readme.py", "--check"]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def spread(mean, std=0.5, n=3):
    return dict(mean=mean, std=std, n=n)


def test_readme__shows_the_whole_comparison_once_it_is_there(tmp_path):
    rows = [
        dict(label="self_training", miou=spread(69.3, n=5), silhouette=spread(0.28, 0.01), forwards="16 / 8"),
        dict(label="cct", miou=spread(64.0), silhouette=spread(None, None), forwards="16 (+64) / 0 (+8)"),
        dict(label="pcr", miou=spread(68.0, None, 1), silhouette=spread(0.2, 0.01), forwards="16 / 8"),
    ]
    gains = [dict(label=name, baseline="self_training", miou=spread(-1.25)) for name in ("cct", "pcr")]
    found = dict(command="bench", data="digits", labelled="250", seeds="0, 1, 2", rows=rows)
    for name in ("b", "b-all"):
        (tmp_path / f"{name}.json").write_text(json.dumps(found | dict(differences=gains)))
    assert short_table(tmp_path / "b.json").splitlines() == [
        "`bench`",
        "",
        "| digits, 250 labelled | n | mIoU, last, % "
        "| minus self_training, paired | silhouette | images a step |",
        "|---|---:|---:|---:|---:|---:|",
        "| self_training | 5 | 69.3 ± 0.5 |  | 0.280 ± 0.010 | 16 / 8 |",
        "| cct | 3 | 64.0 ± 0.5 | -1.2 ± 0.5 | – | 16 (+64) / 0 (+8) |",
        "| pcr | 1 | 68.0 | -1.2 ± 0.5 | 0.200 ± 0.010 | 16 / 8 |",
    ]
    (tmp_path / "b-all.json").unlink()
    assert "| digits, 250 labelled, 3 seeds | mIoU, last, % | silhouette |" in short_table(
        tmp_path / "b.json"
    )


def test_readme__says_in_words_what_dgcl_gains_and_in_how_many_seeds(tmp_path):
    gain = dict(label="dgcl", baseline="self_training", miou=spread(1.9, 1.2) | dict(agree=2))
    gain["silhouette"] = spread(-0.02, 0.011) | dict(agree=3)
    rows = [dict(label="self_training", miou=spread(67.7)), dict(label="dgcl", miou=spread(69.6))]
    (tmp_path / "b.json").write_text(json.dumps(dict(data="d", labelled="7", rows=rows, differences=[gain])))
    assert in_words(tmp_path / "b.json") == (
        "d, 7 labelled, 3 seeds: mIoU of self_training 67.7 ± 0.5, dgcl 69.6 ± 0.5 %. dgcl minus self_training, "
        "paired: mIoU +1.9 ± 1.2 (the same sign in 2 of 3 seeds), "
        "silhouette -0.020 ± 0.011 (the same sign in 3 of 3 seeds)."
    )
