"""Triplane features with a small MLP, for CPUs."""

from __future__ import annotations

from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dreamfusion_pl.scene.features import Features


@final
class PlaneFeatures(Features):
    """Sum of the features of three axis-aligned planes (a triplane), then one hidden layer.

    Everything is computed channels first, [C, P], the layout that ``grid_sample`` returns.

    Args:
        resolution: grid points per side of a plane; the planes span [-radius, radius].
        channels: features C of each plane.
        width: width of the hidden layer.
        initial_noise: initial standard deviation of the planes.
        mlp_rate: learning rate of the layers after the planes, as a fraction of the planes'.
        smoothing: after each step, the planes move by ``smoothing * learning rate`` times their Laplacian, in
            grid points. It removes bumps of a few grid points, and thickens what is as thin as they are. Like
            weight decay in AdamW, it is apart from the gradient, whose scale Adam divides away.

    Raises:
        ValueError: a size is not positive, or the noise, the rate or the smoothing is negative.
    """

    def __init__(
        self,
        resolution: int = 64,
        channels: int = 8,
        width: int = 32,
        initial_noise: float = 0.1,
        mlp_rate: float = 0.1,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if min(resolution, channels, width) < 1 or min(initial_noise, mlp_rate, smoothing) < 0.0:
            raise ValueError(
                "resolution, channels and width must be 1 or more, initial_noise, mlp_rate and smoothing 0 "
                f"or more, got {resolution}, {channels}, {width}, {initial_noise}, {mlp_rate} and {smoothing}"
            )
        self.width, self.mlp_rate, self.smoothing = width, mlp_rate, smoothing
        self.planes = nn.Parameter(initial_noise * torch.randn(3, channels, resolution, resolution))
        self.hidden = nn.Linear(channels, width)

    def forward(self, points: Tensor, radius: float, progress: float) -> Tensor:
        samples = self.sample(points / radius)
        return torch.relu_(torch.addmm(self.hidden.bias[:, None], self.hidden.weight, samples))

    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return [
            {"params": [self.planes], "lr": learning_rate},
            {"params": list(self.hidden.parameters()), "lr": learning_rate * self.mlp_rate},
        ]

    @torch.no_grad()
    def after_step(self, learning_rate: float) -> None:
        if self.smoothing:
            rate = min(self.smoothing * learning_rate, 0.25)  # a larger one would not be stable
            padded = F.pad(self.planes, (1, 1, 1, 1), mode="replicate")
            across = padded[:, :, 1:-1, :-2] + padded[:, :, 1:-1, 2:]
            along = padded[:, :, :-2, 1:-1] + padded[:, :, 2:, 1:-1]
            self.planes.lerp_(0.25 * (across + along), 4.0 * rate)

    def sample(self, points: Tensor) -> Tensor:
        """Sum of the features of the three planes at points [P, 3] in [-1, 1]: [C, P].

        A point that is not a number is looked up at the border. On a CPU the backward pass of ``grid_sample``
        would write outside of the planes' memory and end the process; here the gradient, which depends on
        the same numbers, is not finite, and ``Safety`` ends the run.
        """
        points = points.fmax(points.new_full((), -2.0))
        grid = torch.stack([points[:, :2], points[:, ::2], points[:, 1:]])[:, None]
        return F.grid_sample(self.planes, grid, padding_mode="border", align_corners=True).sum(0)[:, 0]
