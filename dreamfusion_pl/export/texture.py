"""A surface unrolled into the plane, and its colours as a picture: no GPU, no rasterizer library."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dreamfusion_pl.export.mesh import Mesh, albedo_at
from dreamfusion_pl.scene.base import Scene

GAP = 2  # texels between charts
CANDIDATES = 1 << 21  # pairs of triangle and texel that are tested at once


class Charts(NamedTuple):
    """A mesh cut along seams so that it lies flat. Vertices on a seam are there once for every side."""

    vertices: Tensor  # [V, 3] float32, world units
    normals: Tensor  # [V, 3] float32, unit, the uncut mesh's
    faces: Tensor  # [F, 3] int64
    uv: Tensor  # [V, 2] float32 in [0, 1], v upwards


def unwrap(mesh: Mesh, size: int) -> Charts:
    """Cut a mesh into charts and pack them (xatlas) for a texture of ``size`` texels a side."""
    import xatlas

    atlas, packing = xatlas.Atlas(), xatlas.PackOptions()
    packing.resolution, packing.padding = size, GAP
    atlas.add_mesh(mesh.vertices.numpy(), mesh.faces.numpy().astype(np.uint32))
    atlas.generate(pack_options=packing)
    cut, faces, uv = atlas[0]
    original = torch.from_numpy(cut.astype(np.int64))
    return Charts(
        vertices=mesh.vertices[original],
        normals=vertex_normals(mesh.vertices, mesh.faces)[original],
        faces=torch.from_numpy(faces.astype(np.int64)),
        uv=torch.from_numpy(uv.astype(np.float32)),
    )


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals [V, 3]: the sum of the faces around a vertex, each with its area."""
    a, b, c = vertices[faces].unbind(1)
    area = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices).index_add_(0, faces.reshape(-1), area.repeat_interleave(3, dim=0))
    fallback = torch.tensor([0.0, 0.0, 1.0]).expand_as(total)
    is_flat = total.norm(dim=-1, keepdim=True) < 1e-12
    return F.normalize(torch.where(is_flat, fallback, total), dim=-1, eps=1e-20)


@torch.no_grad()
def bake(scene: Scene, charts: Charts, size: int, progress: float = 1.0, supersample: int = 2) -> Tensor:
    """Ask the scene for the albedo of every texel.

    Args:
        scene: the field, on any device.
        charts: the surface, in the scene's coordinates.
        size: height and width of the texture.
        progress: training progress in [0, 1] at which the scene is evaluated.
        supersample: points asked for along a side of a texel.

    Returns:
        Texture [size, size, 3] in [0, 1], row 0 at v = 1; texels of no chart take the nearest chart's colour.
    """
    positions, covered = surface_positions(charts, size * supersample)
    colors = torch.zeros(len(covered), 3)
    colors[covered] = albedo_at(scene, positions[covered], progress)
    weight = covered.float().view(1, 1, size * supersample, -1)
    picture = colors.T.reshape(1, 3, size * supersample, -1)
    filled = F.avg_pool2d(weight, supersample)
    texture = F.avg_pool2d(picture, supersample) / filled.clamp_min(1e-6)
    return _dilate(texture[0].permute(1, 2, 0), filled[0, 0] > 0)


def surface_positions(charts: Charts, size: int) -> tuple[Tensor, Tensor]:
    """Where on the surface the centres of texels lie.

    Args:
        charts: the unrolled surface.
        size: texels along a side.

    Returns:
        Positions [size^2, 3] in row order, row 0 at v = 1, and whether a texel lies on a chart, [size^2].
    """
    corners = charts.uv.clone()
    corners[:, 1] = 1.0 - corners[:, 1]
    triangles = corners[charts.faces] * size  # [F, 3, 2] in texels: x right, y down
    low = (triangles.amin(1) - 0.5).ceil().long().clamp(0, size - 1)
    high = (triangles.amax(1) - 0.5).floor().long().clamp(0, size - 1)
    spans = (high - low + 1).clamp_min(0)
    counts = spans.prod(-1)
    positions, covered = torch.zeros(size * size, 3), torch.zeros(size * size, dtype=torch.bool)
    groups = torch.div(counts.cumsum(0), CANDIDATES, rounding_mode="floor")
    for group in groups.unique():
        chosen = (groups == group).nonzero()[:, 0]
        face = chosen.repeat_interleave(counts[chosen])
        first = (counts[chosen].cumsum(0) - counts[chosen]).repeat_interleave(counts[chosen])
        index = torch.arange(len(face)) - first
        x = low[face, 0] + index % spans[face, 0]
        y = low[face, 1] + torch.div(index, spans[face, 0], rounding_mode="floor")
        weights = _barycentric(triangles[face], torch.stack([x, y], dim=-1) + 0.5)
        hit = (weights >= -1e-4).all(-1)
        where = (y * size + x)[hit]
        positions[where] = (weights[hit, :, None] * charts.vertices[charts.faces[face[hit]]]).sum(1)
        covered[where] = True
    return positions, covered


def _barycentric(triangles: Tensor, points: Tensor) -> Tensor:
    """Barycentric coordinates [N, 3] of points [N, 2] in triangles [N, 3, 2]; outside where degenerate."""
    a, b, c = triangles.unbind(1)
    ab, ac, ap = b - a, c - a, points - a
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    second = (ap[:, 0] * ac[:, 1] - ap[:, 1] * ac[:, 0]) / area
    third = (ab[:, 0] * ap[:, 1] - ab[:, 1] * ap[:, 0]) / area
    weights = torch.stack([1.0 - second - third, second, third], dim=-1)
    return torch.where(area.abs()[:, None] > 1e-12, weights, -1.0)


def _dilate(texture: Tensor, known: Tensor) -> Tensor:
    """Fill unknown texels [H, W] with the nearest known colour, so that filtering at seams finds no gap."""
    from scipy.ndimage import distance_transform_edt

    if not bool(known.any()):
        return texture
    rows, columns = distance_transform_edt(~known.numpy(), return_distances=False, return_indices=True)
    return texture[torch.from_numpy(rows).long(), torch.from_numpy(columns).long()]
