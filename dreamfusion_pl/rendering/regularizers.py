"""Regularizers of a rendering (paper A.2), each a mean over all rays."""

from __future__ import annotations

from typing import final

from torch import Tensor

from dreamfusion_pl.schedule import Schedule, check_not_negative
from dreamfusion_pl.types import Rendering


@final
class Regularizers:
    """Weighted regularizers, added to the distillation's loss.

    Args:
        opacity: weight of :func:`opacity` over training.
        orientation: weight of :func:`orientation` over training.

    Raises:
        ValueError: a weight is negative at some point of training.
    """

    def __init__(self, opacity: Schedule, orientation: Schedule) -> None:
        check_not_negative(opacity=opacity, orientation=orientation)
        self.opacity, self.orientation = opacity, orientation

    def __call__(self, rendering: Rendering, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum, and each loss by name, unweighted and detached.

        Args:
            rendering: rendering of B views.
            progress: training progress in [0, 1].
        """
        opaque, backward = opacity(rendering), orientation(rendering)
        total = self.opacity(progress) * opaque + self.orientation(progress) * backward
        return total, {"opacity": opaque.detach(), "orientation": backward.detach()}


def orientation(rendering: Rendering) -> Tensor:
    """Penalty on visible normals that face away from the camera, ``sum_i sg(w_i) max(0, n_i . v)^2``.

    If there is one normal per ray, its weight is the ray's opacity.
    """
    weights = rendering.weights.detach()
    if rendering.facing.shape[-1] == 1:
        weights = weights.sum(-1, keepdim=True)
    return (weights * rendering.facing).sum(-1).mean()


def opacity(rendering: Rendering) -> Tensor:
    """Penalty on opacity, ``sqrt((sum_i w_i)^2 + 0.01)``."""
    return (rendering.opacity.square() + 0.01).sqrt().mean()


def opacity_entropy(rendering: Rendering) -> Tensor:
    """Binary entropy of opacity, in [0, log 2] nats: low where rays are clearly opaque or transparent."""
    alpha = rendering.opacity.clamp(1e-4, 1.0 - 1e-4)
    return -(alpha * alpha.log() + (1.0 - alpha) * (1.0 - alpha).log()).mean()
