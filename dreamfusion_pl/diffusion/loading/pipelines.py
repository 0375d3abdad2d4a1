"""Loads the weights of diffusers pipelines, with errors that say how to fix a failure."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch

from dreamfusion_pl.diffusion.loading import files, single_file, suitability
from dreamfusion_pl.diffusion.loading.errors import explained
from dreamfusion_pl.diffusion.loading.library_logging import quiet
from dreamfusion_pl.diffusion.loading.sources import Source


def load(source: Source, dtype: torch.dtype, given: dict[str, Any]) -> Any:
    """Load a pipeline from safetensors files; only code of diffusers is run.

    Args:
        source: location of the pipeline.
        dtype: precision of the weights.
        given: components that are not loaded: the component itself, or None to leave it out.

    Returns:
        The diffusers pipeline on the CPU, in evaluation mode and frozen.

    Raises:
        ValueError: a component is missing or damaged, or the pipeline is not suitable.
    """
    wanted = [name for name in source.parts if name not in given]
    suitability.check(source, wanted, may_fetch=True)
    held = [] if source.checkpoint is None else single_file.parts_in(source.checkpoint, source.kind, wanted)
    others = given | dict.fromkeys(held)
    if Path(source.location).is_dir():
        _check_complete(source, [name for name in source.parts if name not in others])
    variant = _variant(source, [name for name in source.parts if name not in others])
    options = {"use_safetensors": True} | ({} if variant is None else {"variant": variant})
    pipeline = _call(source, "from_pretrained", source.location, dtype, others | options)
    if held:
        parts = given | {name: getattr(pipeline, name) for name in wanted if name not in held}
        parts |= {"config": source.location}
        pipeline = _call(source, "from_single_file", source.checkpoint, dtype, parts)
    for name in source.parts:
        part = getattr(pipeline, name)
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    return pipeline


def _call(source: Source, method: str, place: Any, dtype: torch.dtype, arguments: dict[str, Any]) -> Any:
    """Call a loading method of the pipeline's class."""
    import diffusers

    if "safety_checker" in arguments:
        arguments |= {"requires_safety_checker": False}
    try:
        with quiet():
            loader = getattr(getattr(diffusers, source.kind), method)
            return loader(place, revision=source.revision, dtype=dtype, **arguments)
    except Exception as error:
        what = f"the prior {source.model!r} could not be loaded"
        wanted = [name for name in source.parts if name not in arguments]
        if files.lacks_sentencepiece(source.folder, wanted):
            raise ValueError(f"{what}: {files.SENTENCEPIECE}") from error
        raise explained(error, what, "Is it complete? Download it again, or use another model") from error


def _variant(source: Source, names: list[str]) -> str | None:
    """Return the variant of the weights to load, such as "fp16"; None for the plain files."""
    parts = [name for name in names if not name.startswith(suitability.WITHOUT_WEIGHTS)]
    found = [path.relative_to(source.folder).as_posix() for path in source.folder.glob("*/*")]
    if source.commit is not None and any(files.missing_files(source.folder / name) for name in parts):
        from huggingface_hub import list_repo_files

        with contextlib.suppress(Exception):  # without a network, the loader reports what is missing
            found = list_repo_files(source.location, revision=source.commit)
    return files.variant_of(found, parts)


def load_tiny(name: str, dtype: torch.dtype) -> Any:
    """Load a diffusers ``AutoencoderTiny`` from a folder or the hub.

    Raises:
        ValueError: it cannot be loaded.
    """
    from diffusers import AutoencoderTiny

    found = [f"{Path(name).name}/{file.name}" for file in Path(name).glob("*")]
    variant = files.variant_of(found, [Path(name).name])
    try:
        with quiet():
            tiny = AutoencoderTiny.from_pretrained(name, dtype=dtype, use_safetensors=True, variant=variant)
    except Exception as error:
        cure = "Give a folder or a hub name of an AutoencoderTiny, such as madebyollin/taesd"
        raise explained(error, f"the autoencoder {name!r} could not be loaded", cure) from error
    return tiny.eval().requires_grad_(False)


def _check_complete(source: Source, names: list[str]) -> None:
    """Raise ValueError if files of a pipeline folder are missing, as after an interrupted download."""
    missing = [file for name in names for file in files.missing_files(source.folder / name)]
    if missing:
        absent = ", ".join(str(file.relative_to(source.folder)) for file in missing)
        raise ValueError(
            f"the prior {source.model!r} is incomplete, missing: {absent}. Download it again (pickled .bin "
            "and .ckpt weights are not loaded, because they may run code)"
        )
