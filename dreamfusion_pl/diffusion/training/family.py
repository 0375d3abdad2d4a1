"""The role of a family: which networks a prior is made of, and which pipeline holds them."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from dreamfusion_pl.diffusion.loading.library_logging import quiet
from dreamfusion_pl.diffusion.loading.sources import BUILTIN
from dreamfusion_pl.diffusion.text.vocabulary import ends_a_word
from dreamfusion_pl.diffusion.training import folders


class Texts(NamedTuple):
    """Embeddings of N texts."""

    rows: Tensor  # [N, T, D], what the U-Net attends to
    tokens: Tensor  # [N, T] int64
    mask: Tensor  # [N, T]: 1 token, 0 padding
    table: Tensor  # [V, D], the encoder's token embeddings


class PipelineFamily(ABC):
    """Builds the parts of a text-to-image pipeline of diffusers, with random weights, and assembles them.

    The networks are ``{"text_encoder": ..., "unet": ...}``. The tokenizer has one token for every word.
    """

    pipeline_class: type  # of diffusers, which holds the networks
    tokenizer_class: type  # of transformers
    text_encoder_class: type  # likewise
    picture_size: int  # height and width of the pictures, in pixels
    learns_variance: bool  # whether the U-Net's output has channels of a variance after those of v
    sampling: Mapping[str, Any] = {}  # further arguments of a call of the pipeline

    @abstractmethod
    def tokenizer(self, vocabulary: Sequence[str]) -> Any:
        """Return a tokenizer that maps every word of the vocabulary to one token, as far as its kind can.

        Args:
            vocabulary: distinct lower-case words without spaces; a punctuation mark is a word.

        Raises:
            ValueError: the vocabulary has other words.
        """

    @abstractmethod
    def networks(self, tokenizer: Any) -> nn.ModuleDict:
        """Return text encoder and U-Net with random weights."""

    @abstractmethod
    def scheduler(self) -> Any:
        """Return the noise schedule, for v-prediction."""

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Return what is diffused, [B, C, h, w], for pictures [B, 3, H, W] in [-1, 1]; without gradient."""

    @abstractmethod
    def embed(self, tokenizer: Any, encoder: Any, texts: list[str]) -> Texts:
        """Embed texts as the pipeline does."""

    @abstractmethod
    def assemble(self, tokenizer: Any, networks: nn.ModuleDict, scheduler: Any) -> Any:
        """Return the parts as a pipeline without safety checker or watermark; it shares them."""


def check_vocabulary(vocabulary: Sequence[str]) -> None:
    """Raise ValueError unless the words are distinct, lower-case and without spaces."""
    bad = [word for word in vocabulary if not word or word.split() != [word] or word != word.lower()]
    if bad or len(set(vocabulary)) != len(vocabulary):
        raise ValueError(
            f"the vocabulary needs distinct lower-case words without spaces, got {bad or 'a word twice'}"
        )


def load_weights(folder: str, family: PipelineFamily, tokenizer: Any, networks: nn.ModuleDict) -> None:
    """Load the weights of a pipeline folder into new networks, changed in place.

    Args:
        folder: a folder of the same family, or "builtin".
        family: the family.
        tokenizer: has all words of the folder's tokenizer; embeddings of additional words stay random. The
            pieces of which unknown words are spelled may be others.
        networks: "text_encoder" and "unet".

    Raises:
        ValueError: there is no pipeline, or one of another family, its networks have other shapes, or its
            vocabulary has more words.
    """
    path = BUILTIN if folder == "builtin" else Path(folder)
    if not (path / folders.PIPELINE_INDEX).is_file():
        raise ValueError(f"there is no pipeline folder at {path}; correct `initial` or leave it out")
    kind = json.loads((path / folders.PIPELINE_INDEX).read_text(encoding="utf-8")).get("_class_name")
    expected = family.pipeline_class.__name__
    if kind != expected:
        raise ValueError(
            f"the pipeline at {path} is a {kind}, and a {type(family).__name__} makes a {expected}: "
            "correct `initial` or `family`"
        )
    tokenizers: Any = family.tokenizer_class
    encoders: Any = family.text_encoder_class
    with quiet():
        own = tokenizers.from_pretrained(path / "tokenizer")
        stored = {
            "text_encoder": encoders.from_pretrained(path / "text_encoder"),
            "unet": UNet2DConditionModel.from_pretrained(path / "unet", low_cpu_mem_usage=False),
        }
    vocabulary = tokenizer.get_vocab()
    known = {token: row for token, row in own.get_vocab().items() if token in vocabulary}
    missing = sorted(token for token in own.get_vocab() if token not in known and ends_a_word(token, own))
    if missing:
        raise ValueError(
            f"the pipeline at {path} knows words that the vocabulary lacks: {', '.join(missing)}"
        )
    for name, model in stored.items():
        weights = model.float().state_dict()
        if name == "text_encoder":
            _add_words(weights, known, vocabulary, networks[name].state_dict())
        try:
            networks[name].load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"the {name} at {path} has other layers than asked for: {error}") from error


def _add_words(
    weights: dict[str, Tensor], known: dict[str, int], vocabulary: dict[str, int], fresh: dict[str, Tensor]
) -> None:
    """Copy embeddings of known words to their indices in the new vocabulary; new words keep fresh ones."""
    for name, rows in weights.items():
        is_table = name.endswith(("shared.weight", "embed_tokens.weight", "token_embedding.weight"))
        if is_table and rows.shape[1:] == fresh[name].shape[1:]:
            enlarged = fresh[name].clone()
            enlarged[[vocabulary[word] for word in known]] = rows[list(known.values())]
            weights[name] = enlarged
