"""A Stable Diffusion pipeline in one file, with the names of weights that are usual outside of diffusers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}


def save_checkpoint(pipeline: Any, file: Path) -> Path:
    """Write the weights of U-Net, autoencoder and text encoder into one file; return it."""
    layers, levels = pipeline.unet.config.layers_per_block, len(pipeline.vae.config.block_out_channels)
    weights = {}
    for key, value in pipeline.unet.state_dict().items():
        weights[f"model.diffusion_model.{_unet(key, layers)}"] = value
    for key, value in pipeline.vae.state_dict().items():
        name = _vae(key, levels)
        is_matrix = "attn_1" in name and name.endswith("weight") and value.ndim == 2
        weights[f"first_stage_model.{name}"] = value[..., None, None] if is_matrix else value
    for key, value in pipeline.text_encoder.state_dict().items():
        name = key if key.startswith("text_model.") else f"text_model.{key}"
        weights[f"cond_stage_model.transformer.{name}"] = value
    save_file({key: value.contiguous() for key, value in weights.items()}, file)
    return file


def _unet(key: str, layers: int) -> str:
    for new, old in UNET.items():
        if key.startswith(new + "."):
            key = old + key.removeprefix(new)
    if found := re.match(
        r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.", key
    ):
        side, block, kind, index = found[1], int(found[2]), found[3], int(found[4])
        rest, row = key[found.end() :], block * (layers + 1) + index
        if kind == "downsamplers":
            return f"input_blocks.{(block + 1) * (layers + 1)}.0.{rest.replace('conv', 'op')}"
        if kind == "upsamplers":  # after an attention, if its block has one: the first up block does
            return f"output_blocks.{row + layers}.{2 if block == 0 else 1}.{rest}"
        place = f"input_blocks.{row + 1}" if side == "down" else f"output_blocks.{row}"
        key = f"{place}.{int(kind == 'attentions')}.{rest}"
    return key if "transformer_blocks" in key else _renamed(key, RESNET)


def _vae(key: str, levels: int) -> str:
    key = re.sub(r"encoder\.down_blocks\.(\d)\.resnets\.", r"encoder.down.\1.block.", key)
    key = re.sub(r"encoder\.down_blocks\.(\d)\.downsamplers\.0", r"encoder.down.\1.downsample", key)
    for block in range(levels):
        up = f"decoder.up.{levels - 1 - block}"
        key = key.replace(f"decoder.up_blocks.{block}.resnets", f"{up}.block")
        key = key.replace(f"decoder.up_blocks.{block}.upsamplers.0", f"{up}.upsample")
    key = key.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
    if "mid_block.attentions.0" in key:
        return _renamed(key.replace("mid_block.attentions.0", "mid.attn_1"), ATTENTION)
    return key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")


def _renamed(key: str, names: dict[str, str]) -> str:
    for new, old in names.items():
        key = key.replace(f".{new}.", f".{old}.")
    return key
