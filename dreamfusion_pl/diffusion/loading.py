"""Finds and loads diffusers pipelines, and says what to do about one that cannot be loaded."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch

from dreamfusion_pl.diffusion.quiet import quiet

BUILTIN = Path(__file__).parent / "builtin"
INDEX = "model_index.json"
CURE = (
    "Give the prior's model as 'builtin', a folder written by a pipeline's save_pretrained, or a hub name "
    "such as stable-diffusion-v1-5/stable-diffusion-v1-5"
)


class Source(NamedTuple):
    """Where a pipeline is."""

    model: str  # as the user wrote it
    location: str  # folder or hub name
    revision: str | None  # branch, tag or commit on the hub
    manifest: dict[str, Any]  # its model_index.json
    commit: str | None  # of the hub's model

    @property
    def kind(self) -> str:
        """Name of the pipeline's class."""
        return str(self.manifest.get("_class_name"))

    @property
    def parts(self) -> list[str]:
        """Names of the parts that the pipeline has."""
        return [name for name, value in self.manifest.items() if isinstance(value, list) and value[0]]


def find(model: str, revision: str | None = None) -> Source:
    """Find a pipeline and read its index.

    Args:
        model: ``builtin``, a folder, or a hub name ``owner/name``.
        revision: branch, tag or commit on the hub.

    Raises:
        ValueError: it is not there, not to be reached, or no pipeline; with what to do.
    """
    location = str(BUILTIN) if model == "builtin" else model
    folder = Path(location).expanduser()
    if folder.is_dir():
        return Source(model, str(folder), None, _read_index(model, folder / INDEX), None)
    if location.count("/") != 1 or location.startswith((".", "/", "~")):
        raise ValueError(f"the prior {model!r} is not there: no folder {location}. {CURE}.")
    file = _fetch_index(location, revision)
    return Source(model, location, revision, _read_index(model, file), file.parent.name)


def _read_index(model: str, file: Path) -> dict[str, Any]:
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(
            f"the prior {model!r} could not be read: no {INDEX} was found in {file.parent}. {CURE}."
        ) from error
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}): download the model again") from error
    if not isinstance(index, dict):
        raise ValueError(f"{file} is damaged (no object of JSON): download the model again")
    return index


def shards_of(file: Path) -> set[str]:
    """Return the names of the files that a network's weights are spread over."""
    try:
        return set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is damaged ({error!r}): download the model again") from error


def _fetch_index(name: str, revision: str | None) -> Path:
    """Return the index of a hub model, from the cache where there is no network."""
    from huggingface_hub import errors, hf_hub_download

    try:
        return Path(hf_hub_download(name, INDEX, revision=revision))
    except errors.GatedRepoError as error:
        raise ValueError(
            f"the prior {name!r} is gated: accept its licence at https://huggingface.co/{name} and log in "
            "with `hf auth login`, or give a folder that holds it"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ValueError(
            f"the hub has no model {name!r}, or it is private (`hf auth login`). {CURE}."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ValueError(
            f"the prior {name!r} has no revision {revision!r}: see its page on the hub"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        is_offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
        why = "HF_HUB_OFFLINE is set" if is_offline else "the hub cannot be reached"
        raise ValueError(
            f"the prior {name!r} is not on this disk and {why}: `hf download {name}` on a machine with a "
            "network, copy the folder here and pass it as the model; HF_ENDPOINT names a mirror"
        ) from error
    except errors.EntryNotFoundError as error:
        raise ValueError(
            f"the prior {name!r} is no diffusers pipeline: it has no {INDEX}. {CURE}."
        ) from error
    except (OSError, errors.HfHubHTTPError) as error:
        raise ValueError(
            f"the prior {name!r} could not be fetched: {error}. A folder that holds it needs no network"
        ) from error


def load(source: Source, dtype: torch.dtype, given: dict[str, Any]) -> Any:
    """Load a pipeline's weights; safetensors only, and no code but that of diffusers.

    Args:
        source: where it is.
        dtype: precision of the weights.
        given: parts that are not to be loaded: None, or the part itself.

    Returns:
        The diffusers pipeline on the CPU, ready to infer.

    Raises:
        ValueError: a part is missing or damaged.
    """
    import diffusers
    from safetensors import SafetensorError

    if Path(source.location).is_dir():
        _check_whole(source, [name for name in source.parts if name not in given])
    options = {"requires_safety_checker": False} if "safety_checker" in given else {}
    try:
        with quiet():
            pipeline = getattr(diffusers, source.kind).from_pretrained(
                source.location,
                revision=source.revision,
                dtype=dtype,
                use_safetensors=True,
                **given,
                **options,
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"the prior {source.model!r} could not be loaded: {error}\nIs it whole? Download it again, or "
            "take another model"
        ) from error
    for name in source.parts:
        part = getattr(pipeline, name)
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    return pipeline


def load_tiny(name: str, dtype: torch.dtype) -> Any:
    """Load a diffusers ``AutoencoderTiny`` from a folder or the hub.

    Raises:
        ValueError: it is not there.
    """
    from diffusers import AutoencoderTiny
    from safetensors import SafetensorError

    try:
        with quiet():
            tiny = AutoencoderTiny.from_pretrained(name, dtype=dtype, use_safetensors=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"the autoencoder {name!r} could not be loaded: {error}\nGive a folder or a hub name of an "
            "AutoencoderTiny, such as madebyollin/taesd"
        ) from error
    return tiny.eval().requires_grad_(False)


def _check_whole(source: Source, names: list[str]) -> None:
    """Raise ValueError where files of a folder's parts are missing, as after a download that broke off."""
    missing = [file for name in names for file in missing_files(Path(source.location) / name)]
    if missing:
        files = ", ".join(str(file.relative_to(source.location)) for file in missing)
        raise ValueError(
            f"the prior {source.model!r} is not whole, there is no {files}: download it again (pickled .bin "
            "and .ckpt weights are not loaded, for they may run code)"
        )


def missing_files(part: Path) -> list[Path]:
    """Return the files that the folder of a part lacks: its configuration, or its safetensors."""
    if not part.is_dir():
        return [part]
    if part.name.startswith(("tokenizer", "scheduler")):
        return [] if any(part.iterdir()) else [part / "*"]
    missing = [] if (part / "config.json").is_file() else [part / "config.json"]
    shards = [part / shard for index in part.glob("*.safetensors.index.json") for shard in shards_of(index)]
    if not shards and not list(part.glob("*.safetensors")):
        missing.append(part / "*.safetensors")
    return missing + [shard for shard in sorted(shards) if not shard.is_file()]
