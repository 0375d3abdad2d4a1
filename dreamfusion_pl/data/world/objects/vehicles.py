"""Vehicles. They drive, fly and sail along +x."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamfusion_pl.data.world.colors import MAIN
from dreamfusion_pl.data.world.objects import primitives as sdf

Parts = list[tuple[Tensor, str]]


def _wheels(p: Tensor, xs: tuple[float, ...], y: float, z: float, radius: float) -> Tensor:
    q = sdf.mirrored(p)
    return sdf.union(*[sdf.cylinder(q, (x, y, z), radius, 0.09, axis=1, rounding=0.02) for x in xs])


def car(p: Tensor) -> Parts:
    """Body, cabin with windows, four wheels."""
    body = sdf.box(p, (0, 0, -0.08), (0.95, 0.42, 0.2), 0.08)
    cabin = sdf.wedge(p, ((-0.6, 0.1), (0.45, 0.1), (0.2, 0.45), (-0.45, 0.45)), 0.36, axis=1)
    roof = sdf.box(p, (-0.12, 0, 0.45), (0.34, 0.37, 0.04), 0.03)
    lights = sdf.ball(sdf.mirrored(p), (0.92, 0.28, -0.02), 0.09)
    return [
        (torch.minimum(body, roof), MAIN),
        (cabin, "glass"),
        (_wheels(p, (-0.55, 0.55), 0.38, -0.28, 0.22), "dark"),
        (lights, "gold"),
    ]


def truck(p: Tensor) -> Parts:
    """A cab in front of a light box."""
    cab = sdf.box(p, (0.65, 0, 0.0), (0.27, 0.38, 0.38), 0.06)
    window = sdf.box(p, (0.8, 0, 0.15), (0.15, 0.33, 0.14))
    cargo = sdf.box(p, (-0.28, 0, 0.15), (0.6, 0.42, 0.52), 0.02)
    return [
        (cab, MAIN),
        (cargo, "light"),
        (window, "glass"),
        (_wheels(p, (-0.6, -0.15, 0.62), 0.36, -0.42, 0.2), "dark"),
    ]


def bus(p: Tensor) -> Parts:
    """A long box with a row of windows."""
    body = sdf.box(p, (0, 0, 0), (1.0, 0.36, 0.42), 0.07)
    panes = sdf.union(*[sdf.box(p, (x, 0, 0.14), (0.15, 0.38, 0.14)) for x in (-0.72, -0.34, 0.04, 0.42)])
    front = sdf.box(p, (0.9, 0, 0.12), (0.13, 0.3, 0.18))
    return [
        (body, MAIN),
        (torch.minimum(panes, front), "glass"),
        (_wheels(p, (-0.6, 0.6), 0.32, -0.42, 0.19), "dark"),
    ]


def train(p: Tensor) -> Parts:
    """A steam engine: boiler, chimney, cab."""
    boiler = sdf.cylinder(p, (0.25, 0, 0.02), 0.3, 0.62, axis=0, rounding=0.03)
    cab = sdf.box(p, (-0.55, 0, 0.2), (0.32, 0.38, 0.5), 0.02)
    roof = sdf.box(p, (-0.55, 0, 0.74), (0.4, 0.45, 0.05))
    chimney = sdf.cone(p, (0.62, 0, 0.48), 0.1, 0.2, 0.24)
    deck = sdf.box(p, (0.05, 0, -0.32), (0.92, 0.36, 0.07))
    wheels = _wheels(p, (-0.6, -0.1, 0.4, 0.75), 0.34, -0.42, 0.2)
    return [(torch.minimum(boiler, cab), MAIN), (sdf.union(roof, chimney, deck, wheels), "dark")]


def airplane(p: Tensor) -> Parts:
    """Fuselage, wings and tail."""
    body = sdf.capsule(p, (-0.75, 0, 0), (0.75, 0, 0), 0.19)
    wing = sdf.box(sdf.rotated(sdf.mirrored(p), 12), (0.1, 0.5, 0), (0.2, 0.52, 0.05), 0.03)
    tail = sdf.box(sdf.mirrored(p), (-0.8, 0.2, 0.1), (0.13, 0.25, 0.04), 0.02)
    fin = sdf.wedge(p, ((-0.95, 0.05), (-0.55, 0.1), (-0.8, 0.6), (-1.0, 0.6)), 0.045, axis=1)
    window = sdf.ellipsoid(p, (0.68, 0, 0.1), (0.2, 0.15, 0.13))
    return [(sdf.union(body, wing, tail, fin), MAIN), (window, "glass")]


def boat(p: Tensor) -> Parts:
    """A hull in the named colour under a light sail."""
    hull = sdf.both(sdf.ellipsoid(p, (0, 0, 0), (0.95, 0.4, 0.45)), p[..., 2] + 0.08)
    mast = sdf.cylinder(p, (0, 0, 0.4), 0.05, 0.6)
    sail = sdf.wedge(p, ((-0.55, 0.12), (-0.06, 0.12), (-0.06, 0.95)), 0.04, axis=1)
    jib = sdf.wedge(p, ((0.08, 0.12), (0.55, 0.12), (0.08, 0.8)), 0.04, axis=1)
    return [(hull, MAIN), (mast, "wood"), (torch.minimum(sail, jib), "light")]


def rocket(p: Tensor) -> Parts:
    """An upright body with a nose, fins and a window."""
    body = sdf.ellipsoid(p, (0, 0, 0.1), (0.36, 0.36, 0.95))
    body = sdf.both(body, -0.62 - p[..., 2])
    fin = sdf.wedge(sdf.around(p, 4), ((0.2, -0.3), (0.62, -0.85), (0.62, -0.95), (0.2, -0.65)), 0.06, axis=1)
    window = sdf.ball(p, (0.3, 0, 0.3), 0.15)
    nozzle = sdf.cone(p, (0, 0, -0.68), 0.28, 0.16, 0.12)
    return [(torch.minimum(body, fin), MAIN), (window, "glass"), (nozzle, "dark")]


def helicopter(p: Tensor) -> Parts:
    """A cabin, a tail boom and a rotor."""
    cabin = sdf.ellipsoid(p, (0.25, 0, 0), (0.5, 0.36, 0.36))
    boom = sdf.capsule(p, (0, 0, 0.08), (-0.95, 0, 0.2), 0.09)
    fin = sdf.box(p, (-0.95, 0, 0.3), (0.1, 0.05, 0.22), 0.02)
    pane = sdf.ellipsoid(p, (0.5, 0, 0.06), (0.3, 0.28, 0.24))
    q = sdf.rotated(p, 35)
    blades = torch.minimum(
        sdf.box(q, (0.1, 0, 0.52), (0.95, 0.09, 0.03)), sdf.box(q, (0.1, 0, 0.52), (0.09, 0.95, 0.03))
    )
    mast = sdf.cylinder(p, (0.1, 0, 0.42), 0.06, 0.12)
    skid = sdf.capsule(sdf.mirrored(p), (-0.25, 0.28, -0.48), (0.65, 0.28, -0.48), 0.06)
    strut = sdf.capsule(sdf.mirrored(p), (0.2, 0.15, -0.2), (0.2, 0.28, -0.48), 0.05)
    return [
        (sdf.union(cabin, boom, fin), MAIN),
        (pane, "glass"),
        (sdf.union(blades, mast, skid, strut), "dark"),
    ]


SHAPES = (
    (car, ("automobile",)),
    (truck, ("lorry",)),
    (bus, ()),
    (train, ("locomotive",)),
    (airplane, ("plane",)),
    (boat, ("sailboat", "ship")),
    (rocket, ("spaceship",)),
    (helicopter, ("chopper",)),
)
