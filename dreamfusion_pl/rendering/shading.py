"""Normals of a scene and Lambertian shading (paper 3.1)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dreamfusion_pl.scene.base import Scene, SceneSample

# Chunk size of exact normals on a CPU: larger buffers are requested from the kernel and returned every time.
POINTS_AT_ONCE = 4096
LevelFunction = Callable[[Tensor], Tensor]
"""``Scene.level`` [P] at points [P, 3]; for a density field, the density."""


def outward(gradient: Tensor) -> Tensor:
    """Normals ``-g / |g|`` from gradients g [..., 3] of a level; shorter than 1 where |g| < 1e-3."""
    return -gradient * torch.rsqrt(gradient.square().sum(-1, keepdim=True).clamp_min(1e-6))


def exact_normals(scene: Scene, points: Tensor, progress: float) -> tuple[SceneSample, Tensor]:
    """Evaluate a scene and its normals ``-grad level / |grad level|`` [P, 3] at ``points`` [P, 3].

    Works under ``torch.no_grad``; where gradients are enabled, the normals are differentiable too.
    """
    size = POINTS_AT_ONCE if points.device.type == "cpu" else max(len(points), 1)
    parts = [_exact_normals(scene, chunk, progress) for chunk in points.split(size)]
    *fields, normal = map(torch.cat, zip(*((*sample, normal) for sample, normal in parts), strict=True))
    return SceneSample(*fields), normal


def _exact_normals(scene: Scene, points: Tensor, progress: float) -> tuple[SceneSample, Tensor]:
    training = torch.is_grad_enabled()
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        sample = scene(points, progress)
        level = sample.level.sum()
        (gradient,) = torch.autograd.grad(level, points, create_graph=training, retain_graph=training)
    if not training:
        sample = SceneSample(*(field.detach() for field in sample))
    return sample, outward(gradient)


def finite_difference_normals(level: LevelFunction, points: Tensor, step: float) -> Tensor:
    """Normals from central differences, six evaluations per point.

    A tetrahedron would need only four, but its error is of first order in the step and biased towards
    diagonals.

    Args:
        level: the function whose level set is the surface; it increases towards the inside.
        points: world positions, [P, 3].
        step: step h, in world units.

    Returns:
        Unit normals [P, 3], differentiable with respect to the field's parameters.
    """
    offsets = step * torch.eye(3, device=points.device, dtype=points.dtype)[:, None]
    values = level(torch.cat([points + offsets, points - offsets]).reshape(-1, 3)).reshape(6, -1)
    return outward((values[:3] - values[3:]).T / (2.0 * step))


def lambert(
    normal: Tensor,  # [..., 3]
    points: Tensor,  # [..., 3] mu
    light: Tensor,  # [..., 3] position of the point light
    ambient: Tensor,  # [...] l_a
    diffuse: Tensor,  # [...] l_rho
) -> Tensor:  # [...]
    """Irradiance ``l_rho max(0, n . (l - mu) / |l - mu|) + l_a`` (paper 3.1); multiply by the albedo."""
    toward = torch.nn.functional.normalize(light - points, dim=-1)
    return diffuse * (normal * toward).sum(-1).clamp_min(0.0) + ambient


def facing_away(normal: Tensor, directions: Tensor) -> Tensor:
    """Term of the orientation loss, ``max(0, n . v)^2`` with v the ray direction: [..., 3] -> [...]."""
    return (normal * directions).sum(-1).clamp_min(0.0).square()
