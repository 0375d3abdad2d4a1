"""Classifier score distillation."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.distillation.adjustments import Noisy
from dreamfusion_pl.distillation.score_gradient import ScoreGradient
from dreamfusion_pl.schedule import Constant, Schedule
from dreamfusion_pl.types import Condition


@final
class ClassifierScoreDistillation(ScoreGradient):
    """CSD: guidance alone, w(t) omega (eps(y) - eps()) (Yu et al. 2024, eq. 7).

    eps() - eps(y) is sigma_t times the gradient of log p(y | z_t), the score of the classifier that the prior
    implies. SDS adds the generative part eps(y) - eps. With a negative text it is
    w(t) (omega_1 eps(y) + (omega_2 - omega_1) eps() - omega_2 eps(y_neg)) (eq. 10), with omega_2 annealed.

    Args:
        negative_text: y_neg, a text of what is not wanted; None: none.
        negative_scale: omega_2: a number, or a schedule; it counts with ``negative_text`` only.
        options: the arguments of ``ScoreGradient``.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self, negative_text: str | None = None, negative_scale: Schedule | float = 0.0, **options: Any
    ) -> None:
        super().__init__(**options)
        self.source_text = negative_text
        self.negative_scale = (
            negative_scale if isinstance(negative_scale, Schedule) else Constant(negative_scale)
        )
        if self.negative_scale.least < 0.0:
            raise ValueError(f"negative_scale must not be negative, got {self.negative_scale.least:g}")

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
