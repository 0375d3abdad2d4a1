"""The renderer: pictures of a scene from given views, ``x = g(theta)`` (seed 4, Algorithm 1)."""

from __future__ import annotations

from typing import Literal, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dreamfusion_pl.rendering.rays import pixel_rays, sphere_bounds
from dreamfusion_pl.rendering.sampling import OccupancyGrid, at_least, place_samples, uniform_samples
from dreamfusion_pl.rendering.shading import exact_normals, facing_away, finite_difference_normals, lambert
from dreamfusion_pl.rendering.volume import accumulate, compositing_weights, over
from dreamfusion_pl.scene.background import Background
from dreamfusion_pl.scene.base import Scene
from dreamfusion_pl.types import Rays, Rendering, Views

Normals = Literal["exact", "finite_difference", "surface"]


class _Samples(NamedTuple):
    """Samples on R rays."""

    points: Tensor  # [R, S, 3]
    distances: Tensor  # [R, S]
    weights: Tensor  # [R, S]
    albedo: Tensor  # [R, S, 3]
    latent: Tensor  # [R, S, L]
    normal: Tensor | None  # [R, S, 3], None if there are no normals per sample


class _Lights(NamedTuple):
    """Lighting of R rays."""

    position: Tensor  # [R, 3]
    ambient: Tensor  # [R]
    diffuse: Tensor  # [R]
    textureless: Tensor  # [R] bool


class _Shaded(NamedTuple):
    """Result of shading, premultiplied by opacity."""

    color: Tensor  # [R, 3]
    normal: Tensor  # [R, 3]
    facing: Tensor  # [R, S] or [R, 1]


@final
class Renderer(nn.Module):
    """Volume renderer with a fixed number of samples per ray.

    Args:
        num_samples: number of samples S per ray.
        normals: "exact", the gradient of the scene's level function at every sample; "finite_difference",
            six more evaluations per sample; "surface", six more evaluations per ray, at its expected depth,
            and shading of the accumulated albedo (the cheapest).
        occupancy_resolution: cells per side of the occupancy grid; 0: no grid, samples are spread over the
            whole bounding sphere.
        num_strata: number of equal pieces of a ray that are looked up in the occupancy grid.
        normal_step: step h of finite differences, in world units.
        views_at_once: views rendered in one pass; 0: all. Fewer need less memory: training then keeps only
            outputs and renders again in the backward pass, with the same gradient (gradient checkpointing).

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(
        self,
        num_samples: int = 32,
        normals: Normals = "surface",
        occupancy_resolution: int = 32,
        num_strata: int = 64,
        normal_step: float = 0.02,
        views_at_once: int = 0,
    ) -> None:
        super().__init__()
        at_least(1, num_samples=num_samples, num_strata=num_strata)
        at_least(0, occupancy_resolution=occupancy_resolution, views_at_once=views_at_once)
        at_least(1e-6, normal_step=normal_step)
        self.num_samples, self.num_strata, self.views_at_once = num_samples, num_strata, views_at_once
        self.normals, self.normal_step = normals, normal_step
        self.occupancy = OccupancyGrid(occupancy_resolution) if occupancy_resolution else None

    def update_occupancy(self, scene: Scene, progress: float, generator: torch.Generator) -> None:
        """Update the occupancy grid, if there is one, from the current scene.

        Args:
            scene: the scene.
            progress: training progress in [0, 1].
            generator: source of the random sample points.
        """
        if self.occupancy is not None:
            self.occupancy.update(scene, progress, generator)

    def forward(
        self,
        scene: Scene,
        background: Background,
        views: Views,
        progress: float,
        needs_normals: bool = True,
    ) -> Rendering:
        """Render views.

        Args:
            scene: the scene theta.
            background: the background behind it.
            views: B views; ``views.jitter`` gives their size, H x W pixels.
            progress: training progress in [0, 1].
            needs_normals: False skips normals and shading, for steps in which all views have ambient light
                only. ``normal`` and ``facing`` are then zero.

        Returns:
            The rendering, [B, H, W, ...].
        """
        size = self.views_at_once
        if not 0 < size < len(views.origin):
            return self._render(scene, background, views, progress, needs_normals)
        parts = []
        for part in zip(*(field.split(size) for field in views), strict=True):
            arguments = (scene, background, Views(*part), progress, needs_normals)
            parts.append(
                checkpoint(self._render, *arguments, use_reentrant=False, preserve_rng_state=False)
                if torch.is_grad_enabled()
                else self._render(*arguments)
            )
        return Rendering(*map(torch.cat, zip(*parts, strict=True)))

    def _render(
        self, scene: Scene, background: Background, views: Views, progress: float, needs_normals: bool
    ) -> Rendering:
        num_views, height, width = views.jitter.shape
        rays = pixel_rays(views.origin, views.rotation, views.focal, height, width)
        behind = background(rays.directions, views).reshape(-1, 3)
        flat = Rays(rays.origins.reshape(-1, 3), rays.directions.reshape(-1, 3))
        near, far = sphere_bounds(flat, scene.radius)
        per_sample = needs_normals and self.normals != "surface"
        samples = self._sample(scene, flat, near, far, views.jitter.reshape(-1), progress, per_sample)
        opacity = samples.weights.sum(-1)
        albedo = accumulate(samples.weights, samples.albedo)
        latent = accumulate(samples.weights, samples.latent)
        if scene.latent_colors is not None:
            latent = over(latent, opacity, scene.latent_colors.latents(behind))
        depth = (samples.weights * samples.distances).sum(-1)
        lights = _lights_of_rays(views)
        if not needs_normals:
            shaded = _unshaded(albedo, opacity, lights)
        elif per_sample:
            shaded = _shade_samples(samples, flat, lights)
        else:
            shaded = self._shade_surface(scene, flat, albedo, opacity, depth, lights, progress)
        picture = Rendering(
            rgb=over(shaded.color, opacity, behind),
            albedo=over(albedo, opacity, behind),
            opacity=opacity,
            depth=depth + (1.0 - opacity) * far,
            normal=shaded.normal,
            weights=samples.weights,
            facing=shaded.facing,
            latent=latent,
        )
        return Rendering(*(field.reshape(num_views, height, width, *field.shape[1:]) for field in picture))

    def _sample(
        self,
        scene: Scene,
        rays: Rays,
        near: Tensor,
        far: Tensor,
        jitter: Tensor,
        progress: float,
        per_sample: bool,
    ) -> _Samples:
        if self.occupancy is None:
            distances, delta = uniform_samples(near, far, jitter, self.num_samples)
        else:
            occupied = self.occupancy.strata(rays, near, far, scene.radius, self.num_strata)
            distances, delta = place_samples(occupied, near, far, jitter, self.num_samples)
        points = rays.origins[:, None] + distances[..., None] * rays.directions[:, None]
        flat = points.reshape(-1, 3)
        normal = None
        if per_sample and self.normals == "exact":
            sample, normal = exact_normals(scene, flat, progress)
        else:
            sample = scene(flat, progress)
        if per_sample and self.normals == "finite_difference":
            normal = finite_difference_normals(lambda p: scene.level(p, progress), flat, self.normal_step)
        appearance = sample.appearance
        shape = distances.shape
        return _Samples(
            points=points,
            distances=distances,
            weights=compositing_weights(sample.density.reshape(shape), delta),
            albedo=appearance[:, :3].reshape(*shape, 3),
            latent=appearance[:, 3:].reshape(*shape, appearance.shape[-1] - 3),
            normal=None if normal is None else normal.reshape(*shape, 3),
        )

    def _shade_surface(
        self,
        scene: Scene,
        rays: Rays,
        albedo: Tensor,
        opacity: Tensor,
        depth: Tensor,
        lights: _Lights,
        progress: float,
    ) -> _Shaded:
        """Deferred shading with one normal per ray, at its expected depth (normalized by opacity)."""
        distance = (depth / opacity.clamp_min(1e-4)).detach()
        points = rays.origins + distance[:, None] * rays.directions
        normal = finite_difference_normals(lambda p: scene.level(p, progress), points, self.normal_step)
        irradiance = lambert(normal, points, lights.position, lights.ambient, lights.diffuse)
        surface = torch.where(lights.textureless[:, None], opacity[:, None], albedo)
        facing = facing_away(normal, rays.directions)[:, None]
        return _Shaded(surface * irradiance[:, None], normal * opacity[:, None], facing)


def _lights_of_rays(views: Views) -> _Lights:
    pixels = views.jitter.shape[1] * views.jitter.shape[2]
    fields = (views.light, views.ambient, views.diffuse, views.textureless)
    return _Lights(*(field.repeat_interleave(pixels, dim=0) for field in fields))


def _unshaded(albedo: Tensor, opacity: Tensor, lights: _Lights) -> _Shaded:
    surface = torch.where(lights.textureless[:, None], opacity[:, None], albedo)
    zero = torch.zeros_like(albedo)
    return _Shaded(surface * lights.ambient[:, None], zero, zero[:, :1])


def _shade_samples(samples: _Samples, rays: Rays, lights: _Lights) -> _Shaded:
    """Shade every sample (seed 4)."""
    assert samples.normal is not None
    irradiance = lambert(
        samples.normal,
        samples.points,
        lights.position[:, None],
        lights.ambient[:, None],
        lights.diffuse[:, None],
    )
    surface = torch.where(lights.textureless[:, None, None], 1.0, samples.albedo)
    return _Shaded(
        color=accumulate(samples.weights, surface * irradiance[..., None]),
        normal=accumulate(samples.weights, samples.normal),
        facing=facing_away(samples.normal, rays.directions[:, None]),
    )
