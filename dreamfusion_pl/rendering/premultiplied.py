"""A finished scene with nothing behind it."""

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
    """Render views over black, a few at a time, whatever their backgrounds are: colours are premultiplied.

    Args:
        scene: on any device.
        renderer: on the same one.
        views: B cameras with their lights.
        progress: training progress in [0, 1] at which the scene is evaluated.
        needs_normals: False leaves out normals and shading.

    Returns:
        The rendering [B, H, W, ...] on the CPU.
    """
    device, nothing, parts = device_of(scene), SolidBackground(), []
    black = views._replace(background=torch.zeros_like(views.background))
    for i in range(0, len(views.origin), 2):
        few = Views(*(field[i : i + 2].to(device) for field in black))
        rendering = renderer(scene, nothing, few, progress, needs_normals)
        parts.append(Rendering(*(field.cpu() for field in rendering)))
    return Rendering(*(torch.cat(fields) for fields in zip(*parts, strict=True)))
