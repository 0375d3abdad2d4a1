"""Score distillation as a bridge from one distribution of pictures to another."""

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
class BridgeDistillation(ScoreGradient):
    """SDS-Bridge: w(t) (1 + omega) (eps(y) - eps(y_src)) (McAllister et al. 2024).

    The source text describes the renderings as they are, and must say something else than the prompt.
    It is for the second part of a run, after SDS has made the object: ``fit --from RUN``.

    Args:
        guidance_scale: omega of classifier-free guidance, >= 0, in the paper's convention (s = 1 + omega).
        weighting: w(t).
        t_min: lowest time drawn, in [0, 1).
        t_max: highest time drawn, in (t_min, 1]: a number, or a schedule that lowers it during training.
        time_law: how times are chosen between the two; None: uniformly.
        draws: how often the prior is asked about a view, with other times and noise.
        source_text: y_src, in words that the prior knows; ``{}`` stands for the prompt of the view.

    Raises:
        ValueError: an argument is out of range.
    """

    source_is_of_prompt = True

    def __init__(
        self,
        guidance_scale: float,
        weighting: Weighting,
        t_min: float = 0.02,
        t_max: Schedule | float = 0.98,
        time_law: TimeLaw | None = None,
        draws: int = 1,
        source_text: str = (
            "{}, oversaturated, smooth, pixelated, cartoon, foggy, hazy, blurry, bad structure, noisy, "
            "malformed"
        ),
    ) -> None:
        super().__init__(guidance_scale, weighting, TimeRange(t_min, t_max, time_law, draws))
        self.source_text = source_text

    def direction(
        self,
        z: Tensor,
        noisy: Noisy,
        condition: Condition,
        prior: DiffusionPrior,
        progress: float,
        generator: torch.Generator,
    ) -> Tensor:
        assert condition.source is not None
        if condition.negatives is None:  # the empty text is not needed
            pair = condition._replace(null=condition.source, source=None)
            return (1.0 + self.guidance_scale) * prior.branches(noisy.z_t, noisy.t, pair).direction
        branches = prior.branches(noisy.z_t, noisy.t, condition)
        assert branches.source is not None
        pulled = branches.null + branches.direction  # eps(y), with what negative prompts take from it
        return (1.0 + self.guidance_scale) * (pulled - branches.source)
