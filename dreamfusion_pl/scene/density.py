"""Fields that are densities; their surface is where renders become opaque."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from dreamfusion_pl.scene.field import Field
from dreamfusion_pl.scene.initial_shape import Ball, InitialShape

MAX_LOG_DENSITY = 15.0


class DensityBias(ABC):
    """What is added to a density before its activation, so that training begins with a shape (the "blob")."""

    @abstractmethod
    def __call__(self, distance: Tensor, size: float) -> Tensor:
        """Return the bias, [P].

        Args:
            distance: signed distances of the initial shape, negative inside, [P].
            size: radius of the largest ball inside the shape; in its middle the distance is -size.
        """


@final
class GaussianBias(DensityBias):
    """``strength * exp(-r^2 / (2 width^2))``, r the distance from the shape's middle (paper 3.2, A.2).

    Around a ball, whatever its radius, this is the paper's Gaussian around the origin.

    Args:
        strength: value in the middle, the paper's lambda_tau.
        width: standard deviation in world units, the paper's sigma_tau.
    """

    def __init__(self, strength: float = 5.0, width: float = 0.2) -> None:
        self.strength, self.width = strength, width

    def __call__(self, distance: Tensor, size: float) -> Tensor:
        return self.strength * torch.exp((distance + size).square() * (-0.5 / self.width**2))


@final
class LinearBias(DensityBias):
    """``-strength * distance / size``: 0 at the shape's surface (Magic3D; meant for a softplus density).

    Around a ball it is the cone ``strength * (1 - r / radius)``. With a strength of 10, as in Magic3D, rays
    through the middle of a ball of radius 0.6 see a 450th of the background at the start, too little for a
    hole to open there; with 3 an eighth.

    Args:
        strength: value in the middle.
    """

    def __init__(self, strength: float = 10.0) -> None:
        self.strength = strength

    def __call__(self, distance: Tensor, size: float) -> Tensor:
        return distance * (-self.strength / size)


class _TruncatedExp(torch.autograd.Function):
    """``exp`` below MAX_LOG_DENSITY, constant above; the gradient never vanishes and never overflows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.exp(x.clamp(max=MAX_LOG_DENSITY))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradients[0] * truncated_exp(x)


def truncated_exp(x: Tensor) -> Tensor:
    """``exp(min(x, 15))`` whose derivative is itself everywhere, so that a saturated density can recover."""
    return _TruncatedExp.apply(x)


@final
class SoftplusDensity(Field):
    """``tau = softplus(raw + bias)``.

    Args:
        shape: where the scene begins; None is a ball of radius 0.6.
        bias: density bias; None is ``LinearBias(10)``.
    """

    def __init__(self, shape: InitialShape | None = None, bias: DensityBias | None = None) -> None:
        super().__init__()
        self.surface, self.empty_level = None, 0.0
        self.shape, self.bias = shape or Ball(), bias or LinearBias()

    def level(self, raw: Tensor, points: Tensor) -> Tensor:
        return F.softplus(raw + self.bias(self.shape(points), self.shape.size))

    def density(self, level: Tensor, progress: float) -> Tensor:
        return level


@final
class ExponentialDensity(Field):
    """``tau = exp(raw + bias + offset)``, the paper's (A.2).

    Args:
        shape: where the scene begins; None is a ball.
        bias: density bias; None is the paper's Gaussian.
        offset: constant added to the log-density; -1 is that of mip-NeRF 360, the paper's base.
    """

    def __init__(
        self, shape: InitialShape | None = None, bias: DensityBias | None = None, offset: float = -1.0
    ) -> None:
        super().__init__()
        self.surface, self.empty_level = None, 0.0
        self.shape, self.bias, self.offset = shape or Ball(), bias or GaussianBias(), offset

    def level(self, raw: Tensor, points: Tensor) -> Tensor:
        return truncated_exp(raw + self.bias(self.shape(points), self.shape.size) + self.offset)

    def density(self, level: Tensor, progress: float) -> Tensor:
        return level
