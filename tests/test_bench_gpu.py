"""The bench of a GPU runs to its end, in its tiny form on the CPU; without a GPU it leaves figures alone."""

import json
import sys

import pytest
import torch
from sync_gate import ROOT


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(ROOT / "tests" / "bench"))
    import bench_gpu

    yield bench_gpu
    sys.path.remove(str(ROOT / "tests" / "bench"))


def test_bench_gpu__runs_to_its_end_on_the_cpu(bench, tmp_path):
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    bench.main(["--device", "cpu", "--quick", "--out", str(tmp_path)])
    torch.set_num_threads(num_threads)
    data, text = json.loads((tmp_path / "gpu.json").read_text()), (tmp_path / "gpu.md").read_text()
    assert not data["left_out"] and [row["step"] for row in data["steps"]] == [
        name for name, *_ in bench.STEPS
    ]
    assert all(row["ms"] > 0 and row["waits"] is None for row in data["steps"])
    contrast = {row["step"]: row["parts"][bench.CONTRAST] for row in data["steps"]}
    assert contrast["dgcl, bf16"] > 0 == contrast["self_training, bf16"]
    assert [row["what"] for row in data["density"]["rows"]][-2:] == ["density, TF32", "density, float32"]
    assert data["colours"]["colours_ms"] > 0
    assert "no GPU: the CPU, in a tiny form" in text and data["where"]["date"] in text
    assert "DGCL's own part of its step" in text and "density beside the bare TF32 product" in text


def test_bench_gpu__says_what_there_was_no_time_for(bench, tmp_path):
    bench.main(["--device", "cpu", "--quick", "--seconds", "0", "--out", str(tmp_path)])
    text = (tmp_path / "gpu.md").read_text()
    assert "dgcl, bf16: no time was left" in text and "colours: no time was left" in text


def test_bench_gpu__without_a_gpu_keeps_the_figures_of_an_earlier_one(bench, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    bench.main(["--out", str(tmp_path)])
    assert "no GPU was at hand so far" in (tmp_path / "gpu.md").read_text()
    (tmp_path / "gpu.md").write_text("figures")
    bench.main(["--out", str(tmp_path)])
    assert (tmp_path / "gpu.md").read_text() == "figures" and not (tmp_path / "gpu.json").exists()
