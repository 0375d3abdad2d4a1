"""Scenes of the world: one object, or two in a relation, with signed distance and albedo."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from dreamfusion_pl.data.world.colors import contrast, palette, pattern_mask
from dreamfusion_pl.data.world.objects.catalog import distance, distances, frame

RELATIONS = ("on", "next to")
# Objects on which another can stand: their tops are flat and level.
BASES = ("cube", "cylinder", "table", "stool", "cake", "dresser", "bed", "bookshelf")
# Objects that can stand on a base or next to another object, and are recognizable at half size.
MOVABLES = (
    "ball",
    "cube",
    "cone",
    "cylinder",
    "pyramid",
    "heart",
    "star",
    "mug",
    "apple",
    "pumpkin",
    "car",
    "duck",
    "cat",
    "robot",
    "snowman",
    "house",
)


class Item(NamedTuple):
    """An object as a caption describes it."""

    object: str  # key of OBJECTS
    color: str  # key of COLORS
    pattern: str = "plain"  # one of PATTERNS


class WorldScene(NamedTuple):
    """A scene as a caption describes it."""

    items: tuple[Item, ...]  # one, or two in a relation
    relation: str = ""  # "", or one of RELATIONS: items[0] relation items[1]

    def distance(self, points: Tensor) -> Tensor:
        """Signed distance to the scene, points [..., 3] -> [...]."""
        return scene_distance(self.layout, points)

    def albedo(self, points: Tensor) -> Tensor:
        """Albedo of the nearest part, points [..., 3] -> [..., 3]."""
        where = locate(self.layout, points)
        colors = torch.stack([palette(item.color) for item in self.items]).to(points)
        patterns = tuple(item.pattern for item in self.items)
        return paint(where, colors[where.item, where.role], patterns)

    @property
    def layout(self) -> Layout:
        """The geometry only."""
        return Layout(tuple(item.object for item in self.items), self.relation)


class Layout(NamedTuple):
    """Geometry of a scene, without colours."""

    objects: tuple[str, ...]
    relation: str = ""


class Surface(NamedTuple):
    """The nearest part of a scene at some points."""

    distance: Tensor  # [...]
    item: Tensor  # [...] int64, which item
    role: Tensor  # [...] int64, which colour role
    local: Tensor  # [..., 3] position in the item's own coordinates


@cache
def placements(layout: Layout) -> list[tuple[float, tuple[float, float, float]]]:
    """Scale and offset of each object so that the scene fills the ball of radius 0.5."""
    if not layout.relation:
        return [(1.0, (0.0, 0.0, 0.0))]
    first, second = frame(layout.objects[0]), frame(layout.objects[1])
    if layout.relation == "on":
        scales = (0.5, 0.58)
        heights = [s * float(f.high[2] - f.low[2]) for s, f in zip(scales, (first, second), strict=True)]
        bottom = -0.5 * sum(heights)
        z_base = bottom - scales[1] * float(second.low[2])
        z_top = bottom + heights[1] - scales[0] * float(first.low[2])
        return [(scales[0], (0.0, 0.0, z_top)), (scales[1], (0.0, 0.0, z_base))]
    scales = (0.54, 0.54)
    widths = [s * float(f.high[1] - f.low[1]) for s, f in zip(scales, (first, second), strict=True)]
    heights = [s * float(f.high[2] - f.low[2]) for s, f in zip(scales, (first, second), strict=True)]
    gap, ground = 0.04, -0.5 * max(heights)
    left = -0.5 * (sum(widths) + gap)
    y_first = left - scales[0] * float(first.low[1])
    y_second = left + widths[0] + gap - scales[1] * float(second.low[1])
    z = [ground - s * float(f.low[2]) for s, f in zip(scales, (first, second), strict=True)]
    return [(scales[0], (0.0, y_first, z[0])), (scales[1], (0.0, y_second, z[1]))]


def scene_distance(layout: Layout, points: Tensor) -> Tensor:
    """Signed distance to the scene, points [..., 3] -> [...]."""
    parts = [
        distance(name, (points - points.new_tensor(offset)) / scale) * scale
        for name, (scale, offset) in zip(layout.objects, placements(layout), strict=True)
    ]
    return torch.stack(parts).amin(dim=0)


def locate(layout: Layout, points: Tensor) -> Surface:
    """Signed distance to the scene, and its nearest part, at points [..., 3]."""
    found = []
    for name, (scale, offset) in zip(layout.objects, placements(layout), strict=True):
        local = (points - points.new_tensor(offset)) / scale
        nearest, role = distances(name, local)
        found.append((nearest * scale, role, local))
    least, item = torch.stack([f[0] for f in found], dim=-1).min(dim=-1)
    role = torch.stack([f[1] for f in found], dim=-1).gather(-1, item[..., None])[..., 0]
    local = torch.stack([f[2] for f in found], dim=-2)
    index = item[..., None, None].expand(*item.shape, 1, 3)
    return Surface(least, item, role, local.gather(-2, index)[..., 0, :])


def paint(where: Surface, base: Tensor, patterns: tuple[str, ...]) -> Tensor:
    """Apply patterns to the parts of the named colour: base albedo [..., 3] -> [..., 3]."""
    albedo = base
    for i, pattern in enumerate(patterns):
        if pattern != "plain":
            mask = pattern_mask(where.local, pattern) & (where.item == i) & (where.role == 0)
            albedo = torch.where(mask[..., None], contrast(base), albedo)
    return albedo
