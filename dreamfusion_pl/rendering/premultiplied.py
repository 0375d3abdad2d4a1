"""Renders of a finished scene without a background."""

from __future__ import annotations

import torch

from dreamfusion_pl.rendering.renderer import Renderer
from dreamfusion_pl.scene.background import SolidBackground
from dreamfusion_pl.scene.base import Scene, device_of
from dreamfusion_pl.types import Rendering, Views


@torch.no_grad()
def render_premultiplied(
    scene: Scene, renderer: Renderer, views: Views, progress: float = 1.0, needs_normals: bool = True
) -> Rendering:
    """Render views over black, a few at a time, so that colours are premultiplied by opacity.

    Args:
        scene: the scene, on any device.
        renderer: the renderer, on the same device.
        views: B views; their background colours are ignored.
        progress: training progress in [0, 1] at which the scene is evaluated.
        needs_normals: False skips normals and shading.

    Returns:
        The rendering [B, H, W, ...] on the CPU.
    """
    device, background, parts = device_of(scene), SolidBackground(), []
    over_black = views._replace(background=torch.zeros_like(views.background))
    for i in range(0, len(views.origin), 2):
        chunk = Views(*(field[i : i + 2].to(device) for field in over_black))
        rendering = renderer(scene, background, chunk, progress, needs_normals)
        parts.append(Rendering(*(field.cpu() for field in rendering)))
    return Rendering(*(torch.cat(fields) for fields in zip(*parts, strict=True)))
