"""The GPU campaign: all stages with tiny models, and results that survive stages that fail."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "tests" / "benchmarks"
STAGE = """
import json, os, sys, time
name, out = sys.argv[1], sys.argv[sys.argv.index("--out") + 1]
with open(os.path.join(out, "rows.jsonl"), "a") as file:
    file.write(json.dumps({"stage": name, "what": "first", "steps/s": 1.5}) + "\\n")
    file.write('{"cut off')
if name == "hangs":
    file = open(os.path.join(out, "rows.jsonl"), "a")
    file.write("\\n"); file.flush()
    time.sleep(600)
if name == "crashes":
    os.abort()
"""


@pytest.fixture
def gpu(monkeypatch):
    """The driver and the stages' modules, importable as they are for the driver."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    return gpu


def test_all_stages_run_with_tiny_models(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--out", str(tmp_path / "gpu"), "--tiny"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu" / "gpu.json").read_text())
    problems = [row for row in found["rows"] if "result" in row]
    assert problems == [], (tmp_path / "gpu" / "log.txt").read_text()[-4000:]
    stages = list(dict.fromkeys(row["stage"] for row in found["rows"]))
    assert stages == ["default_fit", "stable_diffusion", "together", "denoiser", "regime"]
    assert found["torch"] == torch.__version__ and found["card"] and "--tiny" in found["command"]
    rows = {f"{row['stage']}, {row['what']}": row for row in found["rows"]}
    assert rows["stable_diffusion, stable_diffusion: channels_last"]["steps/s"] > 0.0
    assert 0.0 <= rows["default_fit, default fit on the CPU"]["IoU"] <= 1.0
    assert rows["denoiser, trained"]["steps"] == 2
    files = [path for path in (tmp_path / "gpu").rglob("*") if path.is_file()]
    assert len(files) <= 8 and max(path.stat().st_size for path in files) < 16 * 2**20
    table = (tmp_path / "gpu" / "gpu.md").read_text()
    assert done.stdout.strip() == table.strip() and "| together 2 |" in table


def test_a_stage_that_hangs_or_crashes_costs_only_itself(gpu, tmp_path, monkeypatch):
    (tmp_path / "gpu_stages").mkdir()
    (tmp_path / "gpu_stages" / "__main__.py").write_text(STAGE)
    monkeypatch.setattr(gpu, "HERE", tmp_path)
    monkeypatch.setattr(gpu, "GRACE", 0.5)
    monkeypatch.setattr(gpu, "SHARES", {"crashes": 0.1, "hangs": 0.2, "works": 0.7})
    out, begin = tmp_path / "out", time.monotonic()
    with gpu.new_results(out) as scratch:
        gpu.campaign(["crashes", "hangs", "works"], out, scratch, 12.0, tiny=False)
    assert time.monotonic() - begin < 30.0 and not scratch.exists()
    rows = json.loads((out / "gpu.json").read_text())["rows"]
    results = {(row["stage"], row["what"]): row.get("result", "") for row in rows}
    assert {stage for stage, what in results if what == "first"} == {"crashes", "hangs", "works"}
    assert "exit status" in results["crashes", "the stage"]
    assert "ended after" in results["hangs", "the stage"]
    assert ("works", "the stage") not in results
    assert "## works" in (out / "gpu.md").read_text()


def test_a_row_without_memory_or_time_says_so(gpu, tmp_path, capsys):
    from gpu_stages.stage import Stage

    def out_of_memory():
        raise torch.OutOfMemoryError("no memory")

    stage = Stage("made_up", tmp_path, tmp_path, time.time() + 60.0, tiny=False)
    stage.attempt("large", out_of_memory)
    stage.attempt("slow", dict, needs=100.0)
    stage.attempt("wrong", lambda: {"steps": 1 // 0})
    assert stage.attempt("small", lambda: {"steps": 3}) == {"steps": 3}
    results = [row.get("result", row.get("steps")) for row in gpu.rows_of(tmp_path)]
    assert results[:2] == ["out of memory", "no time left"]
    assert results[2].startswith("ZeroDivisionError") and results[3] == 3


def test_the_architectures_have_the_sizes_of_the_real_models(gpu):
    from gpu_stages import architectures

    with torch.device("meta"):
        for name, millions in architectures.PARAMETERS.items():
            count = sum(parameter.numel() for parameter in architectures.unet(name).parameters())
            assert count / 1e6 == pytest.approx(millions, abs=0.06), name
        count = sum(parameter.numel() for parameter in architectures.vae().parameters())
    assert count / 1e6 == pytest.approx(83.7, abs=0.06)


def test_random_weights_are_finite(gpu):
    from gpu_stages.architectures import random

    network = random(lambda: torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.LayerNorm(8)), "cpu")
    assert all(bool(parameter.isfinite().all()) for parameter in network.parameters())
    assert network[0].weight.dtype == torch.bfloat16 and network[0].weight.std() > 0.0
