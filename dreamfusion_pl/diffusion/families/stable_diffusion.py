"""Latent U-Net pipelines: Stable Diffusion 1.x, 2.x and XL."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.families.adapter import Adapter, diffusion_process, side_of, text_width_of
from dreamfusion_pl.types import TextEmbedding


@final
class StableDiffusionAdapter(Adapter):
    """``StableDiffusionPipeline``: versions 1.x and 2.x, predicting eps or v, conditioned on CLIP.

    Args:
        pipeline: the pipeline, with or without text encoder.
        resolution: side of the latents; 0: the model's own.
    """

    network_name = "unet"
    text_encoders = ("text_encoder",)
    unused = ("safety_checker", "feature_extractor", "image_encoder")
    vae_overflows = False  # whatever its configuration says by default: the pipeline, too, never upcasts it

    def __init__(self, pipeline: Any, resolution: int) -> None:
        check_no_guidance_input(pipeline)
        self.network = pipeline.unet
        self.schedule, self.prediction = diffusion_process(pipeline)
        self.channels = pipeline.unet.config.in_channels
        self.resolution = side_of(resolution, pipeline.unet.config.sample_size)
        self.text_width = text_width_of(pipeline.unet)

    def call(self, z_t: Tensor, timestep: Tensor, text: TextEmbedding) -> Tensor:
        return self.network(z_t, timestep, encoder_hidden_states=text.tokens, return_dict=False)[0]

    @staticmethod
    def embed(pipeline: Any, prompts: list[str]) -> TextEmbedding:
        return TextEmbedding(pipeline.encode_prompt(prompts, "cpu", 1, False)[0])

    @staticmethod
    def tokenizers(pipeline: Any) -> list[tuple[Any, int]]:
        return [(pipeline.tokenizer, pipeline.tokenizer.model_max_length)]


@final
class StableDiffusionXLAdapter(Adapter):
    """``StableDiffusionXLPipeline``: conditioned on two CLIPs, a pooled embedding, and the image size.

    The empty text is embedded as zeros if the model was trained that way
    (``force_zeros_for_empty_prompt``), as the pipeline does when there is no negative prompt.

    Args:
        pipeline: the pipeline, with or without text encoders.
        resolution: side of the latents; 0: the model's own. The size condition says that images of this size
            were neither scaled nor cropped.
    """

    network_name = "unet"
    text_encoders = ("text_encoder", "text_encoder_2")
    unused = ("feature_extractor", "image_encoder")

    def __init__(self, pipeline: Any, resolution: int) -> None:
        check_no_guidance_input(pipeline)
        self.network = pipeline.unet
        self.schedule, self.prediction = diffusion_process(pipeline)
        self.channels = pipeline.unet.config.in_channels
        self.resolution = side_of(resolution, pipeline.unet.config.sample_size)
        self.text_width = text_width_of(pipeline.unet)
        side = float(self.resolution * pipeline.vae_scale_factor)  # of the image, in pixels
        self._time_ids = torch.tensor(
            [[side, side, 0.0, 0.0, side, side]]
        )  # original size, crop, target size

    def call(self, z_t: Tensor, timestep: Tensor, text: TextEmbedding) -> Tensor:
        self._time_ids = self._time_ids.to(z_t)
        added = {"text_embeds": text.pooled, "time_ids": self._time_ids.expand(len(z_t), -1)}
        return self.network(
            z_t,
            timestep,
            encoder_hidden_states=text.tokens,
            added_cond_kwargs=added,
            return_dict=False,
        )[0]

    @staticmethod
    def embed(pipeline: Any, prompts: list[str]) -> TextEmbedding:
        tokens, _, pooled, _ = pipeline.encode_prompt(
            prompts, device="cpu", do_classifier_free_guidance=False
        )
        text = TextEmbedding(tokens, pooled)
        if not pipeline.config.force_zeros_for_empty_prompt:
            return text
        is_empty = torch.tensor([not prompt for prompt in prompts])
        return text.each(lambda part: part.masked_fill(is_empty.view(-1, *[1] * (part.ndim - 1)), 0.0))

    @staticmethod
    def tokenizers(pipeline: Any) -> list[tuple[Any, int]]:
        both = (pipeline.tokenizer, pipeline.tokenizer_2)
        return [(tokenizer, tokenizer.model_max_length) for tokenizer in both if tokenizer is not None]


def check_no_guidance_input(pipeline: Any) -> None:
    """Check that a U-Net does not take the guidance scale as an input, as latent consistency models do.

    Raises:
        ValueError: it does.
    """
    if pipeline.unet.config.time_cond_proj_dim is not None:
        raise ValueError(
            "this U-Net was distilled for few steps (a latent consistency model): it predicts no score. "
            "Take the model that it was distilled from"
        )
