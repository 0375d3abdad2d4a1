"""What the terminal shows: one line of progress, and at the end where the results are."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, final

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar
from tqdm import tqdm

from dreamfusion_pl.run_folder import layout


@final
class Progress(ProgressBar):
    """Shows step, time left, speed, loss and the newest preview; a bar on a terminal, a few lines elsewhere.

    Args:
        lines: how many lines a whole training prints where there is no terminal.
    """

    def __init__(self, lines: int = 10) -> None:
        super().__init__()
        self.lines = max(lines, 1)
        self._enabled = True
        self._bar: tqdm | None = None

    def disable(self) -> None:
        """Show nothing from now on."""
        self._enabled = False

    def enable(self) -> None:
        """Show again."""
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
        """Update what is shown; the loss is read only where it is shown."""
        step = trainer.global_step
        if step == self._step or not self._enabled or not trainer.is_global_zero:
            return  # also where gradients are accumulated
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
        """Say where everything is."""
        self._report(trainer)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say where the turntable is."""
        self._report(trainer)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say where the pictures are."""
        self._report(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say where the renders are, unless this is a validation during training."""
        if trainer.state.fn == "validate":
            self._report(trainer)

    def _report(self, trainer: Trainer) -> None:
        run = layout.run_folder(trainer)
        if self._enabled and trainer.is_global_zero:
            print(*results(run), sep="\n", flush=True)


def results(run: Path) -> list[str]:
    """What a run folder holds, one line each."""
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
    parts = [f"{name} {value:.4g}" for name, value in trainer.progress_bar_metrics.items()]
    previews = sorted((layout.run_folder(trainer) / layout.RENDERS).glob("*.png"))
    return ", ".join([*parts, *(f"preview {path}" for path in previews[-1:])])


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    return f"{minutes}:{seconds:02d}"
