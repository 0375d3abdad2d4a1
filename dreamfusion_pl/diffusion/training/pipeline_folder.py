"""Builds and saves a small pixel-space text-to-image pipeline in the style of DeepFloyd IF (seed 3.1).

The result is an ordinary ``diffusers.IFPipeline``: loading it and sampling from it needs no code of this
package. The tokenizer is word-level: every known word is one token.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import DDPMScheduler, IFPipeline, UNet2DConditionModel
from torch import nn
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from dreamfusion_pl.diffusion.loading.library_logging import quiet

MAX_TOKENS = 77  # IFPipeline pads every prompt to this length; the U-Net attends to the padding


def build_tokenizer(vocabulary: Sequence[str]) -> T5Tokenizer:
    """Return a tokenizer that maps every word of the vocabulary to one token, and other text to ``<unk>``.

    Args:
        vocabulary: distinct lower-case words without spaces; a punctuation mark is a word.

    Raises:
        ValueError: a word is empty, repeated, or has a space or an upper-case letter.
    """
    bad = [word for word in vocabulary if not word or word.split() != [word] or word != word.lower()]
    if bad or len(set(vocabulary)) != len(vocabulary):
        raise ValueError(
            f"the vocabulary needs distinct lower-case words without spaces, got {bad or 'a word twice'}"
        )
    words = [word if not word.isalnum() and len(word) == 1 else f"▁{word}" for word in vocabulary]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces = [*special, *((word, -1.0) for word in words)]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=MAX_TOKENS)


def build_text_encoder(num_tokens: int, width: int, num_layers: int) -> T5EncoderModel:
    """Return a T5 encoder with random weights.

    Args:
        num_tokens: vocabulary size of the tokenizer.
        width: embedding width D, a multiple of 32.
        num_layers: number of attention layers.
    """
    return T5EncoderModel(
        T5Config(
            vocab_size=num_tokens,
            d_model=width,
            d_kv=32,
            num_heads=width // 32,
            d_ff=2 * width,
            num_layers=num_layers,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
        )
    )


def build_unet(
    size: int, channels: Sequence[int], layers_per_block: int, attention_size: int, text_width: int
) -> UNet2DConditionModel:
    """Return a U-Net with random weights that predicts v and the variance (6 channels).

    It has cross-attention at one resolution and in the middle block only; at finer ones it costs too much.

    Args:
        size: height and width of the images, a multiple of ``2 ** (len(channels) - 1)``.
        channels: width of each level, finest first; multiples of 8, of 64 for the level with attention.
        layers_per_block: residual blocks per level.
        attention_size: height of the level that attends to the text.
        text_width: width D of the text embedding.

    Raises:
        ValueError: no level has ``attention_size`` rows.
    """
    sizes = [size >> level for level in range(len(channels))]
    if attention_size not in sizes or size % (1 << (len(channels) - 1)):
        raise ValueError(f"attention_size={attention_size} must be one of the U-Net's resolutions, {sizes}")
    attends = [rows == attention_size for rows in sizes]
    return UNet2DConditionModel(
        sample_size=size,
        in_channels=3,
        out_channels=6,
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


def build_scheduler() -> DDPMScheduler:
    """Return a scheduler with DeepFloyd IF's cosine schedule and learned variance, for v-prediction."""
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


def assemble(
    tokenizer: T5Tokenizer, text_encoder: T5EncoderModel, unet: UNet2DConditionModel, scheduler: DDPMScheduler
) -> IFPipeline:
    """Return the parts as a pipeline without safety checker or watermark."""
    pipeline = IFPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_weights(folder: str, tokenizer: T5Tokenizer, networks: nn.ModuleDict) -> None:
    """Load the weights of a pipeline folder into new networks.

    Args:
        folder: a folder written by :func:`save_pipeline`, or "builtin".
        tokenizer: has all words of the folder's tokenizer; embeddings of additional words stay random.
        networks: "text_encoder" and "unet", changed in place.

    Raises:
        ValueError: there is no pipeline, its networks have other shapes, or its vocabulary has more words.
    """
    path = Path(__file__).parent.parent / "builtin" if folder == "builtin" else Path(folder)
    if not (path / "model_index.json").is_file():
        raise ValueError(f"there is no pipeline folder at {path}; correct `initial` or leave it out")
    known = T5Tokenizer.from_pretrained(path / "tokenizer").get_vocab()
    if not known.keys() <= tokenizer.get_vocab().keys():
        missing = sorted(known.keys() - tokenizer.get_vocab().keys())
        raise ValueError(
            f"the pipeline at {path} knows words that the vocabulary lacks: {', '.join(missing)}"
        )
    with quiet():
        stored = {
            "text_encoder": T5EncoderModel.from_pretrained(path / "text_encoder"),
            "unet": UNet2DConditionModel.from_pretrained(path / "unet", low_cpu_mem_usage=False),
        }
    for name, model in stored.items():
        weights = model.float().state_dict()
        if name == "text_encoder":
            _add_words(weights, known, tokenizer.get_vocab(), networks[name].state_dict())
        try:
            networks[name].load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"the {name} at {path} has other layers than asked for: {error}") from error


def _add_words(
    weights: dict[str, torch.Tensor],
    known: dict[str, int],
    vocabulary: dict[str, int],
    fresh: dict[str, torch.Tensor],
) -> None:
    """Copy embeddings of known words to their indices in the new vocabulary; new words keep fresh ones."""
    for name in ("shared.weight", "encoder.embed_tokens.weight"):
        if name in weights and weights[name].shape[1:] == fresh[name].shape[1:]:
            rows = fresh[name].clone()
            rows[[vocabulary[word] for word in known]] = weights[name][list(known.values())]
            weights[name] = rows


def check_destination(folder: str | os.PathLike[str]) -> Path:
    """Return the folder if a pipeline may be written there.

    Raises:
        ValueError: it exists and is not a pipeline folder, or its parent is not writable.
    """
    folder = Path(folder).absolute()
    if folder.exists() and not (folder / "model_index.json").exists():
        raise ValueError(f"{folder} exists and is not a pipeline folder: choose another output or remove it")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder.parent).close()
    except OSError as error:
        raise ValueError(
            f"{folder.parent} is not writable ({error.strerror}): choose another output"
        ) from error
    return folder


def save_pipeline(
    pipeline: IFPipeline, folder: str | os.PathLike[str], dtype: torch.dtype = torch.float16
) -> Path:
    """Write a pipeline folder atomically, replacing an older one.

    The text encoder stays in float32. It is small, and without a ``dtype`` ``from_pretrained`` loads it in
    the stored precision, but the U-Net in float32.

    Args:
        pipeline: the pipeline to write; it is not changed.
        folder: destination.
        dtype: precision of the U-Net on disk.

    Returns:
        The folder.

    Raises:
        ValueError: the folder cannot be written.
    """
    folder = check_destination(folder)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        unet = _in_precision(pipeline.unet, dtype)
        whole = assemble(pipeline.tokenizer, pipeline.text_encoder, unet, pipeline.scheduler)
        with quiet():
            whole.save_pretrained(staging / "new")
        if folder.exists():
            folder.replace(staging / "old")
        (staging / "new").replace(folder)
    finally:
        shutil.rmtree(staging)
    return folder


def _in_precision(unet: UNet2DConditionModel, dtype: torch.dtype) -> UNet2DConditionModel:
    copy = UNet2DConditionModel.from_config(unet.config)
    copy.load_state_dict(unet.state_dict())
    for parameter in copy.parameters():
        parameter.data = parameter.data.to(dtype)
    return copy
