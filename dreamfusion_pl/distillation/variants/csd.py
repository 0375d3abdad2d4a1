"""Classifier score distillation."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.noise import Weighting
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.distillation.adjustments import Noisy
from dreamfusion_pl.distillation.score_gradient import ScoreGradient
from dreamfusion_pl.distillation.times import TimeLaw, TimeRange
from dreamfusion_pl.schedule import Schedule, schedule_of
from dreamfusion_pl.types import Condition


@final
class ClassifierScoreDistillation(ScoreGradient):
    """CSD: guidance alone, w(t) omega (eps(y) - eps()) (Yu et al. 2024, eq. 7).

    eps() - eps(y) is sigma_t times the gradient of log p(y | z_t), the score of the classifier that the prior
    implies. SDS adds the generative part eps(y) - eps. With a negative text it is
    w(t) (omega_1 eps(y) + (omega_2 - omega_1) eps() - omega_2 eps(y_neg)), with omega_2 annealed. The
    authors' code has omega_1 = 1.

    Args:
        guidance_scale: omega of classifier-free guidance, >= 0, in the paper's convention (s = 1 + omega).
        weighting: w(t).
        t_min: lowest time drawn, in [0, 1).
        t_max: highest time drawn, in (t_min, 1]: a number, or a schedule that lowers it during training.
        time_law: how times are chosen between the two; None: uniformly.
        draws: how often the prior is asked about a view, with other times and noise.
        negative_text: y_neg, a text of what is not wanted, in words that the prior knows; None: none.
        negative_scale: omega_2: a number, or a schedule; with a negative text only.

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
        negative_text: str | None = None,
        negative_scale: Schedule | float = 0.0,
    ) -> None:
        super().__init__(guidance_scale, weighting, TimeRange(t_min, t_max, time_law, draws))
        if guidance_scale == 0.0:
            raise ValueError("CSD is guidance alone: guidance_scale must be above 0, got 0")
        self.source_text, self.negative_scale = negative_text, schedule_of(negative_scale)
        if self.negative_scale.least < 0.0:
            raise ValueError(f"negative_scale must not be negative, got {self.negative_scale.least:g}")
        if (negative_text is None) != (self.negative_scale.most == 0.0):
            raise ValueError(
                f"a negative text and its scale go together, got {negative_text!r} and a scale of at most "
                f"{self.negative_scale.most:g}"
            )

    def direction(
        self,
        z: Tensor,
        noisy: Noisy,
        condition: Condition,
        prior: DiffusionPrior,
        progress: float,
        generator: torch.Generator,
    ) -> Tensor:
        branches = prior.branches(noisy.z_t, noisy.t, condition)
        found = self.guidance_scale * branches.direction
        if branches.source is not None:
            found = found + self.negative_scale(progress) * (branches.null - branches.source)
        return found
