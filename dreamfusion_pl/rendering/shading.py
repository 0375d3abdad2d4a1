"""Normals of a density field and Lambertian shading (seed 4)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

DensityField = Callable[[Tensor], Tensor]
"""Density [P] at points [P, 3]."""

_TETRAHEDRON = ((1.0, -1.0, -1.0), (-1.0, -1.0, 1.0), (-1.0, 1.0, -1.0), (1.0, 1.0, 1.0))


def outward(gradient: Tensor) -> Tensor:
    """Normals ``-g / |g|`` of density gradients g [..., 3]; shorter than one where |g| is below 1e-3."""
    return -gradient * torch.rsqrt(gradient.square().sum(-1, keepdim=True).clamp_min(1e-6))


def finite_difference_normals(density: DensityField, points: Tensor, step: float) -> Tensor:
    """Normals from four densities on a tetrahedron around every point.

    With corners e_k in {-1, 1}^3, ``sum_k e_k tau(x + h e_k) = 4 h grad tau(x)`` up to O(h^2).

    Args:
        density: the field.
        points: [P, 3].
        step: h, in world units.

    Returns:
        Unit normals [P, 3], differentiable with respect to the field's parameters.
    """
    corners = torch.tensor(_TETRAHEDRON, device=points.device, dtype=points.dtype)
    stencil = points[None] + step * corners[:, None]
    values = density(stencil.reshape(-1, 3)).reshape(4, -1)
    return outward(torch.einsum("kp,kc->pc", values, corners) / (4.0 * step))


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
