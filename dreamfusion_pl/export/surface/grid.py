"""Evaluates a field on a grid, in bounded memory; finds and checks the level of its isosurface."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dreamfusion_pl.export.surface.memory import available_memory, check_fits
from dreamfusion_pl.scene.base import Scene, device_of

CHUNK = 1 << 18  # points evaluated at once
FULL = 0.97  # a scene that fills more than this share of the bounding sphere has no shape


class EmptyFieldError(ValueError):
    """The scene has no surface: nothing in it is opaque."""


class FullFieldError(ValueError):
    """The scene has no surface: all of its bounding sphere is opaque."""


def level_grid(scene: Scene, start: Tensor, spacing: float, shape: list[int], progress: float) -> Tensor:
    """Evaluate ``Scene.level`` on a regular grid, in chunks on the scene's device.

    Args:
        scene: the field.
        start: position of the first point, [3].
        spacing: distance between points in world units.
        shape: number of points along x, y and z.
        progress: training progress in [0, 1] at which the scene is evaluated.

    Returns:
        ``Scene.level`` on the CPU, of that shape; the level of empty space outside of the bounding sphere.

    Raises:
        ValueError: the density is not finite, or the grid does not fit into memory.
    """
    check_fits(shape, available_memory())
    device = device_of(scene)
    sizes = torch.tensor(shape, device=device)
    count, values = math.prod(shape), torch.empty(math.prod(shape))
    for first in range(0, count, CHUNK):
        index = torch.arange(first, min(first + CHUNK, count), device=device)
        plane = torch.div(index, sizes[2], rounding_mode="floor")
        place = torch.stack(
            [torch.div(plane, sizes[1], rounding_mode="floor"), plane % sizes[1], index % sizes[2]]
        )
        points = start.to(device) + spacing * place.T
        level = scene.level(points, progress).float()
        inside = points.square().sum(-1) <= scene.radius**2
        values[first : first + CHUNK] = torch.where(inside, level, scene.empty_level).cpu()
    if not bool(values.isfinite().all()):
        raise ValueError(
            "the scene's density is not finite (NaN or infinity) and has no surface: training diverged; "
            "lower the learning rate or start again from an earlier checkpoint"
        )
    return values.view(shape)


def blur(field: Tensor, deviation: float) -> Tensor:
    """Convolve [X, Y, Z] with a Gaussian of standard deviation ``deviation``, in cells."""
    from scipy.ndimage import gaussian_filter

    return torch.from_numpy(gaussian_filter(field.numpy(), deviation, mode="constant"))


def surface_density(density: Tensor, cell: float) -> float:
    """Find the density whose isosurface has the same silhouette as the rendered field.

    Rays along the three axes hit the object where their opacity is at least half of that of the most opaque
    ray (relative, so that a faint field has a silhouette too). Candidate levels are compared by the rays that
    their solids cover (intersection over union), and the best ones are averaged. The depth at which rays
    become half opaque is not used: in a soft field it is so far inside that thin parts disappear.

    Args:
        density: [G, G, G].
        cell: distance between grid points in world units.

    Returns:
        A density in inverse world units.

    Raises:
        EmptyFieldError: no ray is more than 5 % opaque.
    """
    size = len(density)
    rays = torch.cat([density.movedim(axis, -1).reshape(-1, size) for axis in range(3)])  # [3 G^2, G]
    opacity = 1.0 - torch.exp(-cell * rays.sum(-1))
    most = float(opacity.max())
    if most < 0.05:
        raise empty(float(density.max()), None)
    seen = opacity > 0.5 * most
    candidates = density.max() * torch.logspace(-3.0, -0.02, 64)
    covered = rays.amax(-1) > candidates[:, None]  # [64, 3 G^2]
    agreement = (covered & seen).sum(-1) / (covered | seen).sum(-1)
    return float(candidates[agreement >= 0.995 * agreement.max()].log().mean().exp())


def check_level(density: Tensor, level: float, cell: float, radius: float) -> None:
    """Check that a field has densities above and below a level.

    Args:
        density: on a grid over the cube around the bounding sphere, [G, G, G].
        level: density at the isosurface.
        cell: distance between grid points in world units.
        radius: radius of the bounding sphere.

    Raises:
        EmptyFieldError: no density is above the level.
        FullFieldError: nearly all densities in the sphere are above the level.
    """
    if not float(density.max()) > level:
        raise empty(float(density.max()), level)
    share = float((density > level).sum()) * cell**3 / (4.0 / 3.0 * math.pi * radius**3)
    if share > FULL:
        raise FullFieldError(
            f"the scene is full: all of its bounding sphere is denser than {level:.3g}, so that it has no "
            "shape. Give the opacity regularizer more weight or take another seed; if the renders do show an "
            "object, pass a higher threshold"
        )


def empty(highest: float, threshold: float | None) -> EmptyFieldError:
    """Return the error for a scene whose density is nowhere above a threshold; None: no ray is opaque."""
    wanted = "no ray becomes opaque" if threshold is None else f"the surface's threshold is {threshold:.3g}"
    return EmptyFieldError(
        f"the scene is empty: its highest density is {highest:.3g} and {wanted}. Train longer, give the "
        "opacity regularizer less weight or, if the renders do show an object, pass a lower threshold"
    )
