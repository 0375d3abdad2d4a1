"""The time t at which the prior is asked: its range, and how it is drawn within it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.noise import NoiseSchedule, Velocity, Weighting
from dreamfusion_pl.schedule import Schedule, schedule_of


class TimeLaw(ABC):
    """How times are chosen between the lowest and the highest.

    ``falls`` says whether times fall during training by the law itself. The highest time is then the one at
    the start, and all views of a step have the same time.
    """

    falls: bool = False

    @abstractmethod
    def __call__(
        self, uniform: Tensor, t_min: float, t_max: float, progress: float, schedule: NoiseSchedule
    ) -> Tensor:
        """Return times in [t_min, t_max], [N].

        Args:
            uniform: random numbers in [0, 1), [N].
            t_min: lowest time.
            t_max: highest time, at this progress, or at the start if the law ``falls``.
            progress: training progress in [0, 1].
            schedule: the prior's noise levels.
        """


@final
class UniformTimes(TimeLaw):
    """t ~ U(t_min, t_max), as in DreamFusion; with a falling t_max, annealed."""

    def __call__(
        self, uniform: Tensor, t_min: float, t_max: float, progress: float, schedule: NoiseSchedule
    ) -> Tensor:
        return t_min + (t_max - t_min) * uniform


@final
class FallingTimes(TimeLaw):
    """t = t_max - (t_max - t_min) progress^power, the same for all views of a step.

    Args:
        power: .5 falls fast first (HiFA, Zhu et al. 2024); 1 evenly, as SDI has it.

    Raises:
        ValueError: the power is not above 0.
    """

    falls = True

    def __init__(self, power: float = 0.5) -> None:
        if power <= 0.0:
            raise ValueError(f"power must be above 0, got {power}")
        self.power = power

    def __call__(
        self, uniform: Tensor, t_min: float, t_max: float, progress: float, schedule: NoiseSchedule
    ) -> Tensor:
        return torch.full_like(uniform, t_max - (t_max - t_min) * progress**self.power)


@final
class PriorWeightedTimes(TimeLaw):
    """Times that only fall, and stay longer where the prior decides more (DreamTime, Huang et al. 2024).

    The share of training spent above t is proportional to the integral from t to t_max of
    W(t) = (sigma_t / alpha_t) exp(-(t - center)^2 / (2 width^2)). All views of a step have the same time.
    In a preprint the second factor is 1 from .5 to .8, and falls faster below than above.

    Args:
        center: m of the paper, a time in [0, 1].
        width: s of the paper, > 0.

    Raises:
        ValueError: an argument is out of range.
    """

    falls = True

    def __init__(self, center: float = 0.8, width: float = 0.3) -> None:
        if not 0.0 <= center <= 1.0 or width <= 0.0:
            raise ValueError(f"center is a time in [0, 1] and width above 0, got {center} and {width}")
        self.center, self.width = center, width

    def __call__(
        self, uniform: Tensor, t_min: float, t_max: float, progress: float, schedule: NoiseSchedule
    ) -> Tensor:
        t = torch.linspace(t_max, t_min, 1001, device=uniform.device)
        ratio = schedule.sigma(t) / schedule.alpha(t)
        logarithm = ratio.log() - (t - self.center) ** 2 / (2.0 * self.width**2)
        weight = (logarithm - logarithm.max()).exp()  # far from the center all would be 0
        spent = torch.cat([weight.new_zeros(1), torch.cumulative_trapezoid(weight)])
        index = torch.searchsorted(spent, progress * spent[-1]).clamp(max=len(t) - 1)
        return t.index_select(0, index.view(1)).expand_as(uniform)


@final
class TimeRange:
    """Times between ``t_min`` and ``t_max``, which may decrease during training.

    Args:
        t_min: lowest time, in [0, 1).
        t_max: highest time, in (t_min, 1].
        law: how times are chosen between the two; None: uniformly.
        draws: how often the prior is asked about every view, each with noise of its own, which lowers the
            variance of the gradient. Under a law that does not fall, one time is drawn from each of as many
            equal parts.

    Raises:
        ValueError: the range is empty, or leaves [0, 1], at some progress; or there is no draw.
    """

    def __init__(
        self, t_min: float, t_max: Schedule | float, law: TimeLaw | None = None, draws: int = 1
    ) -> None:
        self.t_min = t_min
        self.t_max = schedule_of(t_max)
        for highest in (self.t_max.least, self.t_max.most):
            if not 0.0 <= t_min < highest <= 1.0:
                raise ValueError(f"need 0 <= t_min < t_max <= 1 throughout, got {t_min} and {highest}")
        if draws < 1:
            raise ValueError(f"draws is how often the prior is asked about a view, 1 or more; got {draws}")
        self.law, self.draws = law or UniformTimes(), draws

    def highest(self, progress: float) -> float:
        """Return the highest time that may be drawn at ``progress`` in [0, 1]."""
        return self.t_max(0.0 if self.law.falls else progress)

    def check_levels(self, schedule: NoiseSchedule, weighting: Weighting, divides: bool = False) -> None:
        """Check that signal and noise are above 0 at both ends, if anything divides by them.

        Args:
            schedule: the prior's noise levels.
            weighting: w(t).
            divides: whether the distillation divides by them, and not only its weighting or law of times.

        Raises:
            ValueError: there is no signal at the highest time, or no noise at the lowest.
        """
        if not (divides or isinstance(weighting, Velocity) or isinstance(self.law, PriorWeightedTimes)):
            return
        highest = self.t_max.most
        alpha, sigma = schedule.alpha(torch.tensor([highest])), schedule.sigma(torch.tensor([self.t_min]))
        if float(alpha) <= 0.0 or float(sigma) <= 0.0:
            raise ValueError(
                f"from t_min {self.t_min} to t_max {highest} this prior has pictures without noise, or noise "
                "without a picture, and the distillation divides by both levels: take a narrower range, such "
                "as .02 to .98"
            )

    def draw(
        self, count: int, progress: float, schedule: NoiseSchedule, generator: torch.Generator
    ) -> Tensor:
        """Draw the times of ``draws`` copies of ``count`` views, on the generator's device.

        Returns:
            [draws * count], one copy of the views after the other.
        """
        uniform = torch.rand(self.draws, count, generator=generator, device=generator.device)
        strata = torch.arange(self.draws, device=generator.device)[:, None]
        uniform = ((strata + uniform) / self.draws).flatten()
        return self.law(uniform, self.t_min, self.highest(progress), progress, schedule)
