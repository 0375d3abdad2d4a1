"""Locates diffusers pipelines (embedded, folder, hub, single file), with errors that say how to fix it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from dreamfusion_pl.diffusion.loading import single_file
from dreamfusion_pl.diffusion.loading.errors import explained

BUILTIN = Path(__file__).parent.parent / "builtin"
INDEX = "model_index.json"
CURE = (
    "Give the prior's model as 'builtin', a folder written by a pipeline's save_pretrained, or a hub name "
    "such as stable-diffusion-v1-5/stable-diffusion-v1-5"
)


class Source(NamedTuple):
    """Location of a pipeline."""

    model: str  # as given by the user
    location: str  # folder or hub name
    revision: str | None  # branch, tag or commit on the hub
    manifest: dict[str, Any]  # its model_index.json
    commit: str | None  # commit of a hub model
    folder: Path  # folder of its files; for a hub model, the one in the cache
    checkpoint: Path | None = None  # single file whose weights take precedence over those of ``location``

    @property
    def kind(self) -> str:
        """Class name of the pipeline."""
        return str(self.manifest.get("_class_name"))

    @property
    def identity(self) -> dict[str, str | None]:
        """Identifies the model on any machine: a folder by its name, not by its path."""
        place = self.location if self.commit is not None else self.folder.resolve().name
        if self.checkpoint is None:
            return {"kind": self.kind, "model": place, "commit": self.commit, "config": None}
        return {"kind": self.kind, "model": self.checkpoint.name, "commit": self.commit, "config": place}

    @property
    def parts(self) -> list[str]:
        """Names of the pipeline's components."""
        named = {name: value for name, value in self.manifest.items() if not name.startswith("_")}
        return [name for name, value in named.items() if isinstance(value, list) and value[0]]


def find(model: str, revision: str | None = None, config: str | None = None) -> Source:
    """Find a pipeline and read its index.

    Args:
        model: ``builtin``, a folder, a hub name ``owner/name``, or a single-file safetensors checkpoint.
        revision: branch, tag or commit on the hub.
        config: folder or hub name of the pipeline of a single-file checkpoint; None infers it from the
            weights.

    Raises:
        ValueError: there is no such model, it cannot be reached, or it is not a pipeline; the message says
            how to fix it.
    """
    single_file.check_format(model)
    if not model.endswith(".safetensors"):
        if config is not None:
            raise ValueError(
                f"config is for a single-file checkpoint, and {model!r} is not one: leave it out"
            )
        return _find_pipeline(model, revision)
    checkpoint = Path(model).expanduser()
    if not checkpoint.is_file():
        raise ValueError(f"the prior {model!r} is not there: no such file. {CURE}.")
    try:
        source = _find_pipeline(config or single_file.config_of(checkpoint), revision)
    except ValueError as error:
        raise ValueError(
            f"the checkpoint {model!r} needs the configurations and tokenizers of its pipeline, a folder or "
            f"hub name given as --model.prior.config: {error}"
        ) from error
    single_file.check_kind(source.kind)
    return source._replace(model=model, checkpoint=checkpoint)


def is_hub_name(name: str) -> bool:
    """Whether a name has the form of a hub name, ``owner/name``."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def _find_pipeline(model: str, revision: str | None) -> Source:
    location = str(BUILTIN) if model == "builtin" else model
    folder = Path(location).expanduser()
    if folder.is_dir():
        return Source(model, str(folder), None, _read_index(model, folder / INDEX), None, folder)
    if not is_hub_name(location):
        raise ValueError(f"the prior {model!r} is not there: no folder {location}. {CURE}.")
    file = _fetch_index(location, revision)
    return Source(model, location, revision, _read_index(model, file), file.parent.name, file.parent)


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
        raise ValueError(f"{file} is damaged (not a JSON object): download the model again")
    named = [value for name, value in index.items() if isinstance(value, list) and not name.startswith("_")]
    if any(len(value) != 2 for value in named):
        raise ValueError(f"{file} is damaged (a part without library and class): download the model again")
    return index


def _fetch_index(name: str, revision: str | None) -> Path:
    """Return the index file of a hub model, from the cache if there is no network."""
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
    except Exception as error:
        what, cure = f"the prior {name!r} could not be fetched", "A folder that holds it needs no network"
        raise explained(error, what, cure) from error
