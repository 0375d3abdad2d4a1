"""One run on several processes: own views and noise for each, one gradient, one result, always an end."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from fakes import SMALL_RUN, finish

from dreamfusion_pl import rng
from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.types import Views

TESTS = Path(__file__).parent
RUN = Path("lightning_logs") / "version_0"
pytestmark = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")


def start(python: str, folder: Path, *words: str, processes: int = 2) -> subprocess.Popen:
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=paths)
    command = [python, "-m", "dreamfusion_pl", "fit", *SMALL_RUN, "--prompt", "a red ball"]
    devices = [
        "--trainer.accelerator",
        "cpu",
        "--trainer.devices",
        str(processes),
        "--trainer.strategy",
        "ddp",
    ]
    probe = ["--trainer.callbacks+=probe.Probe", f"--trainer.callbacks.folder={folder}"]
    return subprocess.Popen(
        [*command, *devices, *probe, *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("two_steps")
    process = start(sys.executable, folder, "--trainer.max_steps", "2")  # the interpreter's end is looked at
    _, errors = finish(process, timeout=300)
    assert process.returncode == 0 and "Traceback" not in errors, errors
    return folder


def seen(folder: Path, rank: int, step: int) -> dict:
    return torch.load(folder / f"rank_{rank}_step_{step}.pt", weights_only=True)


def one_process_gradient(folder: Path, step: int, ranks: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Gradient of the mean over both ranks' views, with the noise that ``ranks`` draw."""
    checkpoint = folder / RUN / "checkpoints" / "last.ckpt"
    model = DreamFusion.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True).train()
    first = seen(folder, 0, step)
    model.load_state_dict(first["state"])
    progress = model.progress = first["progress"]
    for views, rank in zip((seen(folder, rank, step)["views"] for rank in (0, 1)), ranks, strict=True):
        views = Views(*views)
        rendering = model(views)
        z, generator = (
            model.prior.encode(rendering.rgb, progress),
            rng.generator(0, "distillation", rank, step),
        )
        losses = model.distillation(z, model.prompts(views), model.prior, progress, generator)
        loss = losses.total + losses.unit * model.regularizers(rendering, progress)[0]
        (0.5 * loss).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Norm of the difference relative to the norm."""
    a, b = (torch.cat([part.flatten() for _, part in sorted(parts.items())]) for parts in (one, other))
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("step", [0, 1])
def test_the_gradient_is_that_of_one_process_with_all_views_and_noise(two_steps, step):
    ranks = [seen(two_steps, rank, step) for rank in (0, 1)]
    assert not torch.equal(ranks[0]["views"][0], ranks[1]["views"][0])
    for name, value in ranks[0]["state"].items():  # weights and occupancy grid
        assert torch.equal(value, ranks[1]["state"][name]), name
    assert difference(ranks[1]["gradients"], ranks[0]["gradients"]) == 0.0
    assert difference(ranks[0]["gradients"], one_process_gradient(two_steps, step, (0, 1))) < 1e-6
    assert difference(ranks[0]["gradients"], one_process_gradient(two_steps, step, (0, 0))) > 1e-3


def test_what_a_distillation_owns_has_the_gradient_of_one_process_too(tmp_path, warm_python):
    process = start(warm_python, tmp_path, "--model.distillation=fakes.LearnedMean", "--trainer.max_steps=1")
    _, errors = finish(process, timeout=300)
    assert process.returncode == 0 and "Traceback" not in errors, errors
    ranks = [seen(tmp_path, rank, 0)["gradients"] for rank in (0, 1)]
    (own,) = [name for name in ranks[0] if name.startswith("distillation.")]
    assert ranks[0][own].any() and difference(ranks[1], ranks[0]) == 0.0
    assert difference(ranks[0], one_process_gradient(tmp_path, 0, (0, 1))) < 1e-6


def test_every_rank_has_the_result_that_one_writes(two_steps):
    results = [torch.load(two_steps / f"rank_{rank}_end.pt", weights_only=True) for rank in (0, 1)]
    stored = torch.load(two_steps / RUN / "checkpoints" / "last.ckpt", weights_only=True)
    for name, value in stored["state_dict"].items():
        assert torch.equal(value, results[0][name]) and torch.equal(value, results[1][name]), name
    assert not any("prior" in name for name in stored["state_dict"])
    assert json.loads((two_steps / RUN / "status.json").read_text())["state"] == "finished"
    assert (two_steps / RUN / "object.glb").exists() and (two_steps / RUN / "turntable.gif").exists()
    assert len(list(two_steps.glob("lightning_logs/*"))) == 1


@pytest.mark.parametrize("rank", [0, 1])
def test_the_group_is_closed_before_the_interpreter_ends(two_steps, rank):
    """A thread of gloo's that outlives it aborts the process now and then, after all has been done."""
    end = json.loads((two_steps / f"rank_{rank}_exit.json").read_text())
    assert not end["group"] and not [name for name in end["threads"] if "gloo" in name]


def test_a_dry_run_ends(tmp_path, warm_python):
    """Lightning leaves out the callback that makes all ranks agree on a folder."""
    process = start(warm_python, tmp_path, "--trainer.fast_dev_run", "true")
    _, errors = finish(process, timeout=120)
    assert process.returncode == 0 and "Traceback" not in errors, errors


@pytest.mark.parametrize("victim", [0, 1])
def test_a_dead_rank_ends_the_run_at_once(tmp_path, warm_python, victim):
    process = start(
        warm_python,
        tmp_path,
        "--trainer.max_steps=100000",
        "--trainer.val_check_interval=100000",
        f"--trainer.callbacks.victim={victim}",
        "--trainer.callbacks.last_step=3",
    )
    _, errors = finish(process, timeout=300)  # waits for both: they share its output
    last = max((tmp_path / name).stat().st_mtime for name in os.listdir(tmp_path) if name.endswith(".pt"))
    assert time.time() - last < 60.0
    assert process.returncode in (1, -signal.SIGKILL), errors
    assert "another process of this run is gone" in errors and "--resume" in errors
    assert "Traceback" not in errors
    steps = [int(re.findall(r"\d+", path.name)[1]) for path in tmp_path.glob("rank_*_step_*.pt")]
    assert max(steps) == 2


def test_a_signal_to_one_rank_stops_all_and_the_run_goes_on(tmp_path, warm_python):
    process = start(
        warm_python, tmp_path, "--trainer.max_steps=100000", "--trainer.val_check_interval=100000"
    )
    deadline = time.time() + 240
    while not (tmp_path / "rank_1_step_3.pt").exists() and time.time() < deadline and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, errors = finish(process, timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert errors.count(f"fit --resume {RUN}") == 1 and "Traceback" not in errors
    assert json.loads((tmp_path / RUN / "status.json").read_text())["state"] == "interrupted"
    saved = torch.load(tmp_path / RUN / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert saved >= 3
