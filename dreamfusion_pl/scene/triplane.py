"""Three feature planes and a small MLP: the scene for CPUs."""

from __future__ import annotations

from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dreamfusion_pl.scene.base import DensityBias, LinearBias, Scene, appearance, positive_radius


@final
class TriplaneScene(Scene):
    """Summed features of three axis-aligned planes, then an MLP.

    ``tau = softplus(. + bias)``, ``rho = sigmoid(.)``. Everything runs with channels first, [C, P],
    the layout in which ``grid_sample`` answers.

    Args:
        radius: radius of the bounding sphere, in world units; the planes span [-radius, radius].
        resolution: cells along a side of every plane.
        channels: features of every plane.
        width: hidden width of the MLP.
        initial_noise: standard deviation of the planes at the start.
        mlp_rate: the MLP's learning rate as a fraction of the planes'.
        bias: density bias; None is ``LinearBias(blob, 0.6)``.
        blob: strength of that one. With 10, as in Magic3D, rays through the middle see a 450th of the
            background at the start, too little for a hole to open there; with 3 an eighth.
        latents: channels of latents that are emitted in the place of colours, 0 for none; see
            ``DreamFusion.latent_until``.
    """

    def __init__(
        self,
        radius: float = 0.75,
        resolution: int = 64,
        channels: int = 8,
        width: int = 32,
        initial_noise: float = 0.1,
        mlp_rate: float = 0.1,
        bias: DensityBias | None = None,
        blob: float = 10.0,
        latents: int = 0,
    ) -> None:
        super().__init__(latents)
        self.radius = positive_radius(radius)
        self.mlp_rate = mlp_rate
        self.bias = bias or LinearBias(blob, 0.6)
        self.planes = nn.Parameter(initial_noise * torch.randn(3, channels, resolution, resolution))
        self.hidden = nn.Linear(channels, width)
        self.output = nn.Linear(width, 1 + (latents or 3))

    def forward(self, points: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        output = torch.addmm(self.output.bias[:, None], self.output.weight, self._hidden(points))
        return F.softplus(output[0] + self.bias(points)), appearance(output[1:].T, self.latent_colors)

    def density(self, points: Tensor, progress: float) -> Tensor:
        output = self.output.weight[:1] @ self._hidden(points)
        return F.softplus(output[0] + self.output.bias[0] + self.bias(points))

    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        mlp = [*self.hidden.parameters(), *self.output.parameters()]
        return [
            {"params": [self.planes], "lr": learning_rate},
            {"params": mlp, "lr": learning_rate * self.mlp_rate},
        ]

    def features(self, points: Tensor) -> Tensor:
        """Sum of the three planes' features at points [P, 3]: [C, P]."""
        unit = points / self.radius
        grid = torch.stack([unit[:, :2], unit[:, ::2], unit[:, 1:]])[:, None]
        return F.grid_sample(self.planes, grid, padding_mode="border", align_corners=True).sum(0)[:, 0]

    def _hidden(self, points: Tensor) -> Tensor:
        """Hidden activations at points [P, 3]: [width, P]."""
        return torch.relu_(torch.addmm(self.hidden.bias[:, None], self.hidden.weight, self.features(points)))
