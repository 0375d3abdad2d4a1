"""The role of features: what a scene learns about a point."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn


class Features(nn.Module, ABC):
    """A learned function of position, from which the scene's last layer reads geometry and looks."""

    width: int  # F, numbers at a point

    @abstractmethod
    def forward(self, points: Tensor, radius: float, progress: float) -> Tensor:
        """Return features [F, P], which may be a transposed view of [P, F].

        Args:
            points: world positions, [P, 3], inside the bounding sphere.
            radius: of the bounding sphere, in world units.
            progress: training progress in [0, 1].
        """

    @abstractmethod
    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return optimizer parameter groups; the scene's last layer joins the last one."""
