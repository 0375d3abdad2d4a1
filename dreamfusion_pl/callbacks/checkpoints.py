"""Checkpoints that survive a full disk and a killed process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, final

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from dreamfusion_pl.run_folder import layout
from dreamfusion_pl.run_folder.checkpoint_io import is_whole, keep_as, sync_folder, write_whole


@final
class LastCheckpoints(Checkpoint):
    """Keeps ``checkpoints/last.ckpt`` and the one before, ``checkpoints/previous.ckpt``, in the run folder.

    A checkpoint is written beside its place and put there in one move: a complete one always exists.
    It is saved after a step of the optimizer, never between the batches of one.

    Args:
        every: steps between checkpoints; the last step always gets one.
    """

    def __init__(self, every: int = 100) -> None:
        if every < 1:
            raise ValueError(f"every is a number of steps, 1 or more, got {every}")
        self.every = every
        self._saved_step = self._step = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See where training starts."""
        self._step, self._saved_step = trainer.global_step, -1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time."""
        if trainer.global_step != self._step and trainer.global_step % self.every == 0:
            self.save(trainer)
        self._step = trainer.global_step

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at the end, while the raw weights are still beside the averaged ones."""
        self.save(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the checkpoint that the run started from, if it had nothing left to train."""
        last = layout.run_folder(trainer) / "checkpoints" / "last.ckpt"
        if trainer.is_global_zero and trainer.ckpt_path and not last.exists():
            write_whole(Path(trainer.ckpt_path).read_bytes(), last)

    def save(self, trainer: Trainer) -> None:
        """Save now, unless this step is saved already; every rank has to call it.

        Raises:
            OSError: the checkpoint could not be written; the one before is still there.
        """
        if trainer.global_step == self._saved_step:
            return
        self._saved_step = trainer.global_step
        checkpoints = layout.run_folder(trainer) / "checkpoints"
        draft, last = checkpoints / "draft.tmp", checkpoints / "last.ckpt"
        trainer.save_checkpoint(draft)
        if trainer.is_global_zero:
            if not draft.exists():  # Lightning's own writer only logs it when it may not write
                raise OSError(f"the checkpoint {draft} could not be written")
            if is_whole(last):  # else the one before may be the only whole one
                keep_as(last, checkpoints / "previous.ckpt")
            os.replace(draft, last)
            sync_folder(checkpoints)
        trainer.strategy.barrier("checkpoint")
