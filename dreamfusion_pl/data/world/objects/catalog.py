"""Catalog of the world's named objects, in six families, each normalized to a ball of radius 0.5."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from dreamfusion_pl.data.world.colors import ROLES
from dreamfusion_pl.data.world.objects import buildings, food, furniture, solids, toys, vehicles

Parts = list[tuple[Tensor, str]]  # distance [...] and colour role of each part


class WorldObject(NamedTuple):
    """A named shape."""

    name: str
    family: str
    build: Callable[[Tensor], Parts]
    synonyms: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """All names of the object."""
        return (self.name, *self.synonyms)


class Frame(NamedTuple):
    """Bounds of a shape in its own coordinates."""

    center: Tensor  # [3] middle of the bounding box
    radius: float  # largest distance of the surface from the centre
    low: Tensor  # [3] corner of the normalized bounding box
    high: Tensor  # [3] opposite corner


_FAMILIES = {
    "solids": solids.SHAPES,
    "furniture": furniture.SHAPES,
    "food": food.SHAPES,
    "vehicles": vehicles.SHAPES,
    "toys and animals": toys.SHAPES,
    "plants and buildings": buildings.SHAPES,
}
OBJECTS: dict[str, WorldObject] = {
    build.__name__.replace("_", " "): WorldObject(build.__name__.replace("_", " "), family, build, synonyms)
    for family, shapes in _FAMILIES.items()
    for build, synonyms in shapes
}
OBJECT_NAMES = tuple(OBJECTS)


@cache
def frame(name: str) -> Frame:
    """Measure a shape's bounding box and radius on a grid of 80^3 points over [-1.5, 1.5]^3."""
    ticks = torch.linspace(-1.5, 1.5, 80)
    points = torch.stack(torch.meshgrid(ticks, ticks, ticks, indexing="ij"), dim=-1).reshape(-1, 3)
    distance = torch.stack([part for part, _ in OBJECTS[name].build(points)], dim=-1).amin(dim=-1)
    # A thin part may lie between grid points: take all points closer than half a cell to the surface.
    inside = points[distance < 0.5 * (ticks[1] - ticks[0])]
    low, high = inside.amin(dim=0), inside.amax(dim=0)
    center = 0.5 * (low + high)
    radius = float((inside - center).norm(dim=-1).amax())
    return Frame(center, radius, (low - center) * 0.5 / radius, (high - center) * 0.5 / radius)


def distance(name: str, points: Tensor) -> Tensor:
    """Signed distance to the normalized object, points [..., 3] -> [...]."""
    center, radius, _, _ = frame(name)
    scale = 0.5 / radius
    parts = OBJECTS[name].build(points / scale + center.to(points))
    return torch.stack([part for part, _ in parts]).amin(dim=0) * scale


def distances(name: str, points: Tensor) -> tuple[Tensor, Tensor]:
    """Signed distance to the normalized object, and the colour role of the nearest part.

    Args:
        name: a key of ``OBJECTS``.
        points: [..., 3] in coordinates where the object fills the ball of radius 0.5.

    Returns:
        Signed distance [...] and index into ``ROLES`` of the nearest part, int64 [...].
    """
    center, radius, _, _ = frame(name)
    scale = 0.5 / radius
    parts = OBJECTS[name].build(points / scale + center.to(points))
    stacked = torch.stack([part for part, _ in parts], dim=-1)
    distance, nearest = stacked.min(dim=-1)
    roles = torch.tensor([ROLES.index(role) for _, role in parts], device=points.device)
    return distance * scale, roles[nearest]
