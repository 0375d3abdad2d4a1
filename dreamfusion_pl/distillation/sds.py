"""Score distillation sampling (seed 3.2, eq. 2)."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.noise import Weighting, per_row
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.distillation.base import (
    Distillation,
    DistillationLoss,
    TimeRange,
    check_guidance,
    draw_noise,
    loss_unit,
    surrogate,
)
from dreamfusion_pl.schedule import Schedule
from dreamfusion_pl.types import Condition


@final
class ScoreDistillation(Distillation):
    """SDS: the gradient E[w(t) (eps_hat(z_t; y, t) - eps) dx/dtheta], without the U-Net Jacobian.

    Args:
        guidance_scale: omega of classifier-free guidance, >= 0, in the paper's convention (s = 1 + omega).
        weighting: w(t).
        t_min: lowest time drawn, in [0, 1).
        t_max: highest time drawn, in (t_min, 1]: a number, or a schedule that lowers it during training.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self, guidance_scale: float, weighting: Weighting, t_min: float = 0.02, t_max: Schedule | float = 0.98
    ) -> None:
        super().__init__()
        self.guidance_scale, self.weighting = check_guidance(guidance_scale), weighting
        self.times = TimeRange(t_min, t_max)

    def check(self, prior: DiffusionPrior) -> None:
        """Accept any prior: SDS does not differentiate through its denoiser."""

    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return []

    def forward(
        self,
        z: Tensor,
        condition: Condition,
        prior: DiffusionPrior,
        progress: float,
        generator: torch.Generator,
    ) -> DistillationLoss:
        with torch.no_grad():
            t = self.times.draw(len(z), progress, generator).to(z.device)
            eps = draw_noise(z, generator)
            z_t = prior.schedule.diffuse(z, eps, t)
            eps_hat = prior.guided(z_t, t, condition, self.guidance_scale)
            weight = self.weighting(prior.schedule.alpha(t), prior.schedule.sigma(t))
            gradient = per_row(weight) * (eps_hat - eps)  # seed eq. 2
        return DistillationLoss(surrogate(z, gradient), loss_unit(z, self.guidance_scale))
