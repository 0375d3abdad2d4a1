"""Density distillation: SDS as the gradient of a weighted KL divergence (paper A.4).

The derivation, for one t, with x = g(theta), z_t = alpha_t x + sigma_t eps, q(z_t | x) = N(alpha_t x,
sigma_t^2 I):

1. KL(q || p) = E_eps[log q(z_t | x) - log p(z_t; y, t)].
2. The entropy of q does not depend on x, so E_eps[log q] is constant. Written along the sample path,
   d log q(z_t | x) / dx = alpha_t (score of q) + (derivative in x at fixed z_t) = 0 for every eps.
   With the score of q, grad_z log q(z_t | x) = -eps / sigma_t, the path term alone has mean 0: it may be
   kept as a control variate.
3. With the score of p, grad_z log p(z_t) = -eps_hat / sigma_t, and dz_t / dx = alpha_t:
   grad_x KL = E_eps[alpha_t (grad_z log q - grad_z log p)] = E_eps[(alpha_t / sigma_t) (eps_hat - eps)].
4. So grad_theta of E_t[(sigma_t / alpha_t) w(t) KL] is E_{t,eps}[w(t) (eps_hat - eps) dx/dtheta]: eq. 3.

The seed's last identity sets grad log q equal to -(eps_hat - eps) / sigma_t. That is the *difference* of the
two scores of step 3, grad log p - grad log q, not the score of q alone.
"""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.closed_form import GaussianPrior
from dreamfusion_pl.diffusion.noise import Weighting
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.distillation.base import Distillation, DistillationLoss, loss_unit
from dreamfusion_pl.distillation.times import TimeRange
from dreamfusion_pl.schedule import Schedule
from dreamfusion_pl.types import Condition


@final
class DensityDistillation(Distillation):
    """L_SDS = E_t[(sigma_t / alpha_t) w(t) KL(q(z_t | g(theta)) || p(z_t; y, t))], in closed form.

    Its gradient is that of SDS without guidance, averaged over eps. It needs a prior with a closed-form KL.

    Args:
        weighting: w(t).
        t_min: lowest time drawn, in [0, 1).
        t_max: highest time drawn, in (t_min, 1]: a number, or a schedule that lowers it during training.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, weighting: Weighting, t_min: float = 0.02, t_max: Schedule | float = 0.98) -> None:
        super().__init__()
        self.weighting, self.times = weighting, TimeRange(t_min, t_max)

    def check(self, prior: DiffusionPrior) -> None:
        """Refuse a prior whose KL has no closed form.

        Raises:
            ValueError: the prior is not a GaussianPrior.
        """
        if not isinstance(prior, GaussianPrior):
            raise ValueError(
                f"DensityDistillation evaluates a KL divergence, which {type(prior).__name__} does not have "
                "in closed form: take a GaussianPrior, or ScoreDistillation, whose gradient is the same"
            )

    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return []

    def forward(
        self,
        z: Tensor,
        condition: Condition,
        prior: DiffusionPrior,
        progress: float,
        generator: torch.Generator,
        rgb: Tensor | None = None,
    ) -> DistillationLoss:
        assert isinstance(prior, GaussianPrior)
        if condition.negatives is not None:
            raise ValueError("DensityDistillation has no guidance to put negatives into: leave perp_neg out")
        t = self.times.draw(len(z), progress, prior.schedule, generator).to(z.device)
        alpha, sigma = prior.schedule.alpha(t), prior.schedule.sigma(t)
        weight = self.weighting(alpha, sigma) * sigma / alpha
        loss = (weight * prior.divergence(z, t, condition.text)).mean()
        return DistillationLoss(loss, loss_unit(z, guidance_scale=0.0))
