"""Rays through pixel centres, and their bounds."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamfusion_pl.types import Rays


def pixel_rays(origin: Tensor, rotation: Tensor, focal: Tensor, height: int, width: int) -> Rays:
    """Return the rays through pixel centres.

    Args:
        origin: camera positions, [B, 3].
        rotation: camera-to-world rotations, [B, 3, 3].
        focal: focal lengths in image widths, [B].
        height: number of rows H.
        width: number of columns W.

    Returns:
        Rays with origins and unit directions [B, H, W, 3].
    """
    rows = (0.5 * height - 0.5 - torch.arange(height, device=origin.device)) / width
    columns = (torch.arange(width, device=origin.device) + 0.5 - 0.5 * width) / width
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    plane = torch.stack([x, y], dim=-1).to(origin) / focal[:, None, None, None]
    camera = torch.cat([plane, -torch.ones_like(plane[..., :1])], dim=-1)
    directions = torch.einsum("bij,bhwj->bhwi", rotation, torch.nn.functional.normalize(camera, dim=-1))
    return Rays(origin[:, None, None, :].expand_as(directions), directions)


def sphere_bounds(rays: Rays, radius: float) -> tuple[Tensor, Tensor]:
    """Distances at which rays enter and leave a sphere around the origin; 0 if behind the camera.

    Args:
        rays: rays [..., 3].
        radius: the sphere's radius, in world units.

    Returns:
        (near, far), each [...]; ``near == far`` where a ray misses the sphere.
    """
    middle = -(rays.origins * rays.directions).sum(-1)
    closest = rays.origins + middle[..., None] * rays.directions
    half = (radius**2 - closest.square().sum(-1)).clamp_min(0.0).sqrt()
    return (middle - half).clamp_min(0.0), (middle + half).clamp_min(0.0)
