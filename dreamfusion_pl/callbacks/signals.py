"""SIGINT, SIGTERM and SIGUSR1 end a run in order: a checkpoint, the way to go on, a known exit status."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any, final

from pytorch_lightning import Callback, LightningModule, Trainer

from dreamfusion_pl.callbacks.checkpoints import LastCheckpoints
from dreamfusion_pl.run_folder import layout

ORDERLY = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


@final
class Signals(Callback):
    """After a signal, finishes the step, saves, says how to go on and exits with 128 + the signal's number.

    The step is the optimizer's, with all of its batches. After the last one signals do what they always do.
    That is 130 after Ctrl-C, 143 after SIGTERM, 138 after SIGUSR1. A second signal ends the run at once, with
    what the last checkpoint holds. Of several ranks any may get the signal; all stop after the same step.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._before: dict[int, Any] = {}
        self._step = -1  # the last one that has ended; -1 before training

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen; only the main thread may, others are told by it."""
        self._step = trainer.global_step
        if threading.current_thread() is not threading.main_thread():
            return
        self._before = {number: signal.signal(number, self.notice) for number in ORDERLY}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Act on what was noticed during the step, when it is done."""
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        self._stop_if_told(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the signals back: the export that follows is repeated when the run goes on."""
        self._give_back()
        self._stop_if_told(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Tell who interrupted the export how to go on."""
        if isinstance(exception, KeyboardInterrupt) and trainer.is_global_zero and self._step >= 0:
            run = layout.run_folder(trainer)
            if any(run.glob("checkpoints/*.ckpt")):
                exception.add_note(f"python -m dreamfusion_pl fit --resume {run}")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signals back."""
        self._give_back()
        self._received, self._step = None, -1

    def notice(self, number: int, frame: FrameType | None = None) -> None:
        """Remember a signal until the step is done; a second one ends the run here.

        Raises:
            SystemExit: it is the second.
        """
        if self._received is not None:
            raise SystemExit(128 + number)
        self._received = number

    def _stop_if_told(self, trainer: Trainer) -> None:
        received = self._received is not None
        if trainer.world_size > 1:  # the ranks stop at the same step
            received = bool(trainer.strategy.reduce_boolean_decision(received, all=False))
        if not received:
            return
        keepers = [callback for callback in trainer.callbacks if isinstance(callback, LastCheckpoints)]
        for keeper in keepers:
            keeper.save(trainer)
        if trainer.is_global_zero:
            run, step = layout.run_folder(trainer), trainer.global_step
            resume = f"go on with: python -m dreamfusion_pl fit --resume {run}"
            cure = resume if keepers else "nothing was saved"
            print(f"stopped by a signal after step {step}; {cure}", file=sys.stderr, flush=True)
        # The status is rank 0's alone: Lightning kills it when one of the processes that it started fails.
        raise SystemExit(128 + (self._received or signal.SIGTERM) if trainer.is_global_zero else 0)

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
