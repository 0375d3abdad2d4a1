"""A signed-distance field; its surface is where the distance is zero."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from dreamfusion_pl.scene.field import Field
from dreamfusion_pl.scene.initial_shape import Ball, InitialShape
from dreamfusion_pl.schedule import Linear, Schedule


@final
class SignedDistance(Field):
    """``s = scale raw + distance to the initial shape``, ``tau = Phi(-s) / beta`` (VolSDF, eq. 2 and 3).

    Phi is the cumulative distribution of a Laplace distribution with mean 0 and width beta. The density is
    1 / beta inside, half of it on the surface, and falls to 0 outside over a few beta, so that a large beta
    lets gradients reach far and a small one makes the surface sharp.

    Args:
        shape: initial shape; None: a ball of radius 0.3.
        scale: world units for each unit of the network's output, > 0.
        width: beta over training, in world units, > 0; None: linear from 0.1 to 0.01 over four fifths of it.

    Raises:
        ValueError: the scale or a width is not positive.
    """

    def __init__(
        self, shape: InitialShape | None = None, scale: float = 0.1, width: Schedule | None = None
    ) -> None:
        super().__init__()
        self.surface, self.empty_level = 0.0, -1.0
        self.shape, self.scale = shape or Ball(0.3), scale
        self.width = width or Linear(0.1, 0.01, end=0.8)
        if not scale > 0.0:
            raise ValueError(f"a signed distance's scale must be > 0, in world units; got {scale}")
        ends = self.width(0.0), self.width(1.0)
        if not min(ends) > 0.0:
            raise ValueError(f"a signed distance's width must be > 0, got {ends[0]:g} to {ends[1]:g}")

    def level(self, raw: Tensor, points: Tensor) -> Tensor:
        return -(self.scale * raw + self.shape(points))

    def density(self, level: Tensor, progress: float) -> Tensor:
        width = self.width(progress)
        tail = 0.5 * torch.exp(-level.abs() / width)
        return torch.where(level > 0.0, 1.0 - tail, tail) / width
