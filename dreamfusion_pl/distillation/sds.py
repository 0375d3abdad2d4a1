"""Score distillation sampling (paper 2.1, eq. 3)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.noise import Weighting
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.distillation.adjustments import Adjustment, Noisy
from dreamfusion_pl.distillation.score_gradient import ScoreGradient
from dreamfusion_pl.distillation.times import TimeLaw, TimeRange
from dreamfusion_pl.schedule import Schedule
from dreamfusion_pl.types import Condition


@final
class ScoreDistillation(ScoreGradient):
    """SDS: the gradient E[w(t) (eps_hat(z_t; y, t) - eps) dx/dtheta], without the U-Net Jacobian.

    Args:
        guidance_scale: omega of classifier-free guidance, >= 0, in the paper's convention (s = 1 + omega).
        weighting: w(t).
        t_min: lowest time drawn, in [0, 1).
        t_max: highest time drawn, in (t_min, 1]: a number, or a schedule that lowers it during training.
        time_law: how times are chosen between the two; None: uniformly.
        draws: how often the prior is asked about a view, with other times and noise; costs as many calls and
            no rendering.
        adjustment: what is done to guided predictions; None: nothing.

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
        draws: int = 1,
        adjustment: Adjustment | None = None,
    ) -> None:
        super().__init__(guidance_scale, weighting, TimeRange(t_min, t_max, time_law, draws), adjustment)

    def direction(
        self,
        z: Tensor,
        noisy: Noisy,
        condition: Condition,
        prior: DiffusionPrior,
        progress: float,
        generator: torch.Generator,
    ) -> Tensor:
        return self.guided(noisy, condition, prior, progress) - noisy.eps  # paper eq. 3
