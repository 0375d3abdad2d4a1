"""Renders world scenes by sphere tracing, with Lambertian shading and supersampling."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dreamfusion_pl.data.cameras import pixel_rays
from dreamfusion_pl.data.world.colors import ACCENTS, COLORS, contrast, pattern_mask
from dreamfusion_pl.data.world.scenes import Layout, Surface, WorldScene, locate, scene_distance
from dreamfusion_pl.types import Views

BOUND = 0.56  # radius of the ball that contains every scene, with a margin
STEPS = 48
STRIDE = 0.9  # step factor: some signed distances are approximate and could overshoot
TOLERANCE = 2e-3


class Hits(NamedTuple):
    """Rays that hit the scene, and the hit points."""

    mask: Tensor  # [R] bool
    points: Tensor  # [N, 3] of the rays that hit


class Drawing(NamedTuple):
    """Images with premultiplied alpha."""

    rgb: Tensor  # [B, H, W, 3]
    alpha: Tensor  # [B, H, W]

    def over(self, background: Tensor) -> Tensor:
        """Composite over solid backgrounds [B, 3]."""
        return self.rgb + (1.0 - self.alpha[..., None]) * background[:, None, None, :]


def trace(layout: Layout, origins: Tensor, directions: Tensor) -> Hits:
    """March rays [R, 3] to the surface."""
    middle = -(origins * directions).sum(dim=-1)
    closest = (origins + middle[:, None] * directions).norm(dim=-1)
    half = torch.sqrt((BOUND**2 - closest**2).clamp_min(0.0))
    active = torch.nonzero(closest < BOUND)[:, 0]
    depth, far = (middle - half).clamp_min(0.0), middle + half
    mask = torch.zeros_like(middle, dtype=torch.bool)
    for _ in range(STEPS):
        if active.numel() == 0:
            break
        points = origins[active] + depth[active, None] * directions[active]
        distance = distance_at(layout, points)
        depth[active] += STRIDE * distance
        mask[active[distance < TOLERANCE]] = True
        active = active[(distance >= TOLERANCE) & (depth[active] < far[active])]
    return Hits(mask, (origins + depth[:, None] * directions)[mask])


def distance_at(layout: Layout, points: Tensor) -> Tensor:
    """Signed distance at points [P, 3] -> [P], in chunks that fit into the CPU's cache."""
    return torch.cat([scene_distance(layout, piece) for piece in points.split(8192)])


def normals(layout: Layout, points: Tensor) -> Tensor:
    """Outward unit normals by central differences on a tetrahedron, [P, 3]."""
    corners = points.new_tensor([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]])
    offsets = [distance_at(layout, points + 2e-3 * corner)[:, None] * corner for corner in corners]
    return torch.nn.functional.normalize(torch.stack(offsets).sum(dim=0), dim=-1)


def draw_layers(layout: Layout, patterns: tuple[str, ...], views: Views, supersample: int = 2) -> Tensor:
    """Render a layout in B views as layers that are coloured later.

    An image is linear in the colours of its items, so tracing once is enough for all colours.

    Args:
        layout: the geometry.
        patterns: the pattern of each item.
        views: cameras and lights; H and W come from the shape of ``jitter``.
        supersample: rays per pixel in each direction.

    Returns:
        Layers [B, H, W, 8]: irradiance of the main and of the contrast colour of item 0, then of item 1;
        shaded accents in RGB; alpha. All in [0, 1] where ambient and diffuse light sum to at most 1.
    """
    batch, height, width = views.jitter.shape
    rays = pixel_rays(views.origin, views.rotation, views.focal, height * supersample, width * supersample)
    hits = trace(layout, rays.origins.reshape(-1, 3), rays.directions.reshape(-1, 3))
    view = torch.nonzero(hits.mask)[:, 0] // (height * width * supersample**2)
    where = locate(layout, hits.points)
    to_light = torch.nn.functional.normalize(views.light[view] - hits.points, dim=-1)
    lambert = (normals(layout, hits.points) * to_light).sum(dim=-1).clamp_min(0.0)
    shade = views.ambient[view] + views.diffuse[view] * lambert
    basis = _basis(where, patterns)
    white = torch.tensor([0, 0, 0, 0, 1, 1, 1], device=shade.device, dtype=shade.dtype)
    basis = torch.where(views.textureless[view, None], white, basis)
    layers = torch.zeros(hits.mask.shape[0], 8, device=shade.device)
    layers[hits.mask] = torch.cat([basis * shade[:, None], torch.ones_like(shade)[:, None]], dim=-1)
    layers = layers.view(batch, height * supersample, width * supersample, 8).permute(0, 3, 1, 2)
    return torch.nn.functional.avg_pool2d(layers, supersample).permute(0, 2, 3, 1)


def _basis(where: Surface, patterns: tuple[str, ...]) -> Tensor:
    """Albedo of surface points [N]: weights of the four item colours, and fixed accents in RGB: [N, 7]."""
    columns = []
    for item in range(2):
        main = (where.item == item) & (where.role == 0)
        second = main & pattern_mask(where.local, patterns[item]) if item < len(patterns) else main & ~main
        columns += [main & ~second, second]
    accents = torch.tensor([(0.0, 0.0, 0.0), *ACCENTS.values()], device=where.distance.device)
    return torch.cat([torch.stack(columns, dim=-1).to(accents), accents[where.role]], dim=-1)


def compose(layers: Tensor, colors: Tensor) -> Drawing:
    """Colour layers.

    Args:
        layers: [B, H, W, 8] from ``draw_layers``.
        colors: main colour of each item, [B, 1 or 2, 3].

    Returns:
        Premultiplied images.
    """
    pairs = torch.stack([colors, contrast(colors)], dim=2).flatten(1, 2)
    painted = torch.einsum("bhwk,bkc->bhwc", layers[..., : pairs.shape[1]], pairs)
    return Drawing((painted + layers[..., 4:7]).clamp(0.0, 1.0), layers[..., 7])


def render_world(scene: WorldScene, views: Views, supersample: int = 2) -> Drawing:
    """Render one scene in B views: the ground truth for evaluation."""
    layers = draw_layers(scene.layout, tuple(item.pattern for item in scene.items), views, supersample)
    colors = torch.tensor([COLORS[item.color] for item in scene.items], device=layers.device)
    return compose(layers, colors.expand(layers.shape[0], -1, -1))
