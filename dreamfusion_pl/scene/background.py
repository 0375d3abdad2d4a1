"""Backgrounds: a function of the ray direction, or one solid colour per view."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor, nn

from dreamfusion_pl.scene.encoding import encode_directions
from dreamfusion_pl.types import Views


class Background(nn.Module, ABC):
    """Colour behind the scene, seen along rays that are not fully opaque."""

    @abstractmethod
    def forward(self, directions: Tensor, views: Views) -> Tensor:
        """Return colours in [0, 1].

        Args:
            directions: unit ray directions, [B, H, W, 3].
            views: the views of these rays.

        Returns:
            Colours [B, H, W, 3].
        """


@final
class SolidBackground(Background):
    """The solid colour given with each view, ``views.background``; no parameters."""

    def forward(self, directions: Tensor, views: Views) -> Tensor:
        return views.background[:, None, None, :].expand_as(directions)


@final
class DirectionBackground(Background):
    """MLP on the positional encoding of the ray direction (paper 3.1, A.2).

    Args:
        num_frequencies: frequencies of the encoding; few, so that the background cannot draw the object.
        width: hidden width.
    """

    def __init__(self, num_frequencies: int = 4, width: int = 64) -> None:
        super().__init__()
        self.num_frequencies = num_frequencies
        self.network = nn.Sequential(
            nn.Linear(3 + 6 * num_frequencies, width), nn.SiLU(), nn.Linear(width, 3)
        )

    def forward(self, directions: Tensor, views: Views) -> Tensor:
        return torch.sigmoid(self.network(encode_directions(directions, self.num_frequencies)))
