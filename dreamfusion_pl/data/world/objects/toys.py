"""Toys and animals. They look along +x."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamfusion_pl.data.world.colors import MAIN
from dreamfusion_pl.data.world.objects import primitives as sdf

Parts = list[tuple[Tensor, str]]


def _eyes(p: Tensor, x: float, y: float, z: float, radius: float) -> Tensor:
    return sdf.ball(sdf.mirrored(p), (x, y, z), radius)


def snowman(p: Tensor) -> Parts:
    """Three balls, a black hat and a carrot nose."""
    body = sdf.union(
        sdf.ball(p, (0, 0, -0.55), 0.45), sdf.ball(p, (0, 0, 0.05), 0.34), sdf.ball(p, (0, 0, 0.5), 0.25)
    )
    hat = torch.minimum(sdf.cylinder(p, (0, 0, 0.7), 0.34, 0.04), sdf.cylinder(p, (0, 0, 0.88), 0.21, 0.18))
    nose = sdf.cone(p, (0.36, 0, 0.5), 0.08, 0.01, 0.16, axis=0)
    return [(body, MAIN), (torch.minimum(hat, _eyes(p, 0.22, 0.09, 0.58, 0.05)), "dark"), (nose, "beak")]


def teddy_bear(p: Tensor) -> Parts:
    """A sitting bear with a light muzzle and belly."""
    q = sdf.mirrored(p)
    fur = sdf.union(
        sdf.ellipsoid(p, (0, 0, -0.25), (0.4, 0.45, 0.48)),
        sdf.ball(p, (0.03, 0, 0.48), 0.38),
        sdf.ball(q, (0, 0.34, 0.8), 0.16),
        sdf.capsule(q, (0.1, 0.4, 0.0), (0.35, 0.58, -0.2), 0.14),
        sdf.capsule(q, (0.1, 0.3, -0.6), (0.55, 0.4, -0.6), 0.17),
    )
    light = torch.minimum(
        sdf.ball(p, (0.36, 0, 0.4), 0.16), sdf.ellipsoid(p, (0.2, 0, -0.25), (0.25, 0.28, 0.3))
    )
    dark = torch.minimum(_eyes(p, 0.36, 0.15, 0.58, 0.06), sdf.ball(p, (0.51, 0, 0.44), 0.06))
    return [(fur, MAIN), (light, "cream"), (dark, "dark")]


def duck(p: Tensor) -> Parts:
    """A bath duck with an orange beak."""
    body = sdf.smooth_union(
        sdf.ellipsoid(p, (-0.05, 0, -0.3), (0.72, 0.5, 0.4)), sdf.ball(p, (0.35, 0, 0.35), 0.36), 0.15
    )
    tail = sdf.cone(sdf.rotated(p, 30, 1), (-0.62, 0, -0.42), 0.04, 0.25, 0.2, axis=0)
    wing = sdf.ellipsoid(sdf.mirrored(p), (-0.15, 0.45, -0.22), (0.35, 0.12, 0.2))
    beak = sdf.ellipsoid(p, (0.75, 0, 0.3), (0.2, 0.16, 0.07))
    return [
        (sdf.union(body, tail, wing), MAIN),
        (beak, "beak"),
        (_eyes(p, 0.58, 0.2, 0.48, 0.07), "dark"),
    ]


def cat(p: Tensor) -> Parts:
    """A sitting cat with pointed ears and a curled tail."""
    q = sdf.mirrored(p)
    body = sdf.smooth_union(
        sdf.ellipsoid(p, (-0.12, 0, -0.35), (0.36, 0.32, 0.5)), sdf.ball(p, (0.12, 0, 0.35), 0.33), 0.15
    )
    ears = sdf.cone(sdf.rotated(q, -12, 0), (0.08, 0.06, 0.75), 0.15, 0.01, 0.18)
    legs = sdf.capsule(q, (0.18, 0.14, -0.3), (0.3, 0.14, -0.8), 0.1)
    tail = sdf.both(sdf.torus(p, (-0.5, 0.28, -0.68), 0.3, 0.09), -p[..., 1] + 0.05)
    nose = sdf.ball(p, (0.44, 0, 0.3), 0.06)
    return [
        (sdf.union(body, ears, legs, tail), MAIN),
        (torch.minimum(_eyes(p, 0.38, 0.14, 0.42, 0.065), nose), "dark"),
    ]


def dog(p: Tensor) -> Parts:
    """A standing dog with hanging dark ears."""
    q = sdf.mirrored(p)
    fur = sdf.union(
        sdf.capsule(p, (-0.5, 0, 0), (0.35, 0, 0), 0.26),
        sdf.capsule(p, (0.35, 0, 0.05), (0.55, 0, 0.4), 0.18),
        sdf.ball(p, (0.6, 0, 0.5), 0.27),
        sdf.capsule(p, (0.7, 0, 0.42), (0.92, 0, 0.4), 0.13),
        sdf.capsule(q, (0.38, 0.15, -0.1), (0.38, 0.17, -0.65), 0.1),
        sdf.capsule(q, (-0.52, 0.15, -0.1), (-0.52, 0.17, -0.65), 0.1),
        sdf.capsule(p, (-0.7, 0, 0.1), (-0.95, 0, 0.45), 0.07),
    )
    ears = sdf.ellipsoid(q, (0.52, 0.28, 0.46), (0.13, 0.07, 0.26))
    dark = sdf.union(ears, sdf.ball(p, (1.04, 0, 0.45), 0.07), _eyes(p, 0.82, 0.11, 0.6, 0.05))
    return [(fur, MAIN), (dark, "dark")]


def rabbit(p: Tensor) -> Parts:
    """A sitting rabbit with long ears."""
    q = sdf.mirrored(p)
    fur = sdf.union(
        sdf.ellipsoid(p, (-0.1, 0, -0.5), (0.42, 0.36, 0.42)),
        sdf.ball(p, (0.12, 0, 0.08), 0.3),
        sdf.ellipsoid(sdf.rotated(q, -10, 0), (0.05, 0.06, 0.65), (0.08, 0.11, 0.42)),
        sdf.capsule(q, (0.1, 0.2, -0.82), (0.38, 0.22, -0.82), 0.1),
    )
    tail = sdf.ball(p, (-0.55, 0, -0.55), 0.16)
    return [(fur, MAIN), (tail, "light"), (_eyes(p, 0.37, 0.13, 0.15, 0.06), "dark")]


def fish(p: Tensor) -> Parts:
    """A fish with tail and fins."""
    body = sdf.ellipsoid(p, (0.15, 0, 0), (0.7, 0.25, 0.42))
    tail = sdf.wedge(p, ((-0.45, 0.0), (-0.95, 0.42), (-0.8, 0.0), (-0.95, -0.42)), 0.06, axis=1)
    fin = sdf.wedge(p, ((-0.2, 0.3), (0.3, 0.35), (-0.15, 0.68)), 0.05, axis=1)
    return [
        (sdf.union(body, tail, fin), MAIN),
        (_eyes(p, 0.55, 0.17, 0.1, 0.08), "dark"),
    ]


def penguin(p: Tensor) -> Parts:
    """A penguin in the named colour with a light belly, orange beak and feet."""
    q = sdf.mirrored(p)
    coat = sdf.union(
        sdf.ellipsoid(p, (0, 0, -0.15), (0.42, 0.45, 0.65)),
        sdf.ball(p, (0.02, 0, 0.55), 0.33),
        sdf.ellipsoid(sdf.rotated(q, 15, 0), (0, 0.45, -0.2), (0.14, 0.08, 0.45)),
    )
    belly = sdf.ellipsoid(p, (0.16, 0, -0.2), (0.33, 0.34, 0.5))
    beak = sdf.cone(p, (0.4, 0, 0.52), 0.12, 0.02, 0.16, axis=0)
    feet = sdf.ellipsoid(q, (0.2, 0.2, -0.8), (0.28, 0.16, 0.08))
    return [
        (coat, MAIN),
        (belly, "light"),
        (torch.minimum(beak, feet), "beak"),
        (_eyes(p, 0.28, 0.14, 0.65, 0.06), "dark"),
    ]


def turtle(p: Tensor) -> Parts:
    """A shell in the named colour; head and legs are green."""
    shell = sdf.both(sdf.ellipsoid(p, (0, 0, -0.1), (0.68, 0.58, 0.52)), -0.1 - p[..., 2])
    q = sdf.mirrored(p)
    skin = sdf.union(
        sdf.capsule(p, (0.5, 0, -0.1), (0.82, 0, 0.12), 0.16),
        sdf.ellipsoid(sdf.mirrored(q, 0), (0.42, 0.48, -0.22), (0.2, 0.22, 0.12)),
        sdf.cylinder(p, (0, 0, -0.16), 0.55, 0.08),
    )
    return [(shell, MAIN), (skin, "leaf"), (_eyes(p, 0.93, 0.1, 0.18, 0.05), "dark")]


def robot(p: Tensor) -> Parts:
    """A box on legs with a box for a head, an antenna and glowing eyes."""
    q = sdf.mirrored(p)
    body = torch.minimum(
        sdf.box(p, (0, 0, -0.1), (0.28, 0.38, 0.38), 0.04), sdf.box(p, (0, 0, 0.53), (0.25, 0.28, 0.2), 0.03)
    )
    limbs = sdf.union(
        sdf.box(q, (0, 0.5, -0.08), (0.1, 0.09, 0.34), 0.03),
        sdf.box(q, (0, 0.2, -0.7), (0.13, 0.12, 0.26), 0.02),
        sdf.capsule(p, (0, 0, 0.7), (0, 0, 0.92), 0.04),
        sdf.cylinder(p, (0, 0, 0.3), 0.12, 0.08),
    )
    eyes = torch.minimum(_eyes(p, 0.24, 0.13, 0.57, 0.08), sdf.ball(p, (0, 0, 0.95), 0.08))
    return [(body, MAIN), (limbs, "metal"), (eyes, "gold")]


SHAPES = (
    (snowman, ()),
    (teddy_bear, ("teddy", "bear")),
    (duck, ()),
    (cat, ("kitten",)),
    (dog, ("puppy",)),
    (rabbit, ("bunny",)),
    (fish, ()),
    (penguin, ()),
    (turtle, ("tortoise",)),
    (robot, ()),
)
