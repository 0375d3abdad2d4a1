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
    def decode(self, z: Tensor) -> Tensor:
        """Map z [B, C, h, w] back to pictures [B, H, W, 3], about in [0, 1]; without a gradient."""

    @final
    def resize(self, latents: Tensor) -> Tensor:
        """Take rendered latents [B, H, W, C] for z [B, C, h, w], as they are; differentiable."""
        z, size = latents.permute(0, 3, 1, 2), (self.resolution, self.resolution)
        if z.shape[-2:] == size:
            return z
        return torch.nn.functional.interpolate(z, size, mode="bilinear", antialias=True)

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

        Code that writes ``eps() + s (eps(y) - eps())`` has s = 1 + omega. Negatives y_i with weights w_i >= 0
        push away from what sets them apart from y (Perp-Neg, Armandpour et al. 2023):

            eps_hat = eps() + (1 + omega) (d - sum_i w_i d_i), d = eps(y) - eps(),

        where d_i is the part of eps(y_i) - eps() that is perpendicular to d, view by view. Code that adds the
        sum has weights <= 0.

        Args:
            z_t: noisy pictures [B, C, h, w].
            t: times [B] in [0, 1].
            condition: embeddings of the B texts and the unconditional one, and negatives, if there are any.
            guidance_scale: omega >= 0; 0 is no guidance, but negatives are obeyed all the same.

        Returns:
            eps_hat [B, C, h, w].
        """
        negatives = condition.negatives
        if guidance_scale == 0.0 and negatives is None:  # half the work
            return self.predict(z_t, t, condition.text)
        texts = condition.text.join(condition.null.expand(len(z_t)))
        if negatives is not None:
            texts = texts.join(negatives.text)
        copies = texts.num_texts // len(z_t)
        eps = self.predict(torch.cat([z_t] * copies), torch.cat([t] * copies), texts)
        conditional, unconditional, *others = eps.chunk(copies)
        eps_hat = (1.0 + guidance_scale) * conditional - guidance_scale * unconditional
        if negatives is None:
            return eps_hat
        apart = perpendicular(torch.stack(others) - unconditional, conditional - unconditional)
        pushed = (negatives.weight[..., None, None, None] * apart).sum(0)
        return eps_hat - (1.0 + guidance_scale) * pushed.to(eps_hat.dtype)


def perpendicular(vectors: Tensor, axes: Tensor) -> Tensor:
    """Take from every vector its part along the axis of its view, in single precision or better.

    Args:
        vectors: [M, B, C, h, w].
        axes: [B, C, h, w]; one that is zero takes nothing away.

    Returns:
        [M, B, C, h, w].
    """
    precision = torch.promote_types(vectors.dtype, torch.float32)
    vector, axis = vectors.to(precision).flatten(2), axes.to(precision).flatten(1)
    length = axis.square().sum(-1, keepdim=True).clamp_min(torch.finfo(precision).tiny)
    along = (vector * axis).sum(-1, keepdim=True) / length
    return (vector - along * axis).view_as(vectors)
