"""``python -m dreamfusion_pl embed``: embeds the texts of fits in advance; they need no text encoder then."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.cli import instantiate_module

from dreamfusion_pl.batch.jobs import read_requests
from dreamfusion_pl.configuration.parsing import read_configuration
from dreamfusion_pl.configuration.trust import PLACEHOLDER_PRIOR
from dreamfusion_pl.diffusion.families.precision import Precision, resolve_dtype
from dreamfusion_pl.diffusion.families.pretrained import PretrainedPrior, family
from dreamfusion_pl.diffusion.families.text_encoders import TextEncoders
from dreamfusion_pl.diffusion.loading import sources
from dreamfusion_pl.diffusion.placeholder import PlaceholderPrior
from dreamfusion_pl.diffusion.text.embedding_cache import EmbeddingFolder, write_label
from dreamfusion_pl.diffusion.text.prompt_check import check_prompt
from dreamfusion_pl.terminal import guarded


class EncoderSettings(NamedTuple):
    """Those arguments of a prior that its text embeddings depend on."""

    model: str
    revision: str | None
    config: str | None
    dtype: Precision

    def open(self, out: Path | None) -> tuple[EmbeddingFolder | None, TextEncoders]:
        """Return the folder for embeddings (``out`` or the cache), and the text encoders.

        Raises:
            ValueError: ``out`` has embeddings of another model.
        """
        source = sources.find(self.model, self.revision, self.config)
        dtype = resolve_dtype(self.dtype, torch.device("cpu"))
        texts = TextEncoders(source, family(source), dtype, None)
        if out is None:
            return texts.cache, texts
        write_label(out, source.identity | {"dtype": str(dtype).removeprefix("torch.")})
        return EmbeddingFolder(out, source.kind), texts


def main(args: list[str]) -> int:
    """Run ``embed``; return the exit status."""
    return guarded(lambda: embed(*_parser().parse_known_args(args)), "embed")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dreamfusion_pl embed",
        description="Embed every text that a fit with these options would need: all views' and the negative "
        "one. They go into the user's cache, or into a folder that can be copied to a machine without text "
        "encoders: fit --model.prior.embeddings FOLDER. Every other option is one of fit, such as "
        "--config FILE or --prompt TEXT.",
        allow_abbrev=False,
    )
    parser.add_argument("--prompts", help="many prompts: .txt, .csv or .jsonl file as of batch, or 'world'")
    parser.add_argument("--out", type=Path, help="folder of the embeddings; default: the user's cache")
    return parser


def embed(options: argparse.Namespace, fit_options: list[str]) -> None:
    """Embed the texts of one prompt or of many, and print where the embeddings are.

    Raises:
        ValueError: an option is invalid, or a text encoder cannot be loaded.
        OSError: the embeddings cannot be written.
    """
    fits = [fit_options]
    if options.prompts is not None:
        requests = read_requests(options.prompts)
        fits = [[*fit_options, f"--prompt={check_prompt(one.prompt)}", *one.options] for one in requests]
    texts: dict[EncoderSettings, dict[str, None]] = {}
    for words in fits:
        encoder, needed = texts_of(words)
        texts.setdefault(encoder, {}).update(dict.fromkeys(needed))
    for encoder, needed_once in texts.items():
        folder = _embed_all(encoder, list(needed_once), options.out)
        print(f"{encoder.model}: {len(needed_once)} texts in {folder}")
    if options.out is not None:
        print(f"use: fit --model.prior.embeddings {options.out} with the same prompts and configuration")


def texts_of(words: list[str]) -> tuple[EncoderSettings, list[str]]:
    """Return the encoder settings of a fit with these command-line arguments, and the texts that it needs.

    The texts come from the fit's own model, which is built with a placeholder for the prior.

    Raises:
        ValueError: it is not a fit with a prompt, or its prior has no text encoders.
    """
    model = read_configuration(words)["model"]
    settings = model["init_args"]
    if settings.get("prompt") is None or "prior" not in settings:
        raise ValueError('embed is for a fit with a prompt: --prompt "a red chair", or --prompts FILE')
    prior: dict[str, Any] = settings["prior"]
    own = f"{PretrainedPrior.__module__}.{PretrainedPrior.__name__}"
    if prior["class_path"] != own:
        raise ValueError(f"the prior {prior['class_path']} has no text encoders: embed is for {own}")
    build = {"_class_path": model["class_path"], **settings, "prior": {"class_path": PLACEHOLDER_PRIOR}}
    built: Any = instantiate_module(LightningModule, build)
    assert isinstance(built.prior, PlaceholderPrior)
    return EncoderSettings(*(prior["init_args"][name] for name in EncoderSettings._fields)), built.prior.texts


def _embed_all(encoder: EncoderSettings, texts: list[str], out: Path | None) -> Path:
    known, embedder = encoder.open(out)
    if known is None:
        raise ValueError("embeddings of the embedded prior are not cached: pass --out FOLDER")
    for text in texts:
        embedding = embedder.embed([text])
        if (
            out is not None or known.read(text) is None
        ):  # writing raises if the cache could not be written before
            known.write(text, embedding)
    return known.folder
