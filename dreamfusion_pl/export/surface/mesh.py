"""Extracts a coloured triangle mesh from a field."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dreamfusion_pl.export.surface.grid import blur, check_level, empty, level_grid, surface_density
from dreamfusion_pl.export.surface.visible_albedo import visible_albedo
from dreamfusion_pl.scene.base import Scene

COARSE = 64  # grid points per side of the coarse grid, which finds threshold and bounds
AGGRESSIVENESS = (
    7,
    5,
    3,
    4,
    6,
)  # aggressiveness of fast-simplification; each value collapses edges in another order
SMALLEST_PART = 0.02  # components with less than this share of the largest one's area are dropped by default


class Mesh(NamedTuple):
    """Triangles in world axes, on the CPU; counter-clockwise seen from outside."""

    vertices: Tensor  # [V, 3] float32, world units
    faces: Tensor  # [F, 3] int64, indices of vertices
    colors: Tensor  # [V, 3] float32, albedo in [0, 1], sRGB


@torch.no_grad()
def extract(
    scene: Scene,
    resolution: int = 96,
    threshold: float | None = None,
    progress: float = 1.0,
    smoothing: float = 0.01,
    smallest_part: float = SMALLEST_PART,
) -> Mesh:
    """Extract the isosurface of a scene, with its albedo as vertex colours.

    A coarse grid over the bounding sphere finds the bounds, and the threshold if the scene does not know its
    surface; marching cubes runs on a fine grid inside the bounds. Floaters (components with little area) and
    cavities (which are invisible) are dropped.

    Args:
        scene: the field, evaluated on its own device.
        resolution: points of the fine grid along the object's longest side, at least 8.
        threshold: density at the isosurface in inverse world units; None finds it (:func:`surface_density`).
            A scene that knows its surface takes no other.
        progress: training progress in [0, 1] at which the scene is evaluated.
        smoothing: standard deviation, in world units, of the Gaussian that removes details finer than the
            training's pixels; at least half a cell of the fine grid is used; 0 disables it. A scene that
            knows its surface is not smoothed.
        smallest_part: components with less than this share of the largest one's area are floaters, in [0, 1];
            0 keeps them all.

    Raises:
        EmptyFieldError: no density in the scene reaches the threshold.
        FullFieldError: nearly all densities are above the threshold.
        ValueError: the scene's density is not finite, the grid does not fit into memory, or an argument is
            out of range.
    """
    if not smoothing >= 0.0:
        raise ValueError(f"the mesh's smoothing is a length >= 0 in world units; got {smoothing}")
    if scene.surface is not None:
        if threshold not in (None, scene.surface):
            raise ValueError("this scene knows where its surface is: leave the threshold out")
        threshold = None
    check_surface(resolution, threshold, smallest_part)
    coarse, cell = _coarse_level(scene, progress, smoothing)
    level = _surface_level(scene, coarse, cell) if threshold is None else threshold
    check_level(coarse, level, cell, scene.radius)
    near_surface = (coarse > (0.25 * level if scene.surface is None else level - cell)).nonzero()
    start = cell * (near_surface.amin(0) - 2) - scene.radius
    extent = cell * (near_surface.amax(0) - near_surface.amin(0) + 4)
    spacing = float(extent.max()) / (resolution - 1)
    shape = [math.ceil(side / spacing) + 1 for side in extent.tolist()]
    fine = level_grid(scene, start, spacing, shape, progress)
    if scene.surface is None:
        # Opacity, 0.5 at the level. It is bounded, so that blurring does not move steep edges.
        opacity = 1.0 - torch.exp(-math.log(2.0) / level * fine)
        solid = blur(opacity, max(smoothing / spacing, 0.5) if smoothing > 0.0 else 0.0)
    else:
        solid = (0.5 + (fine - level) / (4.0 * spacing)).clamp(0.0, 1.0)
    if not float(solid.max()) > 0.5:
        raise empty(float(fine.max()), level)
    vertices, faces = _visible_parts(*_marching_cubes(solid), smallest_part)
    points = torch.from_numpy(vertices).float() * spacing + start
    return _colored(points, torch.from_numpy(faces), scene, progress)


def check_surface(resolution: int, threshold: float | None, smallest_part: float = SMALLEST_PART) -> None:
    """Raise ValueError if arguments of :func:`extract` are out of range."""
    if resolution < 8:
        raise ValueError(f"the mesh's resolution is grid points a side, 8 or more; got {resolution}")
    if threshold is not None and not threshold > 0.0:
        raise ValueError(f"the mesh's threshold is a density > 0, or none to find it; got {threshold}")
    if not 0.0 <= smallest_part <= 1.0:
        raise ValueError(
            "the mesh's smallest part is a share of the largest part's area, from 0 (keep everything) to 1 "
            f"(keep the largest only); got {smallest_part}"
        )


def simplify(mesh: Mesh, max_faces: int, scene: Scene, progress: float = 1.0) -> Mesh:
    """Simplify a mesh by quadric edge collapse (fast-simplification), and recompute its colours.

    Edge collapse sometimes makes two sheets share an edge; they are separated again. Thin parts may collapse
    to two triangles back to back; these are removed. If a hole remains, simplification is repeated with
    another order of edges. If all orders fail, the report says that the mesh is not watertight.

    Args:
        mesh: a closed surface.
        max_faces: target number of triangles; a mesh with fewer is returned unchanged.
        scene: the field, for the colours.
        progress: training progress in [0, 1] at which the scene is evaluated.
    """
    if len(mesh.faces) <= max_faces:
        return mesh
    import fast_simplification

    for aggressiveness in AGGRESSIVENESS:
        vertices, faces = fast_simplification.simplify(
            mesh.vertices.numpy(),
            mesh.faces.numpy().astype(np.int32),
            target_count=max_faces,
            agg=aggressiveness,
        )
        vertices, faces = split_non_manifold(vertices, without_flat_pairs(faces))
        if is_closed(faces):
            break
    points = torch.from_numpy(vertices.astype(np.float32))
    return _colored(points, torch.from_numpy(faces.astype(np.int64)), scene, progress)


def is_closed(faces: np.ndarray) -> bool:
    """Return whether triangles [F, 3] use every edge once per direction: watertight, consistent winding."""
    ends = np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1).reshape(-1, 2).astype(np.int64)
    there, back = np.sort(ends @ [1 << 31, 1]), np.sort(ends @ [1, 1 << 31])
    return bool((np.diff(there) > 0).all() and (there == back).all())


def without_flat_pairs(faces: np.ndarray) -> np.ndarray:
    """Drop pairs of triangles [F, 3] back to back on the same three vertices, which enclose no volume."""
    _, place, count = np.unique(np.sort(faces, axis=1), axis=0, return_inverse=True, return_counts=True)
    return faces[count[place.reshape(-1)] % 2 == 1]


def split_non_manifold(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split non-manifold edges and vertices, so that sheets that touch there no longer share them.

    Triangle corners stay one vertex only if they are connected through edges shared by exactly two triangles.

    Args:
        vertices: [V, 3].
        faces: [F, 3].

    Returns:
        Vertices and faces; the triangles keep their positions.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    here = np.arange(faces.size)
    after = (here.reshape(-1, 3)[:, [1, 2, 0]]).reshape(-1)
    start = faces.reshape(-1).astype(np.int64)
    end = start[after]
    key = np.minimum(start, end) * len(vertices) + np.maximum(start, end)
    _, edge, count = np.unique(key, return_inverse=True, return_counts=True)
    shared = np.flatnonzero(count[edge] == 2)
    one, other = shared[np.argsort(edge[shared], kind="stable")].reshape(-1, 2).T
    turned = start[one] == start[other]  # both triangles traverse the edge in the same direction
    first = np.concatenate([one, after[one]])
    second = np.concatenate([np.where(turned, other, after[other]), np.where(turned, after[other], other)])
    joined = coo_array((np.ones(len(first), bool), (first, second)), shape=(len(here),) * 2)
    label = connected_components(joined, directed=False)[1]
    places = np.empty((label.max() + 1, 3), vertices.dtype)
    places[label] = vertices[start]
    return places, label.reshape(-1, 3)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals [V, 3], averaged over the adjacent faces with their areas as weights."""
    a, b, c = vertices[faces].unbind(1)
    area = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices).index_add_(0, faces.reshape(-1), area.repeat_interleave(3, dim=0))
    fallback = torch.tensor([0.0, 0.0, 1.0]).expand_as(total)
    is_flat = total.norm(dim=-1, keepdim=True) < 1e-12
    return F.normalize(torch.where(is_flat, fallback, total), dim=-1, eps=1e-20)


def _colored(vertices: Tensor, faces: Tensor, scene: Scene, progress: float) -> Mesh:
    normals = vertex_normals(vertices, faces)
    return Mesh(vertices, faces, visible_albedo(scene, vertices, normals, progress))


@torch.no_grad()
def surface_threshold(scene: Scene, progress: float = 1.0, smoothing: float = 0.01) -> float:
    """Return the level of the isosurface that :func:`extract` uses; arguments and errors as there."""
    return _surface_level(scene, *_coarse_level(scene, progress, smoothing))


def _surface_level(scene: Scene, coarse: Tensor, cell: float) -> float:
    return surface_density(coarse, cell) if scene.surface is None else scene.surface


def _coarse_level(scene: Scene, progress: float, smoothing: float) -> tuple[Tensor, float]:
    """Return the scene's level on a grid over the bounding sphere, smoothed, and the grid spacing."""
    cell = 2.0 * scene.radius / (COARSE - 1)
    level = level_grid(scene, torch.full((3,), -scene.radius), cell, [COARSE] * 3, progress)
    return (blur(level, smoothing / cell) if scene.surface is None else level), cell


def _marching_cubes(solid: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices [V, 3] in grid indices and faces [F, 3] at 0.5, closed and outward."""
    from skimage.measure import marching_cubes

    volume = F.pad(solid, (1, 1, 1, 1, 1, 1)).numpy()
    vertices, faces, _, _ = marching_cubes(volume, 0.5, gradient_direction="ascent")
    return vertices - 1.0, faces.astype(np.int64)


def _visible_parts(
    vertices: np.ndarray, faces: np.ndarray, smallest_part: float
) -> tuple[np.ndarray, np.ndarray]:
    """Drop small components, and components that bound a cavity (negative volume)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(len(vertices),) * 2)
    label = connected_components(graph, directed=False)[1][faces[:, 0]]
    corners = vertices[faces].astype(np.float64)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.bincount(label, np.linalg.norm(normal, axis=1))
    volume = np.bincount(label, (corners.mean(1) * normal).sum(1))
    keep = (area >= smallest_part * area[volume > 0.0].max()) & (volume > 0.0)
    kept, faces = np.unique(faces[keep[label]], return_inverse=True)
    return vertices[kept], faces.reshape(-1, 3)
