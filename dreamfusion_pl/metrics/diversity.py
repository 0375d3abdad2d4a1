"""How much the objects of one prompt differ from seed to seed: in shape, and in what is seen of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from dreamfusion_pl.metrics.solid import Solid, ball_around, cube


class Object(NamedTuple):
    """What is compared of an object."""

    solid: Solid
    pictures: Tensor  # [B, H, W, 3] in [0, 1]; all objects are seen by the same cameras


class Diversity(NamedTuple):
    """Differences; equal objects have 0."""

    shape: float  # 1 - volumetric IoU of the solids, moved and scaled to one size, in [0, 1]
    pictures: float  # mean absolute difference of the pictures, background included, in [0, 1]


def shape_difference(first: Solid, second: Solid) -> float:
    """Return 1 - IoU of two solids, in [0, 1], after one has been moved and scaled to the other's size.

    Their bounding boxes' centres and the radii around them are matched, and their front is kept: an object
    that only stands elsewhere is the same.

    Raises:
        ValueError: one of them is empty.
    """
    if not (bool(first.inside.any()) and bool(second.inside.any())):
        raise ValueError("an empty solid cannot be compared")
    points = cube(1.0, max(*first.inside.shape, *second.inside.shape))
    a, b = (_contains(solid, points) for solid in (first, second))
    return 1.0 - int((a & b).sum()) / int((a | b).sum())


def _contains(solid: Solid, points: Tensor) -> Tensor:
    """Return whether points [P, 3] are inside of a solid that has been moved into the unit ball."""
    center, radius = ball_around(solid.points)
    place = center + (radius + 0.5 * solid.spacing) * points
    return solid.at(((place - solid.start) / solid.spacing).round().long())


def difference(first: Object, second: Object) -> Diversity:
    """Compare two objects.

    Raises:
        ValueError: one is empty, or their pictures have different sizes.
    """
    if first.pictures.shape != second.pictures.shape:
        shapes = " and ".join(str(list(one.pictures.shape)) for one in (first, second))
        raise ValueError(f"pictures of different sizes are not of the same cameras: {shapes}")
    seen = float((first.pictures - second.pictures).abs().mean())
    return Diversity(shape_difference(first.solid, second.solid), seen)


def from_the_others(objects: Sequence[Object]) -> list[Diversity]:
    """Return the mean difference of each of N >= 2 objects from the others; their mean is that of all pairs.

    Raises:
        ValueError: two objects cannot be compared.
    """
    count = len(objects)
    totals = torch.zeros(count, len(Diversity._fields))
    for i, j in combinations(range(count), 2):
        totals[[i, j]] += torch.tensor(difference(objects[i], objects[j]))
    return [Diversity(*row) for row in (totals / (count - 1)).tolist()]
