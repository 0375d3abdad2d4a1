"""The prior of an object that nothing is asked of any more."""

from __future__ import annotations

from typing import Self, final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.noise import StraightPath
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.types import TextEmbedding


@final
class PlaceholderPrior(DiffusionPrior):
    """Takes a prior's place where a model is built only to look at it: a finished object, or its texts.

    Nothing is loaded. It notes the texts that it was to embed, and has no opinion on pictures.
    """

    differentiable = True

    def __init__(self) -> None:
        self.schedule, self.resolution, self.channels = StraightPath(1), 1, 1
        self.texts: list[str] = []

    def to(self, device: torch.device | str) -> Self:
        return self

    def encode(self, rgb: Tensor, progress: float) -> Tensor:
        raise RuntimeError("a finished object was loaded without its prior: fit --resume loads both")

    def decode(self, z: Tensor) -> Tensor:
        raise RuntimeError("a finished object was loaded without its prior: fit --resume loads both")

    def embed(self, prompts: list[str]) -> TextEmbedding:
        self.texts += prompts
        return TextEmbedding(torch.zeros(len(prompts), 1, 1))

    def predict(self, z_t: Tensor, t: Tensor, text: TextEmbedding) -> Tensor:
        raise RuntimeError("a finished object was loaded without its prior: fit --resume loads both")
