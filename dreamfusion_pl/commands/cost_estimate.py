"""Estimates time and memory of a fit from a short trial."""

from __future__ import annotations

import contextlib
import importlib
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, final

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar

from dreamfusion_pl.types import Views

GB = 1e9


@final
class _Clock(Callback):
    """Records the end time of every step, the size of its renders, and the device."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.sizes: list[torch.Size] = []
        self.device = torch.device("cpu")
        self._step = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._step:  # gradient accumulation: no optimizer step yet
            return
        self.device, self._step = pl_module.device, trainer.global_step
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.ends.append(time.perf_counter())
        self.sizes.append(batch.jitter.shape if isinstance(batch, Views) else torch.Size())

    def seconds(self) -> float:
        """Mean seconds of a step: the median of each size of renders, weighted by its number of steps.

        Schedules are functions of progress, so that a trial has as large a share of each size as the fit.
        """
        found: dict[torch.Size, list[float]] = {}
        for size, start, end in zip(self.sizes[1:], self.ends, self.ends[1:], strict=False):
            found.setdefault(size, []).append(end - start)
        count = sum(len(times) for times in found.values())
        return sum(len(times) * statistics.median(times) for times in found.values()) / count


def trial(words: list[str], steps: int) -> dict[str, Any]:
    """Run a fit of a few steps in a temporary folder, and extrapolate to the whole fit.

    Args:
        words: command-line arguments of ``fit``, with a prompt.
        steps: number of steps, at least 3; the first is a warm-up and not counted.

    Returns:
        Mean seconds per step, peak memory in GB of this process (None where the operating system does not
        tell) and of its GPU (None without one), and hours for all steps of the configuration, without
        previews, turntable and export. Schedules run their whole course in the trial.

    Raises:
        ValueError: too few steps, a configuration without ``max_steps``, or an invalid argument or file.
    """
    from dreamfusion_pl.configuration.parsing import read_configuration
    from dreamfusion_pl.diffusion.training.autoencoder import AutoencoderTraining
    from dreamfusion_pl.diffusion.training.denoiser import DenoiserTraining
    from dreamfusion_pl.metrics.classifier import ClassifierTraining
    from dreamfusion_pl.runs import RunCommand

    if steps < 3:
        raise ValueError(f"a trial takes 3 steps or more, got {steps}")
    clock, whole = _Clock(), read_configuration(words)["trainer"]["max_steps"]
    if whole < 1:
        raise ValueError("the configuration has no last step: pass --trainer.max_steps")
    # The fit's output goes to stderr: stdout is for the report.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):

        def prepare(model: LightningModule, trainer: Trainer) -> None:
            trainer.callbacks = [one for one in trainer.callbacks if not _comes_on_top(one)]
            trainer.callbacks.append(clock)
            trainings = AutoencoderTraining | DenoiserTraining | ClassifierTraining
            if isinstance(model, trainings):  # their output goes to the folder as well
                model.output = str(Path(folder) / "output.safetensors")

        here = [f"--trainer.max_steps={steps}", "--trainer.limit_val_batches=0"]
        here += [f"--trainer.logger.init_args.save_dir={folder}"]
        RunCommand("fit", [*words, *here], prepare)
    second = clock.seconds()
    gpu = torch.cuda.max_memory_allocated(clock.device) / GB if clock.device.type == "cuda" else None
    return {
        "device": str(clock.device),
        "steps": steps,
        "seconds_per_step": second,
        "max_steps": whole,
        "hours": second * whole / 3600.0,
        "peak_memory_gb": _peak_memory_gb(),
        "peak_gpu_memory_gb": gpu,
    }


def _comes_on_top(callback: Callback) -> bool:
    """Whether a callback works when a fit ends, as turntable, mesh, score and page do; progress is kept."""
    works_at_the_end = type(callback).on_fit_end is not Callback.on_fit_end
    return works_at_the_end and not isinstance(callback, ProgressBar)


def _peak_memory_gb() -> float | None:
    """Return the peak memory of this process; None where the operating system does not tell, as Windows."""
    try:
        resource = importlib.import_module("resource")
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # unit of ru_maxrss, in bytes
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GB)
