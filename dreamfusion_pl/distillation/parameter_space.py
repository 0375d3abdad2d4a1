"""Sampling in parameter space: minimize L_Diff itself (paper 2.1)."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.noise import Weighting
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.distillation.base import (
    Distillation,
    DistillationLoss,
    check_guidance,
    draw_noise,
    loss_unit,
)
from dreamfusion_pl.distillation.times import TimeRange
from dreamfusion_pl.schedule import Schedule
from dreamfusion_pl.types import Condition


@final
class ParameterSpaceSampling(Distillation):
    """theta* = argmin L_Diff(phi, g(theta)), paper eq. 1, including the U-Net Jacobian.

    Its gradient is 2 E[w(t) alpha_t J' (eps_hat - eps) dx/dtheta] with J = d eps_hat / d z_t; SDS replaces
    2 alpha_t J' by the identity. The paper found it brittle; it is included for comparison.

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
        """Refuse a prior that is not differentiable.

        Raises:
            ValueError: the prior is not differentiable, or its noise levels do not fit to the range of t.
        """
        self.times.check_levels(prior.schedule, self.weighting)
        if not prior.differentiable:
            raise ValueError(
                f"ParameterSpaceSampling differentiates through the prior, and {type(prior).__name__} gives "
                "no gradients: take --model.distillation ScoreDistillation, or a differentiable prior"
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
        t = self.times.draw(len(z), progress, prior.schedule, generator).to(z.device)
        eps = draw_noise(z, generator)
        z_t = prior.schedule.diffuse(z, eps, t)
        eps_hat = prior.guided(z_t, t, condition, self.guidance_scale)
        weight = self.weighting(prior.schedule.alpha(t), prior.schedule.sigma(t))
        loss = (weight * (eps_hat - eps).square().sum(dim=(1, 2, 3))).mean()  # paper eq. 1
        return DistillationLoss(loss, loss_unit(z, self.guidance_scale))
