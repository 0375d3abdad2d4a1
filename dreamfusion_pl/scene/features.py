"""Interface of features: a learned function of position."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn


class Features(nn.Module, ABC):
    """A learned function of position; the scene's last layer maps it to geometry and colour."""

    width: int  # F, features per point

    @abstractmethod
    def forward(self, points: Tensor, radius: float, progress: float) -> Tensor:
        """Return features [F, P]; this may be a transposed view of [P, F].

        Args:
            points: world positions, [P, 3], inside the bounding sphere.
            radius: radius of the bounding sphere, in world units.
            progress: training progress in [0, 1].
        """

    @abstractmethod
    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return optimizer parameter groups; the scene adds its last layer to the last group."""

    def after_step(self, learning_rate: float) -> None:
        """Do what follows a step of the optimizer, such as decoupled smoothing; nothing by default.

        Args:
            learning_rate: the current rate of the first parameter group.
        """
        return
