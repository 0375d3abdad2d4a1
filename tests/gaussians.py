"""A Gaussian prior in double precision whose texts are means, and its formulas without the package's code."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.closed_form import GaussianPrior
from dreamfusion_pl.types import Condition, TextEmbedding

COVARIANCE = torch.tensor(
    [[0.6, 0.3, 0.0, 0.0], [0.3, 0.5, 0.0, 0.1], [0.0, 0.0, 0.9, 0.0], [0.0, 0.1, 0.0, 0.2]]
)
COVARIANCE = COVARIANCE.double()
TEXT, NULL, SOURCE = torch.tensor(
    [[0.5, -1.0, 0.2, 0.9], [0.1, 0.3, -0.4, 0.0], [-0.6, 0.2, 0.8, 0.4]], dtype=torch.float64
)


def prior() -> GaussianPrior:
    return GaussianPrior(TEXT.tolist(), COVARIANCE.tolist(), (1, 2, 2))


def condition(count: int, source: Tensor = SOURCE) -> Condition:
    text, null, other = (TextEmbedding(mean.view(1, 1, 4)) for mean in (TEXT, NULL, source))
    return Condition(text.expand(count), null, source=other.expand(count))


def pictures(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, 1, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def levels(t: float) -> tuple[Tensor, Tensor]:
    """alpha_t and sigma_t."""
    schedule, at = prior().schedule, torch.tensor([t])
    return schedule.alpha(at).double()[0], schedule.sigma(at).double()[0]


def noise(z_t: Tensor, t: float, mean: Tensor) -> Tensor:
    """eps(z_t) = sigma P^-1 (z_t - alpha mu), row by row."""
    alpha, sigma = levels(t)
    marginal = alpha**2 * COVARIANCE + sigma**2 * torch.eye(4, dtype=torch.float64)
    rows = [sigma * torch.linalg.solve(marginal, row.flatten() - alpha * mean) for row in z_t]
    return torch.stack(rows).view_as(z_t)


def guided(z_t: Tensor, t: float, omega: float) -> Tensor:
    return (1.0 + omega) * noise(z_t, t, TEXT) - omega * noise(z_t, t, NULL)


def gradient(
    distillation, z: Tensor, where: Condition, progress: float = 0.0, seed: int = 0, model=None
) -> Tensor:
    """The gradient of one view, not divided by the number of views."""
    z = z.clone().requires_grad_()
    generator = torch.Generator().manual_seed(seed)
    distillation(z, where, model or prior(), progress, generator).total.backward()
    return z.grad * len(z)
