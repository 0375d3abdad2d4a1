"""Diffusion transformers that predict eps: PixArt-alpha and PixArt-Sigma."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.families.adapter import Adapter, diffusion_process, side_of
from dreamfusion_pl.types import TextEmbedding

MAX_TOKENS = {"PixArtAlphaPipeline": 120, "PixArtSigmaPipeline": 300}  # text length of the pipelines


@final
class PixArtAdapter(Adapter):
    """``PixArtAlphaPipeline`` and ``PixArtSigmaPipeline``: conditioned on T5 with an attention mask.

    Args:
        pipeline: the pipeline, with or without text encoder.
        resolution: side of the latents; 0: the model's own.
    """

    network_name = "transformer"
    text_encoders = ("text_encoder",)
    unused = ()

    def __init__(self, pipeline: Any, resolution: int) -> None:
        config = pipeline.transformer.config
        self.network = pipeline.transformer
        self.schedule, self.prediction = diffusion_process(pipeline)
        self.channels = config.in_channels
        self.resolution = side_of(resolution, config.sample_size, config.patch_size)
        self.text_width = config.caption_channels
        self._side: float | None = None  # image side in pixels, if it is a network input
        if type(pipeline).__name__ == "PixArtAlphaPipeline" and config.sample_size == 128:
            self._side = float(self.resolution * pipeline.vae_scale_factor)

    def call(self, z_t: Tensor, timestep: Tensor, text: TextEmbedding) -> Tensor:
        added: dict[str, Tensor | None] = {"resolution": None, "aspect_ratio": None}
        if self._side is not None:
            side = torch.full((len(z_t), 2), self._side, dtype=z_t.dtype, device=z_t.device)
            added = {"resolution": side, "aspect_ratio": torch.ones_like(side[:, :1])}
        return self.network(
            z_t,
            encoder_hidden_states=text.tokens,
            encoder_attention_mask=text.mask,
            timestep=timestep,
            added_cond_kwargs=added,
            return_dict=False,
        )[0]

    @staticmethod
    def embed(pipeline: Any, prompts: list[str]) -> TextEmbedding:
        tokens, mask, _, _ = pipeline.encode_prompt(
            prompts,
            do_classifier_free_guidance=False,
            device="cpu",
            max_sequence_length=MAX_TOKENS[type(pipeline).__name__],
        )
        return TextEmbedding(tokens, mask=mask)

    @staticmethod
    def tokenizers(pipeline: Any) -> list[tuple[Any, int]]:
        return [(pipeline.tokenizer, MAX_TOKENS[type(pipeline).__name__])]
