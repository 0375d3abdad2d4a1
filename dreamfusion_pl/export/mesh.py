"""From a density field to a coloured triangle mesh."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dreamfusion_pl.scene.base import Scene

CHUNK = 1 << 18  # points asked of the scene at once
COARSE = 64  # grid points a side for the search of threshold and bounds
FLOATER = 0.02  # a component with less than this share of the largest one's area is a floater


class Mesh(NamedTuple):
    """Triangles in world axes, on the CPU; counter-clockwise seen from outside."""

    vertices: Tensor  # [V, 3] float32, world units
    faces: Tensor  # [F, 3] int64, indices of vertices
    colors: Tensor  # [V, 3] float32, albedo in [0, 1] as displayed (sRGB)


class EmptyFieldError(ValueError):
    """The scene has no surface: nothing in it is opaque."""


@torch.no_grad()
def extract(
    scene: Scene,
    resolution: int = 96,
    threshold: float | None = None,
    progress: float = 1.0,
    smoothing: float = 0.015,
) -> Mesh:
    """Extract the surface at which the scene becomes opaque, coloured with its albedo.

    A coarse grid over the bounding sphere finds threshold and bounds, a fine one inside the bounds goes to
    marching cubes. Floaters (components with little area) and cavities (which nobody sees) are dropped.

    Args:
        scene: the field, evaluated on the device it is on.
        resolution: points of the fine grid along the object's longest side, at least 8.
        threshold: density of the surface in inverse world units; None finds it (see :func:`surface_density`).
        progress: training progress in [0, 1] at which the scene is evaluated.
        smoothing: standard deviation, in world units, of the Gaussian that removes from the field what is
            finer than the training's pixels; 0 for none.

    Raises:
        EmptyFieldError: nothing in the scene reaches the threshold.
        ValueError: the scene's density is not finite, or an argument is out of range.
    """
    if resolution < 8:
        raise ValueError(f"the mesh's resolution is grid points a side, at least 8; got {resolution}")
    if threshold is not None and not threshold > 0.0:
        raise ValueError(f"the mesh's threshold is a density > 0, or none to find it; got {threshold}")
    if not smoothing >= 0.0:
        raise ValueError(f"the mesh's smoothing is a length >= 0 in world units; got {smoothing}")
    coarse, cell = _coarse_density(scene, progress, smoothing)
    level = surface_density(coarse, cell) if threshold is None else threshold
    if not float(coarse.max()) > level:
        raise _empty(float(coarse.max()), level)
    near_surface = (coarse > 0.25 * level).nonzero()
    start = cell * (near_surface.amin(0) - 2) - scene.radius
    extent = cell * (near_surface.amax(0) - near_surface.amin(0) + 4)
    spacing = float(extent.max()) / (resolution - 1)
    shape = [math.ceil(side / spacing) + 1 for side in extent.tolist()]
    fine = _density_grid(scene, start, spacing, shape, progress)
    vertices, faces = _visible_parts(*_marching_cubes(fine, level, smoothing / spacing))
    points = torch.from_numpy(vertices).float() * spacing + start
    return Mesh(points, torch.from_numpy(faces), albedo_at(scene, points, progress))


def simplify(mesh: Mesh, max_faces: int, scene: Scene, progress: float = 1.0) -> Mesh:
    """Reduce a mesh to a number of triangles (quadric error, fast-simplification), coloured anew.

    Args:
        mesh: a closed surface.
        max_faces: triangles wanted; a mesh with fewer is returned as it is.
        scene: where the colours come from.
        progress: training progress in [0, 1] at which the scene is evaluated.
    """
    if len(mesh.faces) <= max_faces:
        return mesh
    import fast_simplification

    vertices, faces = fast_simplification.simplify(
        mesh.vertices.numpy(), mesh.faces.numpy().astype(np.int32), target_count=max_faces
    )
    points = torch.from_numpy(vertices.astype(np.float32))
    return Mesh(points, torch.from_numpy(faces.astype(np.int64)), albedo_at(scene, points, progress))


@torch.no_grad()
def surface_threshold(scene: Scene, progress: float = 1.0, smoothing: float = 0.015) -> float:
    """Return the density at which :func:`extract` puts a scene's surface; arguments and errors as there."""
    return surface_density(*_coarse_density(scene, progress, smoothing))


def surface_density(density: Tensor, cell: float) -> float:
    """Find the density whose isosurface lies where the renderer sees the surface.

    Rays along the six axis directions see a surface where they are half opaque (half of the most opaque ray,
    so that a faint field has one too). Of many candidates those are taken whose first crossing along the rays
    is nearest to that in the mean, and averaged. A ray where only one of the two exists is four cells off.

    Args:
        density: [G, G, G].
        cell: distance of grid points in world units.

    Returns:
        A density in inverse world units.

    Raises:
        EmptyFieldError: no ray is more than 5 % opaque.
    """
    size = len(density)
    along = [density.movedim(axis, -1).reshape(-1, size) for axis in range(3)]
    rays = torch.cat([ray for forward in along for ray in (forward, forward.flip(-1))])  # [6 G^2, G]
    opacity = 1.0 - torch.exp(-cell * (rays.cumsum(-1) - 0.5 * rays))
    most = float(opacity.max())
    if most < 0.05:
        raise _empty(float(density.max()), None)
    seen = torch.searchsorted(opacity, opacity.new_full((len(rays), 1), 0.5 * most))
    candidates = density.max() * torch.logspace(-3.0, -0.02, 64)
    crossing = torch.searchsorted(rays.cummax(-1).values, candidates.expand(len(rays), -1).contiguous())
    errors = (seen - crossing).abs().clamp(max=4).float().mean(0)
    return float(candidates[errors <= 1.02 * errors.min()].log().mean().exp())


def _coarse_density(scene: Scene, progress: float, smoothing: float) -> tuple[Tensor, float]:
    """Smoothed density on a grid over the bounding sphere, and the distance of its points."""
    cell = 2.0 * scene.radius / (COARSE - 1)
    density = _density_grid(scene, torch.full((3,), -scene.radius), cell, [COARSE] * 3, progress)
    return _blur(density, smoothing / cell), cell


def _density_grid(scene: Scene, start: Tensor, spacing: float, shape: list[int], progress: float) -> Tensor:
    """Density on a regular grid on the CPU, 0 outside of the bounding sphere."""
    axes = [start[axis] + spacing * torch.arange(size) for axis, size in enumerate(shape)]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3).to(_device(scene))
    inside = points.square().sum(-1) <= scene.radius**2
    values = torch.cat([scene.density(chunk, progress).float() for chunk in points.split(CHUNK)])
    values = torch.where(inside, values, 0.0)
    if not bool(values.isfinite().all()):
        raise ValueError(
            "the scene's density is not finite (NaN or infinity) and has no surface: training diverged; "
            "lower the learning rate or start again from an earlier checkpoint"
        )
    return values.reshape(shape).cpu()


def _blur(field: Tensor, deviation: float) -> Tensor:
    """Convolve [X, Y, Z] with a Gaussian; its standard deviation is in cells."""
    from scipy.ndimage import gaussian_filter

    return torch.from_numpy(gaussian_filter(field.numpy(), deviation, mode="constant"))


@torch.no_grad()
def albedo_at(scene: Scene, points: Tensor, progress: float) -> Tensor:
    """Albedo of a scene at points [P, 3] in world units: [P, 3] in [0, 1] on the CPU, in bounded memory."""
    chunks = points.to(_device(scene)).split(CHUNK)
    return torch.cat([scene(chunk, progress)[1] for chunk in chunks]).float().clamp(0.0, 1.0).cpu()


def _device(scene: Scene) -> torch.device:
    return next((parameter.device for parameter in scene.parameters()), torch.device("cpu"))


def _marching_cubes(density: Tensor, level: float, deviation: float) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices [V, 3] in grid indices and faces [F, 3], closed and outward, after a blur."""
    from skimage.measure import marching_cubes

    # Opacity, 0.5 at the level: bounded, so that a steep edge stays where it is when it is blurred.
    opacity = _blur(1.0 - torch.exp(-math.log(2.0) / level * density), deviation)
    volume = torch.nn.functional.pad(opacity, (1, 1, 1, 1, 1, 1)).numpy()
    if not volume.max() > 0.5:
        raise _empty(float(density.max()), level)
    vertices, faces, _, _ = marching_cubes(volume, 0.5, gradient_direction="ascent")
    return vertices - 1.0, faces.astype(np.int64)


def _visible_parts(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drop components that are small, and those that enclose a cavity (negative volume)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(len(vertices),) * 2)
    label = connected_components(graph, directed=False)[1][faces[:, 0]]
    corners = vertices[faces].astype(np.float64)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.bincount(label, np.linalg.norm(normal, axis=1))
    volume = np.bincount(label, (corners.mean(1) * normal).sum(1))
    keep = (area >= FLOATER * area[volume > 0.0].max()) & (volume > 0.0)
    kept, faces = np.unique(faces[keep[label]], return_inverse=True)
    return vertices[kept], faces.reshape(-1, 3)


def _empty(highest: float, threshold: float | None) -> EmptyFieldError:
    wanted = "no ray becomes opaque" if threshold is None else f"the surface's threshold is {threshold:.3g}"
    return EmptyFieldError(
        f"the scene is empty: its highest density is {highest:.3g} and {wanted}. Train longer, give the "
        "opacity regularizer less weight or, if the renders do show an object, pass a lower threshold"
    )
