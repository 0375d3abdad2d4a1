"""Turns a scene into a textured mesh; shared by the command, the callback and the library."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dreamfusion_pl.export.surface.memory import available_memory, check_texture_fits
from dreamfusion_pl.export.surface.mesh import SMALLEST_PART, Mesh, check_surface, extract, simplify
from dreamfusion_pl.export.texture.atlas import Charts, bake, unwrap
from dreamfusion_pl.export.texture.normals import bake_normals, field_normals
from dreamfusion_pl.scene.base import Scene


class Settings(NamedTuple):
    """Export settings."""

    resolution: int = 96  # grid points along the object's longest side, 8 or more
    threshold: float | None = None  # density at the isosurface, > 0; None finds it
    max_faces: int = 8000  # maximum number of triangles after simplification, 16 or more
    texture_size: int = 512  # height and width of the texture, 8 to 8192
    size_m: float | None = None  # longest side in metres, 1e-6 to 1e6; None: one world unit is one metre
    normal_map: bool = False  # whether to bake a normal map from the field's normals
    smallest_part: float = SMALLEST_PART  # share of the largest part's area below which parts are dropped


class Asset(NamedTuple):
    """A textured object in world axes."""

    mesh: Mesh  # mesh with vertex colours, in metres
    charts: Charts  # the same surface, cut into UV charts, in metres
    texture: Tensor  # [H, W, 3] albedo in [0, 1], sRGB
    scale: float = 1.0  # metres per world unit
    normal_map: Tensor | None = None  # [H, W, 3] in [0, 1], tangent space (see bake_normals)


def check(settings: Settings) -> None:
    """Raise ValueError if a setting is out of range."""
    check_surface(settings.resolution, settings.threshold, settings.smallest_part)
    if settings.max_faces < 16 or not 8 <= settings.texture_size <= 8192:
        raise ValueError(
            "an asset needs 16 or more faces and a texture of 8 to 8192 pixels a side, got "
            f"{settings.max_faces} and {settings.texture_size}"
        )
    if settings.size_m is not None and not 1e-6 <= settings.size_m <= 1e6:
        raise ValueError(f"the object's size is in metres, from 1e-6 to 1e6; got {settings.size_m}")


@torch.no_grad()
def make_asset(scene: Scene, settings: Settings | None = None, progress: float = 1.0) -> Asset:
    """Extract the mesh, simplify it, unwrap it and bake the texture.

    Args:
        scene: the field, on any device.
        settings: export settings; None uses the defaults.
        progress: training progress in [0, 1] at which the scene is evaluated.

    Raises:
        EmptyFieldError: the scene has no surface.
        ValueError: density or colours are not finite, a setting is out of range, or memory is insufficient.
    """
    settings = settings or Settings()
    check(settings)
    check_texture_fits(settings.texture_size, available_memory())
    surface = extract(
        scene, settings.resolution, settings.threshold, progress, smallest_part=settings.smallest_part
    )
    surface = simplify(surface, settings.max_faces, scene, progress)
    charts = unwrap(surface, settings.texture_size)
    texture = bake(scene, charts, settings.texture_size, progress)
    if not bool(texture.isfinite().all()):
        raise ValueError(
            "the scene's colours are not finite (NaN or infinity): training diverged; lower the learning "
            "rate or start again from an earlier checkpoint"
        )
    charts = charts._replace(normals=field_normals(scene, charts, progress))
    normal_map = bake_normals(scene, charts, settings.texture_size, progress) if settings.normal_map else None
    longest = float((surface.vertices.amax(0) - surface.vertices.amin(0)).max())
    scale = 1.0 if settings.size_m is None else settings.size_m / longest
    return Asset(
        surface._replace(vertices=surface.vertices * scale),
        charts._replace(vertices=charts.vertices * scale),
        texture,
        scale,
        normal_map,
    )
