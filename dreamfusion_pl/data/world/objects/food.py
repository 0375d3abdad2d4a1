"""Food and tableware."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamfusion_pl.data.world.colors import MAIN
from dreamfusion_pl.data.world.objects import primitives as sdf

Parts = list[tuple[Tensor, str]]


def apple(p: Tensor) -> Parts:
    """Round with a dent on top, a stem and a leaf."""
    body = torch.hypot(torch.hypot(p[..., 0], p[..., 1]) - 0.28, p[..., 2] * 1.02) - 0.48
    stem = sdf.capsule(p, (0, 0, 0.3), (0.05, 0, 0.75), 0.06)
    leaf = sdf.ellipsoid(sdf.rotated(p, 25, 0), (0.03, 0.38, 0.56), (0.14, 0.28, 0.06))
    return [(body, MAIN), (stem, "wood"), (leaf, "leaf")]


def banana(p: Tensor) -> Parts:
    """A bent bar with dark tips."""
    arc = sdf.torus(p, (0, 0, 0.75), 0.95, 0.21, axis=0)
    half = sdf.both(arc, p[..., 2] + 0.02 - 0.35 * p[..., 1].abs())
    tips = sdf.ball(sdf.mirrored(p), (0, 0.85, 0.31), 0.17)
    return [(half, MAIN), (tips, "wood")]


def carrot(p: Tensor) -> Parts:
    """A hanging cone with green leaves on top."""
    root = sdf.cone(p, (0, 0, -0.15), 0.04, 0.36, 0.7) - 0.03
    leaves = sdf.capsule(sdf.around(p, 5), (0.05, 0, 0.5), (0.28, 0, 1.0), 0.09)
    return [(root, MAIN), (leaves, "leaf")]


def cake(p: Tensor) -> Parts:
    """Two tiers, cream between them and a candle."""
    lower = sdf.cylinder(p, (0, 0, -0.35), 0.75, 0.25, rounding=0.04)
    upper = sdf.cylinder(p, (0, 0, 0.12), 0.5, 0.25, rounding=0.04)
    cream = torch.minimum(sdf.torus(p, (0, 0, -0.12), 0.62, 0.09), sdf.torus(p, (0, 0, 0.37), 0.42, 0.08))
    candle = sdf.cylinder(p, (0, 0, 0.6), 0.07, 0.25)
    flame = sdf.ball(p, (0, 0, 0.9), 0.09)
    return [(torch.minimum(lower, upper), MAIN), (torch.minimum(cream, candle), "light"), (flame, "beak")]


def donut(p: Tensor) -> Parts:
    """A lying ring of dough with icing in the named colour."""
    dough = sdf.torus(p, (0, 0, 0), 0.6, 0.3)
    icing = sdf.both(sdf.torus(p, (0, 0, 0.02), 0.6, 0.325), -(p[..., 2] - 0.02))
    return [(dough, "crust"), (icing, MAIN)]


def ice_cream(p: Tensor) -> Parts:
    """Two scoops in a cone."""
    waffle = sdf.cone(p, (0, 0, -0.5), 0.03, 0.42, 0.55)
    scoops = torch.minimum(sdf.ball(p, (0, 0, 0.2), 0.46), sdf.ball(p, (0, 0, 0.68), 0.35))
    return [(scoops, MAIN), (waffle, "crust")]


def mug(p: Tensor) -> Parts:
    """A hollow cup with a handle to the right of the front."""
    body = sdf.cut(
        sdf.cylinder(p, (0, 0, 0), 0.52, 0.6, rounding=0.03), sdf.cylinder(p, (0, 0, 0.15), 0.42, 0.62)
    )
    handle = sdf.cut(sdf.torus(p, (0, 0.55, 0), 0.34, 0.09, axis=0), sdf.cylinder(p, (0, 0, 0), 0.45, 1.0))
    return [(torch.minimum(body, handle), MAIN)]


def mushroom(p: Tensor) -> Parts:
    """A cap in the named colour with light dots, on a light stem."""
    cap = sdf.both(sdf.ellipsoid(p, (0, 0, 0.1), (0.8, 0.8, 0.65)), 0.1 - p[..., 2])
    stem = sdf.cone(p, (0, 0, -0.3), 0.3, 0.22, 0.45)
    q = sdf.around(p, 6)
    dots = torch.minimum(sdf.ball(q, (0.62, 0, 0.38), 0.13), sdf.ball(p, (0, 0, 0.7), 0.15))
    return [(cap, MAIN), (torch.minimum(stem, dots), "light")]


def pumpkin(p: Tensor) -> Parts:
    """A ribbed, flattened ball with a stem."""
    ribs = sdf.ellipsoid(sdf.around(p, 9), (0.42, 0, 0), (0.4, 0.3, 0.55))
    stem = sdf.capsule(p, (0, 0, 0.3), (0.08, 0, 0.75), 0.1)
    return [(ribs, MAIN), (stem, "leaf")]


SHAPES = (
    (apple, ()),
    (banana, ()),
    (carrot, ()),
    (cake, ()),
    (donut, ("doughnut",)),
    (ice_cream, ("icecream",)),
    (mug, ("cup",)),
    (mushroom, ("toadstool",)),
    (pumpkin, ()),
)
