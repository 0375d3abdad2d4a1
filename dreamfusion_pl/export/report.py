"""Mesh report for 3D printing: watertightness, components, volume, size, wall thickness."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dreamfusion_pl.atomic import replacing
from dreamfusion_pl.export.surface.mesh import Mesh

FORMAT = 1  # version of the report; raised when a field changes its meaning or is removed
PAIRS = 1 << 21  # ray-triangle pairs tested at once


class MeshReport(NamedTuple):
    """Measures of a mesh; lengths in the unit of its vertices, which is metres in an asset."""

    triangles: int
    watertight: bool  # every edge has two faces with consistent winding
    components: int
    volume_m3: float
    size_m: tuple[float, float, float]  # depth (x), width (y), height (z)
    thinnest_m: float | None  # 1st percentile of :func:`wall_thickness`; None if the mesh is open


def examine(mesh: Mesh) -> MeshReport:
    """Measure a mesh."""
    from trimesh import Trimesh

    solid = Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), process=False)
    deep, wide, high = solid.extents.tolist()
    thickness = wall_thickness(mesh.vertices, mesh.faces) if solid.is_watertight else None
    return MeshReport(
        triangles=len(mesh.faces),
        watertight=bool(solid.is_watertight and solid.is_winding_consistent),
        components=int(solid.body_count),
        volume_m3=float(solid.volume),
        size_m=(deep, wide, high),
        thinnest_m=None if thickness is None else float(thickness.quantile(0.01)),
    )


def wall_thickness(vertices: Tensor, faces: Tensor, count: int = 1024) -> Tensor:
    """Measure wall thickness at points distributed uniformly over the surface.

    A ray is cast from each point inwards, against the normal of its triangle, to the first triangle that it
    hits. For a plate that gives its thickness, for a ball its diameter. At sharp edges it goes to zero, so a
    low percentile describes the thinnest part better than the minimum.

    Args:
        vertices: vertices of a closed surface, [V, 3].
        faces: counter-clockwise seen from outside, [F, 3].
        count: number of points; always the same points.

    Returns:
        Lengths, at most [count]; rays that miss because they pass between two triangles are left out.
    """
    corners = vertices.double()[faces]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    normal = torch.linalg.cross(first, second)
    double_area = normal.norm(dim=-1)
    some = torch.quasirandom.SobolEngine(3, scramble=True, seed=0).draw(count, dtype=torch.float64)
    start = torch.searchsorted(double_area.cumsum(0), some[:, 0] * double_area.sum()).clamp_max(
        len(faces) - 1
    )
    root, along = some[:, 1:2].sqrt(), some[:, 2:]
    origin = corners[start, 0] + root * ((1 - along) * first[start] + along * second[start])
    inward = -normal[start] / double_area[start, None]
    apart = 1e-6 * float((vertices.amax(0) - vertices.amin(0)).norm())
    step = max(1, PAIRS // len(faces))
    lengths = [
        _first_hit(corners[:, 0], first, second, normal, origin[i : i + step], inward[i : i + step], apart)
        for i in range(0, count, step)
    ]
    thickness = torch.cat(lengths)
    return thickness[thickness.isfinite()]


def _first_hit(
    corner: Tensor, first: Tensor, second: Tensor, normal: Tensor, origin: Tensor, way: Tensor, apart: float
) -> Tensor:
    """Distance [R] to the first triangle (corner and two edges, [F, 3]) that a ray hits; infinite if none."""
    scale = normal.square().sum(-1, keepdim=True).clamp_min(1e-300)
    rows = (  # inverse of [first, second, normal]: coordinates in the triangle, and height above its plane
        torch.linalg.cross(second, normal) / scale,
        torch.linalg.cross(normal, first) / scale,
        normal / scale,
    )
    at = [origin @ row.T - (corner * row).sum(-1) for row in rows]  # [R, F]
    per_length = [way @ row.T for row in rows]
    length = -at[2] / per_length[2]
    u, v = (at[axis] + length * per_length[axis] for axis in (0, 1))
    hit = (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1.0 + 1e-9) & (length > apart)
    return torch.where(hit, length, torch.inf).amin(-1)


def sentence(report: MeshReport) -> str:
    """Return the report as one readable line."""
    x, y, z = (100.0 * side for side in report.size_m)
    closed = "watertight" if report.watertight else "NOT watertight"
    parts = f"{report.components} component{'s' if report.components != 1 else ''}"
    thinnest = "" if report.thinnest_m is None else f", thinnest part {100.0 * report.thinnest_m:.2g} cm"
    return (
        f"{report.triangles} triangles, {closed}, {parts}, {1e6 * report.volume_m3:.3g} cm3, "
        f"{x:.3g} x {y:.3g} x {z:.3g} cm (deep, wide, high){thinnest}"
    )


def write_report(report: MeshReport, path: Path, texture: Mapping[str, float | None]) -> Path:
    """Write the report as JSON, atomically; return its path.

    Args:
        report: the report.
        path: the file.
        texture: measures of the texture by name.

    Raises:
        OSError: the file cannot be written.
    """
    facts = {"format": FORMAT, **report._asdict(), "texture": dict(texture)}
    text = json.dumps(facts, indent=1, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(f"{text}\n", encoding="utf-8")
    return path
