"""A prior without weights that tells every text from every other, for tests of prompts and guidance."""

from __future__ import annotations

import zlib
from typing import Any, Self, final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.noise import VariancePreserving
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.diffusion.text.prompts import EmbeddedPrompts, ViewDependentPrompts
from dreamfusion_pl.types import TextEmbedding, Views

NUM_TOKENS = 8


@final
class WordPrior(DiffusionPrior):
    """Embeds a text as random numbers that depend on all of it; predicts something smooth of text and z_t.

    A text has pooled numbers, and as many tokens that are read as it has words, up to 8.
    """

    schedule = VariancePreserving(torch.linspace(0.99, 0.01, 10))
    resolution = 4
    channels = 3
    differentiable = True
    calls = 0

    def to(self, device: torch.device | str) -> Self:
        return self

    def encode(self, rgb: Tensor, progress: float) -> Tensor:
        return rgb.permute(0, 3, 1, 2)

    def decode(self, z: Tensor) -> Tensor:
        return z.detach().permute(0, 2, 3, 1)

    def embed(self, prompts: list[str]) -> TextEmbedding:
        draws = [torch.Generator().manual_seed(zlib.crc32(prompt.encode())) for prompt in prompts]
        tokens = torch.stack([torch.randn(NUM_TOKENS, 6, generator=draw) for draw in draws])
        pooled = torch.stack([torch.randn(5, generator=draw) for draw in draws])
        words = torch.tensor([len(prompt.split()) for prompt in prompts])
        return TextEmbedding(tokens, pooled, (torch.arange(NUM_TOKENS) < words[:, None]).long())

    def predict(self, z_t: Tensor, t: Tensor, text: TextEmbedding) -> Tensor:
        self.calls += 1
        waves = text.tokens.to(z_t).flatten(1)[:, : z_t[0].numel()].view_as(z_t)
        return torch.sin(z_t + waves) + t.to(z_t)[:, None, None, None] * waves


def embedded(prior: DiffusionPrior, prompt: str, *args: Any, **settings: Any) -> EmbeddedPrompts:
    """A prompt, embedded with settings of ``ViewDependentPrompts``."""
    return ViewDependentPrompts(*args, **settings).embed(prior, prompt)


def views_at(elevation_deg: list[float], azimuth_deg: list[float]) -> Views:
    """Views of which only the direction matters."""
    count, zero = len(azimuth_deg), torch.zeros(len(azimuth_deg))
    return Views(
        origin=torch.zeros(count, 3),
        rotation=torch.eye(3).expand(count, 3, 3),
        focal=zero,
        elevation_deg=torch.tensor(elevation_deg),
        azimuth_deg=torch.tensor(azimuth_deg),
        light=torch.zeros(count, 3),
        ambient=zero,
        diffuse=zero,
        textureless=zero.bool(),
        background=torch.zeros(count, 3),
        solid=zero.bool(),
        jitter=torch.zeros(count, 2, 2),
    )


def assert_same(left: TextEmbedding, right: TextEmbedding, **tolerance: float) -> None:
    """Two embeddings have the same parts."""
    for ours, theirs in zip(left, right, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, **tolerance)
