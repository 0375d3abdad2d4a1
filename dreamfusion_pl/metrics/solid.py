"""Solids on grids: the inside of a mesh, and the object of the world that it is compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from dreamfusion_pl.export.surface.mesh import Mesh

Distance = Callable[[Tensor], Tensor]  # points [P, 3] -> signed distance [P], negative inside
HALF = 0.6  # an object of the world is inside [-HALF, HALF]^3
CHUNK = 1 << 16  # points of a signed distance evaluated at once


class Solid(NamedTuple):
    """Occupancy of a solid on a regular grid; outside of the grid nothing is solid."""

    inside: Tensor  # [X, Y, Z] bool
    start: Tensor  # [3] position of the first grid point
    spacing: float  # distance of neighbouring grid points

    @property
    def points(self) -> Tensor:
        """Positions of the grid points that are inside, [P, 3]."""
        return self.start + self.spacing * self.inside.nonzero()

    def at(self, index: Tensor) -> Tensor:
        """Return whether grid points are inside, int64 [P, 3] -> bool [P]; any index may be asked for."""
        sizes = torch.tensor(self.inside.shape)
        exists = ((index >= 0) & (index < sizes)).all(-1)
        place = torch.minimum(index.clamp_min(0), sizes - 1)
        return self.inside[place[:, 0], place[:, 1], place[:, 2]] & exists


class Truth(NamedTuple):
    """An object that is known exactly."""

    distance: Distance
    low: Tensor  # [3] corner of a box that contains it
    high: Tensor  # [3] the opposite corner
    center: Tensor  # [3] centre of its bounding box
    radius: float  # largest distance from there
    volume: float

    @property
    def diagonal(self) -> float:
        """Length of the box's diagonal."""
        return float((self.high - self.low).norm())


def cube(half: float, resolution: int) -> Tensor:
    """Return the centres [P, 3] of ``resolution``^3 cells that fill [-half, half]^3."""
    ticks = (torch.arange(resolution) + 0.5) / resolution * 2.0 * half - half
    return torch.stack(torch.meshgrid(ticks, ticks, ticks, indexing="ij"), dim=-1).reshape(-1, 3)


def contains(distance: Distance, points: Tensor) -> Tensor:
    """Return whether points are inside of a signed distance, [P, 3] -> bool [P]."""
    return torch.cat([distance(piece) < 0.0 for piece in points.split(CHUNK)])


def truth_of(distance: Distance, half: float = HALF, resolution: int = 64) -> Truth:
    """Measure an object on a grid over [-half, half]^3, which contains it.

    Raises:
        ValueError: it is empty.
    """
    points = cube(half, resolution)
    inside = points[contains(distance, points)]
    if len(inside) == 0:
        raise ValueError("an empty object cannot be compared with")
    cell = 2.0 * half / resolution
    low, high = inside.amin(0) - cell, inside.amax(0) + cell
    return Truth(distance, low, high, *ball_around(inside), len(inside) * cell**3)


def ball_around(points: Tensor) -> tuple[Tensor, float]:
    """Return the centre [3] of the bounding box of points [P, 3], and the largest distance from it, > 0."""
    center = 0.5 * (points.amax(0) + points.amin(0))
    return center, max(float((points - center).norm(dim=-1).max()), 1e-6)


def solid_of(mesh: Mesh, resolution: int = 64) -> Solid:
    """Return the inside of a closed mesh: what is exported, without floaters, and without cavities.

    Args:
        mesh: triangles, counter-clockwise seen from outside.
        resolution: grid points along the longest side of the mesh.
    """
    low, high = mesh.vertices.amin(0).double(), mesh.vertices.amax(0).double()
    spacing = float((high - low).max()) / resolution
    start = low + 0.5 * spacing
    shape = ((high - low) / spacing).ceil().long().clamp_min(1)
    corners = (mesh.vertices[mesh.faces].double() - start) / spacing
    return Solid(_winding(corners, shape.tolist()) > 0, start.float(), spacing)


def _winding(corners: Tensor, shape: list[int]) -> Tensor:
    """Winding numbers [X, Y, Z] of a closed surface about grid points, from where it crosses columns along z.

    Args:
        corners: corners of the triangles in grid indices, float64 [F, 3, 3].
        shape: number of grid points along x, y and z.
    """
    corners = corners + corners.new_tensor([1.7e-6, 2.3e-6, 0.0])  # no column runs along an edge
    first = corners[..., :2].amin(1).ceil().long().clamp_min(0)
    last = torch.minimum(corners[..., :2].amax(1).floor().long(), torch.tensor(shape[:2]) - 1)
    width, depth = (last - first + 1).clamp_min(0).unbind(-1)
    count = width * depth
    triangle = torch.repeat_interleave(torch.arange(len(corners)), count)
    rank = torch.arange(len(triangle)) - torch.repeat_interleave(count.cumsum(0) - count, count)
    deep = depth[triangle]
    column = first[triangle] + torch.stack([rank // deep, rank % deep], dim=-1)
    a, b, c = corners[triangle].unbind(1)
    parts = torch.stack([_double_area(p, q, column) for p, q in ((b, c), (c, a), (a, b))])  # [3, N]
    area = parts.sum(0)
    hit = (parts * area.sign() > 0.0).all(0)
    share = parts[:, hit] / area[hit]
    height = share[0] * a[hit, 2] + share[1] * b[hit, 2] + share[2] * c[hit, 2]
    below = height.ceil().clamp(0, shape[2]).long()  # number of points of the column below the crossing
    crossings = torch.zeros(shape[0], shape[1], shape[2] + 1, dtype=torch.long)
    place = (column[hit, 0], column[hit, 1], below)
    crossings.index_put_(place, area[hit].sign().long(), accumulate=True)
    return crossings.flip(-1).cumsum(-1).flip(-1)[..., 1:]


def _double_area(p: Tensor, q: Tensor, r: Tensor) -> Tensor:
    """Twice the signed area of triangles seen from +z, corners [N, 2 or 3] -> [N]."""
    return (q[:, 0] - p[:, 0]) * (r[:, 1] - p[:, 1]) - (q[:, 1] - p[:, 1]) * (r[:, 0] - p[:, 0])
