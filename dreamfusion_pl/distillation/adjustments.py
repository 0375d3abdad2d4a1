"""What is done to the guided prediction before it becomes a gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple, final

from torch import Tensor

from dreamfusion_pl.diffusion.noise import eps_from_x0, x0_from_eps
from dreamfusion_pl.schedule import Schedule, schedule_of


class Noisy(NamedTuple):
    """B encoded pictures with noise, z_t = alpha_t z + sigma_t eps."""

    z_t: Tensor  # [B, C, h, w]
    t: Tensor  # [B]
    eps: Tensor  # [B, C, h, w]
    alpha: Tensor  # [B, 1, 1, 1]
    sigma: Tensor  # [B, 1, 1, 1]


class Adjustment(ABC):
    """A change of the guided prediction; ``divides_by_levels`` as in ``ScoreGradient``."""

    divides_by_levels: bool = False
    least_elements: int = 1  # fewest elements of a picture [C, h, w] that can be adjusted

    @abstractmethod
    def __call__(self, eps_hat: Tensor, text: Tensor, noisy: Noisy, progress: float) -> Tensor:
        """Return the changed prediction, [B, C, h, w].

        Args:
            eps_hat: the guided prediction [B, C, h, w].
            text: the prediction given the prompt alone [B, C, h, w].
            noisy: the pictures that were denoised.
            progress: training progress in [0, 1].
        """


@final
class Rescale(Adjustment):
    """Give the guided picture the contrast of the one without guidance (Lin et al. 2024, eq. 16).

    With x_hat = (z_t - sigma_t eps_hat) / alpha_t of every view, guided and given the prompt alone, the
    guided one is multiplied by std(x_text) / std(x_guided), and mixed with what it was. As in MVDream, which
    has a share of .5 and one factor for all views of a step, this is done to x_hat, not to the prediction.

    Args:
        share: weight of the rescaled picture, in [0, 1].

    Raises:
        ValueError: the share is out of range.
    """

    def __init__(self, share: float = 0.5) -> None:
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"share is a weight in [0, 1], got {share}")
        self.share = share

    divides_by_levels = True
    least_elements = 2  # one has no contrast

    def __call__(self, eps_hat: Tensor, text: Tensor, noisy: Noisy, progress: float) -> Tensor:
        levels = noisy.z_t, noisy.alpha, noisy.sigma
        guided, plain = x0_from_eps(eps_hat, *levels), x0_from_eps(text, *levels)
        spread = guided.std(dim=(1, 2, 3), keepdim=True).clamp_min(1e-6)
        factor = plain.std(dim=(1, 2, 3), keepdim=True) / spread
        return eps_from_x0((1.0 - self.share + self.share * factor) * guided, *levels)


@final
class Clip(Adjustment):
    """Bound every element of eps_hat - eps (D-SDS, Hong et al. 2023).

    Rare large elements are where a view pulls at what other views do not show. A bound that rises lets shape
    form first and detail later; the authors raise it from 2 to 8 for Stable Diffusion, from .5 to 2 for IF,
    where their code bounds w(t) (eps_hat - eps).

    Args:
        bound: largest magnitude, > 0: a number, or a schedule.

    Raises:
        ValueError: the bound is not above 0.
    """

    def __init__(self, bound: Schedule | float) -> None:
        self.bound = schedule_of(bound)
        if self.bound.least <= 0.0:
            raise ValueError(f"bound must be above 0 throughout, got {self.bound.least:g}")

    def __call__(self, eps_hat: Tensor, text: Tensor, noisy: Noisy, progress: float) -> Tensor:
        bound = self.bound(progress)
        return noisy.eps + (eps_hat - noisy.eps).clamp(-bound, bound)
