"""Interface of a field, which turns the first raw output of the network into geometry."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Field(nn.Module, ABC):
    """Geometry as a level set of a function, and the density for volume rendering.

    Code that needs the surface or its normals (renderer, export, metrics) uses ``level`` and ``surface``. It
    does not have to know whether the field is a density or a signed distance.
    """

    surface: float | None  # level of the surface; None: estimated from renders, see export/surface/grid.py
    empty_level: float  # level of empty space

    @abstractmethod
    def level(self, raw: Tensor, points: Tensor) -> Tensor:
        """Return the function whose level set is the surface; it increases towards the inside.

        Args:
            raw: first raw output of the scene's network, [P].
            points: world positions, [P, 3].

        Returns:
            [P]; normals are ``-grad level / |grad level|``.
        """

    @abstractmethod
    def density(self, level: Tensor, progress: float) -> Tensor:
        """Return the density tau >= 0 of levels [P], in inverse world units, [P].

        Args:
            level: values of :meth:`level`, [P].
            progress: training progress in [0, 1].
        """
