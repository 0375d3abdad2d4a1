"""A surface unrolled into the plane, and its colours as a picture: no GPU, no rasterizer library."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dreamfusion_pl.export.surface.mesh import Mesh, vertex_normals
from dreamfusion_pl.export.surface.visible_albedo import aslant, seen_albedo
from dreamfusion_pl.export.texture.pixels import covered_pixels
from dreamfusion_pl.scene.base import Scene

GAP = 2  # texels between charts
BAND = 1 << 20  # points of the texture that are baked at once


class Charts(NamedTuple):
    """A mesh cut along seams so that it lies flat. Vertices on a seam are there once for every side."""

    vertices: Tensor  # [V, 3] float32, world units
    normals: Tensor  # [V, 3] float32, unit, the uncut mesh's
    faces: Tensor  # [F, 3] int64
    uv: Tensor  # [V, 2] float32 in [0, 1], v upwards


class Texels(NamedTuple):
    """Where the centres of R rows of a square texture's texels lie, S a row."""

    face: Tensor  # [R S] int64, the triangle, -1 where there is none
    weights: Tensor  # [R S, 3] barycentric coordinates in it

    @property
    def covered(self) -> Tensor:
        """Whether a texel lies on a chart, bool [R S]."""
        return self.face >= 0

    def interpolate(self, charts: Charts, values: Tensor) -> Tensor:
        """Values of vertices [V, C] at the texels that lie on a chart, [N, C]."""
        corners = values[charts.faces[self.face[self.covered]]]
        return (self.weights[self.covered, :, None] * corners).sum(1)


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


@torch.no_grad()
def bake(scene: Scene, charts: Charts, size: int, progress: float = 1.0, supersample: int = 2) -> Tensor:
    """Ask the scene for the albedo of every texel, seen from several sides (:func:`seen_albedo`).

    Colours that lie behind one another in a soft field are seen differently from every side. So the points
    of a texel are looked at aslant, each from another side, and the texel has their mean.

    Args:
        scene: the field, on any device.
        charts: the surface, in the scene's coordinates.
        size: height and width of the texture.
        progress: training progress in [0, 1] at which the scene is evaluated.
        supersample: points asked for along a side of a texel.

    Returns:
        Texture [size, size, 3] in [0, 1], row 0 at v = 1; texels of no chart take the nearest chart's colour.
    """
    texture, known = torch.zeros(size, size, 3), torch.zeros(size, size, dtype=torch.bool)
    rows = max(1, BAND // (size * supersample**2))
    for first in range(0, size, rows):
        count = min(rows, size - first)
        texels = surface_texels(charts, size * supersample, first * supersample, count * supersample)
        normals = F.normalize(texels.interpolate(charts, charts.normals), dim=-1)
        towards = aslant(normals, _turns(texels, size * supersample, supersample))
        seen = seen_albedo(scene, texels.interpolate(charts, charts.vertices), towards, progress)
        colors = torch.zeros(len(texels.face), 4)
        colors[texels.covered] = F.pad(seen, (0, 1), value=1.0)
        picture = colors.view(1, count * supersample, size * supersample, 4).permute(0, 3, 1, 2)
        mean = F.avg_pool2d(picture, supersample)[0].permute(1, 2, 0)
        texture[first : first + count] = mean[..., :3] / mean[..., 3:].clamp_min(1e-6)
        known[first : first + count] = mean[..., 3] > 0.0
    return dilate(texture, known)


def _turns(texels: Texels, size: int, supersample: int) -> Tensor:
    """From which side every point on a chart is looked at, in radians: all sides within a texel, [N]."""
    place = texels.covered.nonzero()[:, 0]
    row, column = torch.div(place, size, rounding_mode="floor") % supersample, place % size % supersample
    return (row * supersample + column) * (2.0 * math.pi / supersample**2)


def surface_texels(charts: Charts, size: int, first: int = 0, rows: int | None = None) -> Texels:
    """Find where on the surface the centres of texels lie.

    Args:
        charts: the unrolled surface.
        size: height and width of the texture; row 0 is at v = 1.
        first: row to begin with.
        rows: how many R; None for all.
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
    """Fill unknown texels [H, W] with the nearest known colour, so that filtering at seams finds no gap."""
    from scipy.ndimage import distance_transform_edt

    if not bool(known.any()):
        return texture
    rows, columns = distance_transform_edt(~known.numpy(), return_distances=False, return_indices=True)
    return texture[torch.from_numpy(rows).long(), torch.from_numpy(columns).long()]
