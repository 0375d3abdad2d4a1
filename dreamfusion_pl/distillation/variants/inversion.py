"""Score distillation with noise that is found by DDIM inversion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.noise import NoiseSchedule, per_row, x0_from_eps
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.distillation.adjustments import Noisy
from dreamfusion_pl.distillation.score_gradient import ScoreGradient
from dreamfusion_pl.types import Condition


def ddim_step(z: Tensor, eps: Tensor, t: Tensor, to: Tensor, schedule: NoiseSchedule) -> Tensor:
    """Move z [B, C, h, w] from times t to times ``to``, [B], along the noise eps (Song et al. 2021, eq. 12).

    On the straight path of a flow model it is a step of Euler's method.
    """
    x0 = x0_from_eps(eps, z, per_row(schedule.alpha(t)), per_row(schedule.sigma(t)))
    return schedule.diffuse(x0, eps, to)


def invert(
    z: Tensor, t: Tensor, predict: Callable[[Tensor, Tensor], Tensor], steps: int, schedule: NoiseSchedule
) -> Tensor:
    """Return the noisy picture at times t from which DDIM sampling would lead to z.

    Args:
        z: clean pictures [B, C, h, w].
        t: times [B].
        predict: the predicted noise [B, C, h, w] of noisy pictures at times [B].
        steps: number of equal steps from 0 to t.
        schedule: the prior's noise levels.
    """
    for step in range(steps):
        before, after = t * (step / steps), t * ((step + 1) / steps)
        z = ddim_step(z, predict(z, before), before, after, schedule)
    return z


@final
class InversionDistillation(ScoreGradient):
    """SDI: SDS with noise from DDIM inversion (Lukoianov et al. 2024, section 5).

    The direction is eps_hat(z_t) - (z_t - alpha_t z) / sigma_t at the inverted z_t. Between two steps the
    noise hardly changes, so that a view is denoised as by DDIM, without the blur of averaging over noise. The
    authors' code also adds a little noise to the inversion (eta .3), and goes a little past t; this does not.

    Args:
        steps: number of steps of the inversion, 1 or more; each asks the prior once more.
        inversion_scale: omega of the inversion; the paper turns guidance around, s = 1 + omega = -7.5.
        options: the arguments of ``ScoreGradient``.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, steps: int = 10, inversion_scale: float = -8.5, **options: Any) -> None:
        super().__init__(**options)
        if steps < 1:
            raise ValueError(f"an inversion has 1 step or more, got {steps}")
        self.steps, self.inversion_scale = steps, inversion_scale

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
