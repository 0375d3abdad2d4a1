"""Distillations whose gradient in z is made of predictions of the frozen prior."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.noise import Weighting, per_row
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
from dreamfusion_pl.distillation.times import TimeRange
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
            ValueError: the prior's noise levels do not fit to the range of t, or the adjustment cannot be
                made.
        """
        divides = self.divides_by_levels
        if self.adjustment is not None:
            divides |= self.adjustment.divides_by_levels
            if prior.channels * prior.resolution**2 < self.adjustment.least_elements:
                raise ValueError(
                    f"{type(self.adjustment).__name__} adjusts pictures of {self.adjustment.least_elements} "
                    "elements or more: take --model.distillation.adjustment null"
                )
        self.times.check_levels(prior.schedule, self.weighting, divides)

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
            if not isinstance(found, Tensor) or found.shape != rows.shape:
                got = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
                raise ValueError(
                    f"{type(self).__name__}.direction must return a tensor of the shape of z, "
                    f"{list(rows.shape)}; got {got}"
                )
            weight = self.weighting(noisy.alpha, noisy.sigma)
            gradient = (weight * found).view(draws, *z.shape).mean(0)
        return DistillationLoss(surrogate(z, gradient), loss_unit(z, self.guidance_scale))


def add_noise(z: Tensor, eps: Tensor, t: Tensor, prior: DiffusionPrior) -> Noisy:
    """Return z [B, C, h, w] with noise eps at times t, [B]."""
    levels = per_row(prior.schedule.alpha(t)), per_row(prior.schedule.sigma(t))
    return Noisy(prior.schedule.diffuse(z, eps, t), t, eps, *levels)
