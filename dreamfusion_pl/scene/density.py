"""Fields that are densities; their surface is where renders become opaque."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from dreamfusion_pl.scene.field import Field

MAX_LOG_DENSITY = 15.0


class DensityBias(ABC):
    """A function of position added to a scene's density before its activation (the "blob")."""

    @abstractmethod
    def __call__(self, points: Tensor) -> Tensor:
        """Return the bias at ``points`` [P, 3] as [P]."""


@final
class GaussianBias(DensityBias):
    """Gaussian around the origin, ``strength * exp(-r^2 / (2 width^2))`` (paper 3.2, A.2).

    Args:
        strength: value at the origin, the paper's lambda_tau.
        width: standard deviation in world units, the paper's sigma_tau.
    """

    def __init__(self, strength: float = 5.0, width: float = 0.2) -> None:
        self.strength, self.width = strength, width

    def __call__(self, points: Tensor) -> Tensor:
        return self.strength * torch.exp(points.square().sum(-1) * (-0.5 / self.width**2))


@final
class LinearBias(DensityBias):
    """Cone around the origin, ``strength * (1 - r / extent)`` (Magic3D; meant for a softplus density).

    Args:
        strength: value at the origin.
        extent: distance from the origin, in world units, at which the bias changes sign.
    """

    def __init__(self, strength: float = 10.0, extent: float = 0.5) -> None:
        self.strength, self.extent = strength, extent

    def __call__(self, points: Tensor) -> Tensor:
        squared = points.square().sum(-1)
        return self.strength - (self.strength / self.extent) * torch.sqrt(squared + 1e-12)


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
        bias: density bias; None is ``LinearBias(10, 0.6)``.
    """

    def __init__(self, bias: DensityBias | None = None) -> None:
        super().__init__()
        self.surface, self.empty_level = None, 0.0
        self.bias = bias or LinearBias(10.0, 0.6)

    def level(self, raw: Tensor, points: Tensor) -> Tensor:
        return F.softplus(raw + self.bias(points))

    def density(self, level: Tensor, progress: float) -> Tensor:
        return level


@final
class ExponentialDensity(Field):
    """``tau = exp(raw + bias + offset)``, the paper's (A.2).

    Args:
        bias: density bias; None is the paper's Gaussian.
        offset: constant added to the log-density; -1 is that of mip-NeRF 360, the paper's base.
    """

    def __init__(self, bias: DensityBias | None = None, offset: float = -1.0) -> None:
        super().__init__()
        self.surface, self.empty_level = None, 0.0
        self.bias, self.offset = bias or GaussianBias(), offset

    def level(self, raw: Tensor, points: Tensor) -> Tensor:
        return truncated_exp(raw + self.bias(points) + self.offset)

    def density(self, level: Tensor, progress: float) -> Tensor:
        return level
