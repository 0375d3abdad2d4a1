"""Geometry and albedo against the ground truth: functions, and torchmetrics ``Metric``s that use them."""

from __future__ import annotations

from typing import NamedTuple, final

import torch
from torch import Tensor
from torchmetrics import Metric

from dreamfusion_pl.metrics.alignment import Alignment, overlap
from dreamfusion_pl.metrics.solid import HALF, Distance, Solid, Truth, cube


class Samples(NamedTuple):
    """Points on a surface, uniform by area."""

    points: Tensor  # [P, 3]
    normals: Tensor  # [P, 3] outward unit normals

    def to_truth(self, alignment: Alignment) -> Samples:
        """Move a result's surface to the truth's coordinates."""
        return Samples(alignment.to_truth(self.points), self.normals @ alignment.rotation(self.normals))


def chamfer_distance(first: Tensor, second: Tensor) -> float:
    """Symmetric Chamfer distance of point sets [P, 3] and [Q, 3]: mean of the two mean nearest distances."""
    (there, _), (back, _) = _nearest(first, second), _nearest(second, first)
    return 0.5 * float(there.mean() + back.mean())


def f_score(first: Tensor, second: Tensor, tolerance: float) -> float:
    """F-score of point sets [P, 3] and [Q, 3] (Tatarchenko et al. 2019), in [0, 1].

    It is the harmonic mean of two shares: the points of the first set that have one of the second within the
    tolerance (precision), and the reverse (recall).
    """
    (there, _), (back, _) = _nearest(first, second), _nearest(second, first)
    precision, recall = (float((d <= tolerance).double().mean()) for d in (there, back))
    return 2.0 * precision * recall / max(precision + recall, 1e-12)


def normal_consistency(first: Samples, second: Samples) -> float:
    """Mean absolute cosine of the normals of nearest points, both ways (Mescheder et al. 2019), in [0, 1].

    Directions without any relation give one half.
    """
    (_, there), (_, back) = _nearest(first.points, second.points), _nearest(second.points, first.points)
    one = (first.normals * second.normals[there]).sum(-1).abs().mean()
    other = (second.normals * first.normals[back]).sum(-1).abs().mean()
    return 0.5 * float(one + other)


def _nearest(points: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Distance [P] of points [P, 3] to the nearest of the others [Q, 3], and which it is, int64 [P]."""
    from scipy.spatial import cKDTree

    distance, index = cKDTree(others.double().numpy()).query(points.double().numpy())
    return torch.from_numpy(distance), torch.from_numpy(index)


def surface_points(vertices: Tensor, faces: Tensor, count: int = 10_000, seed: int = 0) -> Tensor:
    """Sample points [count, 3] uniformly by area on a mesh: vertices [V, 3], faces [F, 3]."""
    return surface_samples(vertices, faces, count, seed).points


def surface_samples(vertices: Tensor, faces: Tensor, count: int = 10_000, seed: int = 0) -> Samples:
    """Sample points with normals uniformly by area on a mesh: vertices [V, 3], faces [F, 3]."""
    rng = torch.Generator().manual_seed(seed)
    corners = vertices[faces]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = normals.norm(dim=-1)
    chosen = torch.multinomial(area, count, replacement=True, generator=rng)
    triangle = corners[chosen]
    u, v = torch.rand(2, count, 1, generator=rng)
    root = u.sqrt()
    points = (1 - root) * triangle[:, 0] + root * (1 - v) * triangle[:, 1] + root * v * triangle[:, 2]
    return Samples(points, torch.nn.functional.normalize(normals[chosen], dim=-1, eps=1e-20))


def distance_surface(truth: Distance, half: float = HALF, resolution: int = 96) -> tuple[Tensor, Tensor]:
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


def saturation_bias(albedo: Tensor, opacity: Tensor, true_albedo: Tensor, true_opacity: Tensor) -> float:
    """Mean saturation, less the truth's, over the pixels where both objects are opaque, in [-1, 1].

    The saturation of a colour is its largest channel less its smallest. Distillation with much guidance tends
    to a positive bias. The arguments are those of ``albedo_error``; NaN if there is no such pixel.
    """
    both = (opacity > 0.8) & (true_opacity > 0.8)
    mine, theirs = (colors[both].amax(-1) - colors[both].amin(-1) for colors in (albedo, true_albedo))
    return float((mine - theirs).mean())


def has_second_front(front: Tensor, rear: Tensor, true_front: Tensor, true_rear: Tensor) -> bool:
    """Whether an object shows its front on both sides (the Janus problem).

    From the front and from the rear it then looks more like the truth's front than like the truth's rear. A
    true object whose two pictures differ by less than .02, such as a ball, has no front.

    Args:
        front: picture of the aligned result from the truth's front, [H, W, 3] in [0, 1].
        rear: the same from its rear.
        true_front: picture of the truth, by the same camera over the same background.
        true_rear: the same from its rear.
    """

    def error(first: Tensor, second: Tensor) -> float:
        return float((first - second).abs().mean())

    if error(true_front, true_rear) < 0.02:
        return False
    return all(error(picture, true_front) < error(picture, true_rear) for picture in (front, rear))


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

    def update(self, solid: Solid, truth: Truth, alignment: Alignment) -> None:
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
