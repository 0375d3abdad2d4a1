"""Tiny random pipelines of every family that can be a prior, built without a network in a second each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    PNDMScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tiny_pipeline import WORDS, tiny_pipeline, word_tokenizer
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

WIDTH, CLIP_TOKENS = 16, 20


def tokenizer(max_length: int = CLIP_TOKENS) -> PreTrainedTokenizerFast:
    found = word_tokenizer()
    found.model_max_length = max_length
    return found


def t5() -> T5EncoderModel:
    config = T5Config(vocab_size=3 + len(WORDS), d_model=WIDTH, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return T5EncoderModel(config).eval()


def clip(projected: bool = False) -> CLIPTextModel | CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=3 + len(WORDS),
        hidden_size=WIDTH,
        intermediate_size=16,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CLIP_TOKENS,
        bos_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def vae(channels: int = 4, scale: float = 0.18215, shift: float | None = None) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        block_out_channels=(8, 8),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=scale,
        shift_factor=shift,
    ).eval()


def tiny_autoencoder(channels: int = 4) -> AutoencoderTiny:
    """An AutoencoderTiny with the same factor of 2 between pixels and latents as ``vae``."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return AutoencoderTiny(
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            num_encoder_blocks=(1, 1),
            num_decoder_blocks=(1, 1),
            latent_channels=channels,
        ).eval()


def unet(**special: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=2,
        **special,
    ).eval()


def stable_diffusion(prediction: str = "epsilon") -> StableDiffusionPipeline:
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    if prediction == "v_prediction":
        scheduler = DDIMScheduler(**noise, prediction_type=prediction, clip_sample=False)
    else:
        scheduler = PNDMScheduler(**noise, skip_prk_steps=True)
    return StableDiffusionPipeline(
        vae=vae(),
        text_encoder=clip(),
        tokenizer=tokenizer(),
        unet=unet(cross_attention_dim=WIDTH),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_xl() -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline(
        vae=vae(scale=0.13025),
        text_encoder=clip(),
        text_encoder_2=clip(projected=True),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=unet(
            cross_attention_dim=2 * WIDTH,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=6 * 4 + WIDTH,
        ),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="leading",
            steps_offset=1,
        ),
        add_watermarker=False,
    )


def pixart_transformer(sample_size: int) -> PixArtTransformer2DModel:
    return PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=1,
        cross_attention_dim=24,
        caption_channels=WIDTH,
        sample_size=sample_size,
    ).eval()


def pixart_alpha() -> PixArtAlphaPipeline:
    """Of the kind that is told the picture's size: those for 1024 pixels."""
    return PixArtAlphaPipeline(tokenizer(120), t5(), vae(), pixart_transformer(128), dpm_solver())


def pixart_sigma() -> PixArtSigmaPipeline:
    transformer = pixart_transformer(8)
    return PixArtSigmaPipeline(tokenizer(300), t5(), vae(scale=0.13025), transformer, dpm_solver())


def dpm_solver() -> DPMSolverMultistepScheduler:
    return DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02)


def stable_diffusion_3() -> StableDiffusion3Pipeline:
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=8,
            in_channels=16,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=2 * WIDTH,
            caption_projection_dim=16,
            pooled_projection_dim=2 * WIDTH,
            out_channels=16,
            pos_embed_max_size=16,
        ).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(16, 1.5305, 0.0609),
        text_encoder=clip(projected=True),
        tokenizer=tokenizer(),
        text_encoder_2=clip(projected=True),
        tokenizer_2=tokenizer(),
        text_encoder_3=T5EncoderModel(
            T5Config(vocab_size=3 + len(WORDS), d_model=2 * WIDTH, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
        ).eval(),
        tokenizer_3=tokenizer(256),
    )


def flux() -> FluxPipeline:
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae(4, 0.3611, 0.1159),
        text_encoder=clip(),
        tokenizer=tokenizer(),
        text_encoder_2=t5(),
        tokenizer_2=tokenizer(512),
        transformer=FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            pooled_projection_dim=WIDTH,
            guidance_embeds=True,
            axes_dims_rope=(4, 6, 6),
        ).eval(),
    )


FAMILIES: dict[str, Callable[[], Any]] = {
    "deepfloyd": tiny_pipeline,
    "stable_diffusion": stable_diffusion,
    "stable_diffusion_v": lambda: stable_diffusion("v_prediction"),
    "stable_diffusion_xl": stable_diffusion_xl,
    "pixart_alpha": pixart_alpha,
    "pixart_sigma": pixart_sigma,
    "stable_diffusion_3": stable_diffusion_3,
    "flux": flux,
}


def tiny_family(name: str) -> Any:
    """Return a pipeline of a family with random weights, the same ones each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = FAMILIES[name]()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_tiny_family(name: str, folder: Path) -> Path:
    """Write the tiny pipeline to ``folder``; return it."""
    tiny_family(name).save_pretrained(folder)
    return folder
