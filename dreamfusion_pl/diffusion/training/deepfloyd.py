"""A small pixel-space text-to-image pipeline in the style of DeepFloyd IF (paper 2), with random weights.

The result is an ordinary ``diffusers.IFPipeline``: loading it and sampling from it needs no code of this
package.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from diffusers import DDPMScheduler, IFPipeline
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from dreamfusion_pl.diffusion.training.family import PipelineFamily, Texts, check_vocabulary
from dreamfusion_pl.diffusion.training.unet import build_unet

MAX_TOKENS = 77  # IFPipeline pads every prompt to this length; the U-Net attends to the padding


@final
class DeepFloydFamily(PipelineFamily):
    """Pixels, a T5 encoder, and a U-Net that predicts v and the variance (6 channels).

    Args:
        size: height and width of the images, a multiple of ``2 ** (len(channels) - 1)``.
        channels: width of each level of the U-Net, finest first; multiples of 8, of 64 for the level with
            attention.
        layers_per_block: residual blocks per level.
        attention_size: height of the level that attends to the text.
        text_width: width D of the text embedding, a multiple of 32.
        text_layers: attention layers of the text encoder.

    Raises:
        ValueError: no level has ``attention_size`` rows.
    """

    pipeline_class, tokenizer_class, text_encoder_class = IFPipeline, T5Tokenizer, T5EncoderModel
    learns_variance = True
    sampling = {"clean_caption": False}

    def __init__(
        self,
        size: int = 32,
        channels: tuple[int, ...] = (32, 64, 128, 192),
        layers_per_block: int = 1,
        attention_size: int = 8,
        text_width: int = 128,
        text_layers: int = 2,
    ) -> None:
        self.picture_size = size
        self._unet = (channels, layers_per_block, attention_size)
        self._text_width, self._text_layers = text_width, text_layers

    def tokenizer(self, vocabulary: Sequence[str]) -> T5Tokenizer:
        """Return a tokenizer that maps other text to ``<unk>``."""
        check_vocabulary(vocabulary)
        words = [word if not word.isalnum() and len(word) == 1 else f"▁{word}" for word in vocabulary]
        special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
        pieces = [*special, *((word, -1.0) for word in words)]
        return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=MAX_TOKENS)

    def networks(self, tokenizer: T5Tokenizer) -> nn.ModuleDict:
        width = self._text_width
        config = T5Config(
            vocab_size=len(tokenizer),
            d_model=width,
            d_kv=32,
            num_heads=width // 32,
            d_ff=2 * width,
            num_layers=self._text_layers,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
        )
        text_encoder = T5EncoderModel(config)  # first: its weights come from the same random numbers as ever
        unet = build_unet(self.picture_size, 3, 6, *self._unet, text_width=width)
        return nn.ModuleDict({"text_encoder": text_encoder, "unet": unet})

    def scheduler(self) -> DDPMScheduler:
        """Return DeepFloyd IF's cosine schedule with learned variance, for v-prediction."""
        return DDPMScheduler(
            num_train_timesteps=1000,
            beta_schedule="squaredcos_cap_v2",
            prediction_type="v_prediction",
            variance_type="learned_range",
            clip_sample=True,
            thresholding=True,
            dynamic_thresholding_ratio=0.95,
            sample_max_value=1.5,
        )

    def encode(self, x: Tensor) -> Tensor:
        return x

    def embed(self, tokenizer: T5Tokenizer, encoder: T5EncoderModel, texts: list[str]) -> Texts:
        limits = {"padding": "max_length", "max_length": MAX_TOKENS, "truncation": True}
        tokens = tokenizer(texts, **limits, return_tensors="pt").to(encoder.device)
        rows = encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
        return Texts(rows, tokens.input_ids, tokens.attention_mask, encoder.get_input_embeddings().weight)

    def assemble(
        self, tokenizer: T5Tokenizer, networks: nn.ModuleDict, scheduler: DDPMScheduler
    ) -> IFPipeline:
        pipeline = IFPipeline(
            tokenizer=tokenizer,
            text_encoder=networks["text_encoder"],
            unet=networks["unet"],
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            watermarker=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline
