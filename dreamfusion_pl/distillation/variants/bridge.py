"""Score distillation as a bridge from one distribution of pictures to another."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.distillation.adjustments import Noisy
from dreamfusion_pl.distillation.score_gradient import ScoreGradient
from dreamfusion_pl.types import Condition


@final
class BridgeDistillation(ScoreGradient):
    """SDS-Bridge: w(t) (1 + omega) (eps(y) - eps(y_src)) (McAllister et al. 2024, section 3.4).

    The source text describes the renderings as they are; where it says the same as the prompt, nothing pulls.
    The paper takes it for the second part of a run, after SDS, and calls the factor w.

    Args:
        source_text: y_src, in words that the prior knows; ``{}`` stands for the prompt of the view.
        options: the arguments of ``ScoreGradient``.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        source_text: str = (
            "{}, oversaturated, smooth, pixelated, cartoon, foggy, hazy, blurry, bad structure, noisy, "
            "malformed"
        ),
        **options: Any,
    ) -> None:
        super().__init__(**options)
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
        branches = prior.branches(noisy.z_t, noisy.t, condition)
        assert branches.source is not None
        pulled = branches.null + branches.direction  # eps(y), with what negative prompts take from it
        return (1.0 + self.guidance_scale) * (pulled - branches.source)
