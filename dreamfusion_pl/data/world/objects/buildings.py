"""Plants and buildings. Doors look along +x."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamfusion_pl.data.world.colors import MAIN
from dreamfusion_pl.data.world.objects import primitives as sdf

Parts = list[tuple[Tensor, str]]


def tree(p: Tensor) -> Parts:
    """A round crown on a trunk."""
    crown = sdf.union(
        sdf.ball(p, (0, 0, 0.4), 0.5),
        sdf.ball(sdf.around(p, 5), (0.3, 0, 0.2), 0.33),
    )
    return [(crown, MAIN), (sdf.cone(p, (0, 0, -0.45), 0.18, 0.12, 0.5), "wood")]


def pine_tree(p: Tensor) -> Parts:
    """Three stacked cones on a trunk."""
    tiers = sdf.union(
        sdf.cone(p, (0, 0, -0.3), 0.58, 0.15, 0.28),
        sdf.cone(p, (0, 0, 0.1), 0.46, 0.1, 0.26),
        sdf.cone(p, (0, 0, 0.52), 0.34, 0.01, 0.32),
    )
    return [(tiers, MAIN), (sdf.cylinder(p, (0, 0, -0.72), 0.13, 0.2), "wood")]


def cactus(p: Tensor) -> Parts:
    """A trunk with two bent arms in a pot."""
    trunk = sdf.capsule(p, (0, 0, -0.5), (0, 0, 0.65), 0.2)
    right = torch.minimum(
        sdf.capsule(p, (0, 0, 0.0), (0, 0.5, 0.0), 0.12), sdf.capsule(p, (0, 0.5, 0.0), (0, 0.5, 0.42), 0.12)
    )
    left = torch.minimum(
        sdf.capsule(p, (0, 0, -0.2), (0, -0.46, -0.2), 0.12),
        sdf.capsule(p, (0, -0.46, -0.2), (0, -0.46, 0.2), 0.12),
    )
    pot = sdf.cone(p, (0, 0, -0.7), 0.26, 0.38, 0.22)
    return [(sdf.union(trunk, right, left), MAIN), (pot, "crust")]


def flower(p: Tensor) -> Parts:
    """Petals in the named colour around a golden heart that faces the front."""
    q = torch.stack([p[..., 2] - 0.45, p[..., 1], p[..., 0]], dim=-1)
    petals = sdf.ellipsoid(sdf.around(q, 6), (0.32, 0, 0), (0.25, 0.17, 0.08))
    heart = sdf.ball(p, (0.05, 0, 0.45), 0.17)
    stem = sdf.capsule(p, (0, 0, 0.4), (0, 0, -0.9), 0.05)
    leaf = sdf.ellipsoid(sdf.rotated(sdf.mirrored(p), 35, 0), (0, -0.12, -0.62), (0.1, 0.3, 0.05))
    return [(petals, MAIN), (heart, "gold"), (torch.minimum(stem, leaf), "leaf")]


def house(p: Tensor) -> Parts:
    """Light walls, a roof in the named colour, door, window, chimney."""
    walls = sdf.box(p, (0, 0, -0.25), (0.5, 0.6, 0.42))
    roof = sdf.wedge(p, ((-0.66, 0.15), (0.66, 0.15), (0.0, 0.75)), 0.7, axis=1)
    door = sdf.box(p, (0.5, 0.2, -0.4), (0.03, 0.14, 0.27))
    panes = torch.minimum(
        sdf.box(p, (0.5, -0.28, -0.2), (0.03, 0.15, 0.15)), sdf.box(p, (0, 0, -0.2), (0.18, 0.63, 0.15))
    )
    chimney = sdf.box(p, (-0.3, 0.35, 0.6), (0.1, 0.1, 0.25))
    return [(walls, "cream"), (roof, MAIN), (torch.minimum(door, chimney), "wood"), (panes, "glass")]


def castle(p: Tensor) -> Parts:
    """Four towers with cone roofs around a keep; walls in the named colour."""
    q = sdf.mirrored(sdf.mirrored(p, 0), 1)
    walls = sdf.box(p, (0, 0, -0.35), (0.55, 0.55, 0.35))
    towers = sdf.cylinder(q, (0.55, 0.55, -0.15), 0.22, 0.55)
    keep = sdf.box(p, (0, 0, 0.05), (0.25, 0.25, 0.5))
    roofs = sdf.cone(q, (0.55, 0.55, 0.6), 0.28, 0.01, 0.22)
    gate = sdf.box(p, (0.54, 0, -0.45), (0.04, 0.17, 0.25))
    return [(sdf.union(walls, towers, keep), MAIN), (torch.minimum(roofs, gate), "dark")]


def lighthouse(p: Tensor) -> Parts:
    """A tapering tower with a lantern and a dark roof."""
    tower = sdf.cone(p, (0, 0, -0.25), 0.36, 0.2, 0.7)
    lantern = sdf.cylinder(p, (0, 0, 0.58), 0.16, 0.14)
    gallery = sdf.cylinder(p, (0, 0, 0.44), 0.28, 0.04)
    roof = sdf.cone(p, (0, 0, 0.85), 0.24, 0.01, 0.14)
    band = sdf.cone(p, (0, 0, -0.15), 0.315, 0.275, 0.14)
    return [
        (tower, MAIN),
        (band, "light"),
        (lantern, "gold"),
        (torch.minimum(gallery, roof), "dark"),
    ]


def windmill(p: Tensor) -> Parts:
    """A tower with four light sails at its front."""
    tower = sdf.cone(p, (0, 0, -0.25), 0.4, 0.25, 0.65)
    cap = sdf.cone(p, (0, 0, 0.52), 0.32, 0.02, 0.16)
    y, z = p[..., 1], p[..., 2] - 0.35
    q = sdf.rotated(torch.stack([p[..., 0], y, z], dim=-1), 40, 0)
    sails = torch.minimum(
        sdf.box(q, (0.36, 0, 0), (0.03, 0.75, 0.1)), sdf.box(q, (0.36, 0, 0), (0.03, 0.1, 0.75))
    )
    hub = sdf.cylinder(p, (0.32, 0, 0.35), 0.07, 0.1, axis=0)
    return [(tower, MAIN), (sails, "light"), (torch.minimum(cap, hub), "wood")]


def tent(p: Tensor) -> Parts:
    """A ridge tent with a dark opening."""
    cloth = sdf.wedge(p, ((-0.7, -0.5), (0.7, -0.5), (0.0, 0.5)), 0.8, axis=0)
    opening = sdf.wedge(
        p - p.new_tensor((0.79, 0, 0)), ((-0.3, -0.48), (0.3, -0.48), (0.0, 0.2)), 0.04, axis=0
    )
    return [(cloth, MAIN), (opening, "dark")]


SHAPES = (
    (tree, ()),
    (pine_tree, ("pine", "fir")),
    (cactus, ()),
    (flower, ()),
    (house, ("cottage", "home")),
    (castle, ("fortress",)),
    (lighthouse, ()),
    (windmill, ("mill",)),
    (tent, ()),
)
