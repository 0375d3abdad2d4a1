"""Furniture. Fronts look along +x; seats and shelves open to the front."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamfusion_pl.data.world.colors import MAIN
from dreamfusion_pl.data.world.objects import primitives as sdf

Parts = list[tuple[Tensor, str]]


def _legs(p: Tensor, x: float, y: float, low: float, high: float, thick: float) -> Tensor:
    q = sdf.mirrored(sdf.mirrored(p, 0), 1)
    return sdf.box(q, (x, y, 0.5 * (low + high)), (thick, thick, 0.5 * (high - low)))


def chair(p: Tensor) -> Parts:
    """Seat, back and four legs."""
    seat = sdf.box(p, (0, 0, 0), (0.5, 0.5, 0.08), 0.03)
    back = sdf.box(p, (-0.44, 0, 0.5), (0.07, 0.5, 0.5), 0.03)
    return [(sdf.union(seat, back, _legs(p, 0.4, 0.4, -0.75, 0.0, 0.08)), MAIN)]


def table(p: Tensor) -> Parts:
    """A wide top on four legs."""
    top = sdf.box(p, (0, 0, 0.35), (0.6, 0.9, 0.08), 0.03)
    return [(torch.minimum(top, _legs(p, 0.48, 0.78, -0.5, 0.35, 0.08)), MAIN)]


def stool(p: Tensor) -> Parts:
    """A round seat on three splayed legs."""
    seat = sdf.cylinder(p, (0, 0, 0.4), 0.48, 0.1, rounding=0.04)
    leg = sdf.capsule(sdf.around(p, 3), (0.25, 0, 0.35), (0.5, 0, -0.6), 0.07)
    return [(seat, MAIN), (leg, "wood")]


def bed(p: Tensor) -> Parts:
    """Blanket in the named colour, pillow at the wooden headboard."""
    blanket = sdf.box(p, (0.12, 0, 0.02), (0.78, 0.56, 0.16), 0.08)
    pillow = sdf.box(p, (-0.65, 0, 0.2), (0.2, 0.4, 0.1), 0.09)
    headboard = sdf.box(p, (-0.93, 0, 0.1), (0.06, 0.6, 0.5), 0.03)
    frame = sdf.box(p, (0, 0, -0.22), (0.93, 0.58, 0.12), 0.02)
    return [(blanket, MAIN), (pillow, "light"), (torch.minimum(headboard, frame), "wood")]


def sofa(p: Tensor) -> Parts:
    """Seat, back and two arms."""
    seat = sdf.box(p, (0.05, 0, -0.15), (0.42, 0.75, 0.2), 0.08)
    back = sdf.box(p, (-0.38, 0, 0.15), (0.16, 0.9, 0.5), 0.1)
    arm = sdf.box(sdf.mirrored(p), (0.02, 0.84, -0.03), (0.45, 0.15, 0.33), 0.1)
    return [(sdf.union(seat, back, arm), MAIN)]


def lamp(p: Tensor) -> Parts:
    """A shade in the named colour on a metal stand."""
    shade = sdf.cone(p, (0, 0, 0.5), 0.55, 0.3, 0.32)
    stand = sdf.capsule(p, (0, 0, -0.7), (0, 0, 0.3), 0.06)
    foot = sdf.cylinder(p, (0, 0, -0.72), 0.35, 0.06, rounding=0.02)
    return [(shade, MAIN), (torch.minimum(stand, foot), "metal")]


def bookshelf(p: Tensor) -> Parts:
    """An upright case with three open shelves."""
    case = sdf.box(p, (0, 0, 0), (0.26, 0.55, 0.95))
    for z in (-0.6, 0.0, 0.6):
        case = sdf.cut(case, sdf.box(p, (0.12, 0, z), (0.26, 0.46, 0.23)))
    return [(case, MAIN)]


def dresser(p: Tensor) -> Parts:
    """A chest with three drawers and knobs."""
    body = sdf.box(p, (0, 0, 0), (0.36, 0.72, 0.58), 0.02)
    for z in (-0.19, 0.19):
        body = sdf.cut(body, sdf.box(p, (0.38, 0, z), (0.05, 0.68, 0.025)))
    q = sdf.mirrored(p)
    knobs = sdf.union(*[sdf.ball(q, (0.4, 0.36, z), 0.075) for z in (-0.38, 0.0, 0.38)])
    return [(body, MAIN), (knobs, "gold")]


SHAPES = (
    (chair, ("seat",)),
    (table, ("desk",)),
    (stool, ()),
    (bed, ()),
    (sofa, ("couch",)),
    (lamp, ()),
    (bookshelf, ("shelf", "bookcase")),
    (dresser, ("drawers",)),
)
