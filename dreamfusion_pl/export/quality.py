"""A baked surface against the field that it was made of."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from dreamfusion_pl.data.orbit import GRAY, orbit, ring
from dreamfusion_pl.export.asset import Asset
from dreamfusion_pl.export.texture.raster import render_surface
from dreamfusion_pl.rendering.premultiplied import render_premultiplied
from dreamfusion_pl.rendering.renderer import Renderer
from dreamfusion_pl.rendering.volume import over
from dreamfusion_pl.scene.base import Scene

SOLID = 0.95  # opacity from which a pixel of the field shows a surface and no haze


class BakeQuality(NamedTuple):
    """Albedo of the baked surface beside the field's, from 12 azimuths at 30 degrees; PSNR in dB.

    Where there is nothing to compare it is None.
    """

    outline_iou: float  # pixels that the surface covers and those where the field is half opaque
    picture_db: float | None  # whole pictures over gray: outlines, haze and all
    outline_db: float | None  # the field's own colour where the surface is seen and the field is half opaque
    solid_db: float | None  # the same where it is 95 % opaque, so that it has a surface: the texture's part


def compare(
    scene: Scene, renderer: Renderer, asset: Asset, progress: float = 1.0, size: int = 128
) -> BakeQuality:
    """Render surface and field from the same 12 sides and compare them.

    Args:
        scene: the field, on any device.
        renderer: shows it.
        asset: what was made of it.
        progress: training progress in [0, 1] at which the scene is evaluated.
        size: height and width of the pictures.
    """
    distance = max(1.5, 2.5 * scene.radius)  # outside of whatever the scene may hold
    views = orbit(ring(12), 30.0, distance, 1.2, size, size, GRAY)
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
    """Peak signal-to-noise ratio of colours in [0, 1] in dB, at most 99; None where there are none."""
    if first.numel() == 0:
        return None
    error = float((first - second).square().mean())
    return min(-10.0 * math.log10(max(error, 1e-12)), 99.0)
