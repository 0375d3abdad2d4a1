"""Normals of the field on a mesh: vertex normals, and a tangent-space normal map as in glTF."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dreamfusion_pl.export.texture.atlas import BAND, Charts, Texels, dilate, surface_texels
from dreamfusion_pl.rendering.shading import finite_difference_normals
from dreamfusion_pl.scene.base import Scene, device_of

CHUNK = 1 << 16  # points whose normals are computed at once
STEP = 0.02  # step of the finite differences in world units, as in the renderer
MIN_COSINE = 0.3  # minimum cosine between the normals of field and mesh; below it the field's is noise


def tangents(charts: Charts) -> Tensor:
    """Vertex tangents [V, 4]: unit direction of increasing u in the tangent plane, and the handedness.

    The bitangent is ``sign * cross(normal, tangent)``, as in glTF.
    """
    corners, uv = charts.vertices[charts.faces], charts.uv[charts.faces]
    edges, steps = corners[:, 1:] - corners[:, :1], uv[:, 1:] - uv[:, :1]  # [F, 2, 3] and [F, 2, 2]
    area = steps[:, 0, 0] * steps[:, 1, 1] - steps[:, 0, 1] * steps[:, 1, 0]
    sign = torch.where(area < 0.0, -1.0, 1.0)[:, None]
    right = sign * (edges[:, 0] * steps[:, 1, 1:] - edges[:, 1] * steps[:, 0, 1:])
    up = sign * (edges[:, 1] * steps[:, 0, :1] - edges[:, 0] * steps[:, 1, :1])
    total_right, total_up = (
        torch.zeros_like(charts.vertices).index_add_(
            0, charts.faces.reshape(-1), side.repeat_interleave(3, dim=0)
        )
        for side in (right, up)
    )
    flat = total_right - (total_right * charts.normals).sum(-1, keepdim=True) * charts.normals
    is_lost = flat.norm(dim=-1, keepdim=True) < 1e-12
    tangent = F.normalize(torch.where(is_lost, _any_perpendicular(charts.normals), flat), dim=-1, eps=1e-20)
    handed = (torch.linalg.cross(charts.normals, tangent) * total_up).sum(-1, keepdim=True)
    return torch.cat([tangent, torch.where(handed < 0.0, -1.0, 1.0)], dim=-1)


@torch.no_grad()
def field_normals(scene: Scene, charts: Charts, progress: float = 1.0) -> Tensor:
    """Compute vertex normals from the gradient of the field.

    Args:
        scene: the field, on any device.
        charts: the surface, in the scene's coordinates.
        progress: training progress in [0, 1] at which the scene is evaluated.

    Returns:
        Unit normals [V, 3]; the mesh's normal where the field has no gradient or deviates too much from it.
    """
    field = torch.cat([_normals(scene, chunk, progress) for chunk in charts.vertices.split(CHUNK)])
    is_noise = (field * charts.normals).sum(-1, keepdim=True) < MIN_COSINE
    return torch.where(is_noise, charts.normals, F.normalize(field, dim=-1))


@torch.no_grad()
def bake_normals(scene: Scene, charts: Charts, size: int, progress: float = 1.0) -> Tensor:
    """Bake a tangent-space normal map from the gradient of the field.

    Args:
        scene: the field, on any device.
        charts: the surface, in the scene's coordinates.
        size: height and width of the normal map.
        progress: training progress in [0, 1] at which the scene is evaluated.

    Returns:
        [size, size, 3] in [0, 1]: 0.5 n + 0.5 with n in (tangent, bitangent, normal) coordinates. Where the
        field has no gradient, or deviates too much from the mesh's normal, n is (0, 0, 1).
    """
    tangent = tangents(charts)
    picture = torch.tensor([0.5, 0.5, 1.0]).repeat(size, size, 1)
    known = torch.zeros(size, size, dtype=torch.bool)
    rows = max(1, BAND // size)
    for first in range(0, size, rows):
        texels = surface_texels(charts, size, first, min(rows, size - first))
        covered = texels.covered.view(-1, size)
        local = _local_normals(scene, charts, tangent, texels, progress)
        picture[first : first + rows][covered] = 0.5 * local + 0.5
        known[first : first + rows] = covered
    return dilate(picture, known)


def _local_normals(scene: Scene, charts: Charts, tangent: Tensor, texels: Texels, progress: float) -> Tensor:
    """Unit normals of the field in the tangent space of the covered texels, [N, 3]."""
    points = texels.interpolate(charts, charts.vertices)
    normal = F.normalize(texels.interpolate(charts, charts.normals), dim=-1)
    right = F.normalize(texels.interpolate(charts, tangent[:, :3]), dim=-1)
    sign = texels.interpolate(charts, tangent[:, 3:]).sign()
    field = torch.cat([_normals(scene, chunk, progress) for chunk in points.split(CHUNK)])
    up = sign * torch.linalg.cross(normal, right)
    local = torch.stack([(field * axis).sum(-1) for axis in (right, up, normal)], dim=-1)
    return torch.where(local[:, 2:] < MIN_COSINE, torch.tensor([0.0, 0.0, 1.0]), F.normalize(local, dim=-1))


def _normals(scene: Scene, points: Tensor, progress: float) -> Tensor:
    def level(places: Tensor) -> Tensor:
        return scene.level(places, progress)

    return finite_difference_normals(level, points.to(device_of(scene)), STEP).float().cpu()


def _any_perpendicular(normals: Tensor) -> Tensor:
    """Return an arbitrary direction perpendicular to every normal, [V, 3]; not normalized."""
    axis = F.one_hot(normals.abs().argmin(-1), 3).to(normals)
    return torch.linalg.cross(normals, axis)
