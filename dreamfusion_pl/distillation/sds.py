"""Score distillation sampling (seed 3.2, eq. 2)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.noise import Weighting, per_row
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.distillation.base import Distillation, surrogate
from dreamfusion_pl.schedule import Constant, Schedule
from dreamfusion_pl.types import Condition


@final
class ScoreDistillation(Distillation):
    """SDS: the gradient E[w(t) (eps_hat(z_t; y, t) - eps) dx/dtheta], without the U-Net's Jacobian.

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
        if guidance_scale < 0.0:
            raise ValueError(f"guidance_scale is omega >= 0 (0 is no guidance), got {guidance_scale}")
        self.guidance_scale, self.weighting, self.t_min = guidance_scale, weighting, t_min
        self.t_max = t_max if isinstance(t_max, Schedule) else Constant(t_max)
        for highest in (self.t_max(0.0), self.t_max(0.5), self.t_max(1.0)):
            if not 0.0 <= t_min < highest <= 1.0:
                raise ValueError(f"need 0 <= t_min < t_max <= 1 throughout, got {t_min} and {highest}")

    def __call__(
        self,
        z: Tensor,
        condition: Condition,
        prior: DiffusionPrior,
        progress: float,
        generator: torch.Generator,
    ) -> Tensor:
        with torch.no_grad():
            t = self._draw_times(len(z), progress, generator).to(z.device)
            eps = torch.randn(z.shape, generator=generator, device=generator.device).to(z)
            z_t = prior.schedule.diffuse(z, eps, t)
            eps_hat = prior.guided(z_t, t, condition, self.guidance_scale)
            weight = self.weighting(prior.schedule.alpha(t), prior.schedule.sigma(t))
            gradient = per_row(weight) * (eps_hat - eps)  # seed eq. 2
        return surrogate(z, gradient)

    def _draw_times(self, count: int, progress: float, generator: torch.Generator) -> Tensor:
        """Draw t ~ U(t_min, t_max(progress)), [count], on the generator's device."""
        uniform = torch.rand(count, generator=generator, device=generator.device)
        return self.t_min + (self.t_max(progress) - self.t_min) * uniform
