"""Interface of the frozen 2D diffusion model, and classifier-free guidance (paper 2)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple, Self, final

import torch
from torch import Tensor, nn

from dreamfusion_pl.diffusion.noise import NoiseSchedule
from dreamfusion_pl.types import Condition, TextEmbedding


class Branches(NamedTuple):
    """Predictions of the noise in the same noisy pictures given different texts, [B, C, h, w] each."""

    text: Tensor  # eps(y)
    null: Tensor  # eps(), of the empty or negative text
    pushed: Tensor | None  # what negative prompts take from eps(y) - eps(), if there are any
    source: Tensor | None  # eps of the condition's source text, if it has one

    @property
    def direction(self) -> Tensor:
        """eps(y) - eps(), less what negative prompts take from it."""
        found = self.text - self.null
        return found if self.pushed is None else found - self.pushed

    def guided(self, guidance_scale: float) -> Tensor:
        """Return eps_hat = eps() + (1 + omega) direction: classifier-free guidance."""
        eps_hat = (1.0 + guidance_scale) * self.text - guidance_scale * self.null
        return eps_hat if self.pushed is None else eps_hat - (1.0 + guidance_scale) * self.pushed


class DiffusionPrior(ABC):
    """A frozen text-to-image diffusion model.

    Deliberately not an ``nn.Module``, so that it is not in ``parameters()``, the checkpoint, DDP or the EMA
    copy. A deep copy returns the same object.

    Every row of a call is an image of its own: guidance stacks its branches as rows, and ``batch --together``
    stacks those of several fits. A model that denoises the views of a step jointly (MVDream) would need their
    cameras, and to know which rows belong together, in every signature below: that is another role.
    """

    schedule: NoiseSchedule
    resolution: int  # side h = w of z, in pixels or latents
    channels: int  # C of z
    differentiable: bool  # whether gradients flow through ``predict`` into z_t
    network: nn.Module | None = (
        None  # the denoising network, if low-rank copies of it can be put in its place
    )

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """Move the model; return self."""

    @abstractmethod
    def encode(self, rgb: Tensor, progress: float) -> Tensor:
        """Map images to the space that the model denoises; differentiable.

        Args:
            rgb: images [B, H, W, 3] in [0, 1], of any size.
            progress: training progress in [0, 1].

        Returns:
            z [B, C, h, w] in the model's own value range.
        """

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Map z [B, C, h, w] back to images [B, H, W, 3], approximately in [0, 1]; no gradient."""

    @final
    def resize(self, latents: Tensor) -> Tensor:
        """Resize rendered latents [B, H, W, C] to z [B, C, h, w], without encoding; differentiable."""
        z, size = latents.permute(0, 3, 1, 2), (self.resolution, self.resolution)
        if z.shape[-2:] == size:
            return z
        return torch.nn.functional.interpolate(z, size, mode="bilinear", antialias=True)

    @abstractmethod
    def embed(self, prompts: list[str]) -> TextEmbedding:
        """Embed N texts; no gradient."""

    @abstractmethod
    def predict(self, z_t: Tensor, t: Tensor, text: TextEmbedding) -> Tensor:
        """Predict the noise given a text, in one call; differentiable in z_t if ``differentiable``.

        Args:
            z_t: noisy images or latents [N, C, h, w].
            t: times [N] in [0, 1].
            text: embeddings of N texts.

        Returns:
            eps(z_t; y, t), [N, C, h, w], in z_t's dtype.
        """

    @final
    def guided(self, z_t: Tensor, t: Tensor, condition: Condition, guidance_scale: float) -> Tensor:
        """Classifier-free guidance in the paper's convention: eps_hat = (1 + omega) eps(y) - omega eps().

        In the convention ``eps() + s (eps(y) - eps())`` of other code, s = 1 + omega. Negative prompts y_i
        with weights w_i >= 0 are subtracted as in Perp-Neg (Armandpour et al. 2023):

            eps_hat = eps() + (1 + omega) (d - sum_i w_i d_i), d = eps(y) - eps(),

        where d_i is the component of eps(y_i) - eps() that is perpendicular to d, for every view separately.
        Code that adds the sum uses weights <= 0.

        Args:
            z_t: noisy images or latents [B, C, h, w].
            t: times [B] in [0, 1].
            condition: embeddings of B texts, of the unconditional text, and of negative prompts if any.
            guidance_scale: omega; 0 is no guidance, but negative prompts still apply. Below 0 it leads away
                from the text.

        Returns:
            eps_hat [B, C, h, w].
        """
        if guidance_scale == 0.0 and condition.negatives is None:  # no unconditional prediction needed
            return self.predict(z_t, t, condition.text)
        return self.branches(z_t, t, condition._replace(source=None)).guided(guidance_scale)

    @final
    def branches(self, z_t: Tensor, t: Tensor, condition: Condition) -> Branches:
        """Predict the noise given each text of the condition, in one call.

        Args:
            z_t: noisy images or latents [B, C, h, w].
            t: times [B] in [0, 1].
            condition: texts of B rows.

        Returns:
            The predictions; ``guided`` says how negative prompts change the direction.
        """
        texts = condition.text.join(condition.null.expand(len(z_t)))
        for more in (condition.source, condition.negatives and condition.negatives.text):
            if more is not None:
                texts = texts.join(more)
        copies = texts.num_texts // len(z_t)
        eps = self.predict(torch.cat([z_t] * copies), torch.cat([t] * copies), texts)
        conditional, unconditional, *others = eps.chunk(copies)
        source = others.pop(0) if condition.source is not None else None
        pushed = None
        if condition.negatives is not None:
            apart = perpendicular(torch.stack(others) - unconditional, conditional - unconditional)
            weighted = condition.negatives.weight[..., None, None, None] * apart
            pushed = weighted.sum(0).to(conditional.dtype)
        return Branches(conditional, unconditional, pushed, source)


def perpendicular(vectors: Tensor, axes: Tensor) -> Tensor:
    """Remove from every vector its component along the axis of its view, in float32 or better.

    Args:
        vectors: [M, B, C, h, w].
        axes: [B, C, h, w]; a zero axis leaves the vector unchanged.

    Returns:
        Perpendicular components, [M, B, C, h, w].
    """
    precision = torch.promote_types(vectors.dtype, torch.float32)
    vector, axis = vectors.to(precision).flatten(2), axes.to(precision).flatten(1)
    length = axis.square().sum(-1, keepdim=True).clamp_min(torch.finfo(precision).tiny)
    along = (vector * axis).sum(-1, keepdim=True) / length
    return (vector - along * axis).view_as(vectors)
