"""Signed distance primitives: points [..., 3] in, distances [...] out, negative inside.

Boxes, balls, cylinders, cones, tori and capsules are exact. Ellipsoids, pyramids, and everything cut or
stretched are approximate; the tracer takes shorter steps because of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Vector = Sequence[float]


def _from(p: Tensor, center: Vector) -> Tensor:
    return p - p.new_tensor(center)


def _along(p: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Split points into distance from the axis and coordinate along it."""
    a, b = [i for i in range(3) if i != axis]
    return torch.hypot(p[..., a], p[..., b]), p[..., axis]


def ball(p: Tensor, center: Vector, radius: float) -> Tensor:
    """Ball."""
    return _from(p, center).norm(dim=-1) - radius


def ellipsoid(p: Tensor, center: Vector, radii: Vector) -> Tensor:
    """Ellipsoid with half-axes ``radii`` (first-order bound)."""
    q = _from(p, center)
    r = p.new_tensor(radii)
    k0 = (q / r).norm(dim=-1)
    k1 = (q / (r * r)).norm(dim=-1).clamp_min(1e-6)
    return torch.where(k0 < 1e-4, -r.min(), k0 * (k0 - 1.0) / k1)


def box(p: Tensor, center: Vector, half: Vector, rounding: float = 0.0) -> Tensor:
    """Box with half-sizes ``half``, its edges rounded by ``rounding``."""
    q = _from(p, center).abs() - (p.new_tensor(half) - rounding)
    return q.clamp_min(0.0).norm(dim=-1) + q.amax(dim=-1).clamp_max(0.0) - rounding


def cylinder(
    p: Tensor, center: Vector, radius: float, half: float, axis: int = 2, rounding: float = 0.0
) -> Tensor:
    """Capped cylinder of half-length ``half`` along ``axis``."""
    radial, along = _along(_from(p, center), axis)
    q = torch.stack([radial - radius + rounding, along.abs() - half + rounding], dim=-1)
    return q.clamp_min(0.0).norm(dim=-1) + q.amax(dim=-1).clamp_max(0.0) - rounding


def cone(p: Tensor, center: Vector, bottom: float, top: float, half: float, axis: int = 2) -> Tensor:
    """Capped cone: radius ``bottom`` at -half, ``top`` at +half along ``axis``."""
    r, z = _along(_from(p, center), axis)
    cap_r = (r - torch.where(z < 0, torch.full_like(r, bottom), torch.full_like(r, top))).clamp_min(0.0)
    cap_z = z.abs() - half
    slope = (top - bottom, 2.0 * half)
    t = (((r - bottom) * slope[0] + (z + half) * slope[1]) / (slope[0] ** 2 + slope[1] ** 2)).clamp(0.0, 1.0)
    side_r, side_z = r - bottom - slope[0] * t, z + half - slope[1] * t
    inside = (side_r < 0) & (cap_z < 0)
    squared = torch.minimum(cap_r**2 + cap_z**2, side_r**2 + side_z**2)
    return torch.where(inside, -1.0, 1.0) * torch.sqrt(squared)


def torus(p: Tensor, center: Vector, major: float, minor: float, axis: int = 2) -> Tensor:
    """Torus around ``axis``."""
    radial, along = _along(_from(p, center), axis)
    return torch.hypot(radial - major, along) - minor


def capsule(p: Tensor, start: Vector, end: Vector, radius: float) -> Tensor:
    """All points within ``radius`` of the segment from ``start`` to ``end``."""
    q, b = _from(p, start), p.new_tensor(end) - p.new_tensor(start)
    t = ((q * b).sum(dim=-1) / (b * b).sum()).clamp(0.0, 1.0)
    return (q - t[..., None] * b).norm(dim=-1) - radius


def extruded(p: Tensor, flat: Tensor, half: float, axis: int = 0) -> Tensor:
    """Extrude the 2D distance ``flat`` by ``half`` to both sides along ``axis``."""
    q = torch.stack([flat, p[..., axis].abs() - half], dim=-1)
    return q.clamp_min(0.0).norm(dim=-1) + q.amax(dim=-1).clamp_max(0.0)


def polygon(p: Tensor, corners: Sequence[Sequence[float]], plane: tuple[int, int] = (1, 2)) -> Tensor:
    """2D distance to a simple polygon in the coordinates ``plane``."""
    q = torch.stack([p[..., plane[0]], p[..., plane[1]]], dim=-1)
    vertices = p.new_tensor(corners)
    squared = torch.full_like(q[..., 0], math.inf)
    inside = torch.zeros_like(q[..., 0], dtype=torch.bool)
    for i in range(len(corners)):
        a, b = vertices[i], vertices[i - 1]
        edge, w = b - a, q - a
        t = ((w * edge).sum(dim=-1) / (edge * edge).sum()).clamp(0.0, 1.0)
        squared = torch.minimum(squared, ((w - t[..., None] * edge) ** 2).sum(dim=-1))
        crosses = (a[1] > q[..., 1]) != (b[1] > q[..., 1])
        rise = torch.where(edge[1].abs() < 1e-9, torch.ones_like(edge[1]), edge[1])
        inside = inside ^ (crosses & (q[..., 0] < a[0] + w[..., 1] * edge[0] / rise))
    return torch.where(inside, -1.0, 1.0) * torch.sqrt(squared)


def wedge(p: Tensor, corners: Sequence[Sequence[float]], half: float, axis: int = 0) -> Tensor:
    """Prism: a polygon in the plane across ``axis``, extruded by ``half`` to both sides."""
    a, b = [i for i in range(3) if i != axis]
    return extruded(p, polygon(p, corners, (a, b)), half, axis)


def pyramid(p: Tensor, base: float, height: float) -> Tensor:
    """Square pyramid on z = 0 with half-base ``base`` (bound)."""
    slant = math.hypot(base, height)
    side = (
        torch.maximum(p[..., 0].abs(), p[..., 1].abs()) * height + p[..., 2] * base - base * height
    ) / slant
    return torch.maximum(side, -p[..., 2])


def union(*distances: Tensor) -> Tensor:
    """Union."""
    return torch.stack(distances, dim=-1).amin(dim=-1)


def smooth_union(a: Tensor, b: Tensor, radius: float) -> Tensor:
    """Union with a fillet of about ``radius``."""
    h = (radius - (a - b).abs()).clamp_min(0.0) / radius
    return torch.minimum(a, b) - 0.25 * radius * h * h


def cut(a: Tensor, b: Tensor) -> Tensor:
    """``a`` without ``b``."""
    return torch.maximum(a, -b)


def both(a: Tensor, b: Tensor) -> Tensor:
    """Intersection."""
    return torch.maximum(a, b)


def rotated(p: Tensor, degrees: float, axis: int = 2) -> Tensor:
    """Transform points to the frame of an object rotated counter-clockwise by ``degrees`` about ``axis``."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    a, b = [(1, 2), (2, 0), (0, 1)][axis]
    q = list(p.unbind(dim=-1))
    q[a], q[b] = c * p[..., a] + s * p[..., b], c * p[..., b] - s * p[..., a]
    return torch.stack(q, dim=-1)


def mirrored(p: Tensor, axis: int = 1) -> Tensor:
    """Fold points to the positive side of ``axis``: mirrors the shape."""
    q = list(p.unbind(dim=-1))
    q[axis] = q[axis].abs()
    return torch.stack(q, dim=-1)


def around(p: Tensor, count: int) -> Tensor:
    """Fold points into one of ``count`` equal sectors about z, centred on +x: repeats the shape."""
    sector = 2.0 * math.pi / count
    angle = torch.atan2(p[..., 1], p[..., 0])
    angle = angle - sector * torch.round(angle / sector)
    radial = torch.hypot(p[..., 0], p[..., 1])
    return torch.stack([radial * torch.cos(angle), radial * torch.sin(angle), p[..., 2]], dim=-1)
