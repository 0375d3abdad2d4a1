"""Geometry and albedo against the ground truth: functions, and torchmetrics ``Metric``s that use them."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor
from torchmetrics import Metric

from dreamfusion_pl.metrics.alignment import Alignment, Distance, Solid, cube, overlap
from dreamfusion_pl.scene.base import Scene


@torch.no_grad()
def solid_of(scene: Scene, threshold: float, resolution: int = 64, progress: float = 1.0) -> Solid:
    """Return the occupancy of a scene on a grid, with enclosed cavities filled.

    Args:
        scene: the scene.
        threshold: level at its surface, see ``Scene.level``.
        resolution: grid points per side of the cube around the bounding sphere.
        progress: training progress in [0, 1] at which the scene is evaluated.
    """
    from scipy.ndimage import binary_fill_holes

    points = cube(scene.radius, resolution)
    device = next(scene.parameters()).device
    level = torch.cat([scene.level(piece.to(device), progress).cpu() for piece in points.split(1 << 17)])
    inside = (level > threshold) & (points.norm(dim=-1) <= scene.radius)
    filled = binary_fill_holes(inside.view(resolution, resolution, resolution).numpy())
    return Solid(points, torch.from_numpy(filled).reshape(-1))


def chamfer_distance(first: Tensor, second: Tensor) -> float:
    """Symmetric Chamfer distance of point sets [P, 3] and [Q, 3]: mean of the two mean nearest distances."""
    from scipy.spatial import cKDTree

    a, b = first.double().numpy(), second.double().numpy()
    return 0.5 * float(cKDTree(b).query(a)[0].mean() + cKDTree(a).query(b)[0].mean())


def surface_points(vertices: Tensor, faces: Tensor, count: int = 10_000, seed: int = 0) -> Tensor:
    """Sample points [count, 3] uniformly by area on a mesh: vertices [V, 3], faces [F, 3]."""
    rng = torch.Generator().manual_seed(seed)
    corners = vertices[faces]
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=-1)
    triangle = corners[torch.multinomial(area, count, replacement=True, generator=rng)]
    u, v = torch.rand(2, count, 1, generator=rng)
    root = u.sqrt()
    return (1 - root) * triangle[:, 0] + root * (1 - v) * triangle[:, 1] + root * v * triangle[:, 2]


def distance_surface(truth: Distance, half: float = 0.6, resolution: int = 96) -> tuple[Tensor, Tensor]:
    """Mesh the zero level set of a signed distance in [-half, half]^3: vertices [V, 3] and faces [F, 3]."""
    from skimage.measure import marching_cubes

    grid = truth(cube(half, resolution)).view(resolution, resolution, resolution)
    spacing = 2.0 * half / resolution
    vertices, faces, _, _ = marching_cubes(grid.numpy(), 0.0, spacing=(spacing,) * 3)
    shifted = torch.from_numpy(vertices.copy()).float() - half + 0.5 * spacing
    return shifted, torch.from_numpy(faces.astype("int64"))


def albedo_error(albedo: Tensor, opacity: Tensor, true_albedo: Tensor, true_opacity: Tensor) -> float:
    """Mean absolute albedo error over the pixels where both objects are opaque, in [0, 1].

    Args:
        albedo: over any background, [B, H, W, 3].
        opacity: [B, H, W].
        true_albedo: [B, H, W, 3].
        true_opacity: [B, H, W].

    Returns:
        The error; 1 if there is no such pixel.
    """
    both = (opacity > 0.8) & (true_opacity > 0.8)
    if not bool(both.any()):
        return 1.0
    return float((albedo - true_albedo)[both].abs().mean())


class _Mean(Metric):
    """Mean of one number per result."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", default=torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", default=torch.tensor(0.0), dist_reduce_fx="sum")

    def _add(self, value: float) -> None:
        self.total += value
        self.count += 1.0

    def compute(self) -> Tensor:
        """The mean over all results."""
        return self.total / self.count


@final
class VolumeIoU(_Mean):
    """Mean volumetric intersection over union after alignment."""

    def update(self, solid: Solid, truth: Distance, alignment: Alignment) -> None:
        """Compare one result with its truth."""
        self._add(overlap(solid, truth, alignment))


@final
class ChamferDistance(_Mean):
    """Mean symmetric Chamfer distance after alignment, in world units (the truth's ball has diameter 1)."""

    def update(self, vertices: Tensor, faces: Tensor, truth: Distance, alignment: Alignment) -> None:
        """Compare one result's mesh with its truth."""
        mine = alignment.to_truth(surface_points(vertices, faces))
        self._add(chamfer_distance(mine, surface_points(*distance_surface(truth), seed=1)))


@final
class AlbedoError(_Mean):
    """Mean absolute albedo error where result and truth are both opaque."""

    def update(self, albedo: Tensor, opacity: Tensor, true_albedo: Tensor, true_opacity: Tensor) -> None:
        """Compare matching views [B, H, W, ...] of one result and its truth."""
        self._add(albedo_error(albedo, opacity, true_albedo, true_opacity))
