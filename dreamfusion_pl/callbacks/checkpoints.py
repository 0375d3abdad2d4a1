"""Atomic checkpoints, which survive a full disk and a killed process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, final

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from dreamfusion_pl.atomic import move
from dreamfusion_pl.run_folder import layout
from dreamfusion_pl.run_folder.checkpoint_io import is_whole, keep_as, sync_folder, write_whole
from dreamfusion_pl.run_folder.saved_config import SavedConfiguration


@final
class LastCheckpoints(Checkpoint):
    """Keeps the last two checkpoints of a run, ``checkpoints/last.ckpt`` and ``checkpoints/previous.ckpt``.

    A checkpoint is written to a temporary file and then renamed, so that a complete one always exists.
    It is saved after an optimizer step, never in the middle of gradient accumulation.

    Args:
        every: steps between checkpoints; the last step is always saved.
    """

    def __init__(self, every: int = 100) -> None:
        if every < 1:
            raise ValueError(f"every is a number of steps, 1 or more, got {every}")
        self.every = every
        self._saved_step = self._step = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the step at which training starts, and where the run folder is."""
        self._step, self._saved_step = trainer.global_step, -1
        if trainer.is_global_zero:
            layout.follow(trainer)
            layout.hold_events(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save every ``every`` steps, and when the run folder is gone from its place."""
        if trainer.global_step != self._step:
            self._follow(trainer, pl_module)
        if trainer.global_step != self._step and trainer.global_step % self.every == 0:
            self.save(trainer)
        self._step = trainer.global_step

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at the end, while the raw weights still exist next to the averaged ones."""
        self._follow(trainer, pl_module)
        self.save(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the checkpoint that the run resumed from, if there was nothing left to train."""
        last = layout.run_folder(trainer) / "checkpoints" / "last.ckpt"
        if trainer.is_global_zero and trainer.ckpt_path and not last.exists():
            write_whole(Path(trainer.ckpt_path).read_bytes(), last)

    def _follow(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on in the run folder's new place; without one, begin it again with all that resuming needs.

        With several processes the checkpoint comes with the next save, which all of them take part in.
        """
        before = layout.run_folder(trainer)
        if not trainer.is_global_zero or (run := layout.follow(trainer)) is None:
            return
        if run != before:
            said = f"the run folder {before} is now {run}: this run goes on there"
        else:
            for one in trainer.callbacks:
                if isinstance(one, SavedConfiguration):
                    one.save_config(trainer, pl_module, "fit")
            self._saved_step = -1
            if trainer.world_size == 1:
                self.save(trainer)
            layout.follow(trainer)  # remember the new folder
            said = (
                f"the run folder {run} is gone, deleted or moved far away. The run goes on in a new one at "
                f"this place, which has its configuration and the checkpoint of step {trainer.global_step}, "
                "but no earlier previews, and no events for TensorBoard"
            )
        print(f"dreamfusion_pl: warning: {said}", file=sys.stderr, flush=True)

    def save(self, trainer: Trainer) -> None:
        """Save now, unless this step is already saved; must be called on every rank.

        Raises:
            OSError: the checkpoint could not be written; the previous one is kept.
        """
        if trainer.global_step == self._saved_step:
            return
        self._saved_step = trainer.global_step
        checkpoints = layout.run_folder(trainer) / "checkpoints"
        draft, last = checkpoints / "draft.tmp", checkpoints / "last.ckpt"
        trainer.save_checkpoint(draft)
        if trainer.is_global_zero:
            if not draft.exists():  # Lightning only logs it if it cannot write
                raise OSError(f"the checkpoint {draft} could not be written")
            if is_whole(last):  # otherwise previous.ckpt may be the only intact one
                keep_as(last, checkpoints / "previous.ckpt")
            move(draft, last)
            sync_folder(checkpoints)
        trainer.strategy.barrier("checkpoint")
