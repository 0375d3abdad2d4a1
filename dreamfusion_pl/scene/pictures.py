"""Parametrizations without a camera, x = g(theta): pictures or points, optimized directly (paper 2.1)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor, nn

from dreamfusion_pl.scene.frequencies import encode_points


class Parametrization(nn.Module, ABC):
    """A differentiable generator of B pictures."""

    @abstractmethod
    def forward(self) -> Tensor:
        """Return x = g(theta), [B, H, W, C]."""


@final
class IdentityParametrization(Parametrization):
    """x = theta: every pixel value is a parameter, initially drawn from N(0, spread^2).

    With shape (1, 1, D) the pictures are points in D dimensions.

    Args:
        count: number of pictures B, which are independent.
        shape: (H, W, C) of a picture.
        spread: initial standard deviation.
        seed: seed of the initial values.

    Raises:
        ValueError: a size is not positive.
    """

    def __init__(
        self,
        count: int = 64,
        shape: tuple[int, int, int] = (1, 1, 2),
        spread: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if min(count, *shape) < 1:
            raise ValueError(f"count and shape must be positive, got {count} and {shape}")
        generator = torch.Generator().manual_seed(seed)
        self.theta = nn.Parameter(spread * torch.randn(count, *shape, generator=generator))

    def forward(self) -> Tensor:
        return self.theta


@final
class MLPPicture(Parametrization):
    """One RGB picture: a small MLP on encoded pixel positions, like the paper's scene.

    Args:
        resolution: height and width in pixels.
        width: hidden width.
        num_frequencies: number of frequencies of the positional encoding.
        seed: seed of the initial weights.

    Raises:
        ValueError: a size is not positive.
    """

    def __init__(
        self, resolution: int = 32, width: int = 64, num_frequencies: int = 5, seed: int = 0
    ) -> None:
        super().__init__()
        if min(resolution, width, num_frequencies) < 1:
            raise ValueError(
                "resolution, width and num_frequencies must be positive, "
                f"got {resolution}, {width}, {num_frequencies}"
            )
        axis = (torch.arange(resolution) + 0.5) * (2.0 / resolution) - 1.0
        rows, columns = torch.meshgrid(axis, axis, indexing="ij")
        positions = encode_points(torch.stack([rows, columns], dim=-1), 0.0, num_frequencies)
        self.positions: Tensor
        self.register_buffer("positions", positions, persistent=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = nn.Sequential(
                nn.Linear(4 * num_frequencies, width),
                nn.SiLU(),
                nn.Linear(width, width),
                nn.SiLU(),
                nn.Linear(width, 3),
            )

    def forward(self) -> Tensor:
        return torch.sigmoid(self.network(self.positions))[None]
