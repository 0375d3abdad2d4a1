"""Regularizers of a rendering (paper A.2), each the mean over all rays."""

from __future__ import annotations

from typing import final

from torch import Tensor

from dreamfusion_pl.schedule import Schedule, check_not_negative
from dreamfusion_pl.types import Rendering


@final
class Regularizers:
    """What is added to the distillation's loss.

    Args:
        opacity: weight of :func:`opacity` over training.
        orientation: weight of :func:`orientation` over training.

    Raises:
        ValueError: a weight is negative at some time.
    """

    def __init__(self, opacity: Schedule, orientation: Schedule) -> None:
        check_not_negative(opacity=opacity, orientation=orientation)
        self.opacity, self.orientation = opacity, orientation

    def __call__(self, rendering: Rendering, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum, and every loss by its name, without its weight and without a gradient.

        Args:
            rendering: of B views.
            progress: training progress in [0, 1].
        """
        filled, backward = opacity(rendering), orientation(rendering)
        total = self.opacity(progress) * filled + self.orientation(progress) * backward
        return total, {"opacity": filled.detach(), "orientation": backward.detach()}


def orientation(rendering: Rendering) -> Tensor:
    """Penalty on visible normals that face away from the camera, ``sum_i sg(w_i) max(0, n_i . v)^2``.

    With one normal per ray, its weight is the ray's opacity.
    """
    weights = rendering.weights.detach()
    if rendering.facing.shape[-1] == 1:
        weights = weights.sum(-1, keepdim=True)
    return (weights * rendering.facing).sum(-1).mean()


def opacity(rendering: Rendering) -> Tensor:
    """Penalty on filled pixels, ``sqrt((sum_i w_i)^2 + 0.01)``."""
    return (rendering.opacity.square() + 0.01).sqrt().mean()


def opacity_entropy(rendering: Rendering) -> Tensor:
    """Binary entropy of the opacity, in [0, log 2] nats: low where pixels are clearly filled or empty."""
    filled = rendering.opacity.clamp(1e-4, 1.0 - 1e-4)
    return -(filled * filled.log() + (1.0 - filled) * (1.0 - filled).log()).mean()
