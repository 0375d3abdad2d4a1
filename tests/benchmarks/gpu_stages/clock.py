"""Times the steps of a real fit: warm-up left out, medians over windows between synchronizations."""

from __future__ import annotations

import statistics
import time
import warnings
from contextlib import suppress
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.diffusion.families.pretrained import PretrainedPrior
from dreamfusion_pl.runs import RunCommand
from gpu_stages.stage import Stage

WATCHED = range(2, 5)  # steps in which what waits for the GPU is counted
AHEAD = 4  # steps after a synchronization in which the host is timed: the GPU's queue is not full


class EnoughError(Exception):
    """The clock has seen enough steps."""


class Clock(Callback):
    """Ends a fit after some windows of steps; stands behind all other callbacks.

    Args:
        seconds: how long to measure, warm-up left out.
        warmup: steps before that.
        window: steps between two synchronizations.
        waits: whether to count what waits for the GPU.
    """

    def __init__(self, seconds: float, warmup: int, window: int, waits: bool = False) -> None:
        self.seconds, self.warmup, self.window, self.waits = seconds, warmup, window, waits
        self.windows: list[float] = []  # seconds per step
        self.host: list[float] = []  # seconds per step until the host has launched it
        self.found: list[str] = []  # what waits
        self.peak_before = 0.0
        self._start = self._begin = self._first = 0.0
        self._watch: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.device, self._start = pl_module.device, time.perf_counter()
        prior = pl_module.prior if isinstance(pl_module, DreamFusion) else None
        network = prior._network if isinstance(prior, PretrainedPrior) else None
        self.is_compiled = network is not None and network._compiled_call_impl is not None

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if self.waits and self.device.type == "cuda" and trainer.global_step in WATCHED:
            self._watch = warnings.catch_warnings(record=True)
            self._noted = self._watch.__enter__()
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if self._watch is not None:
            torch.cuda.set_sync_debug_mode("default")
            self.found += [str(one.message) for one in self._noted if "synchroniz" in str(one.message)]
            self._watch.__exit__(None, None, None)
            self._watch = None
        step = trainer.global_step - self.warmup
        if step >= 0 and step % self.window == 0:
            self._end_window(step)
        elif step > 0 and step % self.window == AHEAD:
            self.host.append((time.perf_counter() - self._begin) / AHEAD)

    def _end_window(self, step: int) -> None:
        synchronize(self.device)
        now = time.perf_counter()
        if step == 0:
            self._first, self.warmup_seconds = now, now - self._start
            self.peak_before = peak_gb(self.device)
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self.windows.append((now - self._begin) / self.window)
            if now - self._first >= self.seconds and len(self.windows) >= 2:
                raise EnoughError
        self._begin = time.perf_counter()

    def columns(self) -> dict[str, Any]:
        """What was measured."""
        if not self.windows:
            raise RuntimeError("the fit ended before a window of steps was over")
        second = statistics.median(self.windows)
        found: dict[str, Any] = {
            "steps/s": round(1.0 / second, 2),
            "step, ms": round(1000.0 * second, 2),
            "steps": len(self.windows) * self.window,
            "start, s": round(self.warmup_seconds, 1),
        }
        if self.host:
            found["host, ms"] = round(1000.0 * statistics.median(self.host), 2)
        if self.device.type == "cuda":
            found["peak, GB"] = round(peak_gb(self.device), 2)
            found["peak at the start, GB"] = round(self.peak_before, 2)
        if self.waits and self.device.type == "cuda":
            found["waits a step"] = round(len(self.found) / len(WATCHED), 1)
        return found


def synchronize(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_gb(device: torch.device) -> float:
    """Peak of a GPU's memory that tensors took, in 10^9 bytes."""
    return torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else 0.0


def timed(stage: Stage, words: list[str], seconds: float = 6.0, waits: bool = False) -> dict[str, Any]:
    """Begin a fit, time its steps, and end it.

    Args:
        stage: the stage.
        words: arguments of ``fit``.
        seconds: how long to measure.
        waits: whether to count what waits for the GPU.

    Raises:
        RuntimeError: the network was to be compiled and is not.
    """
    clock = Clock(seconds, 2, 2, waits) if stage.tiny else Clock(seconds, 24, 16, waits)
    if stage.tiny:
        clock.seconds = 0.0
    here = f"--trainer.logger.init_args.save_dir={stage.scratch}"

    def prepare(model: LightningModule, trainer: Trainer) -> None:
        trainer.callbacks.append(clock)

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(EnoughError):
        RunCommand("fit", [*words, here], prepare)
    if any(word.startswith("--model.prior.compile=") for word in words) and not clock.is_compiled:
        raise RuntimeError("torch.compile does not work here, see log.txt")
    return {"device": clock.device.type, **clock.columns()}
