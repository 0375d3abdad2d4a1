"""Graceful shutdown on a signal: a checkpoint, the command to resume, an exit status."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any, final

from pytorch_lightning import Callback, LightningModule, Trainer

from dreamfusion_pl.callbacks.checkpoints import LastCheckpoints
from dreamfusion_pl.run_folder import layout

# Windows has no SIGUSR1, and no other process can send SIGTERM there; it has SIGBREAK in their place.
NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGBREAK")
HANDLED_SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))


@final
class Signals(Callback):
    """After a signal: finishes the step, saves, prints how to resume and exits with 128 + signal number.

    That is 130 after Ctrl-C, 143 after SIGTERM, 138 after SIGUSR1, 149 after Windows' Ctrl-Break. The step is
    an optimizer step with all accumulated batches. A second signal ends the run at once; it can be resumed
    from the last checkpoint. Any rank may receive the signal; all ranks stop after the same step. After the
    last training step the previous signal handlers are restored.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._before: dict[int, Any] = {}
        self._step = -1  # last completed step; -1 before training

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the handlers, in the main thread only; other threads are notified by it."""
        self._step = trainer.global_step
        if threading.current_thread() is not threading.main_thread():
            return
        self._before = {number: signal.signal(number, self.notice) for number in HANDLED_SIGNALS}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop after the step if a signal arrived during it."""
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        self._stop_if_signalled(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the previous handlers: the export that follows is repeated when the run is resumed."""
        self._restore_handlers()
        self._stop_if_signalled(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Add the command to resume to the exception if Ctrl-C interrupted the export."""
        if isinstance(exception, KeyboardInterrupt) and trainer.is_global_zero and self._step >= 0:
            run = layout.run_folder(trainer)
            if any(run.glob("checkpoints/*.ckpt")):
                exception.add_note(f"python -m dreamfusion_pl fit --resume {run}")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the previous handlers."""
        self._restore_handlers()
        self._received, self._step = None, -1

    def notice(self, number: int, frame: FrameType | None = None) -> None:
        """Record a signal until the step is done; the second one ends the run immediately.

        Raises:
            SystemExit: this is the second signal.
        """
        if self._received is not None:
            raise SystemExit(128 + number)
        self._received = number

    def _stop_if_signalled(self, trainer: Trainer) -> None:
        received = self._received is not None
        if trainer.world_size > 1:  # all ranks stop at the same step
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
        # Only rank 0 exits with the status: Lightning kills it if a process that it started fails.
        raise SystemExit(128 + (self._received or signal.SIGTERM) if trainer.is_global_zero else 0)

    def _restore_handlers(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
