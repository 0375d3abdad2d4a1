"""A data module that yields step numbers only, for training without data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, final

from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, IterableDataset


class _Count(IterableDataset):
    """An endless stream of step numbers from the trainer's current one."""

    def __init__(self, module: Steps) -> None:
        self.module = module

    def __iter__(self) -> Iterator[int]:
        step = self.module.trainer.global_step if self.module.trainer is not None else 0
        while True:
            yield step
            step += 1


@final
class Steps(LightningDataModule):
    """Yields the number of every step; ``max_steps`` ends training.

    Args:
        seed: unused; every data module of this package has this argument.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the step numbers from the trainer's current one."""
        return DataLoader(_Count(self), batch_size=None)
