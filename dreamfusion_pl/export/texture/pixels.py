"""Rasterization: pixels that are covered by triangles."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

CANDIDATES = 1 << 21  # triangle-pixel pairs tested at once


def covered_pixels(triangles: Tensor, height: int, width: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Find the pixels whose centres are inside triangles, in bounded memory.

    Args:
        triangles: corners in pixels, x right and y down, [F, 3, 2]; parts outside of the image are ignored.
        height: rows H.
        width: columns W.

    Yields:
        N pairs at a time: the triangle's index [N], the pixel's index in row order [N], and the barycentric
        coordinates of its centre [N, 3].
    """
    last = torch.tensor([width - 1, height - 1])
    low = torch.minimum((triangles.amin(1) - 0.5).ceil().long().clamp_min(0), last + 1)
    high = torch.minimum((triangles.amax(1) - 0.5).floor().long(), last)
    spans = (high - low + 1).clamp_min(0)
    counts = spans.prod(-1)
    groups = torch.div(counts.cumsum(0), CANDIDATES, rounding_mode="floor")
    for group in groups.unique():
        chosen = (groups == group).nonzero()[:, 0]
        face = chosen.repeat_interleave(counts[chosen])
        first = (counts[chosen].cumsum(0) - counts[chosen]).repeat_interleave(counts[chosen])
        index = torch.arange(len(face)) - first
        x = low[face, 0] + index % spans[face, 0]
        y = low[face, 1] + torch.div(index, spans[face, 0], rounding_mode="floor")
        weights = _barycentric(triangles[face], torch.stack([x, y], dim=-1) + 0.5)
        hit = (weights >= -1e-4).all(-1)
        yield face[hit], (y * width + x)[hit], weights[hit]


def _barycentric(triangles: Tensor, points: Tensor) -> Tensor:
    """Barycentric coordinates [N, 3] of points [N, 2] in triangles [N, 3, 2]; -1 for degenerate triangles."""
    a, b, c = triangles.unbind(1)
    ab, ac, ap = b - a, c - a, points - a
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    second = (ap[:, 0] * ac[:, 1] - ap[:, 1] * ac[:, 0]) / area
    third = (ab[:, 0] * ap[:, 1] - ab[:, 1] * ap[:, 0]) / area
    weights = torch.stack([1.0 - second - third, second, third], dim=-1)
    return torch.where(area.abs()[:, None] > 1e-12, weights, -1.0)
