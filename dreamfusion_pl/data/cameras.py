"""Cameras and lights as pure functions (paper 3.2, A.2). Angles in radians unless named ``_deg``."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dreamfusion_pl.rendering.rays import pixel_rays as pixel_rays


def sample_elevations_deg(
    count: int, low_deg: float, high_deg: float, area_probability: float, generator: torch.Generator
) -> Tensor:
    """Sample elevations: uniform in angle, or with ``area_probability`` uniform in area on the sphere.

    The paper uses [-10, 90] degrees and probability 0.5. Its area branch covers the upper hemisphere only, so
    that branch starts at elevation 0 (or at ``low_deg`` if that is higher).

    Returns:
        Elevations in degrees, [B], within [low_deg, high_deg].
    """
    by_angle = low_deg + (high_deg - low_deg) * torch.rand(count, generator=generator)
    low_sine = math.sin(math.radians(max(low_deg, 0.0)))
    high_sine = math.sin(math.radians(max(high_deg, 0.0)))
    sines = low_sine + (high_sine - low_sine) * torch.rand(count, generator=generator)
    by_area = torch.rad2deg(torch.asin(sines.clamp(-1.0, 1.0)))
    return torch.where(torch.rand(count, generator=generator) < area_probability, by_area, by_angle)


def sample_azimuths_deg(
    count: int, spread: bool, generator: torch.Generator, low_deg: float = 0.0, high_deg: float = 360.0
) -> Tensor:
    """Sample azimuths: uniform and independent, or with ``spread`` one in each of B sectors of the range.

    Args:
        count: number of azimuths B.
        spread: whether to stratify; the first sector begins at a random angle.
        generator: source of the random draws.
        low_deg: lowest azimuth in degrees.
        high_deg: highest azimuth in degrees, at most 360 above the lowest.

    Returns:
        Azimuths in [0, 360) degrees, [B].
    """
    draws, width = torch.rand(count, generator=generator), high_deg - low_deg
    if not spread:
        return (low_deg + width * draws) % 360.0
    turned = (torch.arange(count) + draws) * (width / count) + width * _one(generator)
    return (low_deg + (turned % width if width else turned)) % 360.0


def _one(generator: torch.Generator) -> Tensor:
    return torch.rand((), generator=generator)


def positions(elevation_deg: Tensor, azimuth_deg: Tensor, distance: Tensor) -> Tensor:
    """Convert spherical coordinates around the origin to points: [B], [B], [B] -> [B, 3]."""
    elevation, azimuth = torch.deg2rad(elevation_deg), torch.deg2rad(azimuth_deg)
    flat = torch.cos(elevation)
    unit = torch.stack([flat * torch.cos(azimuth), flat * torch.sin(azimuth), torch.sin(elevation)], dim=-1)
    return unit * distance[..., None]


def look_at(origin: Tensor, target: Tensor, up: Tensor) -> Tensor:
    """Camera-to-world rotations that look from ``origin`` to ``target``, all [B, 3] -> [B, 3, 3].

    Columns are right, up, back. If the view direction is parallel to ``up``, the top of the image points to
    -x, away from the object's front.
    """
    back = torch.nn.functional.normalize(origin - target, dim=-1)
    fallback = torch.tensor([-1.0, 0.0, 0.0], device=origin.device, dtype=origin.dtype).expand_as(back)
    parallel = torch.linalg.cross(up, back).norm(dim=-1, keepdim=True) < 1e-4
    right = torch.nn.functional.normalize(
        torch.linalg.cross(torch.where(parallel, fallback, up), back), dim=-1
    )
    return torch.stack([right, torch.linalg.cross(back, right), back], dim=-1)


def sample_lights(origin: Tensor, low: float, high: float, generator: torch.Generator) -> Tensor:
    """Sample light positions [B, 3]: direction ~ N(camera position, I), distance ~ U(low, high) (A.2)."""
    direction = origin + torch.randn(origin.shape, generator=generator)
    norm = low + (high - low) * torch.rand(origin.shape[0], 1, generator=generator)
    return torch.nn.functional.normalize(direction, dim=-1) * norm
