"""Backgrounds: a function of the ray direction, or one solid colour per view."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, final

import torch
from torch import Tensor, nn

from dreamfusion_pl.scene.frequencies import encode_directions
from dreamfusion_pl.types import Views


class Background(nn.Module, ABC):
    """Colour behind the scene, seen along rays that are not fully opaque."""

    @abstractmethod
    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return optimizer parameter groups, each with its own ``lr`` derived from ``learning_rate``."""

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

    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return []

    def forward(self, directions: Tensor, views: Views) -> Tensor:
        return views.background[:, None, None, :].expand_as(directions)


@final
class DirectionBackground(Background):
    """MLP on the positional encoding of the ray direction (paper 3.1, A.2); solid in views with ``solid``.

    A background that learns as fast as the scene draws the object on the sky, where it costs nothing: hence
    few frequencies, a low learning rate and a share of solid views.

    Args:
        num_frequencies: number of frequencies of the encoding, 1 or more.
        width: hidden width, 1 or more.
        rate: factor on the learning rate, > 0.

    Raises:
        ValueError: a size is below 1, or the rate is not positive.
    """

    def __init__(self, num_frequencies: int = 2, width: int = 64, rate: float = 0.1) -> None:
        super().__init__()
        if min(num_frequencies, width) < 1 or not rate > 0.0:
            raise ValueError(
                "the background needs num_frequencies and width of 1 or more and a rate above 0, "
                f"got {num_frequencies}, {width} and {rate}"
            )
        self.num_frequencies, self.rate = num_frequencies, rate
        self.network = nn.Sequential(
            nn.Linear(3 + 6 * num_frequencies, width), nn.SiLU(), nn.Linear(width, 3)
        )

    def forward(self, directions: Tensor, views: Views) -> Tensor:
        learned = torch.sigmoid(self.network(encode_directions(directions, self.num_frequencies)))
        return torch.where(views.solid[:, None, None, None], views.background[:, None, None], learned)

    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return [{"params": list(self.parameters()), "lr": self.rate * learning_rate}]
