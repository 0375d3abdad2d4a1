"""Text encoders of a pipeline, in memory only while they embed texts that are not cached."""

from __future__ import annotations

import warnings
from functools import reduce
from pathlib import Path
from typing import Any, final

import torch

from dreamfusion_pl.diffusion.families.adapter import Adapter
from dreamfusion_pl.diffusion.loading import pipelines, sources
from dreamfusion_pl.diffusion.loading.library_logging import quiet
from dreamfusion_pl.diffusion.text.embedding_cache import EmbeddingFolder, cache_of, check_label, fingerprint
from dreamfusion_pl.diffusion.text.prompt_check import ReadPrompt, read
from dreamfusion_pl.diffusion.text.vocabulary import known_words
from dreamfusion_pl.types import TextEmbedding


@final
class TextEncoders:
    """Embeds texts as a pipeline does, on the CPU, and caches the embeddings on disk.

    Embeddings of the embedded prior are not cached: loading its encoder and embedding takes about a second,
    which is not worth files in the user's home (reading ten of them takes milliseconds). Words that the
    embedded prior does not know are left out of a text before it is embedded.

    Args:
        source: location of the pipeline.
        adapter: adapter of its family.
        dtype: precision of the text encoders.
        folder: folder of embeddings, written by ``embed --out``; no text encoder is loaded then. None uses
            the user's cache, and embeds the texts that are not in it.

    Raises:
        ValueError: tokenizers or the folder are missing, or the folder belongs to another model.
    """

    def __init__(
        self, source: sources.Source, adapter: type[Adapter], dtype: torch.dtype, folder: str | None
    ) -> None:
        if folder is not None:
            check_folder(folder, source)
        self._source, self._adapter, self._dtype, self._folder = source, adapter, dtype, folder
        self._reader = self._load("tokenizer", {})  # the pipeline without networks
        self._tokenizers = adapter.tokenizers(self._reader)
        self._encoder: Any = None  # the pipeline with text encoders, while texts are embedded
        self.cache = self._find_cache()

    def embed(self, prompts: list[str]) -> TextEmbedding:
        """Embed N texts, without gradient; warn about truncated texts.

        Raises:
            ValueError: a text is not in the given folder, or a text encoder is missing.
        """
        for prompt in prompts:
            self._warn_of_cut(prompt)
        return reduce(TextEmbedding.join, [self._embed(prompt) for prompt in prompts])

    def free(self) -> None:
        """Free the text encoders."""
        self._encoder = None

    def unknown_words(self, prompt: str) -> list[str]:
        """Return the words of a prompt that the tokenizer does not know, in order, without duplicates."""
        return self._read(prompt).unknown

    def _read(self, prompt: str) -> ReadPrompt:
        is_known = known_words(self._tokenizers[0][0])
        if is_known is None:
            return ReadPrompt(prompt, [])
        return read(prompt, is_known, knows_no_places=self._source.model == "builtin")

    def _text(self, prompt: str) -> str:
        """Return what is embedded: to the embedded prior, words that it has never seen would be noise."""
        return self._read(prompt).text if self._source.model == "builtin" else prompt

    def _embed(self, prompt: str) -> TextEmbedding:
        """Embed one text, alone, so that the result does not depend on other texts in the batch."""
        found = None if self.cache is None else self.cache.read(prompt)
        if found is not None:
            return found
        if self._folder is not None:
            raise ValueError(
                f"the folder {self._folder} has no embedding of {prompt!r} by a {self._source.kind}: "
                f"{_HOW_TO_EMBED}"
            )
        if self._encoder is None:
            reads = [name for name in self._source.parts if name.startswith("tokenizer")]
            self._encoder = self._load("text_encoder", {name: getattr(self._reader, name) for name in reads})
        with torch.no_grad(), quiet():
            embedding = self._adapter.embed(self._encoder, [self._text(prompt)])
        self._keep(prompt, embedding)
        return embedding

    def _keep(self, prompt: str, embedding: TextEmbedding) -> None:
        if self.cache is None:
            return
        try:
            self.cache.write(prompt, embedding)
        except OSError as error:
            warnings.warn(
                f"an embedding could not be kept in {self.cache.folder} ({error.strerror}): "
                "the next run embeds again",
                stacklevel=2,
            )

    def _find_cache(self) -> EmbeddingFolder | None:
        source = self._source
        if self._folder is not None:
            return EmbeddingFolder(Path(self._folder), source.kind)
        if source.model == "builtin":
            return None
        own = [] if source.checkpoint is None else [fingerprint([source.checkpoint])]
        if source.commit is not None:
            return cache_of(source.kind, source.location, source.commit, *own, str(self._dtype))
        reads = [name for name in source.parts if name.startswith(("tokenizer", "text_encoder"))]
        files = [
            file for name in reads for file in (Path(source.location) / name).rglob("*") if file.is_file()
        ]
        return cache_of(source.kind, fingerprint(files), *own, str(self._dtype))

    def _load(self, prefix: str, given: dict[str, Any]) -> Any:
        """Load the components whose names start with ``prefix``, in addition to the given ones."""
        spare = [name for name in self._source.parts if not name.startswith(prefix)]
        return pipelines.load(
            self._source, self._dtype, dict.fromkeys((*spare, *self._adapter.unused)) | given
        )

    def _warn_of_cut(self, prompt: str) -> None:
        for tokenizer, limit in self._tokenizers:
            tokens = tokenizer(self._text(prompt)).input_ids
            if len(tokens) > limit:
                cut = tokenizer.decode(tokens[limit - 1 :], skip_special_tokens=True)
                warnings.warn(
                    f"the prompt has {len(tokens)} tokens, the view's name included, and a text encoder of "
                    f"the prior reads {limit}: {cut!r} is cut off. Shorten it",
                    stacklevel=4,
                )


def check_folder(folder: str, source: sources.Source) -> None:
    """Raise ValueError if there is no folder of embeddings, or it belongs to another model."""
    if not Path(folder).is_dir():
        raise ValueError(f"there is no folder of embeddings at {folder}: {_HOW_TO_EMBED}")
    check_label(Path(folder), source.identity)


_HOW_TO_EMBED = (
    "`python -m dreamfusion_pl embed --out FOLDER` with the same prompt and configuration makes it, "
    "where the text encoders are"
)
