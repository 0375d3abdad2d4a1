"""A fixed number of samples per ray, placed in the occupied cells of an occupancy grid."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dreamfusion_pl.scene.base import Scene
from dreamfusion_pl.types import Rays


def at_least(least: float, **numbers: float) -> None:
    """Raise ValueError, with the name of the number, if one is below ``least``."""
    for name, number in numbers.items():
        if number < least:
            raise ValueError(f"{name} must be {least:g} or more, got {number}")


@final
class OccupancyGrid(nn.Module):
    """Upper estimate of a scene's density, on a grid over the cube around its bounding sphere.

    Args:
        resolution: number of cells G per side.
        threshold: a cell is occupied if its optical depth, density times side length, exceeds this, or the
            grid's mean if that is lower (so that a scene of low density is not pruned away).
        decay: factor on the old estimate at each update.
    """

    density: Tensor  # [G, G, G] running maximum, indexed by x, y, z
    occupied: Tensor  # [G, G, G] bool, dilated by one cell

    def __init__(self, resolution: int, threshold: float = 0.01, decay: float = 0.8) -> None:
        super().__init__()
        self.resolution, self.threshold, self.decay = resolution, threshold, decay
        self.register_buffer("density", torch.zeros(resolution, resolution, resolution))
        self.register_buffer("occupied", torch.ones(resolution, resolution, resolution, dtype=torch.bool))

    @torch.no_grad()
    def update(self, scene: Scene, progress: float, generator: torch.Generator) -> None:
        """Evaluate one random point per cell and keep the larger of its density and the decayed estimate."""
        size = self.resolution
        axis = torch.arange(size, device=self.density.device)
        corners = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3)
        jitter = torch.rand(corners.shape, generator=generator, device=generator.device).to(self.density)
        points = (2.0 * (corners + jitter) / size - 1.0) * scene.radius
        fresh = scene.density(points, progress) * (points.square().sum(-1) <= scene.radius**2)
        self.density.copy_(torch.maximum(self.decay * self.density, fresh.reshape(size, size, size)))
        thickness = self.density * (2.0 * scene.radius / size)
        occupied = thickness > thickness.mean().clamp_max(self.threshold)
        dilated = F.max_pool3d(occupied[None, None].float(), kernel_size=3, stride=1, padding=1)
        self.occupied.copy_(dilated[0, 0] > 0.5)

    @torch.no_grad()
    def can_meet(self, rays: Rays, near: Tensor, far: Tensor, radius: float) -> Tensor:
        """Return whether rays cross the box around all occupied cells, bool [R].

        Args:
            rays: R rays, [R, 3].
            near: distances at which they enter the sphere, [R].
            far: distances at which they leave it, [R].
            radius: the sphere's radius, in world units.
        """
        corners = []
        for others in ((1, 2), (0, 2), (0, 1)):
            filled = self.occupied.any(others[1]).any(others[0]).nonzero()[:, 0]
            if len(filled) == 0:
                return torch.zeros_like(near, dtype=torch.bool)
            corners.append(torch.stack([filled[0], filled[-1] + 1]))
        low, high = radius * (2.0 * torch.stack(corners, dim=1) / self.resolution - 1.0)
        slopes = torch.where(rays.directions.abs() < 1e-9, 1e-9, rays.directions)
        one, other = (low - rays.origins) / slopes, (high - rays.origins) / slopes
        enter = torch.maximum(torch.minimum(one, other).amax(-1), near)
        leave = torch.minimum(torch.maximum(one, other).amin(-1), far)
        return (leave > enter) & (far > near)

    @torch.no_grad()
    def strata(self, rays: Rays, near: Tensor, far: Tensor, radius: float, num_strata: int) -> Tensor:
        """Return which of ``num_strata`` equal pieces of each ray are occupied.

        Args:
            rays: R rays, [R, 3].
            near: distances at which they enter the sphere, [R].
            far: distances at which they leave it, [R].
            radius: the sphere's radius, in world units.
            num_strata: number of pieces M.

        Returns:
            bool [R, M], looked up at the midpoint of each piece.
        """
        size = self.resolution
        centres = torch.arange(num_strata, device=near.device) + 0.5
        scale = 0.5 * size / radius
        first = (rays.origins + near[:, None] * rays.directions) * scale + 0.5 * size
        step = rays.directions * ((far - near) * (scale / num_strata))[:, None]
        index = torch.zeros(1, dtype=torch.int32, device=near.device)
        for axis in range(3):
            cell = torch.addcmul(first[:, axis, None], step[:, axis, None], centres).int().clamp_(0, size - 1)
            index = torch.add(cell, index, alpha=size)
        found = self.occupied.flatten().index_select(0, index.flatten())  # twice as fast as [index] on a CPU
        return found.reshape(index.shape)


@torch.no_grad()
def place_samples(
    occupied: Tensor, near: Tensor, far: Tensor, jitter: Tensor, num_samples: int
) -> tuple[Tensor, Tensor]:
    """Spread samples evenly over the occupied length of each ray.

    The occupied pieces of a ray are laid end to end; sample i sits in the i-th of S equal strata of that
    length, at the fraction ``jitter`` of the stratum. A ray without occupied pieces is sampled over its whole
    length.

    Args:
        occupied: which of M equal pieces of a ray are occupied, bool [R, M].
        near: distances at which rays enter the sphere, [R].
        far: distances at which they leave it, [R].
        jitter: position inside a stratum, in [0, 1), [R].
        num_samples: number of samples S.

    Returns:
        Distances [R, S], increasing along a ray, and the interval length delta of the samples, [R, 1].
    """
    num_strata = occupied.shape[1]
    occupied = occupied | ~occupied.any(dim=1, keepdim=True)
    count = occupied.cumsum(dim=1, dtype=torch.int32)
    total = count[:, -1:]
    fractions = (torch.arange(num_samples, device=near.device) + jitter[:, None]) / num_samples
    position = fractions * total
    piece = torch.searchsorted(count, position.int(), right=True, out_int32=True).clamp_max_(num_strata - 1)
    length = (far - near)[:, None] / num_strata
    distances = near[:, None] + (piece + position.frac()) * length
    return distances, total * length / num_samples


def uniform_samples(near: Tensor, far: Tensor, jitter: Tensor, num_samples: int) -> tuple[Tensor, Tensor]:
    """Stratified samples from near to far; arguments and result as in :func:`place_samples`."""
    fractions = (torch.arange(num_samples, device=near.device) + jitter[:, None]) / num_samples
    length = (far - near)[:, None]
    return near[:, None] + fractions * length, length / num_samples
