"""What a surface is like, for people who print it: closed or not, parts, volume, its thinnest part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dreamfusion_pl.atomic import replacing
from dreamfusion_pl.export.surface.mesh import Mesh

FORMAT = 1  # of the report; grows when a field changes its meaning or goes
PAIRS = 1 << 21  # pairs of ray and triangle that are tested at once


class MeshReport(NamedTuple):
    """A surface in numbers; lengths are those of its vertices, metres in an asset."""

    triangles: int
    watertight: bool  # every edge has two faces, which agree about the outside
    components: int
    volume_m3: float
    size_m: tuple[float, float, float]  # deep (x), wide (y), high (z)
    thinnest_m: float | None  # see :func:`wall_thickness`: less only under 1 % of the surface; None if open


def examine(mesh: Mesh) -> MeshReport:
    """Measure a surface."""
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
    """How thick a solid is under points spread evenly over its surface: the way straight in until it is out.

    A ray goes from the point inwards, against the normal of its triangle, to the first triangle that it
    meets. On a plate that is its thickness, on a ball its diameter. Where two faces meet at a sharp edge it
    falls to zero, so the thinnest part is better read from a low percentile than from the minimum.

    Args:
        vertices: of a closed surface, [V, 3].
        faces: counter-clockwise seen from outside, [F, 3].
        count: points; the same ones every time.

    Returns:
        Lengths, at most [count]: rays that pass between two triangles are left out.
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
    """Length [R] until rays meet a triangle (corner and two edges, [F, 3]), infinite where they meet none."""
    scale = normal.square().sum(-1, keepdim=True).clamp_min(1e-300)
    rows = (  # the inverse of [first, second, normal]: coordinates in a triangle, and the way from its plane
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
    """The report for people, in one line."""
    x, y, z = (100.0 * side for side in report.size_m)
    closed = "watertight" if report.watertight else "NOT watertight"
    parts = f"{report.components} component{'s' if report.components != 1 else ''}"
    thinnest = "" if report.thinnest_m is None else f", thinnest part {100.0 * report.thinnest_m:.2g} cm"
    return (
        f"{report.triangles} triangles, {closed}, {parts}, {1e6 * report.volume_m3:.3g} cm3, "
        f"{x:.3g} x {y:.3g} x {z:.3g} cm (deep, wide, high){thinnest}"
    )


def write_report(report: MeshReport, path: Path, texture: Mapping[str, float | None]) -> Path:
    """Write the report as JSON, whole or not at all; return its path.

    Args:
        report: what is written.
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
