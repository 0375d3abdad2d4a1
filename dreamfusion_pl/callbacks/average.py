"""Exponential moving average of the weights, used for previews, export and checkpoints."""

from __future__ import annotations

from typing import Any, final

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from dreamfusion_pl.distillation.base import Distillation


@final
class WeightAverage(Callback):
    """Exponential moving average of the parameters, but for those that a distillation owns.

    Validation uses the average, and the module keeps it when training ends. In a checkpoint the average is in
    ``state_dict`` and the raw weights, from which training resumes, are in ``current_model_state``, as with
    Lightning's ``EMAWeightAveraging``. Lightning's class deep-copies the whole module with everything that it
    refers to, down to the processes of DDP, which cannot be copied; this one copies tensors only.

    Args:
        decay: weight of the previous average in an update, in [0, 1).
        warmup: True lowers the weight to (1 + n) / (10 + n) after n steps where that is less, so that a short
            run does not keep its start.

    Raises:
        ValueError: ``decay`` is out of range.
    """

    def __init__(self, decay: float = 0.95, warmup: bool = False) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        self.decay, self.warmup = decay, warmup
        self._average: dict[str, Tensor] = {}  # by the parameter's name; empty before the first step
        self._step = 0  # global step of the last update

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Reset the state of an earlier fit."""
        if stage == "fit":
            self._average, self._step = {}, 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the average to the module's device: a checkpoint is read before the module is moved there."""
        self._average = {name: value.to(pl_module.device) for name, value in self._average.items()}

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the average once per optimizer step; skip values that are not finite (see ``Safety``)."""
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        decay = min(self.decay, (1 + self._step) / (10 + self._step)) if self.warmup else self.decay
        current = _parameters(pl_module)
        if not self._average:
            self._average = {name: value.clone() for name, value in current.items()}
        for name, value in current.items():
            average = self._average[name]
            average.lerp_(torch.where(value.isfinite(), value, average), 1.0 - decay)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Swap the average in."""
        self._swap(pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Swap the raw weights back in."""
        self._swap(pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the module."""
        self._swap(pl_module)
        self._average = {}

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store the average as ``state_dict`` and the raw weights next to it."""
        if self._average:
            checkpoint["current_model_state"] = checkpoint["state_dict"]
            checkpoint["state_dict"] = checkpoint["state_dict"] | self._average

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore both; the module has already loaded the average from ``state_dict``."""
        if trainer.state.fn != "fit" or "current_model_state" not in checkpoint:
            return
        self._average = {name: value.clone() for name, value in _parameters(pl_module).items()}
        self._step = checkpoint["global_step"]
        pl_module.load_state_dict(checkpoint["current_model_state"])

    @torch.no_grad()
    def _swap(self, module: LightningModule) -> None:
        if not self._average:
            return
        for name, value in _parameters(module).items():
            raw = value.clone()
            value.copy_(self._average[name])
            self._average[name] = raw


def _parameters(module: LightningModule) -> dict[str, Tensor]:
    owners = [part for part in module.modules() if isinstance(part, Distillation)]
    own = {parameter for part in owners for parameter in part.parameters()}
    return {name: value.detach() for name, value in module.named_parameters() if value not in own}
