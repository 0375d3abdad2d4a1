"""Score distillation with noise that is found by DDIM inversion."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.noise import Weighting
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.distillation.adjustments import Adjustment, Noisy
from dreamfusion_pl.distillation.ddim import invert
from dreamfusion_pl.distillation.score_gradient import ScoreGradient
from dreamfusion_pl.distillation.times import TimeLaw, TimeRange
from dreamfusion_pl.schedule import Schedule
from dreamfusion_pl.types import Condition


@final
class InversionDistillation(ScoreGradient):
    """SDI: SDS with noise from DDIM inversion (Lukoianov et al. 2024, section 5).

    The direction is eps_hat(z_t) - (z_t - alpha_t z) / sigma_t at the inverted z_t. Between two steps the
    noise hardly changes, so that a view is denoised as by DDIM, without the blur of averaging over noise. The
    paper also adds noise of .3 sigma_t (eq. 11), inverts a little past t, and takes fewer steps at small t;
    this does not.

    Args:
        guidance_scale: omega of classifier-free guidance, >= 0, in the paper's convention (s = 1 + omega).
        weighting: w(t).
        t_min: lowest time drawn, in [0, 1).
        t_max: highest time drawn, in (t_min, 1]: a number, or a schedule that lowers it during training.
        time_law: how times are chosen between the two; None: uniformly.
        adjustment: what is done to guided predictions; None: nothing.
        steps: number of steps of the inversion, 1 or more; each asks the prior once more.
        inversion_scale: omega of the inversion; the paper turns guidance around, s = 1 + omega = -7.5.

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
        adjustment: Adjustment | None = None,
        steps: int = 10,
        inversion_scale: float = -8.5,
    ) -> None:
        super().__init__(guidance_scale, weighting, TimeRange(t_min, t_max, time_law), adjustment)
        if steps < 1:
            raise ValueError(f"an inversion has 1 step or more, got {steps}")
        self.steps, self.inversion_scale = steps, inversion_scale

    divides_by_levels = True

    def direction(
        self,
        z: Tensor,
        noisy: Noisy,
        condition: Condition,
        prior: DiffusionPrior,
        progress: float,
        generator: torch.Generator,
    ) -> Tensor:
        def predict(z_t: Tensor, t: Tensor) -> Tensor:
            return prior.guided(z_t, t, condition, self.inversion_scale)

        z_t = invert(z, noisy.t, predict, self.steps, prior.schedule)
        inverted = noisy._replace(z_t=z_t, eps=(z_t - noisy.alpha * z) / noisy.sigma)
        return self.guided(inverted, condition, prior, progress) - inverted.eps
