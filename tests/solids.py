"""Solids that are known, and objects of the world that stand in for results."""

from __future__ import annotations

import math
from typing import Any, final

import torch
from torch import Tensor

from dreamfusion_pl.data.world.captions import parse
from dreamfusion_pl.data.world.scenes import WorldScene
from dreamfusion_pl.export.surface.mesh import Mesh
from dreamfusion_pl.metrics.alignment import Alignment
from dreamfusion_pl.metrics.geometry import distance_surface
from dreamfusion_pl.metrics.solid import Distance, Solid, solid_of
from dreamfusion_pl.scene.base import Scene, SceneSample

IDENTITY = Alignment(0.0, 1.0, (0.0, 0.0, 0.0))


def ball(radius: float) -> Distance:
    """Signed distance to a ball around the origin."""
    return lambda points: points.norm(dim=-1) - radius


def solid(distance: Distance, half: float = 0.7, resolution: int = 80) -> Solid:
    """The solid of a signed distance, by way of its mesh, as a result's."""
    vertices, faces = distance_surface(distance, half, resolution)
    return solid_of(Mesh(vertices, faces, torch.zeros_like(vertices)))


def world(prompt: str) -> WorldScene:
    """The object that a prompt names."""
    scene = parse(prompt)
    assert scene is not None, prompt
    return scene


def turned(distance: Distance, yaw_deg: float, scale: float = 0.8) -> Distance:
    """The same object turned about the up axis, smaller, and not in the middle."""
    moved = Alignment(math.radians(yaw_deg), scale, (0.1, -0.05, 0.05))
    return lambda points: scale * distance(moved.to_truth(points))


@final
class WorldField(Scene):
    """A field that shows an object of the world, turned about the up axis, and knows its surface.

    Args:
        prompt: names the object.
        yaw_deg: its turn.
    """

    radius, latent_colors, surface, empty_level = 0.7, None, 0.0, -1.0

    def __init__(self, prompt: str, yaw_deg: float = 0.0) -> None:
        super().__init__()
        self.object = world(prompt)
        self.turn = Alignment(math.radians(yaw_deg), 1.0, (0.0, 0.0, 0.0))

    def level(self, points: Tensor, progress: float) -> Tensor:
        return -self.object.distance(self.turn.to_truth(points))

    def density(self, points: Tensor, progress: float) -> Tensor:
        return self._density(self.level(points, progress))

    def forward(self, points: Tensor, progress: float) -> SceneSample:
        level = self.level(points, progress)
        return SceneSample(self._density(level), self.object.albedo(self.turn.to_truth(points)), level)

    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return []

    def _density(self, level: Tensor) -> Tensor:
        return 150.0 * torch.sigmoid(level / 0.005)
