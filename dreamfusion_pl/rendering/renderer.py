"""The renderer: pictures of a scene from given views, ``x = g(theta)`` (paper 3.1)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dreamfusion_pl.device.compilation import can_compile
from dreamfusion_pl.rendering.lighting import Samples, shade_samples, shade_surface, unshaded
from dreamfusion_pl.rendering.ray_batch import (
    RayBatch,
    Traced,
    occupied_strata,
    occupied_strata_of_some,
    ray_batch,
    trace_in_parts,
    trace_where_occupied,
)
from dreamfusion_pl.rendering.rays import pixel_rays, sphere_bounds
from dreamfusion_pl.rendering.sampling import OccupancyGrid, at_least, place_samples, uniform_samples
from dreamfusion_pl.rendering.shading import exact_normals, finite_difference_normals
from dreamfusion_pl.rendering.visible import Evaluated, evaluate_visible
from dreamfusion_pl.rendering.volume import accumulate, compositing_weights, over
from dreamfusion_pl.scene.background import Background
from dreamfusion_pl.scene.base import Scene
from dreamfusion_pl.schedule import Schedule, count_at, least_count
from dreamfusion_pl.types import Rays, Rendering, Views

Normals = Literal["exact", "finite_difference", "surface"]
Skipping = bool | Literal["auto"]


@final
class Renderer(nn.Module):
    """Volume renderer with a fixed number of samples per ray.

    Args:
        num_samples: number of samples S per ray, or a schedule of it, such as ``Steps``.
        normals: "exact", the gradient of the scene's level function at every sample; "finite_difference",
            six more evaluations per sample; "surface", six more evaluations per ray, at its expected depth,
            and shading of the accumulated albedo (the cheapest).
        occupancy_resolution: cells per side of the occupancy grid; 0: no grid, samples are spread over the
            whole bounding sphere.
        num_strata: number of equal pieces of a ray that are looked up in the occupancy grid.
        normal_step: step h of finite differences, in world units.
        skip_empty_rays: whether rays that meet no occupied cell are left out, and samples that are not
            visible (``evaluate_visible``) have neither colour nor gradient. It saves most of the time of a
            large network; there, nothing can grow back. "auto": on a CPU, and not where the renderer is
            compiled; a GPU gains more from the same number of rays in every step.
        views_at_once: views rendered in one pass; 0: all. Fewer need less memory: training then keeps only
            outputs and renders again in the backward pass, with the same gradient (gradient checkpointing).
        compile: compile the renderer, with scene and background, with ``torch.compile``, for training; other
            renders have many sizes and are not compiled. If there is no working compiler, a warning, and it
            renders uncompiled.

    Raises:
        ValueError: a number is out of range, or what is to be compiled has no static shapes or exact normals.
    """

    def __init__(
        self,
        num_samples: int | Schedule = 32,
        normals: Normals = "surface",
        occupancy_resolution: int = 32,
        num_strata: int = 64,
        normal_step: float = 0.02,
        skip_empty_rays: Skipping = False,
        views_at_once: int = 0,
        compile: bool = False,
    ) -> None:
        super().__init__()
        if compile and skip_empty_rays is True:
            raise ValueError(
                "a compiled renderer needs the same number of rays in every step: use compile or "
                "skip_empty_rays, not both"
            )
        if compile and normals == "exact":
            raise ValueError(
                "torch.compile cannot differentiate twice, as exact normals need: use compile with normals "
                "surface or finite_difference"
            )
        at_least(1, num_samples=least_count(num_samples), num_strata=num_strata)
        at_least(0, occupancy_resolution=occupancy_resolution, views_at_once=views_at_once)
        at_least(1e-6, normal_step=normal_step)
        self.num_samples, self.num_strata, self.views_at_once = num_samples, num_strata, views_at_once
        self.normals, self.normal_step, self.skip_empty_rays = normals, normal_step, skip_empty_rays
        self.compile_rendering = compile
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
        skip_empty_rays: bool = False,
    ) -> Rendering:
        """Render views.

        Args:
            scene: the scene theta.
            background: the background behind it.
            views: B views; ``views.jitter`` gives their size, H x W pixels.
            progress: training progress in [0, 1].
            needs_normals: False skips normals and shading, for steps in which all views have ambient light
                only. ``normal`` and ``facing`` are then zero.
            skip_empty_rays: True leaves out rays that meet no occupied cell, and with them the faintest haze,
                also where training does not.

        Returns:
            The rendering, [B, H, W, ...].
        """
        is_training, size = torch.is_grad_enabled(), self.views_at_once
        compiled = self.compile_rendering and is_training and _compiles_on(views.origin.device)
        # Not an attribute: a copy of this module would then render with the original's grid.
        render = partial(_compiled_render() if compiled else Renderer._render, self)
        if not 0 < size < len(views.origin):
            return render(scene, background, views, progress, needs_normals, skip_empty_rays)
        parts = []
        for part in zip(*(field.split(size) for field in views), strict=True):
            arguments = (scene, background, Views(*part), progress, needs_normals, skip_empty_rays)
            parts.append(
                checkpoint(render, *arguments, use_reentrant=False, preserve_rng_state=False)
                if is_training
                else render(*arguments)
            )
        return Rendering(*map(torch.cat, zip(*parts, strict=True)))

    def _render(
        self,
        scene: Scene,
        background: Background,
        views: Views,
        progress: float,
        needs_normals: bool,
        skip_empty_rays: bool,
    ) -> Rendering:
        num_views, height, width = views.jitter.shape
        rays = pixel_rays(views.origin, views.rotation, views.focal, height, width)
        behind = background(rays.directions, views).reshape(-1, 3)
        flat = Rays(rays.origins.reshape(-1, 3), rays.directions.reshape(-1, 3))
        near, far = sphere_bounds(flat, scene.radius)
        batch = ray_batch(flat, near, far, None, views)
        trace = partial(self._trace, scene, progress=progress, needs_normals=needs_normals)
        looks, skips = not torch.is_grad_enabled(), skip_empty_rays or self._skips(views.origin.device)
        if looks:
            trace = partial(trace_in_parts, trace=trace)
        if self.occupancy is not None:
            look_up = occupied_strata_of_some if looks or skips else occupied_strata
            occupied = look_up(self.occupancy, batch, scene.radius, self.num_strata)
            batch = batch._replace(occupied=occupied)
        traced = trace_where_occupied(batch, trace) if skips else trace(batch)
        latent = traced.latent
        if scene.latent_colors is not None:
            latent = over(latent, traced.opacity, scene.latent_colors.latents(behind))
        picture = Rendering(
            rgb=over(traced.color, traced.opacity, behind),
            albedo=over(traced.albedo, traced.opacity, behind),
            opacity=traced.opacity,
            depth=traced.depth + (1.0 - traced.opacity) * far,
            normal=traced.normal,
            weights=traced.weights,
            facing=traced.facing,
            latent=latent,
        )
        return Rendering(*(field.reshape(num_views, height, width, *field.shape[1:]) for field in picture))

    def _skips(self, device: torch.device) -> bool:
        if self.skip_empty_rays == "auto":
            return device.type == "cpu" and not self.compile_rendering
        return self.skip_empty_rays

    def _trace(self, scene: Scene, rays: RayBatch, progress: float, needs_normals: bool) -> Traced:
        per_sample = needs_normals and self.normals != "surface"
        samples = self._sample(scene, rays, progress, per_sample)
        opacity = samples.weights.sum(-1)
        albedo = accumulate(samples.weights, samples.albedo)
        depth = (samples.weights * samples.distances).sum(-1)
        if not needs_normals:
            shaded = unshaded(albedo, opacity, rays)
        elif per_sample:
            shaded = shade_samples(samples, rays)
        else:
            shaded = shade_surface(
                lambda points: scene.level(points, progress), rays, albedo, opacity, depth, self.normal_step
            )
        latent = accumulate(samples.weights, samples.latent)
        return Traced(*shaded, albedo, latent, opacity, depth, samples.weights)

    def _sample(self, scene: Scene, rays: RayBatch, progress: float, per_sample: bool) -> Samples:
        bounds, count = (rays.near, rays.far, rays.jitter), count_at(self.num_samples, progress)
        if self.occupancy is None:
            distances, delta = uniform_samples(*bounds, count)
        else:
            distances, delta = place_samples(rays.occupied, *bounds, count)
        points = rays.origins[:, None] + distances[..., None] * rays.directions[:, None]
        evaluate = partial(self._evaluate, scene, progress=progress, per_sample=per_sample)
        if self._skips(points.device):
            evaluated = evaluate_visible(scene, points, delta, progress, evaluate)
        else:
            evaluated = evaluate(points.reshape(-1, 3))
        density, appearance, normal = evaluated
        shape = distances.shape
        return Samples(
            points=points,
            distances=distances,
            weights=compositing_weights(density.reshape(shape), delta),
            albedo=appearance[:, :3].reshape(*shape, 3),
            latent=appearance[:, 3:].reshape(*shape, appearance.shape[-1] - 3),
            normal=None if normal is None else normal.reshape(*shape, 3),
        )

    def _evaluate(self, scene: Scene, points: Tensor, progress: float, per_sample: bool) -> Evaluated:
        """Evaluate the scene, with its normals if it is shaded per sample, at points [P, 3]."""
        normal = None
        if per_sample and self.normals == "exact":
            sample, normal = exact_normals(scene, points, progress)
        else:
            sample = scene(points, progress)
        if per_sample and self.normals == "finite_difference":
            normal = finite_difference_normals(lambda p: scene.level(p, progress), points, self.normal_step)
        return Evaluated(sample.density, sample.appearance, normal)


@cache
def _compiled_render() -> Callable[..., Rendering]:
    """One compiled function for all renderers of a process: those of equal settings share its code."""
    return torch.compile(Renderer._render)


@cache
def _compiles_on(device: torch.device) -> bool:
    return can_compile(device)
