"""Albedo of a field's surface as it appears to a viewer."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dreamfusion_pl.rendering.volume import compositing_weights
from dreamfusion_pl.scene.base import Scene, device_of

CHUNK = 1 << 17  # surface points processed at once
DEPTHS = torch.arange(-0.02, 0.201, 0.02)  # depths of a ray's samples behind the surface, in world units
STEP = 0.02


@torch.no_grad()
def visible_albedo(scene: Scene, points: Tensor, towards: Tensor, progress: float) -> Tensor:
    """Albedo of surface points as seen by a ray, composited over a short segment around the surface.

    The albedo at the surface point itself is not used: in a soft field the isosurface is in thin density,
    whose colour hardly contributed to any training render.

    Args:
        scene: the field, on any device.
        points: surface points, [P, 3] in world units.
        towards: unit vectors from the points towards the viewer, [P, 3]; the normals for a head-on view.
        progress: training progress in [0, 1] at which the scene is evaluated.

    Returns:
        Albedo [P, 3] in [0, 1] on the CPU.
    """
    pieces = zip(points.split(CHUNK), towards.split(CHUNK), strict=True)
    return torch.cat([_composited_albedo(scene, *piece, progress) for piece in pieces])


def oblique_directions(normals: Tensor, turn: Tensor) -> Tensor:
    """Return oblique view directions, 55 degrees off the surface normal, from above if possible.

    For turns of 0, 90, 180 and 270 degrees they are diagonals of a cube that stands on the surface.
    Directions from below are mirrored at the horizon, unless the point is not visible from there.

    Args:
        normals: unit vectors [P, 3].
        turn: angles about the normals, in radians, [P].

    Returns:
        Unit vectors towards the viewer, [P, 3].
    """
    is_steep = normals[:, 2:].abs() > 0.9
    other = torch.where(is_steep, normals.new_tensor([1.0, 0.0, 0.0]), normals.new_tensor([0.0, 0.0, 1.0]))
    across = torch.nn.functional.normalize(torch.linalg.cross(normals, other), dim=-1)
    side = turn.cos()[:, None] * across + turn.sin()[:, None] * torch.linalg.cross(normals, across)
    towards = (normals + math.sqrt(2.0) * side) / math.sqrt(3.0)
    above = torch.cat([towards[:, :2], towards[:, 2:].abs()], dim=-1)
    is_seen = (normals * above).sum(-1, keepdim=True) > 0.2
    return torch.where(is_seen, above, towards)


def _composited_albedo(scene: Scene, points: Tensor, towards: Tensor, progress: float) -> Tensor:
    densities, albedos = [], []
    for depth in DEPTHS:
        at = points - depth * towards
        outside = (at.norm(dim=-1) / scene.radius).clamp_min(1.0)  # onto the sphere
        sample = scene((at / outside[:, None]).to(device_of(scene)), progress)
        densities.append(sample.density.float().cpu())
        albedos.append(sample.appearance[:, :3].float().cpu())
    weights = compositing_weights(torch.stack(densities, dim=-1), torch.full((1,), STEP))
    weights = weights / weights.sum(-1, keepdim=True).clamp_min(1e-9)
    return (weights[..., None] * torch.stack(albedos, dim=1)).sum(1).clamp(0.0, 1.0)
