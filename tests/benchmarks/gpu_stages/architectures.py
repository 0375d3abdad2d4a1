"""Pipelines with the true architectures of known models and random weights, as folders.

Text encoders are tiny, with embeddings of the true width and length: they run once, before the first step.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDPMScheduler,
    EulerDiscreteScheduler,
    IFPipeline,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tiny_families import save_tiny_family, tiny_autoencoder, tokenizer
from tiny_pipeline import WORDS
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
)

TOKENS = 77
PARAMETERS = {  # in millions, of the network; the autoencoder of Stable Diffusion has 83.7
    "stable_diffusion": 859.5,
    "stable_diffusion_xl": 2567.5,
    "deepfloyd": 371.6,
}
STABLE_DIFFUSION = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
STABLE_DIFFUSION_XL = {
    "sample_size": 128,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (320, 640, 1280),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 6 * 256 + 1280,
}
DEEPFLOYD_M = {  # IF-I-M, the first stage of medium size
    "sample_size": 64,
    "in_channels": 3,
    "out_channels": 6,
    "down_block_types": ("ResnetDownsampleBlock2D", *["SimpleCrossAttnDownBlock2D"] * 3),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": (*["SimpleCrossAttnUpBlock2D"] * 3, "ResnetUpsampleBlock2D"),
    "block_out_channels": (192, 384, 576, 768),
    "layers_per_block": 3,
    "attention_head_dim": 64,
    "cross_attention_dim": 768,
    "cross_attention_norm": "group_norm",
    "encoder_hid_dim": 4096,
    "encoder_hid_dim_type": "text_proj",
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 64,
    "resnet_time_scale_shift": "scale_shift",
    "act_fn": "gelu",
}
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
UNETS: dict[str, dict[str, Any]] = {
    "stable_diffusion": STABLE_DIFFUSION,
    "stable_diffusion_xl": STABLE_DIFFUSION_XL,
    "deepfloyd": DEEPFLOYD_M,
}


def unet(name: str) -> UNet2DConditionModel:
    """The network of a family; on the meta device it costs nothing."""
    return UNet2DConditionModel(**UNETS[name])


def vae(scale: float = 0.18215, sample_size: int = 512) -> AutoencoderKL:
    """The autoencoder of Stable Diffusion 1.5 and of XL, which has the same sizes."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
        sample_size=sample_size,
        scaling_factor=scale,
    )


def random(make: Callable[[], nn.Module], device: torch.device) -> Any:
    """Make a network in bfloat16 with small random weights, on the device, in a second or two."""
    with torch.device("meta"):
        network = make().to(torch.bfloat16)
    network.to_empty(device=device)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.02)
            else:
                parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
        for buffer in network.buffers():
            buffer.zero_()
    return network.eval()


def clip(width: int, kind: Any = CLIPTextModel) -> Any:
    """A tiny CLIP whose embeddings have the true width."""
    config = CLIPTextConfig(
        vocab_size=3 + len(WORDS),
        hidden_size=width,
        intermediate_size=16,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        bos_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )
    return kind(config).eval()


def t5(width: int) -> T5EncoderModel:
    """A tiny T5 whose embeddings have the true width."""
    config = T5Config(vocab_size=3 + len(WORDS), d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return T5EncoderModel(config).eval()


def stable_diffusion(device: torch.device) -> StableDiffusionPipeline:
    """Stable Diffusion 1.5."""
    return StableDiffusionPipeline(
        vae=random(vae, device),
        text_encoder=clip(768),
        tokenizer=tokenizer(TOKENS),
        unet=random(lambda: unet("stable_diffusion"), device),
        scheduler=PNDMScheduler(**NOISE, skip_prk_steps=True),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_xl(device: torch.device) -> StableDiffusionXLPipeline:
    """Stable Diffusion XL, the base model."""
    return StableDiffusionXLPipeline(
        vae=random(lambda: vae(0.13025, 1024), device),
        text_encoder=clip(768),
        text_encoder_2=clip(1280, CLIPTextModelWithProjection),
        tokenizer=tokenizer(TOKENS),
        tokenizer_2=tokenizer(TOKENS),
        unet=random(lambda: unet("stable_diffusion_xl"), device),
        scheduler=EulerDiscreteScheduler(**NOISE, timestep_spacing="leading"),
        add_watermarker=False,
    )


def deepfloyd(device: torch.device) -> IFPipeline:
    """DeepFloyd IF, the first stage of medium size."""
    return IFPipeline(
        tokenizer=tokenizer(TOKENS),
        text_encoder=t5(4096),
        unet=random(lambda: unet("deepfloyd"), device),
        scheduler=DDPMScheduler(variance_type="learned_range", beta_schedule="squaredcos_cap_v2"),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )


PIPELINES: dict[str, Callable[[torch.device], Any]] = {
    "stable_diffusion": stable_diffusion,
    "stable_diffusion_xl": stable_diffusion_xl,
    "deepfloyd": deepfloyd,
}


def save(name: str, folder: Path, tiny: bool) -> Path:
    """Write the pipeline of a family to ``folder``, with tiny networks if asked for; return it."""
    if tiny:
        return save_tiny_family(name, folder)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    PIPELINES[name](device).to("cpu").save_pretrained(folder)
    return folder


def save_tiny_autoencoder(folder: Path, tiny: bool) -> Path:
    """Write an ``AutoencoderTiny`` of the size of madebyollin/taesd to ``folder``; return it."""
    (tiny_autoencoder() if tiny else AutoencoderTiny().eval()).save_pretrained(folder)
    return folder
