"""Progress in the terminal, and the paths of the results at the end."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, final

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar
from tqdm import tqdm

from dreamfusion_pl.run_folder import layout

# What is shown of the package's own modules. Lightning's way, prog_bar=True, is there for others; it reads a
# number in every step, which waits for the device.
SHOWN = ("loss", "train/loss", "train/object", "train/color")


@final
class Progress(ProgressBar):
    """Shows step, time left, speed, loss and the newest preview: a bar in a terminal, a few lines otherwise.

    Args:
        lines: number of lines that a training run prints if the output is not a terminal.
    """

    def __init__(self, lines: int = 10) -> None:
        super().__init__()
        self.lines = max(lines, 1)
        self._enabled = True
        self._bar: tqdm | None = None

    def disable(self) -> None:
        """Switch the output off."""
        self._enabled = False

    def enable(self) -> None:
        """Switch the output on."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar."""
        self._begin, self._first = time.monotonic(), trainer.global_step
        self._step = self._first
        if self._enabled and trainer.is_global_zero and sys.stderr.isatty():
            self._bar = tqdm(
                total=trainer.max_steps, initial=trainer.global_step, unit="step", dynamic_ncols=True
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the output. The loss is read only if it is shown, since reading it waits for the device."""
        step = trainer.global_step
        if step == self._step or not self._enabled or not trainer.is_global_zero:
            return  # no optimizer step, as in gradient accumulation, or nothing to show
        self._step = step
        if self._bar is not None:
            self._bar.update(step - self._bar.n)
            if step % 10 == 0:
                self._bar.set_postfix_str(_state(trainer))
        elif step % max(trainer.max_steps // self.lines, 1) == 0:
            speed = (step - self._first) / (time.monotonic() - self._begin)
            left = (trainer.max_steps - step) / speed
            print(
                f"step {step}/{trainer.max_steps}, {_clock(left)} left, "
                f"{speed:.1f} steps/s, {_state(trainer)}",
                flush=True,
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if self._enabled and trainer.is_global_zero:
            print(
                f"done: {trainer.global_step} steps in {_clock(time.monotonic() - self._begin)}", flush=True
            )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the paths of all results."""
        self._report(trainer)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the path of the turntable."""
        self._report(trainer)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the path of the images."""
        self._report(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the path of the renders, unless this is a validation during training."""
        if trainer.state.fn == "validate":
            self._report(trainer)

    def _report(self, trainer: Trainer) -> None:
        run = layout.run_folder(trainer)
        if self._enabled and trainer.is_global_zero:
            print(*results(run), sep="\n", flush=True)


def results(run: Path) -> list[str]:
    """List the results in a run folder, one line each."""
    names = {
        "turntable": layout.TURNTABLE_GIF,
        "video": layout.TURNTABLE_VIDEO,
        "object": layout.OBJECT,
        "trajectory": layout.TRAJECTORY,
        "viewer": layout.VIEWER,
        "renders": layout.RENDERS,
        "run folder": ".",
    }
    return [f"{name + ':':12}{run / place}" for name, place in names.items() if (run / place).exists()]


def _state(trainer: Trainer) -> str:
    known = trainer.callback_metrics
    shown = {name: float(known[name]) for name in SHOWN if name in known} | trainer.progress_bar_metrics
    parts = [f"{name} {value:.4g}" for name, value in shown.items()]
    previews = sorted((layout.run_folder(trainer) / layout.RENDERS).glob("*.png"))
    return ", ".join([*parts, *(f"preview {path}" for path in previews[-1:])])


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    return f"{minutes}:{seconds:02d}"
