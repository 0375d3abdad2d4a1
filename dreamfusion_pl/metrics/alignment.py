"""Aligns a result with the ground truth in yaw (rotation about the up axis), scale and translation.

A prompt does not determine size, position and, in full, orientation of an object. Geometry is therefore
compared after the similarity transform that maximizes the overlap of the two solids.
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
    """Similarity transform from the truth's to the result's coordinates: x -> scale * R_z(yaw) x + offset."""

    yaw: float  # radians
    scale: float
    offset: tuple[float, float, float]

    def to_result(self, points: Tensor) -> Tensor:
        """Map points [..., 3] of the truth to the result's coordinates."""
        return self.scale * points @ self.rotation(points).T + points.new_tensor(self.offset)

    def to_truth(self, points: Tensor) -> Tensor:
        """Map points [..., 3] of the result to the truth's coordinates."""
        return (points - points.new_tensor(self.offset)) @ self.rotation(points) / self.scale

    def rotation(self, like: Tensor) -> Tensor:
        """Return the rotation about the up axis, [3, 3], with device and dtype of ``like``."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        return like.new_tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


class Solid(NamedTuple):
    """Occupancy of a solid on a cubic grid."""

    points: Tensor  # [P, 3] grid points
    inside: Tensor  # [P] bool


def overlap(solid: Solid, truth: Distance, alignment: Alignment) -> float:
    """Return the volumetric IoU (intersection over union) of a result and the truth on the result's grid.

    The grid must contain the aligned truth; parts of the truth outside of the grid are ignored.
    """
    other = truth(alignment.to_truth(solid.points)) < 0.0
    union = (solid.inside | other).sum()
    return float((solid.inside & other).sum() / union.clamp_min(1))


def _initial_alignment(solid: Solid, truth: Solid, yaw: float) -> Alignment:
    """Match the bounding boxes: their centres, and the geometric mean of their sides."""
    mine, theirs = solid.points[solid.inside], truth.points[truth.inside]
    turn = Alignment(yaw, 1.0, (0.0, 0.0, 0.0))
    turned = turn.to_result(theirs)
    ratio = (mine.amax(0) - mine.amin(0)) / (turned.amax(0) - turned.amin(0)).clamp_min(1e-6)
    scale = float(ratio.clamp(0.3, 3.0).log().mean().exp())
    center = 0.5 * (mine.amax(0) + mine.amin(0)) - 0.5 * scale * (turned.amax(0) + turned.amin(0))
    return Alignment(yaw, scale, tuple(center.tolist()))


def cube(half: float, resolution: int) -> Tensor:
    """Return the centres [P, 3] of ``resolution``^3 cells that fill [-half, half]^3."""
    ticks = (torch.arange(resolution) + 0.5) / resolution * 2.0 * half - half
    return torch.stack(torch.meshgrid(ticks, ticks, ticks, indexing="ij"), dim=-1).reshape(-1, 3)


def align(solid: Solid, truth: Distance, half: float = 0.6, yaws: int = 24) -> Alignment:
    """Find the similarity transform that maximizes the overlap of truth and result.

    Evenly spaced yaws are tried with matched bounding boxes. The best four are refined with Nelder-Mead over
    yaw, scale and offset, on a subsampled grid.

    Args:
        solid: the result, not empty.
        truth: signed distance of the truth, centred at the origin.
        half: the truth is inside [-half, half]^3.
        yaws: number of yaws to try.

    Raises:
        ValueError: the result or the truth is empty.
    """
    from scipy.optimize import minimize

    reference = cube(half, 48)
    known = Solid(reference, truth(reference) < 0.0)
    if not (bool(solid.inside.any()) and bool(known.inside.any())):
        raise ValueError("an empty solid cannot be aligned")
    starts = [_initial_alignment(solid, known, 2.0 * math.pi * i / yaws) for i in range(yaws)]
    coarse = _subsample(solid, 8_000)
    ranked = sorted(starts, key=lambda start: -overlap(coarse, truth, start))[:4]
    fine = _subsample(solid, 16_000)

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


def _subsample(solid: Solid, count: int) -> Solid:
    step = max(1, len(solid.points) // count) | 1  # odd: no aliasing with the rows of an even grid
    return Solid(solid.points[::step], solid.inside[::step])


def _soft_overlap(solid: Solid, truth: Distance, alignment: Alignment) -> float:
    """Overlap with a soft surface, about 0.02 units wide, so that small moves change the value."""
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
