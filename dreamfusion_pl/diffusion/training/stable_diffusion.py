"""A small latent text-to-image pipeline in the style of Stable Diffusion, with random weights.

The result is an ordinary ``diffusers.StableDiffusionPipeline``: loading it and sampling from it needs no code
of this package.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import final

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from dreamfusion_pl.diffusion.loading.library_logging import quiet
from dreamfusion_pl.diffusion.loading.sources import BUILTIN
from dreamfusion_pl.diffusion.training import folders
from dreamfusion_pl.diffusion.training.family import PipelineFamily, Texts, check_vocabulary
from dreamfusion_pl.diffusion.training.unet import build_unet

MAX_TOKENS = 32  # longer than any caption of the world
START, END = "<|startoftext|>", "<|endoftext|>"
_WORD = re.compile(r"[^\W\d_]+|\d|[^\w\s]+|_")  # what CLIP takes for one word


@final
class StableDiffusionFamily(PipelineFamily):
    """Latents of a trained autoencoder, a CLIP text encoder, and a U-Net that predicts v.

    Args:
        autoencoder: folder of the ``AutoencoderTiny``, written by a training with ``autoencoder.yaml``, or
            "builtin" for that of the embedded prior.
        size: height and width of the pictures in pixels.
        channels: width of each level of the U-Net, finest first; multiples of 8, of 64 for the level with
            attention and the last one.
        layers_per_block: residual blocks per level.
        attention_size: height of the level that attends to the text.
        text_width: width D of the text embedding, a multiple of 32.
        text_layers: attention layers of the text encoder.

    Raises:
        ValueError: there is no autoencoder, the size is no multiple of its factor, or no level of the U-Net
            has ``attention_size`` rows.
    """

    pipeline_class, tokenizer_class, text_encoder_class = (
        StableDiffusionPipeline,
        CLIPTokenizer,
        CLIPTextModel,
    )
    learns_variance = False

    def __init__(
        self,
        autoencoder: str = "builtin",
        size: int = 64,
        channels: tuple[int, ...] = (64, 128, 192),
        layers_per_block: int = 1,
        attention_size: int = 8,
        text_width: int = 128,
        text_layers: int = 2,
    ) -> None:
        self._vae = load_autoencoder(autoencoder)
        factor = 2 ** (len(self._vae.config.block_out_channels) - 1)
        if size % factor:
            raise ValueError(f"size must be a multiple of {factor}, the autoencoder's factor, got {size}")
        self.picture_size, self._side = size, size // factor
        self._unet = (channels, layers_per_block, attention_size)
        self._text_width, self._text_layers = text_width, text_layers

    def tokenizer(self, vocabulary: Sequence[str]) -> CLIPTokenizer:
        """Return a byte-pair tokenizer that has one token for every word; it spells other words.

        CLIP reads digits one by one, so that "3d" is two words.
        """
        check_vocabulary(vocabulary)
        words = list(dict.fromkeys(part for word in vocabulary for part in _WORD.findall(word)))
        letters = sorted({letter for word in words for letter in word})
        tokens = [START, END, *letters, *(f"{letter}</w>" for letter in letters)]
        merges = word_merges(words)
        tokens += [left + right for left, right in merges]
        return CLIPTokenizer(
            vocab={token: i for i, token in enumerate(dict.fromkeys(tokens))},
            merges=merges,
            model_max_length=MAX_TOKENS,
        )

    def networks(self, tokenizer: CLIPTokenizer) -> nn.ModuleDict:
        width = self._text_width
        config = CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=width,
            num_hidden_layers=self._text_layers,
            num_attention_heads=width // 32,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        text_encoder = CLIPTextModel(config)
        latents = self._vae.config.latent_channels
        unet = build_unet(self._side, latents, latents, *self._unet, text_width=width)
        return nn.ModuleDict({"text_encoder": text_encoder, "unet": unet})

    def scheduler(self) -> DDIMScheduler:
        """Return a cosine schedule for v-prediction.

        Stable Diffusion's own leaves 7 % of the signal at T. There, the latents of a plain object still tell
        its colour and side, so that the text's words for them are hard to learn.
        """
        return DDIMScheduler(
            num_train_timesteps=1000,
            beta_schedule="squaredcos_cap_v2",
            prediction_type="v_prediction",
            clip_sample=False,
            set_alpha_to_one=True,
            steps_offset=1,
            timestep_spacing="trailing",
        )

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        vae = self._vae.to(x.device)
        return vae.encode(x, return_dict=False)[0].float() * vae.config.scaling_factor

    def embed(self, tokenizer: CLIPTokenizer, encoder: CLIPTextModel, texts: list[str]) -> Texts:
        limits = {"padding": "max_length", "max_length": MAX_TOKENS, "truncation": True}
        tokens = tokenizer(texts, **limits, return_tensors="pt").to(encoder.device)
        rows = encoder(tokens.input_ids)[0]
        return Texts(rows, tokens.input_ids, tokens.attention_mask, encoder.get_input_embeddings().weight)

    def assemble(
        self, tokenizer: CLIPTokenizer, networks: nn.ModuleDict, scheduler: DDIMScheduler
    ) -> StableDiffusionPipeline:
        pipeline = StableDiffusionPipeline(
            vae=self._vae,
            text_encoder=networks["text_encoder"],
            tokenizer=tokenizer,
            unet=networks["unet"],
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


def load_autoencoder(folder: str) -> AutoencoderTiny:
    """Load an autoencoder, frozen, in float32.

    Args:
        folder: folder of an ``AutoencoderTiny``, or "builtin" for that of the embedded prior.

    Raises:
        ValueError: there is none.
    """
    path = BUILTIN / "vae" if folder == "builtin" else Path(folder)
    if not (path / folders.MODEL_INDEX).is_file():
        raise ValueError(
            f"there is no autoencoder at {path}: train one with `fit --config autoencoder.yaml`, or correct "
            "the path"
        )
    with quiet():
        vae = AutoencoderTiny.from_pretrained(path, low_cpu_mem_usage=False)
    vae.register_to_config(_name_or_path="")  # or pipelines that hold it would name a folder of this machine
    return vae.float().eval().requires_grad_(False)


def word_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Return merges, in order of priority, with which byte-pair encoding makes one token of each word.

    Merges of later words have lower priority than those of earlier ones, which stay whole.
    """
    merges: dict[tuple[str, str], int] = {}
    for word in words:
        while len(pieces := _encode(word, merges)) > 1:
            merges[pieces[0], pieces[1]] = len(merges)
    return list(merges)


def _encode(word: str, merges: dict[tuple[str, str], int]) -> list[str]:
    """Return a word's pieces after all merges."""
    pieces = [*word[:-1], f"{word[-1]}</w>"]
    while len(pieces) > 1:
        pairs = list(zip(pieces, pieces[1:], strict=False))
        known = [pair for pair in pairs if pair in merges]
        if not known:
            break
        first = pairs.index(min(known, key=merges.__getitem__))
        pieces[first : first + 2] = ["".join(pieces[first : first + 2])]
    return pieces
