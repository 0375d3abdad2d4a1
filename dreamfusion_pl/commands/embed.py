"""``python -m dreamfusion_pl embed``: embeds the texts of fits, so that these need no text encoder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.cli import instantiate_module

from dreamfusion_pl.batch.jobs import read_requests
from dreamfusion_pl.diffusion.families.precision import Precision, resolve_dtype
from dreamfusion_pl.diffusion.families.pretrained import PretrainedPrior, family
from dreamfusion_pl.diffusion.families.text_encoders import TextEncoders
from dreamfusion_pl.diffusion.loading import sources
from dreamfusion_pl.diffusion.placeholder import PlaceholderPrior
from dreamfusion_pl.diffusion.text.embedding_cache import EmbeddingFolder, write_label
from dreamfusion_pl.diffusion.text.prompt_check import check_prompt
from dreamfusion_pl.evaluation.finished_runs import PLACEHOLDER_PRIOR
from dreamfusion_pl.runs import read_configuration
from dreamfusion_pl.terminal import guarded


class Reader(NamedTuple):
    """What of a prior's arguments texts depend on."""

    model: str
    revision: str | None
    config: str | None
    dtype: Precision

    def open(self, out: Path | None) -> tuple[EmbeddingFolder | None, TextEncoders]:
        """Return where embeddings go, ``out`` or the cache, and what embeds.

        Raises:
            ValueError: in ``out`` are those of another model.
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
    """Embed the texts of one prompt or of many, and say where they are.

    Raises:
        ValueError: an option is wrong, or a text encoder cannot be loaded.
        OSError: the embeddings cannot be written.
    """
    fits = [fit_options]
    if options.prompts is not None:
        requests = read_requests(options.prompts)
        fits = [[*fit_options, f"--prompt={check_prompt(one.prompt)}", *one.options] for one in requests]
    texts: dict[Reader, dict[str, None]] = {}
    for words in fits:
        reader, needed = texts_of(words)
        texts.setdefault(reader, {}).update(dict.fromkeys(needed))
    for reader, needed_once in texts.items():
        folder = _embed_all(reader, list(needed_once), options.out)
        print(f"{reader.model}: {len(needed_once)} texts in {folder}")
    if options.out is not None:
        print(f"use: fit --model.prior.embeddings {options.out} with the same prompts and configuration")


def texts_of(words: list[str]) -> tuple[Reader, list[str]]:
    """Return what embeds for a fit with these words, and the texts that it would need.

    The fit's own model is asked, built without its prior.

    Raises:
        ValueError: it is no fit of a prompt, or its prior has no text encoders.
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
    return Reader(*(prior["init_args"][name] for name in Reader._fields)), built.prior.texts


def _embed_all(reader: Reader, texts: list[str], out: Path | None) -> Path:
    known, embedder = reader.open(out)
    if known is None:
        raise ValueError("the embedded prior's texts are not cached, it embeds at once: pass --out FOLDER")
    for text in texts:
        embedding = embedder.embed([text])
        if out is not None or known.read(text) is None:  # the cache could not be written: say why
            known.write(text, embedding)
    return known.folder
