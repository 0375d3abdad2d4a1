"""The role of a scene, theta in seed 4, and the density bias that seeds an object in its middle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, final

import torch
from torch import Tensor, nn

from dreamfusion_pl.scene.latent_colors import LatentColors


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


class Scene(nn.Module, ABC):
    """Density and albedo at points inside a bounding sphere around the origin; nothing is outside of it.

    Args:
        latents: channels of latents of the prior's autoencoder that are emitted in the place of colours, 0
            for none. The albedo is then what they look like.
    """

    radius: float

    def __init__(self, latents: int = 0) -> None:
        super().__init__()
        self.latent_colors = LatentColors(latents) if latents else None

    @abstractmethod
    def forward(self, points: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        """Return (tau, rho) of seed 4.

        Args:
            points: world positions, [P, 3], inside the bounding sphere.
            progress: training progress in [0, 1].

        Returns:
            Density in inverse world units [P], >= 0, and albedo [P, 3] in [0, 1], followed by the L latents
            of a scene that emits them, [P, 3 + L].
        """

    @abstractmethod
    def density(self, points: Tensor, progress: float) -> Tensor:
        """Return the density alone, [P, 3] -> [P]; cheaper than :meth:`forward` where possible."""

    @abstractmethod
    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return optimizer parameter groups, each with its own ``lr`` derived from ``learning_rate``."""


def appearance(raw: Tensor, latent_colors: LatentColors | None) -> Tensor:
    """What a network says of a point's looks: albedo in [0, 1], [P, 3], or albedo and latents, [P, 3 + L].

    Args:
        raw: the network's numbers, [P, 3] or [P, L].
        latent_colors: of a scene that emits latents.
    """
    if latent_colors is None:
        return torch.sigmoid(raw)
    return torch.cat([latent_colors.colors(raw), raw], dim=-1)


def device_of(scene: Scene) -> torch.device:
    """The device that a scene is evaluated on."""
    return next((parameter.device for parameter in scene.parameters()), torch.device("cpu"))


def positive_radius(radius: float) -> float:
    """Return ``radius``.

    Raises:
        ValueError: it is not positive.
    """
    if not radius > 0.0:
        raise ValueError(f"radius is the bounding sphere's, in world units, and must be > 0; got {radius}")
    return radius
