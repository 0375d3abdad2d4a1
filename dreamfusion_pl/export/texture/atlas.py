"""UV unwrapping and texture baking, without a GPU or a rasterizer library."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dreamfusion_pl.export.surface.mesh import Mesh, vertex_normals
from dreamfusion_pl.export.surface.visible_albedo import oblique_directions, visible_albedo
from dreamfusion_pl.export.texture.pixels import covered_pixels
from dreamfusion_pl.scene.base import Scene

GAP = 2  # texels between charts
BAND = 1 << 20  # sample points of the texture that are baked at once


class Charts(NamedTuple):
    """A mesh cut along seams into UV charts. Vertices on a seam are duplicated."""

    vertices: Tensor  # [V, 3] float32, world units
    normals: Tensor  # [V, 3] float32, unit, of the uncut mesh
    faces: Tensor  # [F, 3] int64
    uv: Tensor  # [V, 2] float32 in [0, 1], v upwards


class Texels(NamedTuple):
    """Surface points at the centres of texels, for R rows of S texels of a square texture."""

    face: Tensor  # [R S] int64, index of the triangle, -1 outside of all charts
    weights: Tensor  # [R S, 3] barycentric coordinates in the triangle

    @property
    def covered(self) -> Tensor:
        """Mask of texels inside a chart, bool [R S]."""
        return self.face >= 0

    def interpolate(self, charts: Charts, values: Tensor) -> Tensor:
        """Interpolate vertex values [V, C] at the N texels inside a chart: [N, C]."""
        corners = values[charts.faces[self.face[self.covered]]]
        return (self.weights[self.covered, :, None] * corners).sum(1)


def unwrap(mesh: Mesh, size: int) -> Charts:
    """Cut a mesh into charts and pack them with xatlas for a texture of ``size`` x ``size`` texels."""
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


@torch.no_grad()
def bake(scene: Scene, charts: Charts, size: int, progress: float = 1.0, supersample: int = 2) -> Tensor:
    """Bake the albedo of every texel, seen from several directions (:func:`visible_albedo`).

    In a soft field the visible colour depends on the view direction. Each sample point of a texel is
    therefore viewed from another oblique direction, and the texel is their mean.

    Args:
        scene: the field, on any device.
        charts: the surface, in the scene's coordinates.
        size: height and width of the texture.
        progress: training progress in [0, 1] at which the scene is evaluated.
        supersample: sample points along a side of a texel.

    Returns:
        Texture [size, size, 3] in [0, 1], row 0 at v = 1; texels outside of charts have the nearest colour.
    """
    texture, known = torch.zeros(size, size, 3), torch.zeros(size, size, dtype=torch.bool)
    rows = max(1, BAND // (size * supersample**2))
    for first in range(0, size, rows):
        count = min(rows, size - first)
        texels = surface_texels(charts, size * supersample, first * supersample, count * supersample)
        normals = F.normalize(texels.interpolate(charts, charts.normals), dim=-1)
        towards = oblique_directions(normals, _direction_turns(texels, size * supersample, supersample))
        seen = visible_albedo(scene, texels.interpolate(charts, charts.vertices), towards, progress)
        colors = torch.zeros(len(texels.face), 4)
        colors[texels.covered] = F.pad(seen, (0, 1), value=1.0)
        picture = colors.view(1, count * supersample, size * supersample, 4).permute(0, 3, 1, 2)
        mean = F.avg_pool2d(picture, supersample)[0].permute(1, 2, 0)
        texture[first : first + count] = mean[..., :3] / mean[..., 3:].clamp_min(1e-6)
        known[first : first + count] = mean[..., 3] > 0.0
    return dilate(texture, known)


def _direction_turns(texels: Texels, size: int, supersample: int) -> Tensor:
    """Angles of the view directions about the normal in radians, [N], evenly spaced within each texel."""
    place = texels.covered.nonzero()[:, 0]
    row, column = torch.div(place, size, rounding_mode="floor") % supersample, place % size % supersample
    return (row * supersample + column) * (2.0 * math.pi / supersample**2)


def surface_texels(charts: Charts, size: int, first: int = 0, rows: int | None = None) -> Texels:
    """Find the surface points at the centres of texels.

    Args:
        charts: the unwrapped surface.
        size: height and width of the texture; row 0 is at v = 1.
        first: first row.
        rows: number of rows R; None for all.
    """
    rows = size if rows is None else rows
    corners = charts.uv.clone()
    corners[:, 1] = 1.0 - corners[:, 1]
    triangles = corners[charts.faces] * size - torch.tensor([0.0, float(first)])
    face = torch.full((rows * size,), -1)
    weights = torch.zeros(rows * size, 3)
    for found, texel, inside in covered_pixels(triangles, rows, size):
        face[texel], weights[texel] = found, inside
    return Texels(face, weights)


def dilate(texture: Tensor, known: Tensor) -> Tensor:
    """Fill texels outside of ``known`` [H, W] with the nearest colour, so that filtering shows no seams."""
    from scipy.ndimage import distance_transform_edt

    if not bool(known.any()):
        return texture
    rows, columns = distance_transform_edt(~known.numpy(), return_distances=False, return_indices=True)
    return texture[torch.from_numpy(rows).long(), torch.from_numpy(columns).long()]
