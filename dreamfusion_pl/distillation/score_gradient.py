"""Distillations whose gradient in z is made of predictions of the frozen prior."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.noise import Velocity, Weighting, per_row
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.distillation.adjustments import Adjustment, Noisy
from dreamfusion_pl.distillation.base import (
    Distillation,
    DistillationLoss,
    check_guidance,
    draw_noise,
    loss_unit,
    surrogate,
)
from dreamfusion_pl.distillation.times import PriorWeightedTimes, TimeRange
from dreamfusion_pl.types import Condition


class ScoreGradient(Distillation):
    """E[w(t) direction(z_t, t, y) dx/dtheta]: a method says what the direction is.

    ``divides_by_levels`` says whether it divides by alpha_t or sigma_t.

    Args:
        guidance_scale: omega of classifier-free guidance, >= 0, in the paper's convention (s = 1 + omega).
        weighting: w(t).
        times: distribution of t, and draws of each view.
        adjustment: what is done to guided predictions; None: nothing.

    Raises:
        ValueError: an argument is out of range.
    """

    divides_by_levels: bool = False

    def __init__(
        self,
        guidance_scale: float,
        weighting: Weighting,
        times: TimeRange,
        adjustment: Adjustment | None = None,
    ) -> None:
        super().__init__()
        self.guidance_scale, self.weighting = check_guidance(guidance_scale), weighting
        self.times, self.adjustment = times, adjustment

    @abstractmethod
    def direction(
        self,
        z: Tensor,
        noisy: Noisy,
        condition: Condition,
        prior: DiffusionPrior,
        progress: float,
        generator: torch.Generator,
    ) -> Tensor:
        """Return the direction [B, C, h, w] in which z of each view is pulled down, without w(t).

        Args:
            z: encoded pictures [B, C, h, w]; the draws of a view are rows of their own.
            noisy: z with noise.
            condition: texts of the B rows.
            prior: the frozen model; no gradient is recorded.
            progress: training progress in [0, 1].
            generator: source of further random draws.
        """

    def check(self, prior: DiffusionPrior) -> None:
        """Accept any prior: nothing is differentiated through it.

        Raises:
            ValueError: the prior's noise levels do not fit to the range of t.
        """
        divides = isinstance(self.weighting, Velocity) or isinstance(self.times.law, PriorWeightedTimes)
        if divides or self.divides_by_levels or self.adjustment is not None:
            self.times.check_levels(prior.schedule)

    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return []

    def guided(self, noisy: Noisy, condition: Condition, prior: DiffusionPrior, progress: float) -> Tensor:
        """Return the guided and adjusted prediction eps_hat, [B, C, h, w]."""
        if self.adjustment is None:
            return prior.guided(noisy.z_t, noisy.t, condition, self.guidance_scale)
        branches = prior.branches(noisy.z_t, noisy.t, condition._replace(source=None))
        eps_hat = branches.guided(self.guidance_scale)
        return self.adjustment(eps_hat, branches.text, noisy, progress)

    def forward(
        self,
        z: Tensor,
        condition: Condition,
        prior: DiffusionPrior,
        progress: float,
        generator: torch.Generator,
        rgb: Tensor | None = None,
    ) -> DistillationLoss:
        draws = self.times.draws
        with torch.no_grad():
            t = self.times.draw(len(z), progress, prior.schedule, generator).to(z.device)
            rows = z.detach().repeat(draws, 1, 1, 1)
            noisy = add_noise(rows, draw_noise(rows, generator), t, prior)
            found = self.direction(rows, noisy, condition.repeat(draws), prior, progress, generator)
            weight = self.weighting(noisy.alpha, noisy.sigma)
            gradient = (weight * found).view(draws, *z.shape).mean(0)
        return DistillationLoss(surrogate(z, gradient), loss_unit(z, self.guidance_scale))


def add_noise(z: Tensor, eps: Tensor, t: Tensor, prior: DiffusionPrior) -> Noisy:
    """Return z [B, C, h, w] with noise eps at times t, [B]."""
    levels = per_row(prior.schedule.alpha(t)), per_row(prior.schedule.sigma(t))
    return Noisy(prior.schedule.diffuse(z, eps, t), t, eps, *levels)
