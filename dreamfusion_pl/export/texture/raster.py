"""Renders a textured mesh on the CPU with a z-buffer and one sample at the centre of every pixel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dreamfusion_pl.export.texture.atlas import Charts
from dreamfusion_pl.export.texture.pixels import covered_pixels
from dreamfusion_pl.types import Views


def render_surface(charts: Charts, texture: Tensor, views: Views) -> tuple[Tensor, Tensor]:
    """Render a textured mesh unlit, with one ray through every pixel's centre, like the field's albedo.

    Args:
        charts: the surface, in the coordinates of the views.
        texture: [S, S, 3] in [0, 1], row 0 at v = 1; sampled with bilinear filtering.
        views: B cameras, their backgrounds and the image size.

    Returns:
        Images [B, H, W, 3] over the views' backgrounds, and the mask of the surface, bool [B, H, W].

    Raises:
        ValueError: a part of the surface is behind a camera.
    """
    _, height, width = views.jitter.shape
    pictures, masks = [], []
    for index in range(len(views.origin)):
        camera = (charts.vertices - views.origin[index]) @ views.rotation[index]  # right, up, back
        if not float(camera[:, 2].max()) < 0.0:
            raise ValueError("a part of the surface is behind the camera: move the camera away")
        uv, seen = _nearest(charts, camera, float(views.focal[index]), height, width)
        grid = (uv * torch.tensor([2.0, -2.0]) + torch.tensor([-1.0, 1.0])).view(1, 1, -1, 2)
        colors = F.grid_sample(
            texture.permute(2, 0, 1)[None], grid, padding_mode="border", align_corners=False
        )
        picture = torch.where(seen[:, None], colors[0, :, 0].T, views.background[index])
        pictures.append(picture.view(height, width, 3))
        masks.append(seen.view(height, width))
    return torch.stack(pictures), torch.stack(masks)


def _nearest(charts: Charts, camera: Tensor, focal: float, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return texture coordinates [H W, 2] of the nearest surface at every pixel, and its mask [H W]."""
    depth = -camera[:, 2]
    middle = torch.tensor([0.5 * width, 0.5 * height])
    plane = camera[:, :2] * torch.tensor([1.0, -1.0]) * (focal * width / depth)[:, None] + middle
    nearness = torch.zeros(height * width)  # 1 / depth, which is linear in image space
    uv = torch.zeros(height * width, 2)
    for face, pixel, weights in covered_pixels(plane[charts.faces], height, width):
        corners = charts.faces[face]
        inverse = weights / depth[corners]
        closeness = inverse.sum(-1)
        nearness.scatter_reduce_(0, pixel, closeness, "amax")
        wins = closeness >= nearness[pixel]
        weight = inverse[wins] / closeness[wins, None]
        uv[pixel[wins]] = (weight[..., None] * charts.uv[corners[wins]]).sum(1)
    return uv, nearness > 0.0
