"""Optimizer, learning rate and weight average of all trainings of a prior's networks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn


def adamw(networks: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """Return AdamW (betas .9 and .99) with decay only for parameters with two or more dimensions."""
    parameters = list(networks.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.99), foreach=True)


def warmup_and_cosine(
    optimizer: torch.optim.Optimizer, trainer: Trainer, warmup_steps: int
) -> OptimizerLRScheduler:
    """Return the optimizer with a linear warm-up, multiplied by a cosine decay to zero at the run's end.

    Raises:
        ValueError: the run has no end.
    """
    total = float(trainer.estimated_stepping_batches)
    if not math.isfinite(total):
        raise ValueError("the learning rate needs an end: pass --trainer.max_steps")

    def factor(step: int) -> float:
        cosine = 0.5 + 0.5 * math.cos(math.pi * min(step / total, 1.0))
        return cosine * min((step + 1) / max(warmup_steps, 1), 1.0)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def averaging(decay: float) -> Callable[[Any, Any, Any], None]:
    """Return an update rule whose decay grows to ``decay``, so that initial weights are soon forgotten."""

    @torch.no_grad()
    def update(averages: list[Tensor], values: list[Tensor], num_averaged: Tensor) -> None:
        count = float(num_averaged)
        torch._foreach_lerp_(averages, values, 1.0 - min(decay, (1.0 + count) / (10.0 + count)))

    return update
