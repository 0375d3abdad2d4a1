"""Normals of a density field and Lambertian shading (seed 4)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dreamfusion_pl.scene.base import Scene

POINTS_AT_ONCE = (
    4096  # of exact normals on a CPU: larger blocks come from the kernel, and go back to it, every time
)
DensityField = Callable[[Tensor], Tensor]
"""Density [P] at points [P, 3]."""


def outward(gradient: Tensor) -> Tensor:
    """Normals ``-g / |g|`` of density gradients g [..., 3]; shorter than one where |g| is below 1e-3."""
    return -gradient * torch.rsqrt(gradient.square().sum(-1, keepdim=True).clamp_min(1e-6))


def exact_normals(scene: Scene, points: Tensor, progress: float) -> tuple[Tensor, Tensor, Tensor]:
    """Density [P], looks [P, 3 + L] and normals ``-grad tau / |grad tau|`` [P, 3] at ``points`` [P, 3].

    Looks are the albedo, followed by latents where the scene emits them. Works under ``torch.no_grad``;
    differentiable a second time where gradients are enabled.
    """
    size = POINTS_AT_ONCE if points.device.type == "cpu" else max(len(points), 1)
    parts = [_exact_normals(scene, some, progress) for some in points.split(size)]
    density, albedo, normal = map(torch.cat, zip(*parts, strict=True))
    return density, albedo, normal


def _exact_normals(scene: Scene, points: Tensor, progress: float) -> tuple[Tensor, Tensor, Tensor]:
    training = torch.is_grad_enabled()
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        density, albedo = scene(points, progress)
        (gradient,) = torch.autograd.grad(density.sum(), points, create_graph=training, retain_graph=training)
    if not training:
        density, albedo = density.detach(), albedo.detach()
    return density, albedo, outward(gradient)


def finite_difference_normals(density: DensityField, points: Tensor, step: float) -> Tensor:
    """Normals from central differences, six densities around every point.

    Four on a tetrahedron would do, but their error is of first order in the step and leans towards diagonals.

    Args:
        density: the field.
        points: [P, 3].
        step: h, in world units.

    Returns:
        Unit normals [P, 3], differentiable with respect to the field's parameters.
    """
    offsets = step * torch.eye(3, device=points.device, dtype=points.dtype)[:, None]
    values = density(torch.cat([points + offsets, points - offsets]).reshape(-1, 3)).reshape(6, -1)
    return outward((values[:3] - values[3:]).T / (2.0 * step))


def lambert(
    normal: Tensor,  # [..., 3]
    points: Tensor,  # [..., 3] mu
    light: Tensor,  # [..., 3] position of the point light
    ambient: Tensor,  # [...] l_a
    diffuse: Tensor,  # [...] l_rho
) -> Tensor:  # [...]
    """Irradiance ``l_rho max(0, n . (l - mu) / |l - mu|) + l_a`` (seed 4); multiply by the albedo."""
    toward = torch.nn.functional.normalize(light - points, dim=-1)
    return diffuse * (normal * toward).sum(-1).clamp_min(0.0) + ambient


def facing_away(normal: Tensor, directions: Tensor) -> Tensor:
    """Term of the orientation loss, ``max(0, n . v)^2`` with v the ray's direction: [..., 3] -> [...]."""
    return (normal * directions).sum(-1).clamp_min(0.0).square()
