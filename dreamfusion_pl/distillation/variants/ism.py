"""Interval score matching."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.noise import Weighting
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.distillation.adjustments import Adjustment, Noisy
from dreamfusion_pl.distillation.ddim import ddim_step, invert
from dreamfusion_pl.distillation.score_gradient import ScoreGradient
from dreamfusion_pl.distillation.times import TimeLaw, TimeRange
from dreamfusion_pl.schedule import Schedule
from dreamfusion_pl.types import Condition


@final
class IntervalScoreMatching(ScoreGradient):
    """ISM: w(t) (eps_hat(z_t; y, t) - eps(z_s; s)), s < t on one inverted path (Liang et al. 2024).

    This is LucidDreamer's loss. z_s comes from z by DDIM inversion without a text, z_t from z_s by one more
    step. The authors' code also makes the interval shorter during training, and weights by sigma_t / alpha_t.

    Args:
        guidance_scale: omega of classifier-free guidance, >= 0, in the paper's convention (s = 1 + omega).
        weighting: w(t).
        t_min: lowest time drawn, in [0, 1).
        t_max: highest time drawn, in (t_min, 1]: a number, or a schedule that lowers it during training.
        time_law: how times are chosen between the two; None: uniformly.
        adjustment: what is done to guided predictions; None: nothing.
        interval: t - s, in (0, 1).
        stride: length of the inversion's steps, > 0; the number of steps is that of the longest path.

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
        interval: float = 0.05,
        stride: float = 0.2,
    ) -> None:
        super().__init__(guidance_scale, weighting, TimeRange(t_min, t_max, time_law), adjustment)
        if not 0.0 < interval < 1.0 or stride <= 0.0:
            raise ValueError(f"interval is in (0, 1) and stride above 0, got {interval} and {stride}")
        self.interval, self.stride = interval, stride

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
        null = condition.null.expand(len(z))

        def predict(z_t: Tensor, t: Tensor) -> Tensor:
            return prior.predict(z_t, t, null)

        s = (noisy.t - self.interval).clamp(min=0.0)
        steps = math.ceil(max(self.times.highest(progress) - self.interval, 1e-6) / self.stride)
        z_s = invert(z, s, predict, steps, prior.schedule)
        eps_s = predict(z_s, s)
        z_t = ddim_step(z_s, eps_s, s, noisy.t, prior.schedule)
        return self.guided(noisy._replace(z_t=z_t, eps=eps_s), condition, prior, progress) - eps_s
