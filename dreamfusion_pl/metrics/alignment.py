"""Alignment of a result with the truth about the up axis, in scale and translation.

Nothing in a prompt says how large an object is, where it stands, or in full which way it looks; geometry is
compared after the similarity transform that overlaps the two solids best.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Distance = Callable[[Tensor], Tensor]  # points [P, 3] -> signed distance [P], negative inside


class Alignment(NamedTuple):
    """Similarity that maps the truth's coordinates to the result's: x -> scale * R_z(yaw) x + offset."""

    yaw: float  # radians
    scale: float
    offset: tuple[float, float, float]

    def to_result(self, points: Tensor) -> Tensor:
        """Points [..., 3] of the truth in the result's coordinates."""
        return self.scale * points @ self.rotation(points).T + points.new_tensor(self.offset)

    def to_truth(self, points: Tensor) -> Tensor:
        """Points [..., 3] of the result in the truth's coordinates."""
        return (points - points.new_tensor(self.offset)) @ self.rotation(points) / self.scale

    def rotation(self, like: Tensor) -> Tensor:
        """The turn about the up axis, [3, 3]."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        return like.new_tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


class Solid(NamedTuple):
    """A solid on a cubic grid."""

    points: Tensor  # [P, 3] grid points
    inside: Tensor  # [P] bool


def overlap(solid: Solid, truth: Distance, alignment: Alignment) -> float:
    """Volumetric intersection over union of a result and the truth, on the result's grid, in [0, 1].

    The grid has to reach around the aligned truth; what lies outside of it counts as empty.
    """
    other = truth(alignment.to_truth(solid.points)) < 0.0
    union = (solid.inside | other).sum()
    return float((solid.inside & other).sum() / union.clamp_min(1))


def _start(solid: Solid, truth: Solid, yaw: float) -> Alignment:
    """Match centres and sizes of the bounding boxes (of the heights and of the widths in the mean)."""
    mine, theirs = solid.points[solid.inside], truth.points[truth.inside]
    turn = Alignment(yaw, 1.0, (0.0, 0.0, 0.0))
    turned = turn.to_result(theirs)
    ratio = (mine.amax(0) - mine.amin(0)) / (turned.amax(0) - turned.amin(0)).clamp_min(1e-6)
    scale = float(ratio.clamp(0.3, 3.0).log().mean().exp())
    center = 0.5 * (mine.amax(0) + mine.amin(0)) - 0.5 * scale * (turned.amax(0) + turned.amin(0))
    return Alignment(yaw, scale, tuple(center.tolist()))


def cube(half: float, resolution: int) -> Tensor:
    """Centres of ``resolution``^3 cells that fill [-half, half]^3, [P, 3]."""
    ticks = (torch.arange(resolution) + 0.5) / resolution * 2.0 * half - half
    return torch.stack(torch.meshgrid(ticks, ticks, ticks, indexing="ij"), dim=-1).reshape(-1, 3)


def align(solid: Solid, truth: Distance, half: float = 0.6, yaws: int = 24) -> Alignment:
    """Find the similarity that overlaps the truth with the result best.

    Every azimuth of a ring is tried with matched bounding boxes, then the best four are refined by
    Nelder-Mead over yaw, scale and offset, on a thinned grid.

    Args:
        solid: the result, not empty.
        truth: signed distance of the truth, around the origin.
        half: the truth lies in [-half, half]^3.
        yaws: azimuths tried.

    Raises:
        ValueError: the result or the truth has no inside.
    """
    from scipy.optimize import minimize

    reference = cube(half, 48)
    known = Solid(reference, truth(reference) < 0.0)
    if not (bool(solid.inside.any()) and bool(known.inside.any())):
        raise ValueError("an empty solid cannot be aligned")
    starts = [_start(solid, known, 2.0 * math.pi * i / yaws) for i in range(yaws)]
    coarse = _thin(solid, 8_000)
    ranked = sorted(starts, key=lambda start: -overlap(coarse, truth, start))[:4]
    fine = _thin(solid, 16_000)

    def cost(x: np.ndarray) -> float:
        return -_soft_overlap(fine, truth, _from_vector(x))

    best = [
        minimize(
            cost,
            _to_vector(start),
            method="Nelder-Mead",
            options={"maxfev": 120, "initial_simplex": _simplex(_to_vector(start))},
        )
        for start in ranked
    ]
    winners = [_from_vector(result.x) for result in best] + ranked[:1]
    return max(winners, key=lambda candidate: overlap(solid, truth, candidate))


def _thin(solid: Solid, count: int) -> Solid:
    step = max(1, len(solid.points) // count) | 1  # odd: does not resonate with the rows of an even grid
    return Solid(solid.points[::step], solid.inside[::step])


def _soft_overlap(solid: Solid, truth: Distance, alignment: Alignment) -> float:
    """Overlap with an edge a fiftieth of a unit wide, so that small moves show."""
    soft = torch.sigmoid(-truth(alignment.to_truth(solid.points)) / 0.01)
    mine = solid.inside.float()
    both = torch.minimum(soft, mine).sum()
    return float(both / torch.maximum(soft, mine).sum().clamp_min(1e-6))


def _to_vector(alignment: Alignment) -> np.ndarray:
    return np.array([alignment.yaw, math.log(alignment.scale), *alignment.offset])


def _from_vector(x: np.ndarray) -> Alignment:
    return Alignment(float(x[0]), float(math.exp(x[1])), (float(x[2]), float(x[3]), float(x[4])))


def _simplex(start: np.ndarray) -> np.ndarray:
    return np.vstack([start, start + np.diag([0.2, 0.1, 0.04, 0.04, 0.04])])
