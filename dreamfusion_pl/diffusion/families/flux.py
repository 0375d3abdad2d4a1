"""FLUX.1: a flow-matching transformer, which predicts v = eps - x."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.families.adapter import Adapter, side_of
from dreamfusion_pl.diffusion.noise import StraightPath
from dreamfusion_pl.types import TextEmbedding


@final
class FluxAdapter(Adapter):
    """``FluxPipeline``: 2 x 2 latents are packed into one token; T5 tokens are joined to them.

    Args:
        pipeline: the pipeline, with or without text encoders.
        resolution: side of the latents, an even number; 0: 128, images of 1024 pixels.
        embedded_guidance: guidance input of guidance-distilled networks (FLUX.1-dev). It is separate from
            classifier-free guidance, which is applied on top.
    """

    network_name = "transformer"
    text_encoders = ("text_encoder", "text_encoder_2")
    unused = ("image_encoder", "feature_extractor")
    prediction = "flow"

    def __init__(self, pipeline: Any, resolution: int, embedded_guidance: float) -> None:
        self.network = pipeline.transformer
        self._num_timesteps = pipeline.scheduler.config.num_train_timesteps
        self.schedule = StraightPath(self._num_timesteps)
        self.channels = pipeline.transformer.config.in_channels // 4
        self.resolution = side_of(resolution, pipeline.default_sample_size, patch=2)
        self.text_width = pipeline.transformer.config.joint_attention_dim
        takes_guidance = pipeline.transformer.config.guidance_embeds
        self._guidance = torch.tensor([embedded_guidance]) if takes_guidance else None
        half = torch.arange(self.resolution // 2, dtype=torch.float32)
        rows, columns = torch.meshgrid(half, half, indexing="ij")
        self._positions = torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).flatten(0, 1)

    def call(self, z_t: Tensor, timestep: Tensor, text: TextEmbedding) -> Tensor:
        self._positions = self._positions.to(z_t)
        if self._guidance is not None:
            self._guidance = self._guidance.to(z_t.device)
        velocity = self.network(
            hidden_states=pack(z_t),
            timestep=timestep / self._num_timesteps,
            guidance=None if self._guidance is None else self._guidance.expand(len(z_t)),
            pooled_projections=text.pooled,
            encoder_hidden_states=text.tokens,
            txt_ids=z_t.new_zeros(text.tokens.shape[1], 3),
            img_ids=self._positions,
            return_dict=False,
        )[0]
        return unpack(velocity, self.resolution)

    @staticmethod
    def embed(pipeline: Any, prompts: list[str]) -> TextEmbedding:
        tokens, pooled, _ = pipeline.encode_prompt(prompts, device="cpu")
        return TextEmbedding(tokens, pooled)

    @staticmethod
    def tokenizers(pipeline: Any) -> list[tuple[Any, int]]:
        return [(pipeline.tokenizer, pipeline.tokenizer_max_length), (pipeline.tokenizer_2, 512)]


def pack(z: Tensor) -> Tensor:
    """Pack 2 x 2 latents into one token: [N, C, h, w] to [N, h w / 4, 4 C]."""
    count, channels, height, width = z.shape
    blocks = z.reshape(count, channels, height // 2, 2, width // 2, 2)
    return blocks.permute(0, 2, 4, 1, 3, 5).reshape(count, height * width // 4, 4 * channels)


def unpack(tokens: Tensor, side: int) -> Tensor:
    """Inverse of ``pack`` for square latents: [N, h w / 4, 4 C] to [N, C, h, w] with h = w = ``side``."""
    count, channels = len(tokens), tokens.shape[-1] // 4
    blocks = tokens.reshape(count, side // 2, side // 2, channels, 2, 2)
    return blocks.permute(0, 3, 1, 4, 2, 5).reshape(count, channels, side, side)
