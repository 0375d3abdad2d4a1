"""Logs the training speed."""

from __future__ import annotations

import time
from typing import Any, final

from pytorch_lightning import Callback, LightningModule, Trainer


@final
class Speed(Callback):
    """Logs ``steps_per_second``, averaged between two logged steps."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._mark = (time.perf_counter(), trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log every ``log_every_n_steps`` steps."""
        now, step = time.perf_counter(), trainer.global_step
        then, since = self._mark
        every = trainer.log_every_n_steps  # 0: never
        if every and step > since and step % every == 0:
            self._mark = (now, step)
            for logger in trainer.loggers:
                logger.log_metrics({"steps_per_second": (step - since) / (now - then)}, step=step)
