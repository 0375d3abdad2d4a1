"""Distillation by denoised pictures, in the prior's space and in colours."""

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
    loss_unit,
    surrogate,
)
from dreamfusion_pl.distillation.denoised import Denoiser
from dreamfusion_pl.distillation.times import TimeLaw, TimeRange
from dreamfusion_pl.schedule import Schedule
from dreamfusion_pl.types import Condition


@final
class DenoisedPictures(Distillation):
    """``w(t) (alpha_t / sigma_t) (|z - z_hat|^2 + weight |x - x_hat|^2) / 2`` (HiFA, Zhu et al. 2024).

    z_hat is what DDIM makes of the noisy z in a few steps, and x_hat its colours; both are fixed. With one
    step z - z_hat = (sigma_t / alpha_t) (eps_hat - eps), so that without colours this is SDS. The factor
    alpha_t / sigma_t, an option of HiFA's code, keeps the unit of loss.

    Args:
        guidance_scale: omega of classifier-free guidance, >= 0, in the paper's convention (s = 1 + omega).
        weighting: w(t).
        t_min: lowest time drawn, in [0, 1).
        t_max: highest time drawn, in (t_min, 1]: a number, or a schedule that lowers it during training.
        time_law: how times are chosen between the two; None: uniformly. HiFA has ``FallingTimes``.
        steps: number of steps from t to 0, 1 or more; each asks the prior once.
        rgb_weight: weight of the colours' part, >= 0. It is for latents; to a prior in pixels it adds weight.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        guidance_scale: float,
        weighting: Weighting,
        t_min: float = 0.02,
        t_max: Schedule | float = 0.98,
        time_law: TimeLaw | None = None,
        steps: int = 1,
        rgb_weight: float = 0.1,
    ) -> None:
        super().__init__()
        if steps < 1 or rgb_weight < 0.0:
            raise ValueError(f"steps is 1 or more and rgb_weight 0 or more, got {steps} and {rgb_weight}")
        self.guidance_scale, self.rgb_weight = check_guidance(guidance_scale), rgb_weight
        self.denoiser = Denoiser(guidance_scale, weighting, TimeRange(t_min, t_max, time_law), steps)

    def check(self, prior: DiffusionPrior) -> None:
        """Accept any prior: nothing is differentiated through its network.

        Raises:
            ValueError: the prior's noise levels do not fit to the range of t.
        """
        self.denoiser.check(prior)

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
        z_hat, weight = self.denoiser.target(z, condition, prior, progress, generator)
        loss = surrogate(z, weight * (z - z_hat))
        if rgb is not None and self.rgb_weight > 0.0:
            target = prior.decode(z_hat)
            picture = _resized(rgb, target.shape[1])
            loss = loss + self.rgb_weight * surrogate(picture, weight * (picture - target))
        return DistillationLoss(loss, loss_unit(z, self.guidance_scale))


def _resized(rgb: Tensor, side: int) -> Tensor:
    """Resize pictures [B, H, W, 3] to [B, side, side, 3]; differentiable."""
    if rgb.shape[1:3] == (side, side):
        return rgb
    channels = rgb.permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(channels, (side, side), mode="bilinear", antialias=True)
    return resized.permute(0, 2, 3, 1)
