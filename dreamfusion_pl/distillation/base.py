"""The role of a distillation, and the one surrogate loss (seed 3.2)."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.types import Condition


class Distillation(ABC):
    """Turns what a prior thinks of rendered pictures into a loss."""

    @abstractmethod
    def __call__(
        self,
        z: Tensor,
        condition: Condition,
        prior: DiffusionPrior,
        progress: float,
        generator: torch.Generator,
    ) -> Tensor:
        """Return the loss of B encoded views.

        Args:
            z: encoded pictures [B, C, h, w], attached to the graph.
            condition: the views' texts.
            prior: the frozen model.
            progress: training progress in [0, 1].
            generator: source of every draw.

        Returns:
            Scalar, a mean over views.
        """


def surrogate(z: Tensor, gradient: Tensor) -> Tensor:
    """Return a scalar whose gradient with respect to z is exactly ``gradient`` / B: eq. 2, a mean over views.

    Its value is the mean over views of half the squared norm of ``gradient``, which is worth logging.

    Args:
        z: encoded pictures [B, C, h, w], attached to the graph.
        gradient: the wanted gradient of each view [B, C, h, w]; nothing flows into it.
    """
    gradient = gradient.detach()
    linear = (z * gradient).sum() / len(z)
    value = 0.5 * gradient.square().sum() / len(z)
    return value + (linear - linear.detach())
