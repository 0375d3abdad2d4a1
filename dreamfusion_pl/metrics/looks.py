"""Views that results are judged on: cameras like those of the data, the whole object, nothing behind it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from dreamfusion_pl.data.views import RandomViews
from dreamfusion_pl.rendering.premultiplied import render_premultiplied
from dreamfusion_pl.rendering.renderer import Renderer
from dreamfusion_pl.rendering.volume import over
from dreamfusion_pl.scene.base import Scene
from dreamfusion_pl.types import Views

SIDE, BORDER = 32, 2  # pixels of a side and of a border, in the pictures that show whether all is seen
FILLED, SPECK = 0.5, 0.02  # opacity of filled pixels; the share of a border that floaters may fill
STEPS = 12  # cameras step back this often at most, STRIDE times as far away each time
STRIDE = 1.15


class Camera(NamedTuple):
    """Camera of a ring around the object."""

    distance: float = 1.5  # from the origin in world units
    focal: float = 1.2  # focal length in image widths


class Looks(NamedTuple):
    """What results are judged on: colours over the views' plain backgrounds, and opacity."""

    rgb: Tensor  # [B, H, W, 3] in [0, 1], shaded as the views say
    albedo: Tensor  # [B, H, W, 3] in [0, 1]
    opacity: Tensor  # [B, H, W]


def camera_of(data: LightningDataModule | None) -> Camera:
    """Return the camera of the data's own rings; the default one for data without rings."""
    if isinstance(data, RandomViews):
        return Camera(data.look_distance, data.look_focal)
    return Camera()


def looks(
    scene: Scene, renderer: Renderer, views: Views, progress: float = 1.0, needs_normals: bool = False
) -> Looks:
    """Render an object over the views' background colours, never over a learned background.

    Args:
        scene: the scene, on any device.
        renderer: the renderer, on the same device.
        views: B views.
        progress: training progress in [0, 1] at which the scene is evaluated.
        needs_normals: whether the views have diffuse light.

    Returns:
        The pictures on the CPU.
    """
    rendering = render_premultiplied(scene, renderer, views, progress, needs_normals)
    behind = views.background.cpu()[:, None, None]
    rgb, albedo = (over(part, rendering.opacity, behind) for part in (rendering.rgb, rendering.albedo))
    return Looks(rgb.clamp(0.0, 1.0), albedo.clamp(0.0, 1.0), rendering.opacity)


def seeing_all(scene: Scene, renderer: Renderer, views: Views, progress: float = 1.0) -> Views:
    """Move cameras back, all by the same factor, until no picture cuts the object off at its border.

    Args:
        scene: the scene, on any device.
        renderer: the renderer, on the same device.
        views: B views of cameras that look at the origin.
        progress: training progress in [0, 1] at which the scene is evaluated.

    Returns:
        The views; unchanged if they already see the whole object.
    """
    small = views._replace(jitter=torch.full((len(views.origin), SIDE, SIDE), 0.5))
    for step in range(STEPS + 1):
        far = STRIDE**step
        place = {"origin": far * views.origin, "light": far * views.light}
        opacity = looks(scene, renderer, small._replace(**place), progress).opacity
        rim = torch.ones(SIDE, SIDE, dtype=torch.bool)
        rim[BORDER:-BORDER, BORDER:-BORDER] = False
        if float((opacity[:, rim] > FILLED).float().mean(1).max()) <= SPECK:
            break
    return views._replace(**place)
