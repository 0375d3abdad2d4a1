"""Shading of a batch of rays: not at all, at every sample, or once per ray at the surface (paper 3.1)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dreamfusion_pl.rendering.ray_batch import RayBatch
from dreamfusion_pl.rendering.shading import (
    LevelFunction,
    facing_away,
    finite_difference_normals,
    lambert,
)
from dreamfusion_pl.rendering.volume import accumulate


class Samples(NamedTuple):
    """Samples on R rays."""

    points: Tensor  # [R, S, 3]
    distances: Tensor  # [R, S]
    weights: Tensor  # [R, S]
    albedo: Tensor  # [R, S, 3]
    latent: Tensor  # [R, S, L]
    normal: Tensor | None  # [R, S, 3], None if there are no normals per sample


class Shaded(NamedTuple):
    """Result of shading, premultiplied by opacity."""

    color: Tensor  # [R, 3]
    normal: Tensor  # [R, 3]
    facing: Tensor  # [R, S] or [R, 1]


def unshaded(albedo: Tensor, opacity: Tensor, rays: RayBatch) -> Shaded:
    """Light the accumulated ``albedo`` [R, 3] with ambient light only; normals are zero."""
    surface = torch.where(rays.textureless[:, None], opacity[:, None], albedo)
    zero = torch.zeros_like(albedo)
    return Shaded(surface * rays.ambient[:, None], zero, zero[:, :1])


def shade_samples(samples: Samples, rays: RayBatch) -> Shaded:
    """Shade every sample (paper 3.1); ``samples`` have normals."""
    assert samples.normal is not None
    irradiance = lambert(
        samples.normal,
        samples.points,
        rays.light[:, None],
        rays.ambient[:, None],
        rays.diffuse[:, None],
    )
    surface = torch.where(rays.textureless[:, None, None], 1.0, samples.albedo)
    return Shaded(
        color=accumulate(samples.weights, surface * irradiance[..., None]),
        normal=accumulate(samples.weights, samples.normal),
        facing=facing_away(samples.normal, rays.directions[:, None]),
    )


def shade_surface(
    level: LevelFunction, rays: RayBatch, albedo: Tensor, opacity: Tensor, depth: Tensor, normal_step: float
) -> Shaded:
    """Deferred shading with one normal per ray, at its expected depth (normalized by opacity).

    Args:
        level: the function whose level set is the surface.
        rays: R rays and their lights.
        albedo: accumulated albedo, [R, 3].
        opacity: [R].
        depth: accumulated distance, [R].
        normal_step: step h of finite differences, in world units.
    """
    distance = (depth / opacity.clamp_min(1e-4)).detach()
    points = rays.origins + distance[:, None] * rays.directions
    normal = finite_difference_normals(level, points, normal_step)
    irradiance = lambert(normal, points, rays.light, rays.ambient, rays.diffuse)
    surface = torch.where(rays.textureless[:, None], opacity[:, None], albedo)
    facing = facing_away(normal, rays.directions)[:, None]
    return Shaded(surface * irradiance[:, None], normal * opacity[:, None], facing)
