"""Interface of a scene, theta in paper 3.1."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dreamfusion_pl.scene.latent_colors import LatentColors


class SceneSample(NamedTuple):
    """Density, colour and level of a scene at P points."""

    density: Tensor  # [P] tau >= 0, in inverse world units
    appearance: Tensor  # [P, 3] albedo rho in [0, 1], or [P, 3 + L]: albedo and latents
    level: Tensor  # [P] see Scene.level


class Scene(nn.Module, ABC):
    """Density and albedo at points inside a bounding sphere around the origin; outside, space is empty."""

    radius: float  # radius of the bounding sphere, in world units
    latent_colors: LatentColors | None  # None: the network predicts colours, not latents
    surface: float | None  # level of the surface; None: estimated from renders, see export/surface/grid.py
    empty_level: float  # level of empty space

    @abstractmethod
    def forward(self, points: Tensor, progress: float) -> SceneSample:
        """Evaluate density tau, albedo rho (paper 3.1) and level.

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

        It increases towards the inside, so that normals are ``-grad level / |grad level|``. It is the density
        itself, or the negative signed distance.
        """

    @abstractmethod
    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return optimizer parameter groups, each with its own ``lr`` derived from ``learning_rate``."""

    def after_step(self, learning_rate: float) -> None:
        """Do what follows a step of the optimizer, see ``Features.after_step``; nothing by default."""
        return


def device_of(scene: Scene) -> torch.device:
    """Return the device of the scene's parameters; the CPU if it has none."""
    return next((parameter.device for parameter in scene.parameters()), torch.device("cpu"))
