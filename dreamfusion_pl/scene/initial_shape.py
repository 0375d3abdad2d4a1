"""Initial shapes of a scene: solids given by their signed distance."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor


class InitialShape(ABC):
    """A solid around the origin. A density field turns its distance into a bias; a distance field adds it."""

    size: float  # radius of the largest ball inside the shape, in world units, > 0

    @abstractmethod
    def __call__(self, points: Tensor) -> Tensor:
        """Return signed distances, negative inside, in world units: [P, 3] -> [P]."""

    @abstractmethod
    def squared_radius(self, points: Tensor) -> Tensor:
        """Return (signed distance + size)^2, [P, 3] -> [P]: 0 at the centre, size^2 on the surface.

        For a ball it is the squared distance from the origin. The square is smooth at the centre and does not
        suffer from cancellation.
        """


@final
class Ball(InitialShape):
    """A ball centred at the origin.

    Args:
        radius: radius in world units, > 0.

    Raises:
        ValueError: the radius is not positive.
    """

    def __init__(self, radius: float = 0.6) -> None:
        if not radius > 0.0:
            raise ValueError(f"the initial ball's radius must be > 0, in world units; got {radius}")
        self.size = radius

    def __call__(self, points: Tensor) -> Tensor:
        return torch.sqrt(self.squared_radius(points) + 1e-12) - self.size

    def squared_radius(self, points: Tensor) -> Tensor:
        return points.square().sum(-1)
