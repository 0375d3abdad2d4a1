"""Asynchronous score distillation."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.noise import Weighting
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.distillation.adjustments import Adjustment, Noisy
from dreamfusion_pl.distillation.score_gradient import ScoreGradient, add_noise
from dreamfusion_pl.distillation.times import TimeLaw, TimeRange
from dreamfusion_pl.schedule import Schedule
from dreamfusion_pl.types import Condition


@final
class AsynchronousDistillation(ScoreGradient):
    """ASD: w(t) (eps_hat(z_t; y, t) - eps(z_u; y, u)) with a later time u (ScaleDreamer, Ma et al. 2024).

    The prior's own prediction at more noise stands for that of the scene's pictures, for which VSD trains a
    second network: a frozen network predicts noise better at later times, as a trained one does at all
    times. u = t + d with d ~ U(0, shift (t - t_min)), and both have the same noise. The authors' code also
    lowers t_min during training.

    Args:
        guidance_scale: omega of classifier-free guidance, >= 0, in the paper's convention (s = 1 + omega).
        weighting: w(t).
        t_min: lowest time drawn, in [0, 1).
        t_max: highest time drawn, in (t_min, 1]: a number, or a schedule that lowers it during training.
        time_law: how times are chosen between the two; None: uniformly.
        draws: how often the prior is asked about a view, with other times and noise.
        adjustment: what is done to guided predictions; None: nothing.
        shift: largest shift, as a share of the time above the lowest, > 0.

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
        shift: float = 0.1,
    ) -> None:
        super().__init__(guidance_scale, weighting, TimeRange(t_min, t_max, time_law, draws), adjustment)
        if shift <= 0.0:
            raise ValueError(f"shift is a share of the time, above 0; got {shift}")
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
        own = prior.predict(noisier.z_t, later, condition.text)
        return self.guided(noisy, condition, prior, progress) - own
