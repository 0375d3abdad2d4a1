"""Scenes that are known exactly, and learned ones in one call."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, final

import torch
from torch import Tensor

from dreamfusion_pl.scene.base import Scene, SceneSample
from dreamfusion_pl.scene.density import ExponentialDensity, LinearBias, SoftplusDensity
from dreamfusion_pl.scene.field_scene import FieldScene
from dreamfusion_pl.scene.frequencies import FrequencyFeatures
from dreamfusion_pl.scene.planes import PlaneFeatures


def plane_scene(
    radius: float = 0.75, latents: int = 0, strength: float = 10.0, **features: Any
) -> FieldScene:
    """A triplane with a softplus density."""
    return FieldScene(PlaneFeatures(**features), SoftplusDensity(bias=LinearBias(strength)), radius, latents)


def frequency_scene(radius: float = 1.4, latents: int = 0, **features: Any) -> FieldScene:
    """The paper's MLP with an exponential density."""
    return FieldScene(FrequencyFeatures(**features), ExponentialDensity(), radius, latents)


class AnalyticDensity(Scene):
    """A density that is a formula: its surface is to be found, and there is nothing to learn."""

    latent_colors, surface, empty_level = None, None, 0.0

    @abstractmethod
    def appearance(self, points: Tensor) -> Tensor:
        """Albedo [P, 3] at points [P, 3]."""

    @final
    def forward(self, points: Tensor, progress: float) -> SceneSample:
        density = self.density(points, progress)
        return SceneSample(density, self.appearance(points), density)

    @final
    def level(self, points: Tensor, progress: float) -> Tensor:
        return self.density(points, progress)

    @final
    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return []


@final
class Balls(AnalyticDensity):
    """Balls of uniform or soft-edged density; red where x > 0, blue elsewhere."""

    radius = 1.0

    def __init__(self, balls: list[tuple[Tensor, float]], inside: float = 60.0, edge: float = 0.0) -> None:
        super().__init__()
        self.balls, self.inside, self.edge = balls, inside, edge

    def density(self, points: Tensor, progress: float) -> Tensor:
        signed = torch.stack([(points - centre).norm(dim=-1) - size for centre, size in self.balls]).amin(0)
        if self.edge == 0.0:
            return self.inside * (signed < 0.0)
        return self.inside * torch.sigmoid(-signed / self.edge)

    def appearance(self, points: Tensor) -> Tensor:
        red = (points[:, :1] > 0.0).float()
        return torch.cat([red, torch.zeros_like(red), 1.0 - red], dim=-1)


@final
class Torus(AnalyticDensity):
    """A ring around the z-axis; red where x > 0, blue elsewhere.

    Args:
        ring: distance of the tube's middle from the axis.
        tube: radius of the tube.
        inside: density.
        edge: width of its soft edge.
    """

    radius = 1.0

    def __init__(self, ring: float, tube: float, inside: float, edge: float) -> None:
        super().__init__()
        self.ring, self.tube, self.inside, self.edge = ring, tube, inside, edge

    def density(self, points: Tensor, progress: float) -> Tensor:
        across = torch.stack([points[:, :2].norm(dim=-1) - self.ring, points[:, 2]], dim=-1)
        return self.inside * torch.sigmoid((self.tube - across.norm(dim=-1)) / self.edge)

    def appearance(self, points: Tensor) -> Tensor:
        red = (points[:, :1] > 0.0).float()
        return torch.cat([red, torch.zeros_like(red), 1.0 - red], dim=-1)
