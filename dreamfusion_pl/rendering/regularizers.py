"""Regularizers of a rendering (paper A.2), each a mean over rays."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from dreamfusion_pl.schedule import Schedule, check_not_negative
from dreamfusion_pl.types import Rendering


@final
class Regularizers:
    """Weighted regularizers, added to the distillation's loss in its unit (``distillation.base.loss_unit``).

    Args:
        opacity: weight of :func:`opacity_loss` over training; None leaves it out.
        orientation: weight of :func:`orientation_loss` over training; None leaves it out.

    Raises:
        ValueError: a weight is negative at some point of training.
    """

    def __init__(self, opacity: Schedule | None = None, orientation: Schedule | None = None) -> None:
        self.terms = {
            name: (weight, loss)
            for name, weight, loss in [
                ("opacity", opacity, opacity_loss),
                ("orientation", orientation, orientation_loss),
            ]
            if weight is not None
        }
        check_not_negative(**{name: weight for name, (weight, _) in self.terms.items()})

    def __call__(self, rendering: Rendering, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum, and each loss by name, unweighted and detached.

        Args:
            rendering: rendering of B views.
            progress: training progress in [0, 1].
        """
        losses = {name: loss(rendering) for name, (_, loss) in self.terms.items()}
        weighted = [self.terms[name][0](progress) * loss for name, loss in losses.items()]
        total = sum(weighted, torch.zeros((), device=rendering.opacity.device))
        return total, {name: loss.detach() for name, loss in losses.items()}


def orientation_loss(rendering: Rendering) -> Tensor:
    """Penalty on visible normals that face away from the camera, ``sum_i sg(w_i) max(0, n_i . v)^2``.

    It is averaged over the rays that hit something, each weighted with its opacity, so that it does not
    depend on the share of the picture that the object fills. If there is one normal per ray, its weight is
    the ray's opacity.
    """
    weights = rendering.weights.detach()
    hits = weights.sum().clamp_min(1e-6)
    if rendering.facing.shape[-1] == 1:
        weights = weights.sum(-1, keepdim=True)
    return (weights * rendering.facing).sum() / hits


def opacity_loss(rendering: Rendering) -> Tensor:
    """Penalty on opacity, ``sqrt((sum_i w_i)^2 + 0.01)``."""
    return (rendering.opacity.square() + 0.01).sqrt().mean()
