"""The U-Net of small text-to-image models, as DeepFloyd IF has it, for pixels or latents."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import UNet2DConditionModel


def build_unet(
    size: int,
    in_channels: int,
    out_channels: int,
    channels: Sequence[int],
    layers_per_block: int,
    attention_size: int,
    text_width: int,
) -> UNet2DConditionModel:
    """Return a U-Net with random weights.

    It has cross-attention at one resolution and in the middle block only; at finer ones it costs too much.
    The pooled text is added to the embedding of the time, so that its words reach every level. Weights are in
    the channels-last layout, in which a CPU's step takes a fifth less.

    Args:
        size: height and width of what is diffused, a multiple of ``2 ** (len(channels) - 1)``.
        in_channels: channels of what is diffused.
        out_channels: channels of the prediction.
        channels: width of each level, finest first; multiples of 8, of 64 for the level with attention and
            the last one.
        layers_per_block: residual blocks per level.
        attention_size: height of the level that attends to the text.
        text_width: width D of the text embedding, a multiple of 32.

    Raises:
        ValueError: no level has ``attention_size`` rows, or a side cannot be halved.
    """
    sizes = [size >> level for level in range(len(channels))]
    if attention_size not in sizes or size % (1 << (len(channels) - 1)):
        raise ValueError(f"attention_size={attention_size} must be one of the U-Net's resolutions, {sizes}")
    attends = [rows == attention_size for rows in sizes]
    unet = UNet2DConditionModel(
        sample_size=size,
        in_channels=in_channels,
        out_channels=out_channels,
        down_block_types=tuple("SimpleCrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=tuple("SimpleCrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        block_out_channels=tuple(channels),
        layers_per_block=layers_per_block,
        act_fn="silu",
        norm_num_groups=8,
        cross_attention_dim=text_width,
        attention_head_dim=64,
        resnet_time_scale_shift="scale_shift",
        encoder_hid_dim=text_width,
        encoder_hid_dim_type="text_proj",
        addition_embed_type="text",
        addition_embed_type_num_heads=text_width // 32,
    )
    unet.to(memory_format=torch.channels_last)
    return unet


def in_half(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Return a copy of a U-Net in float16."""
    copy = UNet2DConditionModel.from_config(unet.config)
    copy.load_state_dict(unet.state_dict())
    for parameter in copy.parameters():
        parameter.data = parameter.data.half()
    return copy
