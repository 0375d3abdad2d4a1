"""Positional encodings, and the paper's network on them, a residual MLP (paper 3.1, A.2)."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn

from dreamfusion_pl.scene.features import Features
from dreamfusion_pl.schedule import Linear, Schedule, check_not_negative


def encode_points(points: Tensor, covariance: float, num_frequencies: int) -> Tensor:
    """Integrated positional encoding with an isotropic covariance (mip-NeRF; paper A.2).

    The expectation of ``sin(2^l x)`` and ``cos(2^l x)`` for ``x ~ N(points, covariance I)``: each wave is
    damped by ``exp(-4^l covariance / 2)``.

    Args:
        points: means, [..., 3].
        covariance: variance lambda_Sigma of each coordinate, in squared world units, >= 0.
        num_frequencies: number L of frequencies 2^0 ... 2^(L-1).

    Returns:
        Encoding [..., 6 L]: all sines, then all cosines.
    """
    scales = 2.0 ** torch.arange(num_frequencies, device=points.device, dtype=points.dtype)
    phases = (points[..., None, :] * scales[:, None]).flatten(-2)
    damping = torch.exp(-0.5 * covariance * scales.square()).repeat_interleave(points.shape[-1])
    return torch.cat([torch.sin(phases) * damping, torch.cos(phases) * damping], dim=-1)


def encode_directions(directions: Tensor, num_frequencies: int) -> Tensor:
    """Unit directions [..., 3], followed by their positional encoding: [..., 3 + 6 L]."""
    return torch.cat([directions, encode_points(directions, 0.0, num_frequencies)], dim=-1)


class _ResidualBlock(nn.Module):
    """``x + W2 silu(W1 layernorm(x))``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


@final
class FrequencyFeatures(Features):
    """A residual MLP on the integrated positional encoding of a point, in world units.

    Args:
        width: hidden width.
        num_blocks: number of residual blocks.
        num_frequencies: number L of frequencies of the positional encoding.
        covariance: variance lambda_Sigma of the encoding over training; None: as in the paper, linear from
            5e-2 to 2e-3 over the first third.

    Raises:
        ValueError: a size is not positive, or the number of blocks or the variance is negative.
    """

    def __init__(
        self,
        width: int = 128,
        num_blocks: int = 5,
        num_frequencies: int = 8,
        covariance: Schedule | None = None,
    ) -> None:
        super().__init__()
        if min(width, num_frequencies) < 1 or num_blocks < 0:
            raise ValueError(
                "width and num_frequencies must be 1 or more, num_blocks 0 or more, "
                f"got {width}, {num_frequencies} and {num_blocks}"
            )
        self.width, self.num_frequencies = width, num_frequencies
        self.covariance = covariance or Linear(5e-2, 2e-3, end=1.0 / 3.0)
        check_not_negative(covariance=self.covariance)
        self.network = nn.Sequential(
            nn.Linear(6 * num_frequencies, width),
            *[_ResidualBlock(width) for _ in range(num_blocks)],
            nn.LayerNorm(width),
            nn.SiLU(),
        )

    def forward(self, points: Tensor, radius: float, progress: float) -> Tensor:
        return self.network(encode_points(points, self.covariance(progress), self.num_frequencies)).T

    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return [{"params": list(self.parameters()), "lr": learning_rate}]
