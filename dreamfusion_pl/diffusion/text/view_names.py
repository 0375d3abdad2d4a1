"""Names of the directions of views, and where one gives way to the next (paper 3.2)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Directions = Literal[0, 4, 8]
VIEW_NAMES: dict[
    int, tuple[str, ...]
] = {  # in the order of view_index and octant_index; from above comes last
    4: ("front view", "side view", "back view", "overhead view"),
    8: (
        "front view",
        "front left view",
        "left side view",
        "back left view",
        "back view",
        "back right view",
        "right side view",
        "front right view",
        "overhead view",
    ),
}
OVERHEAD_BLEND_DEG = (
    10.0  # the overhead text fades in over this much elevation on either side of its threshold
)


class Between(NamedTuple):
    """Where each of B azimuths lies between two neighbouring directions."""

    lower: Tensor  # int64 [B] index of the one before it
    upper: Tensor  # int64 [B] index of the one after it
    share: Tensor  # [B] in [0, 1], of the upper one; 0 at the centre of the lower one


def keys(directions: Directions) -> tuple[str, ...]:
    """Return how configuration calls the directions: ``front_left`` for "front left view"."""
    names = VIEW_NAMES[directions] if directions else ()
    return tuple(name.removesuffix(" view").replace(" ", "_") for name in names)


def check_thresholds(
    directions: Directions, overhead_deg: float, front_deg: float, back_deg: float, strictly: bool
) -> None:
    """Refuse angles between directions that are out of order, or that nothing would use.

    Args:
        directions: how many names of azimuths there are.
        overhead_deg: see ``view_index``.
        front_deg: see ``view_index``.
        back_deg: see ``view_index``.
        strictly: whether every direction needs some room, to be interpolated in.

    Raises:
        ValueError: which angle is wrong.
    """
    if not 0.0 <= overhead_deg <= 90.0:
        raise ValueError(f"overhead_deg must be in [0, 90], where 90 is never, got {overhead_deg}")
    if not 0.0 <= front_deg <= back_deg <= 180.0:
        raise ValueError(f"need 0 <= front_deg <= back_deg <= 180, got {front_deg} and {back_deg}")
    if strictly and not 0.0 < front_deg < back_deg < 180.0:
        raise ValueError(
            "interpolated embeddings and perp_neg need 0 < front_deg < back_deg < 180, "
            f"got {front_deg} and {back_deg}"
        )
    if directions != 4 and (front_deg, back_deg) != (45.0, 135.0):
        raise ValueError(f"front_deg and back_deg divide 4 directions, not {directions}: leave them out")


def view_index(
    elevation_deg: Tensor, azimuth_deg: Tensor, overhead_deg: float, front_deg: float, back_deg: float
) -> Tensor:
    """Name each view by its quadrant (paper 3.2, A.2): index into ``VIEW_NAMES[4]``.

    Args:
        elevation_deg: [B].
        azimuth_deg: [B], any multiple of a turn; 0 looks at the front.
        overhead_deg: above this elevation a view is an overhead view.
        front_deg: up to this distance of azimuth from the front it is a front view.
        back_deg: from this distance on it is a back view.

    Returns:
        int64 [B].
    """
    from_front = signed(azimuth_deg).abs()
    by_azimuth = (from_front > front_deg).long() + (from_front >= back_deg).long()
    return torch.where(elevation_deg > overhead_deg, torch.full_like(by_azimuth, 3), by_azimuth)


def octant_index(elevation_deg: Tensor, azimuth_deg: Tensor, overhead_deg: float) -> Tensor:
    """Name each view by the nearest of eight azimuths: index into ``VIEW_NAMES[8]``.

    Args:
        elevation_deg: [B].
        azimuth_deg: [B], any multiple of a turn; 0 looks at the front, 90 at the object's own left.
        overhead_deg: above this elevation a view is an overhead view.

    Returns:
        int64 [B].
    """
    octant = torch.div(azimuth_deg + 22.5, 45.0, rounding_mode="floor").long() % 8
    return torch.where(elevation_deg > overhead_deg, torch.full_like(octant, 8), octant)


def side_index(azimuth_deg: Tensor, directions: Directions) -> Tensor:
    """Index of the side that each of B views is nearer to: the one of 4, left or right of 8; int64 [B]."""
    left = signed(azimuth_deg) >= 0.0
    return torch.where(left, 2, 6) if directions == 8 else torch.ones_like(left, dtype=torch.long)


def front_to_back(azimuth_deg: Tensor, front_deg: float, back_deg: float) -> Tensor:
    """How far each of B views has gone from the front, 0, by the side, 1, to the back, 2; [B].

    Linear from the front to ``front_deg``, where it is .5, on to the middle of the sides, to ``back_deg``,
    where it is 1.5, and to the back: so the nearest whole number is always the direction of ``view_index``.
    """
    from_front = signed(azimuth_deg).abs()
    knots = (0.0, front_deg, 0.5 * (front_deg + back_deg), back_deg, 180.0)
    pieces = zip(knots[:-1], knots[1:], strict=True)
    ramps = [((from_front - start) / (end - start)).clamp(0.0, 1.0) for start, end in pieces]
    return 0.5 * torch.stack(ramps).sum(0)


def neighbours(azimuth_deg: Tensor, directions: Directions, front_deg: float, back_deg: float) -> Between:
    """Find the two directions, of 4 or 8, between whose centres each of B azimuths lies."""
    if directions == 8:
        place = azimuth_deg / 45.0
        lower = place.floor().long()
        return Between(lower % 8, (lower + 1) % 8, place - lower)
    place = front_to_back(azimuth_deg, front_deg, back_deg)
    lower = place.floor().long()
    return Between(lower, (lower + 1).clamp_max(2), place - lower)


def overhead_share(elevation_deg: Tensor, overhead_deg: float) -> Tensor:
    """Share of the overhead text in each of B views, [B]: .5 at the threshold, 1 from above."""
    half = min(OVERHEAD_BLEND_DEG, 90.0 - overhead_deg)
    if half == 0.0:
        return torch.zeros_like(elevation_deg)
    return ((elevation_deg - overhead_deg) / (2.0 * half) + 0.5).clamp(0.0, 1.0)


def signed(azimuth_deg: Tensor) -> Tensor:
    """Return the same azimuths in [-180, 180)."""
    return (azimuth_deg + 180.0) % 360.0 - 180.0
