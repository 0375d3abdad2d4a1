"""Compares a baked mesh with the field that it was extracted from."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from dreamfusion_pl.data.orbit import orbit, ring
from dreamfusion_pl.export.asset import Asset
from dreamfusion_pl.export.texture.raster import render_surface
from dreamfusion_pl.rendering.premultiplied import render_premultiplied
from dreamfusion_pl.rendering.renderer import Renderer
from dreamfusion_pl.rendering.volume import over
from dreamfusion_pl.scene.base import Scene

SOLID = 0.95  # opacity above which a pixel of the field counts as surface, not haze


class BakeQuality(NamedTuple):
    """Albedo renders of mesh and field compared from 12 azimuths at 30 degrees elevation; PSNR in dB.

    A PSNR is None if there are no pixels to compare.
    """

    outline_iou: float  # IoU of the pixels covered by the mesh and those where the field is half opaque
    picture_db: float | None  # whole images over gray, with outlines and haze
    outline_db: float | None  # colours where the mesh is visible and the field is half opaque
    solid_db: float | None  # colours where the field is 95 % opaque too: the error of the texture alone


def compare(
    scene: Scene, renderer: Renderer, asset: Asset, progress: float = 1.0, size: int | None = None
) -> BakeQuality:
    """Render mesh and field from the same 12 views and compare them.

    Args:
        scene: the field, on any device.
        renderer: renders the field.
        asset: the mesh baked from the field.
        progress: training progress in [0, 1] at which the scene is evaluated.
        size: height and width of the renders; None: 128, or the side of the texture if that is less.
    """
    size = size or min(128, asset.texture.shape[0])
    distance = max(1.5, 2.5 * scene.radius)  # outside of the scene
    views = orbit(ring(12), 30.0, distance, 1.2, size, size)
    charts = asset.charts._replace(vertices=asset.charts.vertices / asset.scale)
    surface, covered = render_surface(charts, asset.texture, views)
    rendering = render_premultiplied(scene, renderer, views, progress, needs_normals=False)
    own = rendering.albedo / rendering.opacity.clamp_min(1e-3)[..., None]
    field = over(rendering.albedo, rendering.opacity, views.background[:, None, None])
    outline = covered & (rendering.opacity > 0.5)
    solid = covered & (rendering.opacity > SOLID)
    return BakeQuality(
        outline_iou=float(outline.sum() / (covered | (rendering.opacity > 0.5)).sum()),
        picture_db=psnr(surface, field),
        outline_db=psnr(surface[outline], own[outline]),
        solid_db=psnr(surface[solid], own[solid]),
    )


def psnr(first: Tensor, second: Tensor) -> float | None:
    """Peak signal-to-noise ratio of colours in [0, 1] in dB, at most 99; None for empty tensors."""
    if first.numel() == 0:
        return None
    error = float((first - second).square().mean())
    return min(-10.0 * math.log10(max(error, 1e-12)), 99.0)
