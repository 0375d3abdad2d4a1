"""A batch of lit rays, what is seen along them, and rays that need no work because they meet nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from dreamfusion_pl.rendering.sampling import OccupancyGrid
from dreamfusion_pl.types import Rays, Views

RAYS_AT_ONCE = 4096  # of a picture without gradients


class RayBatch(NamedTuple):
    """R rays, the parts of them that are sampled, and their lights."""

    origins: Tensor  # [R, 3]
    directions: Tensor  # [R, 3] unit length
    near: Tensor  # [R] distance at which the ray enters the bounding sphere
    far: Tensor  # [R] distance at which it leaves it
    jitter: Tensor  # [R] in [0, 1), offset of the samples within their strata
    occupied: Tensor  # [R, M] bool, which of M equal pieces are occupied; M = 0 without an occupancy grid
    light: Tensor  # [R, 3] position of the point light
    ambient: Tensor  # [R] l_a
    diffuse: Tensor  # [R] l_rho
    textureless: Tensor  # [R] bool


class Traced(NamedTuple):
    """What is seen along R rays, over nothing; all but facing and weights is premultiplied by opacity."""

    color: Tensor  # [R, 3]
    normal: Tensor  # [R, 3]
    facing: Tensor  # [R, S] or [R, 1]
    albedo: Tensor  # [R, 3]
    latent: Tensor  # [R, L]
    opacity: Tensor  # [R]
    depth: Tensor  # [R]
    weights: Tensor  # [R, S]


def ray_batch(rays: Rays, near: Tensor, far: Tensor, occupied: Tensor | None, views: Views) -> RayBatch:
    """Collect the rays of all pixels of B views, in their order.

    Args:
        rays: rays [R, 3] with R = B H W.
        near: distances at which they enter the bounding sphere, [R].
        far: distances at which they leave it, [R].
        occupied: which of M pieces of a ray are occupied, bool [R, M]; None: there is no grid.
        views: the B views.
    """
    pixels = views.jitter.shape[1] * views.jitter.shape[2]
    lights = (views.light, views.ambient, views.diffuse, views.textureless)
    if occupied is None:
        occupied = torch.zeros(len(near), 0, dtype=torch.bool, device=near.device)
    per_ray = (field.repeat_interleave(pixels, dim=0) for field in lights)
    return RayBatch(*rays, near, far, views.jitter.reshape(-1), occupied, *per_ray)


def in_parts(rays: RayBatch) -> list[RayBatch]:
    """Split rays into parts of ``RAYS_AT_ONCE``, for pictures without gradients.

    Only the result of a part is kept, so that large pictures need little memory, and a CPU's cache holds what
    a part needs, which takes two thirds of the time of all rays at once.
    """
    parts = zip(*(field.split(RAYS_AT_ONCE) for field in rays), strict=True)
    return [RayBatch(*part) for part in parts]


def occupied_strata(grid: OccupancyGrid, rays: RayBatch, radius: float, num_strata: int) -> Tensor:
    """Return which of ``num_strata`` equal pieces of each ray are occupied, bool [R, M]."""
    return grid.strata(Rays(rays.origins, rays.directions), rays.near, rays.far, radius, num_strata)


def occupied_strata_of_some(grid: OccupancyGrid, rays: RayBatch, radius: float, num_strata: int) -> Tensor:
    """Return the same, looked up in parts, and only for rays that can meet an occupied cell."""
    lines = Rays(rays.origins, rays.directions)
    index = grid.can_meet(lines, rays.near, rays.far, radius).nonzero()[:, 0]
    occupied = torch.zeros(len(rays.near), num_strata, dtype=torch.bool, device=rays.near.device)
    if len(index):
        parts = in_parts(RayBatch(*(field[index] for field in rays)))
        occupied[index] = torch.cat([occupied_strata(grid, part, radius, num_strata) for part in parts])
    return occupied


def trace_in_parts(rays: RayBatch, trace: Callable[[RayBatch], Traced]) -> Traced:
    """Apply ``trace`` to the parts of some rays."""
    return Traced(*map(torch.cat, zip(*map(trace, in_parts(rays)), strict=True)))


def trace_where_occupied(rays: RayBatch, trace: Callable[[RayBatch], Traced]) -> Traced:
    """Apply ``trace`` to the rays that meet an occupied cell; along the others, nothing is seen.

    The number of rays changes from step to step, which costs a GPU a synchronization and static shapes. If no
    ray meets anything, all are traced, so that gradients can bring an object back.
    """
    met = rays.occupied.any(dim=1).nonzero()[:, 0]
    if not 0 < len(met) < len(rays.near):
        return trace(rays)
    padded = filled_up(met, 64)
    some = Traced(*(field[: len(met)] for field in trace(RayBatch(*(field[padded] for field in rays)))))
    count = len(rays.near)
    return Traced(*(field.new_zeros(count, *field.shape[1:]).index_copy(0, met, field) for field in some))


def filled_up(index: Tensor, multiple: int) -> Tensor:
    """Repeat the first entries of ``index`` [N], N > 0, at its end until N is a multiple of a number.

    Matrix products keep code and memory for each size that they meet: sizes that all differ fill the memory.
    """
    missing = -len(index) % multiple
    return torch.cat([index, index[torch.arange(missing, device=index.device) % len(index)]])
