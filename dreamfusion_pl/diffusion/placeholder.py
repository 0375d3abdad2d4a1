"""A stand-in for the prior when a model is built without one."""

from __future__ import annotations

from typing import Self, final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.noise import StraightPath
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.types import TextEmbedding


@final
class PlaceholderPrior(DiffusionPrior):
    """Replaces the prior of a model that needs none: a finished object, or a model whose texts are listed.

    It loads nothing. ``embed`` records the texts and returns zeros; ``encode``, ``decode`` and ``predict``
    raise RuntimeError.
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
