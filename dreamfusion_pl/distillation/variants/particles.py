"""Variational score distillation of many points at once."""

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
class ParticleDistillation(ScoreGradient):
    """VSD of many particles: w(t) (eps_hat(z_t; y, t) - eps_q(z_t; t)) (Wang et al. 2023, eq. 9).

    The pictures of a batch are all there are, so that the noise eps_q in them is known exactly, and no
    network has to learn it. They then spread as samples of the prior do. For many points under one text, as
    in the playground; of one picture it is SDS.

    Args:
        guidance_scale: omega of classifier-free guidance, >= 0, in the paper's convention (s = 1 + omega).
        weighting: w(t).
        t_min: lowest time drawn, in [0, 1).
        t_max: highest time drawn, in (t_min, 1]: a number, or a schedule that lowers it during training.
        time_law: how times are chosen between the two; None: uniformly.
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
        adjustment: Adjustment | None = None,
    ) -> None:
        super().__init__(guidance_scale, weighting, TimeRange(t_min, t_max, time_law), adjustment)

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
        return self.guided(noisy, condition, prior, progress) - particle_noise(z, noisy)


def particle_noise(z: Tensor, noisy: Noisy) -> Tensor:
    """Return E[eps | z_t], [B, C, h, w], where pictures are one of z, [B, C, h, w], each as likely."""
    alpha, sigma = noisy.alpha[:, 0, 0], noisy.sigma[:, 0, 0]  # [B, 1]
    points, seen = z.flatten(1), noisy.z_t.flatten(1)
    squared = (seen[:, None] - alpha[..., None] * points[None]).square().sum(-1)
    responsibility = (-0.5 * squared / sigma.square()).softmax(-1)
    return ((seen - alpha * (responsibility @ points)) / sigma).view_as(z)
