"""Interval score matching."""

from __future__ import annotations

import math
from typing import Any, final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.distillation.adjustments import Noisy
from dreamfusion_pl.distillation.score_gradient import ScoreGradient
from dreamfusion_pl.distillation.variants.inversion import ddim_step, invert
from dreamfusion_pl.types import Condition


@final
class IntervalScoreMatching(ScoreGradient):
    """ISM: w(t) (eps_hat(z_t; y, t) - eps(z_s; s)), s < t on one inverted path (Liang et al. 2024).

    This is LucidDreamer's loss. z_s comes from z by DDIM inversion without a text, z_t from z_s by one more
    step.

    Args:
        interval: t - s, in (0, 1).
        stride: length of the inversion's steps, > 0; the number of steps is that of the longest path.
        options: the arguments of ``ScoreGradient``.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, interval: float = 0.05, stride: float = 0.2, **options: Any) -> None:
        super().__init__(**options)
        if not 0.0 < interval < 1.0 or stride <= 0.0:
            raise ValueError(f"interval is in (0, 1) and stride above 0, got {interval} and {stride}")
        self.interval, self.stride = interval, stride

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
        steps = math.ceil(max(self.times.t_max(progress) - self.interval, 1e-6) / self.stride)
        z_s = invert(z, s, predict, steps, prior.schedule)
        eps_s = predict(z_s, s)
        z_t = ddim_step(z_s, eps_s, s, noisy.t, prior.schedule)
        return self.guided(noisy._replace(z_t=z_t, eps=eps_s), condition, prior, progress) - eps_s
