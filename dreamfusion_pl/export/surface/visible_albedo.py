"""The colour that a surface in a field has for those who look at it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dreamfusion_pl.rendering.volume import compositing_weights
from dreamfusion_pl.scene.base import Scene, device_of

CHUNK = 1 << 17  # points of the surface that are looked at at once
DEPTHS = torch.arange(-0.02, 0.201, 0.02)  # of a ray's samples behind the surface, in world units
STEP = 0.02


@torch.no_grad()
def seen_albedo(scene: Scene, points: Tensor, towards: Tensor, progress: float) -> Tensor:
    """Albedo of a surface as a ray sees it: composited on the last bit of its way.

    The albedo at the surface itself does not serve: where a field is soft its surface lies in thin density,
    whose colour no picture of the training has shown.

    Args:
        scene: the field, on any device.
        points: of the surface, [P, 3] in world units.
        towards: unit vectors to where the rays come from, [P, 3]; the normals for those who look head-on.
        progress: training progress in [0, 1] at which the scene is evaluated.

    Returns:
        [P, 3] in [0, 1] on the CPU.
    """
    pieces = zip(points.split(CHUNK), towards.split(CHUNK), strict=True)
    return torch.cat([_look(scene, *piece, progress) for piece in pieces])


def aslant(normals: Tensor, turn: Tensor) -> Tensor:
    """Directions to those who see a surface: 55 degrees off its normal, and from above where that can be.

    Four of them, at turns of 0, 90, 180 and 270 degrees, are diagonals of a cube that stands on the surface.
    Those that come from below are mirrored at the horizon, unless the surface cannot be seen from there.

    Args:
        normals: unit vectors [P, 3].
        turn: angles about them, in radians, [P].

    Returns:
        Unit vectors [P, 3].
    """
    is_steep = normals[:, 2:].abs() > 0.9
    other = torch.where(is_steep, normals.new_tensor([1.0, 0.0, 0.0]), normals.new_tensor([0.0, 0.0, 1.0]))
    across = torch.nn.functional.normalize(torch.linalg.cross(normals, other), dim=-1)
    side = turn.cos()[:, None] * across + turn.sin()[:, None] * torch.linalg.cross(normals, across)
    towards = (normals + math.sqrt(2.0) * side) / math.sqrt(3.0)
    above = torch.cat([towards[:, :2], towards[:, 2:].abs()], dim=-1)
    is_seen = (normals * above).sum(-1, keepdim=True) > 0.2
    return torch.where(is_seen, above, towards)


def _look(scene: Scene, points: Tensor, towards: Tensor, progress: float) -> Tensor:
    densities, albedos = [], []
    for depth in DEPTHS:
        at = points - depth * towards
        outside = (at.norm(dim=-1) / scene.radius).clamp_min(1.0)  # nothing is known out there
        matter = scene((at / outside[:, None]).to(device_of(scene)), progress)
        densities.append(matter.density.float().cpu())
        albedos.append(matter.looks[:, :3].float().cpu())
    weights = compositing_weights(torch.stack(densities, dim=-1), torch.full((1,), STEP))
    weights = weights / weights.sum(-1, keepdim=True).clamp_min(1e-9)
    return (weights[..., None] * torch.stack(albedos, dim=1)).sum(1).clamp(0.0, 1.0)
