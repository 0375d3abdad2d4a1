"""Asynchronous score distillation."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.distillation.adjustments import Noisy
from dreamfusion_pl.distillation.score_gradient import ScoreGradient, add_noise
from dreamfusion_pl.types import Condition


@final
class AsynchronousDistillation(ScoreGradient):
    """ASD: w(t) (eps_hat(z_t; y, t) - eps(z_u; y, u)) with a later time u (ScaleDreamer, Ma et al. 2024).

    The prior's own prediction at more noise stands for that of the scene's pictures, for which VSD trains a
    second network: a frozen network predicts noise better at later times, as a trained one does at all
    times. u = t + d with d ~ U(0, shift (t - t_min)), and both have the same noise.

    Args:
        shift: largest shift, as a share of the time above the lowest, >= 0.
        options: the arguments of ``ScoreGradient``.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, shift: float = 0.1, **options: Any) -> None:
        super().__init__(**options)
        if shift < 0.0:
            raise ValueError(f"shift is a share of the time, 0 or more; got {shift}")
        self.shift = shift

    def direction(
        self,
        z: Tensor,
        noisy: Noisy,
        condition: Condition,
        prior: DiffusionPrior,
        progress: float,
        generator: torch.Generator,
    ) -> Tensor:
        random = torch.rand(noisy.t.shape, generator=generator, device=generator.device).to(noisy.t)
        later = (noisy.t + random * self.shift * (noisy.t - self.times.t_min)).clamp(max=1.0)
        noisier = add_noise(z, noisy.eps, later, prior)
        return self.guided(noisy, condition, prior, progress) - prior.predict(
            noisier.z_t, later, condition.text
        )
