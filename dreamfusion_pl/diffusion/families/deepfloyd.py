"""Pixel-space pipelines: the first stage of DeepFloyd IF, and the embedded prior of the same class."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from dreamfusion_pl.diffusion.families.adapter import Adapter, diffusion_process, side_of, text_width_of
from dreamfusion_pl.types import TextEmbedding

MAX_TOKENS = 77  # padded text length of IFPipeline


@final
class IFAdapter(Adapter):
    """``IFPipeline``: a pixel-space U-Net with learned variance, conditioned on T5.

    Args:
        pipeline: the pipeline, with or without text encoder.
        resolution: side of the images in pixels; 0: the model's own.
    """

    network_name = "unet"
    text_encoders = ("text_encoder",)
    unused = ("safety_checker", "feature_extractor", "watermarker")

    def __init__(self, pipeline: Any, resolution: int) -> None:
        self.network = pipeline.unet
        self.schedule, self.prediction = diffusion_process(pipeline)
        self.channels = pipeline.unet.config.in_channels
        self.resolution = side_of(resolution, pipeline.unet.config.sample_size)
        self.text_width = text_width_of(pipeline.unet)

    def call(self, z_t: Tensor, timestep: Tensor, text: TextEmbedding) -> Tensor:
        return self.network(z_t, timestep, encoder_hidden_states=text.tokens, return_dict=False)[0]

    @staticmethod
    def embed(pipeline: Any, prompts: list[str]) -> TextEmbedding:
        tokens, _ = pipeline.encode_prompt(prompts, do_classifier_free_guidance=False, device="cpu")
        return TextEmbedding(tokens)

    @staticmethod
    def tokenizers(pipeline: Any) -> list[tuple[Any, int]]:
        return [(pipeline.tokenizer, MAX_TOKENS)]
