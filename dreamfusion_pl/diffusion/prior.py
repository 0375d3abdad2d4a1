"""The role of the frozen 2D diffusion model, and classifier-free guidance in its one place (seed 3.1)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self, final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.noise import NoiseSchedule
from dreamfusion_pl.types import Condition, TextEmbedding


class DiffusionPrior(ABC):
    """A frozen text-to-image diffusion model.

    It is deliberately not an ``nn.Module``: so it is no part of ``parameters()``, the checkpoint, DDP or the
    EMA copy. Deep copies share it.
    """

    schedule: NoiseSchedule
    resolution: int  # side h = w of z in the model's own grid
    channels: int  # C of z
    differentiable: bool  # whether gradients flow through ``predict`` into z_t

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """Move the model; return self."""

    @abstractmethod
    def encode(self, rgb: Tensor, progress: float) -> Tensor:
        """Map pictures into the space that the model denoises; differentiable.

        Args:
            rgb: pictures [B, H, W, 3] in [0, 1], of any size.
            progress: training progress in [0, 1].

        Returns:
            z [B, C, h, w] in the model's own range.
        """

    @abstractmethod
    def embed(self, prompts: list[str]) -> TextEmbedding:
        """Embed N texts, without a gradient."""

    @abstractmethod
    def predict(self, z_t: Tensor, t: Tensor, text: TextEmbedding) -> Tensor:
        """Predict the noise, conditional on a text, in one call; in z_t's graph if ``differentiable``.

        Args:
            z_t: noisy pictures [N, C, h, w].
            t: times [N] in [0, 1].
            text: embeddings of N texts.

        Returns:
            eps(z_t; y, t), [N, C, h, w], in z_t's dtype.
        """

    @final
    def guided(self, z_t: Tensor, t: Tensor, condition: Condition, guidance_scale: float) -> Tensor:
        """Classifier-free guidance in the paper's convention: eps_hat = (1 + omega) eps(y) - omega eps().

        Code that writes ``eps() + s (eps(y) - eps())`` has s = 1 + omega.

        Args:
            z_t: noisy pictures [B, C, h, w].
            t: times [B] in [0, 1].
            condition: embeddings of the B texts and the unconditional one.
            guidance_scale: omega >= 0; 0 is no guidance.

        Returns:
            eps_hat [B, C, h, w].
        """
        if guidance_scale == 0.0:  # half the work
            return self.predict(z_t, t, condition.text)
        texts = condition.text.join(condition.null.expand(len(z_t)))
        both = self.predict(torch.cat([z_t, z_t]), torch.cat([t, t]), texts)
        conditional, unconditional = both.chunk(2)
        return (1.0 + guidance_scale) * conditional - guidance_scale * unconditional
