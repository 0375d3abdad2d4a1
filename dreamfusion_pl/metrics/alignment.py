"""Aligns a result with the ground truth in yaw (rotation about the up axis), scale and translation.

A prompt does not determine size, position and, in full, orientation of an object. Geometry is therefore
compared after the similarity transform that maximizes the overlap of the two solids. How far the object may
turn is the caller's choice: a front and a back are part of a prompt's meaning.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dreamfusion_pl.metrics.solid import Solid, Truth, ball_around, contains

SCALE = 1.25  # the radii of result and aligned truth differ by this factor at most
FRONT_DEG = 30.0  # an object that is turned by no more than this faces the front
MARGIN = 0.05  # IoU that a turn has to gain, or the object counts as symmetric and not as turned
BACK_DEG = 120.0  # an object that is turned by more than this stands backwards
POINTS = 2000  # of the result, which the search uses
SOFTNESS = 0.01  # width of the soft surface that the search sees, in the truth's units
STEP_DEG = 15.0  # between the yaws that the search starts from


class Alignment(NamedTuple):
    """Similarity transform from the truth's to the result's coordinates: x -> scale * R_z(yaw) x + offset."""

    yaw: float  # radians
    scale: float
    offset: tuple[float, float, float]

    @property
    def yaw_deg(self) -> float:
        """How far the result is turned, counter-clockwise seen from above: degrees in [-180, 180)."""
        return (math.degrees(self.yaw) + 180.0) % 360.0 - 180.0

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


def overlap(solid: Solid, truth: Truth, alignment: Alignment) -> float:
    """Return the volumetric IoU (intersection over union) of a result and the aligned truth, in [0, 1].

    Points are counted on the result's grid, continued as far as the aligned truth reaches.
    """
    low, high = _box(truth, alignment)
    first = ((low - solid.start) / solid.spacing).floor().long()
    last = ((high - solid.start) / solid.spacing).ceil().long()
    ticks = [torch.arange(int(a), int(b) + 1) for a, b in zip(first, last, strict=True)]
    index = torch.stack(torch.meshgrid(*ticks, indexing="ij"), dim=-1).reshape(-1, 3)
    there = contains(truth.distance, alignment.to_truth(solid.start + solid.spacing * index))
    both = int((solid.at(index) & there).sum())
    return both / max(int(solid.inside.sum()) + int(there.sum()) - both, 1)


def align(solid: Solid, truth: Truth, max_yaw_deg: float = 180.0) -> Alignment:
    """Find the similarity transform that maximizes the overlap of truth and result.

    Evenly spaced yaws are tried with matched centres and radii. The best three are refined with Nelder-Mead
    over yaw, scale and offset, on some of the result's points.

    Args:
        solid: the result, not empty.
        truth: the truth.
        max_yaw_deg: largest turn to either side, in (0, 180]; 180 leaves the yaw free.

    Raises:
        ValueError: the result is empty.
    """
    from scipy.optimize import minimize

    if not bool(solid.inside.any()):
        raise ValueError("an empty solid cannot be aligned")
    points = solid.points
    volume = len(points) * solid.spacing**3
    some = points[torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[:POINTS]]

    def cost(x: np.ndarray) -> float:
        return -_soft_overlap(some, volume, truth, _from_vector(x))

    steps = math.floor(max_yaw_deg / STEP_DEG)
    yaws = [STEP_DEG * i for i in range(-steps, steps + 1)][: math.ceil(360.0 / STEP_DEG)]
    starts = [_to_vector(_initial_alignment(points, truth, math.radians(yaw))) for yaw in yaws]
    found = [
        minimize(
            cost,
            start,
            method="Nelder-Mead",
            bounds=_bounds(points, truth, max_yaw_deg),
            options={"maxfev": 120, "initial_simplex": _simplex(start)},
        )
        for start in sorted(starts, key=cost)[:3]
    ]
    return _from_vector(min(found, key=lambda one: one.fun).x)


class Pose(NamedTuple):
    """How a result stands beside the truth: aligned within FRONT_DEG of the front, and with a free yaw."""

    front: Alignment
    free: Alignment
    iou: float  # volumetric IoU of ``front``, in [0, 1]
    iou_free: float  # that of ``free``, which is not smaller

    @property
    def is_turned(self) -> bool:
        """Whether the object clearly fits better when it is turned away from the front.

        A ball or a donut fits alike at every yaw and is never turned; a mug may stand only one way.
        """
        return self.iou_free - self.iou > MARGIN

    @property
    def yaw_deg(self) -> float:
        """The object's turn in degrees, in [-180, 180); within FRONT_DEG unless the object is turned."""
        return (self.free if self.is_turned else self.front).yaw_deg

    @property
    def is_backwards(self) -> bool:
        """Whether the object's front is on the far side."""
        return abs(self.yaw_deg) > BACK_DEG


def pose(solid: Solid, truth: Truth) -> Pose:
    """Align a result with the truth twice: near the front, and with a free yaw.

    Raises:
        ValueError: the result is empty.
    """
    free = align(solid, truth)
    iou_free = overlap(solid, truth, free)
    if abs(free.yaw_deg) <= FRONT_DEG:
        return Pose(free, free, iou_free, iou_free)
    front = align(solid, truth, FRONT_DEG)
    iou = overlap(solid, truth, front)
    return Pose(front, free, iou, iou_free) if iou < iou_free else Pose(front, front, iou, iou)


def _box(truth: Truth, alignment: Alignment) -> tuple[Tensor, Tensor]:
    """Opposite corners [3] of a box, in the result's coordinates, that contains the aligned truth."""
    sides = torch.stack([truth.low, truth.high])
    corners = torch.cartesian_prod(*sides.unbind(1))
    moved = alignment.to_result(corners)
    return moved.amin(0), moved.amax(0)


def _initial_alignment(points: Tensor, truth: Truth, yaw: float) -> Alignment:
    """Match the centres of the bounding boxes, and the radii around them."""
    center, radius = ball_around(points)
    start = Alignment(yaw, radius / truth.radius, (0.0, 0.0, 0.0))
    return start._replace(offset=tuple((center - start.to_result(truth.center)).tolist()))


def _bounds(points: Tensor, truth: Truth, max_yaw_deg: float) -> list[tuple[float | None, float | None]]:
    """Limits of yaw, log-scale and offset."""
    center, radius = ball_around(points)
    middle, log = math.log(radius / truth.radius), math.log(SCALE)
    yaw = math.radians(max_yaw_deg) if max_yaw_deg < 180.0 else None
    turn = (None, None) if yaw is None else (-yaw, yaw)
    shift = SCALE * radius
    return [turn, (middle - log, middle + log), *((c - shift, c + shift) for c in center.tolist())]


def _soft_overlap(points: Tensor, volume: float, truth: Truth, alignment: Alignment) -> float:
    """Estimate the IoU from points [P, 3] inside of the result; small moves change the value."""
    soft = torch.sigmoid(-truth.distance(alignment.to_truth(points)) / SOFTNESS)
    both = volume * float(soft.mean())
    return both / (volume + truth.volume * alignment.scale**3 - both)


def _to_vector(alignment: Alignment) -> np.ndarray:
    return np.array([alignment.yaw, math.log(alignment.scale), *alignment.offset])


def _from_vector(x: np.ndarray) -> Alignment:
    return Alignment(float(x[0]), float(math.exp(x[1])), (float(x[2]), float(x[3]), float(x[4])))


def _simplex(start: np.ndarray) -> np.ndarray:
    turn = -0.2 if start[0] > 0.0 else 0.2  # towards the front, so that it stays within the limits
    return np.vstack([start, start + np.diag([turn, 0.1, 0.04, 0.04, 0.04])])
