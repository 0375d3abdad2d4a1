"""Denoised pictures as what encoded pictures are fitted to."""

from __future__ import annotations

from typing import NamedTuple, final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.noise import Weighting
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.distillation.base import draw_noise
from dreamfusion_pl.distillation.ddim import denoise
from dreamfusion_pl.distillation.score_gradient import add_noise
from dreamfusion_pl.distillation.times import TimeRange
from dreamfusion_pl.types import Condition


class Target(NamedTuple):
    """What encoded pictures are fitted to, with the loss weight |z - z_hat|^2 / 2."""

    z: Tensor  # z_hat [B, C, h, w]
    weight: Tensor  # w(t) alpha_t / sigma_t, [B, 1, 1, 1]


@final
class Denoiser:
    """Adds noise to encoded pictures and takes it away again by DDIM, guided by their texts.

    With one step z - z_hat = (sigma_t / alpha_t) (eps_hat - eps): the weight makes the gradient that of SDS.

    Args:
        guidance_scale: omega of classifier-free guidance, >= 0.
        weighting: w(t).
        times: distribution of t.
        steps: number of DDIM's steps from t to 0, 1 or more; each asks the prior once.
    """

    def __init__(self, guidance_scale: float, weighting: Weighting, times: TimeRange, steps: int) -> None:
        self.guidance_scale, self.weighting, self.times, self.steps = guidance_scale, weighting, times, steps

    def check(self, prior: DiffusionPrior) -> None:
        """Check that the prior's noise levels fit to the range of t.

        Raises:
            ValueError: they do not.
        """
        self.times.check_levels(prior.schedule, self.weighting, divides=True)

    @torch.no_grad()
    def target(
        self,
        z: Tensor,
        condition: Condition,
        prior: DiffusionPrior,
        progress: float,
        generator: torch.Generator,
    ) -> Target:
        """Return the target of z [B, C, h, w], each with a time and noise of its own; no gradient."""

        def predict(z_t: Tensor, now: Tensor) -> Tensor:
            return prior.guided(z_t, now, condition, self.guidance_scale)

        t = self.times.draw(len(z), progress, prior.schedule, generator).to(z.device)
        noisy = add_noise(z.detach(), draw_noise(z, generator), t, prior)
        z_hat = denoise(noisy.z_t, t, predict, self.steps, prior.schedule)
        return Target(z_hat, self.weighting(noisy.alpha, noisy.sigma) * noisy.alpha / noisy.sigma)
