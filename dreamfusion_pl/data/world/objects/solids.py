"""Geometric solids."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dreamfusion_pl.data.world.colors import MAIN
from dreamfusion_pl.data.world.objects import primitives as sdf

Parts = list[tuple[Tensor, str]]


def ball(p: Tensor) -> Parts:
    """A ball."""
    return [(sdf.ball(p, (0, 0, 0), 0.8), MAIN)]


def cube(p: Tensor) -> Parts:
    """A cube with slightly rounded edges."""
    return [(sdf.box(p, (0, 0, 0), (0.6, 0.6, 0.6), 0.04), MAIN)]


def cylinder(p: Tensor) -> Parts:
    """An upright cylinder."""
    return [(sdf.cylinder(p, (0, 0, 0), 0.45, 0.7, rounding=0.02), MAIN)]


def cone(p: Tensor) -> Parts:
    """An upright cone."""
    return [(sdf.cone(p, (0, 0, 0), 0.6, 0.01, 0.65), MAIN)]


def pyramid(p: Tensor) -> Parts:
    """A square pyramid."""
    return [(sdf.pyramid(p, 0.75, 1.0), MAIN)]


def ring(p: Tensor) -> Parts:
    """An upright ring that faces the front."""
    return [(sdf.torus(p, (0, 0, 0), 0.7, 0.2, axis=0), MAIN)]


def star(p: Tensor) -> Parts:
    """A five-pointed star that faces the front."""
    corners = []
    for i in range(10):
        radius, angle = (1.0, 0.45)[i % 2], math.pi / 2 + i * math.pi / 5
        corners.append((radius * math.cos(angle), radius * math.sin(angle)))
    return [(sdf.extruded(p, sdf.polygon(p, corners) - 0.03, 0.2), MAIN)]


def heart(p: Tensor) -> Parts:
    """A heart that faces the front."""
    y, z = p[..., 1].abs(), p[..., 2]
    lobe = torch.hypot(y - 0.38, z - 0.3) - 0.45
    point = sdf.polygon(p, ((0, -0.85), (0.74, 0.03), (0, 0.55), (-0.74, 0.03)))
    return [(sdf.extruded(p, torch.minimum(lobe, point), 0.25) - 0.04, MAIN)]


def cross(p: Tensor) -> Parts:
    """A plus sign that faces the front."""
    upright = sdf.box(p, (0, 0, 0), (0.25, 0.27, 0.85), 0.02)
    return [(torch.minimum(upright, sdf.box(p, (0, 0, 0), (0.25, 0.85, 0.27), 0.02)), MAIN)]


SHAPES = (
    (ball, ("sphere", "orb")),
    (cube, ("block",)),
    (cylinder, ("column", "tube")),
    (cone, ()),
    (pyramid, ()),
    (ring, ("hoop", "torus")),
    (star, ()),
    (heart, ()),
    (cross, ("plus",)),
)
