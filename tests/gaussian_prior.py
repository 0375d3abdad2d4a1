"""A prior in closed form: pictures ~ N(mu, Sigma), mu given by the text."""

from __future__ import annotations

from typing import Self, final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.noise import NoiseSchedule, per_row
from dreamfusion_pl.diffusion.prior import DiffusionPrior


@final
class GaussianPrior(DiffusionPrior):
    """eps_hat(z_t) = sigma (alpha^2 Sigma + sigma^2 I)^-1 (z_t - alpha mu), mu given by the text.

    A text embedding is [1, D] with D = C h w: the mean itself.

    Args:
        mean: mean under the condition [C, h, w]; 0 without it.
        covariance: Sigma [D, D], D = C h w.
    """

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        self.mean, self.covariance = mean, covariance
        self.channels, self.resolution = mean.shape[0], mean.shape[-1]
        self.schedule = NoiseSchedule(torch.linspace(0.9999, 1e-4, 1000, dtype=torch.float64))
        self.rows_asked: list[int] = []

    def to(self, device: torch.device | str) -> Self:
        return self

    def encode(self, rgb: Tensor, progress: float) -> Tensor:
        return rgb.permute(0, 3, 1, 2)

    def embed(self, prompts: list[str]) -> Tensor:
        return torch.stack([self.mean.flatten()[None] * float(bool(prompt)) for prompt in prompts])

    def predict(self, z_t: Tensor, t: Tensor, text: Tensor) -> Tensor:
        self.rows_asked.append(len(z_t))
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        residual = (z_t - per_row(alpha) * text.view(z_t.shape)).flatten(1)
        eye = torch.eye(residual.shape[1])
        marginal = alpha[:, None, None] ** 2 * self.covariance + sigma[:, None, None] ** 2 * eye
        return per_row(sigma) * torch.linalg.solve(marginal, residual[..., None]).view(z_t.shape)
