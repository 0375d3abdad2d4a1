"""The role of a field: what the first raw number of a point says about geometry."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Field(nn.Module, ABC):
    """Geometry as the level set of a function, and the density that renders it.

    Whoever needs the surface or its normals (renderer, export, metrics) asks for ``level`` and ``surface``,
    and need not know whether the field is a density or a distance.
    """

    surface: float | None  # level of the surface; None: where renders show it, see export/surface/grid.py
    empty_level: float  # level of empty space

    @abstractmethod
    def level(self, raw: Tensor, points: Tensor) -> Tensor:
        """Return the function whose level set is the surface; it rises towards the inside.

        Args:
            raw: what the scene's network says, [P].
            points: world positions, [P, 3].

        Returns:
            [P]; normals are ``-grad level / |grad level|``.
        """

    @abstractmethod
    def density(self, level: Tensor, progress: float) -> Tensor:
        """Return the density tau >= 0 in inverse world units, [P], at levels [P].

        Args:
            level: as returned by :meth:`level`.
            progress: training progress in [0, 1].
        """
