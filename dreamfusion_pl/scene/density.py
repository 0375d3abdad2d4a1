"""Fields: a density, whose surface is where renders become opaque, or the density of a signed distance."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from dreamfusion_pl.scene.field import Field
from dreamfusion_pl.scene.initial_shape import Ball, InitialShape
from dreamfusion_pl.schedule import Linear, Schedule

MAX_LOG_DENSITY = 15.0
FARTHEST = -50.0  # exponent below which a tail is constant: products with subnormal numbers are slow on a CPU


class DensityBias(ABC):
    """Bias added to the raw density before its activation, so that training starts from a shape ("blob")."""

    @abstractmethod
    def __call__(self, squared_radius: Tensor, size: float) -> Tensor:
        """Return the bias, [P].

        Args:
            squared_radius: r^2 with r = signed distance to the initial shape + size, [P].
            size: radius of the largest ball inside the shape.
        """


@final
class GaussianBias(DensityBias):
    """``strength * exp(-r^2 / (2 width^2))``, r the distance from the shape's centre (paper 3.2, A.2).

    For a ball of any radius this is the paper's Gaussian around the origin.

    Args:
        strength: value at the centre, the paper's lambda_tau.
        width: standard deviation in world units, the paper's sigma_tau.

    Raises:
        ValueError: the width is not positive.
    """

    def __init__(self, strength: float = 5.0, width: float = 0.2) -> None:
        if not width > 0.0:
            raise ValueError(f"the bias's width must be > 0, in world units; got {width}")
        self.strength, self.width = strength, width

    def __call__(self, squared_radius: Tensor, size: float) -> Tensor:
        return self.strength * torch.exp(squared_radius * (-0.5 / self.width**2))


@final
class LinearBias(DensityBias):
    """Cone ``strength * (1 - r / size)``, 0 on the shape's surface (Magic3D; meant for a softplus density).

    With a strength of 10, as in Magic3D, the initial transmittance through the centre of a ball of radius 0.6
    is 1/450, too little for a hole to open there; with a strength of 3 it is 1/8.

    Args:
        strength: value at the centre.
    """

    def __init__(self, strength: float = 10.0) -> None:
        self.strength = strength

    def __call__(self, squared_radius: Tensor, size: float) -> Tensor:
        return self.strength - (self.strength / size) * torch.sqrt(squared_radius + 1e-12)


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
    """``exp(min(x, 15))`` with itself as gradient everywhere, so that a saturated density can recover."""
    return _TruncatedExp.apply(x)


@final
class SoftplusDensity(Field):
    """``tau = softplus(raw + bias)``.

    Args:
        shape: initial shape; None: a ball of radius 0.6.
        bias: density bias; None: ``LinearBias(10)``.
    """

    def __init__(self, shape: InitialShape | None = None, bias: DensityBias | None = None) -> None:
        super().__init__()
        self.surface, self.empty_level = None, 0.0
        self.shape, self.bias = shape or Ball(), bias or LinearBias()

    def level(self, raw: Tensor, points: Tensor) -> Tensor:
        return F.softplus(raw + self.bias(self.shape.squared_radius(points), self.shape.size))

    def density(self, level: Tensor, progress: float) -> Tensor:
        return level


@final
class ExponentialDensity(Field):
    """``tau = exp(raw + bias + offset)``, as in the paper (A.2).

    Args:
        shape: initial shape; None: a ball of radius 0.6.
        bias: density bias; None: the paper's Gaussian.
        offset: constant added to the log-density; -1 as in mip-NeRF 360, on which the paper builds.
    """

    def __init__(
        self, shape: InitialShape | None = None, bias: DensityBias | None = None, offset: float = -1.0
    ) -> None:
        super().__init__()
        self.surface, self.empty_level = None, 0.0
        self.shape, self.bias, self.offset = shape or Ball(), bias or GaussianBias(), offset

    def level(self, raw: Tensor, points: Tensor) -> Tensor:
        return truncated_exp(
            raw + self.bias(self.shape.squared_radius(points), self.shape.size) + self.offset
        )

    def density(self, level: Tensor, progress: float) -> Tensor:
        return level


@final
class LaplaceDensity(Field):
    """Density of a signed distance s, ``tau = Phi(-s) / beta`` (VolSDF, eq. 2 and 3).

    ``s = scale raw + distance to the initial shape``; Phi is the cumulative distribution of a Laplace
    distribution with mean 0 and width beta. The density is 1 / beta inside, half of it on the surface, and
    falls to 0 outside over a few beta: a large beta lets gradients reach far, a small one makes the surface
    sharp.

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
        tail = 0.5 * torch.exp((level.abs() / -width).clamp_min(FARTHEST))
        return torch.where(level > 0.0, 1.0 - tail, tail) / width
