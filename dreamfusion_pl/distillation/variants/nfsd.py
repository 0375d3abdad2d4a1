"""Noise-free score distillation."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.noise import Weighting
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.distillation.adjustments import Noisy
from dreamfusion_pl.distillation.score_gradient import ScoreGradient
from dreamfusion_pl.distillation.times import TimeLaw, TimeRange
from dreamfusion_pl.schedule import Schedule
from dreamfusion_pl.types import Condition


@final
class NoiseFreeDistillation(ScoreGradient):
    """NFSD: w(t) (delta_D + s delta_C) (Katzir et al. 2024, eq. 6).

    delta_C = eps(y) - eps() pulls to the prompt, with s = 1 + omega. delta_D pulls into the domain of clean
    pictures: below ``low_noise`` it is eps(), where the noise that the network predicts is small; above it is
    eps() - eps(y_neg), in which the noise cancels. s is that of ordinary sampling, 7.5.

    Args:
        guidance_scale: omega of classifier-free guidance, >= 0, in the paper's convention (s = 1 + omega).
        weighting: w(t).
        t_min: lowest time drawn, in [0, 1).
        t_max: highest time drawn, in (t_min, 1]: a number, or a schedule that lowers it during training.
        time_law: how times are chosen between the two; None: uniformly.
        draws: how often the prior is asked about a view, with other times and noise.
        negative_text: y_neg, a text of bad pictures, in words that the prior knows.
        low_noise: time in [0, 1] below which the negative text is not used.

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
        negative_text: str = (
            "unrealistic, blurry, low quality, out of focus, ugly, low contrast, dull, dark, low-resolution, "
            "gloomy"
        ),
        low_noise: float = 0.2,
    ) -> None:
        super().__init__(guidance_scale, weighting, TimeRange(t_min, t_max, time_law, draws))
        if not 0.0 <= low_noise <= 1.0:
            raise ValueError(f"low_noise is a time in [0, 1], got {low_noise}")
        self.source_text, self.low_noise = negative_text, low_noise

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
        assert branches.source is not None
        is_low = (noisy.t < self.low_noise)[:, None, None, None]
        domain = torch.where(is_low, branches.null, branches.null - branches.source)
        return domain + (1.0 + self.guidance_scale) * branches.direction
