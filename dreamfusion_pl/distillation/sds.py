"""Score distillation sampling (seed 3.2, eq. 2)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.distillation.adjustments import Noisy
from dreamfusion_pl.distillation.score_gradient import ScoreGradient
from dreamfusion_pl.types import Condition


@final
class ScoreDistillation(ScoreGradient):
    """SDS: the gradient E[w(t) (eps_hat(z_t; y, t) - eps) dx/dtheta], without the U-Net Jacobian.

    Its arguments are those of ``ScoreGradient``.
    """

    def direction(
        self,
        z: Tensor,
        noisy: Noisy,
        condition: Condition,
        prior: DiffusionPrior,
        progress: float,
        generator: torch.Generator,
    ) -> Tensor:
        return self.guided(noisy, condition, prior, progress) - noisy.eps  # seed eq. 2
