"""Trains a prior's networks on small pictures, for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

QUIET = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
    pytest.mark.filterwarnings("ignore:.*mid-epoch"),
]


class Batch(NamedTuple):
    pictures: Tensor  # [B, H, W, 3]
    captions: list[str]


class Batches(IterableDataset):
    """An endless stream of batches, each a function of its step."""

    def __init__(self, module: LightningModule, batch: Callable[[int], Batch]) -> None:
        self.module, self.batch = module, batch

    def __iter__(self) -> Iterator[Batch]:
        step = self.module.trainer.global_step
        while True:
            yield self.batch(step)
            step += 1


def fit(
    model: LightningModule,
    batch: Callable[[int], Batch],
    folder: Path,
    steps: int,
    save_at: int | None = None,
    resume: Path | None = None,
) -> Path:
    """Train for ``steps``; return the checkpoint of step ``save_at``."""
    checkpoint = folder / "stopped.ckpt"

    class Save(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
            if trainer.global_step == save_at:
                trainer.save_checkpoint(checkpoint)

    trainer = Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        gradient_clip_val=1.0,
        logger=TensorBoardLogger(folder, name="", version=""),
        callbacks=[Save()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    trainer.fit(model, DataLoader(Batches(model, batch), batch_size=None), ckpt_path=resume)
    return checkpoint
