"""The paper's scene: a residual MLP on the integrated positional encoding (seed 4; paper 3.1, A.2)."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn

from dreamfusion_pl.scene.base import DensityBias, GaussianBias, Scene, appearance, positive_radius
from dreamfusion_pl.scene.encoding import encode_points
from dreamfusion_pl.schedule import Linear, Schedule

MAX_LOG_DENSITY = 15.0


class _TruncatedExp(torch.autograd.Function):
    """``exp`` below MAX_LOG_DENSITY, constant above; the gradient never vanishes and never overflows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.exp(x.clamp(max=MAX_LOG_DENSITY))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradients[0] * truncated_exp(x)


def truncated_exp(x: Tensor) -> Tensor:
    """``exp(min(x, 15))`` whose derivative is itself everywhere, so that a saturated density can recover."""
    return _TruncatedExp.apply(x)


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
class MLPScene(Scene):
    """Residual MLP: ``tau = exp(. + bias + offset)``, ``rho = sigmoid(.)``.

    Args:
        radius: radius of the bounding sphere, in world units.
        width: hidden width.
        num_blocks: residual blocks.
        num_frequencies: frequencies L of the positional encoding.
        covariance: the encoding's variance lambda_Sigma over training; None is the paper's, linear from 5e-2
            to 2e-3 over the first third.
        bias: density bias; None is the paper's Gaussian.
        offset: constant added to the log-density; -1 is that of mip-NeRF 360, the paper's base.
        latents: channels of latents that are emitted in the place of colours, 0 for none; see
            ``DreamFusion.latent_until``.
    """

    def __init__(
        self,
        radius: float = 1.4,
        width: int = 128,
        num_blocks: int = 5,
        num_frequencies: int = 8,
        covariance: Schedule | None = None,
        bias: DensityBias | None = None,
        offset: float = -1.0,
        latents: int = 0,
    ) -> None:
        super().__init__(latents)
        self.radius = positive_radius(radius)
        self.num_frequencies = num_frequencies
        self.covariance = covariance or Linear(5e-2, 2e-3, end=1.0 / 3.0)
        self.bias = bias or GaussianBias()
        self.offset = offset
        self.network = nn.Sequential(
            nn.Linear(6 * num_frequencies, width),
            *[_ResidualBlock(width) for _ in range(num_blocks)],
            nn.LayerNorm(width),
            nn.SiLU(),
            nn.Linear(width, 1 + (latents or 3)),
        )

    def forward(self, points: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        encoding = encode_points(points, self.covariance(progress), self.num_frequencies)
        output = self.network(encoding)
        density = truncated_exp(output[:, 0] + self.bias(points) + self.offset)
        return density, appearance(output[:, 1:], self.latent_colors)

    def density(self, points: Tensor, progress: float) -> Tensor:
        return self(points, progress)[0]

    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return [{"params": list(self.parameters()), "lr": learning_rate}]
