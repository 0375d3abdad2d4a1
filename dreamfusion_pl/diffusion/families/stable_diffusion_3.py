"""Stable Diffusion 3 and 3.5: flow-matching transformers, which predict v = eps - x."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from dreamfusion_pl.diffusion.families.adapter import Adapter, side_of
from dreamfusion_pl.diffusion.noise import StraightPath
from dreamfusion_pl.types import TextEmbedding


@final
class StableDiffusion3Adapter(Adapter):
    """``StableDiffusion3Pipeline``: conditioned on concatenated tokens of two CLIPs and T5, and pooled CLIP.

    Args:
        pipeline: the pipeline, with or without text encoders.
        resolution: side of the latents; 0: the model's own.
    """

    network_name = "transformer"
    text_encoders = ("text_encoder", "text_encoder_2", "text_encoder_3")
    unused = ("image_encoder", "feature_extractor")
    prediction = "flow"

    def __init__(self, pipeline: Any, resolution: int) -> None:
        self.network = pipeline.transformer
        self.schedule = StraightPath(pipeline.scheduler.config.num_train_timesteps)
        config = pipeline.transformer.config
        self.channels = config.in_channels
        self.resolution = side_of(
            resolution, config.sample_size, config.patch_size, config.pos_embed_max_size
        )
        self.text_width = config.joint_attention_dim

    def call(self, z_t: Tensor, timestep: Tensor, text: TextEmbedding) -> Tensor:
        return self.network(
            hidden_states=z_t,
            timestep=timestep,
            encoder_hidden_states=text.tokens,
            pooled_projections=text.pooled,
            return_dict=False,
        )[0]

    @staticmethod
    def embed(pipeline: Any, prompts: list[str]) -> TextEmbedding:
        tokens, _, pooled, _ = pipeline.encode_prompt(
            prompts, None, None, device="cpu", do_classifier_free_guidance=False
        )
        return TextEmbedding(tokens, pooled)

    @staticmethod
    def tokenizers(pipeline: Any) -> list[tuple[Any, int]]:
        clip = pipeline.tokenizer_max_length
        found = [(pipeline.tokenizer, clip), (pipeline.tokenizer_2, clip), (pipeline.tokenizer_3, 256)]
        return [(tokenizer, limit) for tokenizer, limit in found if tokenizer is not None]
