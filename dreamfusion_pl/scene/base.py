"""The role of a scene, theta in seed 4."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dreamfusion_pl.scene.latent_colors import LatentColors


class Matter(NamedTuple):
    """What a scene holds at P points."""

    density: Tensor  # [P] tau >= 0, in inverse world units
    looks: Tensor  # [P, 3] albedo rho in [0, 1], or [P, 3 + L] with the latents of a scene that emits them
    level: Tensor  # [P] see Scene.level


class Scene(nn.Module, ABC):
    """Density and albedo at points inside a bounding sphere around the origin; nothing is outside of it."""

    radius: float  # of the bounding sphere, in world units
    latent_colors: LatentColors | None  # of a scene that emits latents in the place of colours
    surface: float | None  # level of the surface; None: where renders show it, see export/surface/grid.py
    empty_level: float  # level of empty space

    @abstractmethod
    def forward(self, points: Tensor, progress: float) -> Matter:
        """Return density tau, albedo rho (seed 4) and level.

        Args:
            points: world positions, [P, 3], inside the bounding sphere.
            progress: training progress in [0, 1].
        """

    @abstractmethod
    def density(self, points: Tensor, progress: float) -> Tensor:
        """Return the density alone, [P, 3] -> [P]; cheaper than :meth:`forward` where possible."""

    @abstractmethod
    def level(self, points: Tensor, progress: float) -> Tensor:
        """Return the function whose level set is the surface, [P, 3] -> [P].

        It rises towards the inside, so that normals are ``-grad level / |grad level|``: the density itself,
        or minus a signed distance.
        """

    @abstractmethod
    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return optimizer parameter groups, each with its own ``lr`` derived from ``learning_rate``."""


def device_of(scene: Scene) -> torch.device:
    """The device that a scene is evaluated on."""
    return next((parameter.device for parameter in scene.parameters()), torch.device("cpu"))
