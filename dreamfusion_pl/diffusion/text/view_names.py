"""Names of view directions, and the angles at which they change (paper 3.2)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Directions = Literal[0, 4, 8, 48]
_OCTANTS = (
    "front view",
    "front left view",
    "left side view",
    "back left view",
    "back view",
    "back right view",
    "right side view",
    "front right view",
)
ELEVATION_STEP_DEG = 15.0  # between the named elevations
_ELEVATIONS = ("elevation 0", "elevation 15", "elevation 30", "elevation 45", "elevation 60", "elevation 75")
# In the order of view_index, octant_index and grid_index; overhead comes last.
VIEW_NAMES: dict[int, tuple[str, ...]] = {
    4: ("front view", "side view", "back view", "overhead view"),
    8: (*_OCTANTS, "overhead view"),
    48: tuple(f"{octant}, {elevation}" for elevation in _ELEVATIONS for octant in _OCTANTS),
}
# Above this elevation a view is an overhead view (paper 3.2), unless settings say otherwise.
OVERHEAD_DEG = 60.0
# The overhead text fades in over this elevation on either side of its threshold.
OVERHEAD_BLEND_DEG = 10.0


class Between(NamedTuple):
    """Positions of B azimuths between two neighbouring directions."""

    lower: Tensor  # int64 [B] index of the direction before
    upper: Tensor  # int64 [B] index of the direction after
    share: Tensor  # [B] weight of ``upper`` in [0, 1]; 0 at the centre of ``lower``


def keys(directions: Directions) -> tuple[str, ...]:
    """Return the configuration keys of the directions: ``front_left`` for "front left view".

    With an elevation, ``front_left_30`` for "front left view, elevation 30".
    """
    names = VIEW_NAMES[directions] if directions else ()
    return tuple(name.replace(", elevation", "").replace(" view", "", 1).replace(" ", "_") for name in names)


def check_thresholds(
    directions: Directions, overhead_deg: float, front_deg: float, back_deg: float, strictly: bool
) -> None:
    """Refuse angles between directions that are out of order or unused.

    Args:
        directions: number of azimuth directions.
        overhead_deg: see ``view_index``.
        front_deg: see ``view_index``.
        back_deg: see ``view_index``.
        strictly: whether each direction needs a range above zero, for interpolation.

    Raises:
        ValueError: an angle is wrong.
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
    if directions == 48 and overhead_deg != OVERHEAD_DEG:
        raise ValueError("48 directions name every elevation: leave overhead_deg out")


def view_index(
    elevation_deg: Tensor, azimuth_deg: Tensor, overhead_deg: float, front_deg: float, back_deg: float
) -> Tensor:
    """Name each view by its quadrant (paper 3.2, A.2): index into ``VIEW_NAMES[4]``.

    Args:
        elevation_deg: [B].
        azimuth_deg: [B], of any range; 0 looks at the front.
        overhead_deg: above this elevation a view is an overhead view.
        front_deg: up to this azimuth from the front it is a front view.
        back_deg: at this azimuth from the front or more it is a back view.

    Returns:
        Indices, int64 [B].
    """
    from_front = signed(azimuth_deg).abs()
    by_azimuth = (from_front > front_deg).long() + (from_front >= back_deg).long()
    return torch.where(elevation_deg > overhead_deg, torch.full_like(by_azimuth, 3), by_azimuth)


def octant_index(elevation_deg: Tensor, azimuth_deg: Tensor, overhead_deg: float) -> Tensor:
    """Name each view by the nearest of eight azimuths: index into ``VIEW_NAMES[8]``.

    Args:
        elevation_deg: [B].
        azimuth_deg: [B], of any range; 0 looks at the front, 90 at the object's own left.
        overhead_deg: above this elevation a view is an overhead view.

    Returns:
        Indices, int64 [B].
    """
    octant = torch.div(azimuth_deg + 22.5, 45.0, rounding_mode="floor").long() % 8
    return torch.where(elevation_deg > overhead_deg, torch.full_like(octant, 8), octant)


def grid_index(elevation_deg: Tensor, azimuth_deg: Tensor) -> Tensor:
    """Name each view by the nearest of eight azimuths and six elevations: index into ``VIEW_NAMES[48]``.

    Args:
        elevation_deg: [B]; below 0 counts as 0, and 75 is the highest with a name.
        azimuth_deg: [B], of any range; 0 looks at the front, 90 at the object's own left.

    Returns:
        Indices, int64 [B].
    """
    octant = octant_index(elevation_deg, azimuth_deg, overhead_deg=90.0)
    return first_at_elevation(elevation_deg, 48) + octant


def first_at_elevation(elevation_deg: Tensor, directions: Directions) -> Tensor:
    """Return the index of the front at the nearest elevation with a name; int64 [B], 0 without elevations."""
    level = (_elevation_place(elevation_deg) + 0.5).floor().long()
    return len(_OCTANTS) * level if directions == 48 else torch.zeros_like(level)


def elevation_neighbours(elevation_deg: Tensor) -> Between:
    """Find the fronts, of 48 directions, at the named elevations below and above each of B views."""
    place = _elevation_place(elevation_deg)
    lower, upper = place.floor(), place.ceil()
    return Between(len(_OCTANTS) * lower.long(), len(_OCTANTS) * upper.long(), place - lower)


def _elevation_place(elevation_deg: Tensor) -> Tensor:
    """Return the position of B elevations among the six with a name, in [0, 5]."""
    return (elevation_deg / ELEVATION_STEP_DEG).clamp(0.0, len(_ELEVATIONS) - 1.0)


def side_index(azimuth_deg: Tensor, directions: Directions) -> Tensor:
    """Return the place of the nearer side after the front: the only one of 4, left or right; int64 [B]."""
    left = signed(azimuth_deg) >= 0.0
    return torch.ones_like(left, dtype=torch.long) if directions == 4 else torch.where(left, 2, 6)


def front_to_back(azimuth_deg: Tensor, front_deg: float, back_deg: float) -> Tensor:
    """Return the positions of B views from front (0) through side (1) to back (2), [B].

    Piecewise linear: 0 at the front, .5 at ``front_deg``, 1 halfway between ``front_deg`` and ``back_deg``,
    1.5 at ``back_deg``, 2 at the back. So the nearest integer is always the direction of ``view_index``.
    """
    from_front = signed(azimuth_deg).abs()
    knots = (0.0, front_deg, 0.5 * (front_deg + back_deg), back_deg, 180.0)
    pieces = zip(knots[:-1], knots[1:], strict=True)
    ramps = [((from_front - start) / (end - start)).clamp(0.0, 1.0) for start, end in pieces]
    return 0.5 * torch.stack(ramps).sum(0)


def neighbours(azimuth_deg: Tensor, directions: Directions, front_deg: float, back_deg: float) -> Between:
    """Find the two of 4 or 8 azimuths with a name whose centres are on either side of each of B azimuths."""
    if directions != 4:
        place = azimuth_deg / 45.0
        lower = place.floor().long()
        return Between(lower % 8, (lower + 1) % 8, place - lower)
    place = front_to_back(azimuth_deg, front_deg, back_deg)
    lower = place.floor().long()
    return Between(lower, (lower + 1).clamp_max(2), place - lower)


def overhead_share(elevation_deg: Tensor, overhead_deg: float) -> Tensor:
    """Return the weight of the overhead text in B views, [B]: a ramp from 0 to 1, .5 at the threshold."""
    half = min(OVERHEAD_BLEND_DEG, 90.0 - overhead_deg)
    if half == 0.0:
        return torch.zeros_like(elevation_deg)
    return ((elevation_deg - overhead_deg) / (2.0 * half) + 0.5).clamp(0.0, 1.0)


def signed(azimuth_deg: Tensor) -> Tensor:
    """Wrap azimuths into [-180, 180)."""
    return (azimuth_deg + 180.0) % 360.0 - 180.0
