"""Text embeddings on disk: computed once, on this or another machine."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import final

from dreamfusion_pl.atomic import replacing
from dreamfusion_pl.device.user_cache import user_cache
from dreamfusion_pl.types import TextEmbedding

FORMAT = "1"  # raise it when the meaning of an entry changes: older entries are then not found
LABEL = "model.json"  # identifies the model in a folder of embeddings
LIBRARIES = ("diffusers", "transformers")  # their code determines the embedding of a text


@final
class EmbeddingFolder:
    """One safetensors file per text, so that runs with different prompts reuse the texts they share.

    Args:
        folder: folder of the files; it is created at the first write.
        kind: class of the pipeline whose text encoders are used.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self._kind = folder, kind

    def file(self, text: str) -> Path:
        """Return the path of the embedding of a text."""
        return self.folder / f"{_digest(FORMAT, self._kind, text)}.safetensors"

    def read(self, text: str) -> TextEmbedding | None:
        """Return the embedding of one text; None if its file is missing or damaged."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.file(text), "pt") as stored:
                if stored.metadata() != self._label(text):
                    return None
                names = set(stored.keys())
                parts = {name: stored.get_tensor(name) for name in TextEmbedding._fields if name in names}
        except (OSError, SafetensorError):
            return None
        return TextEmbedding(**parts) if "tokens" in parts else None

    def write(self, text: str, embedding: TextEmbedding) -> Path:
        """Write the embedding of one text atomically, and return its path.

        Raises:
            OSError: it cannot be written.
        """
        from safetensors.torch import save

        parts = {name: part.contiguous() for name, part in embedding._asdict().items() if part is not None}
        data, file = save(parts, self._label(text)), self.file(text)
        with replacing(file) as draft:
            draft.write_bytes(data)
        return file

    def _label(self, text: str) -> dict[str, str]:
        # A single key: safetensors does not keep the order of several.
        return {"entry": json.dumps([FORMAT, self._kind, text])}


def write_label(folder: Path, identity: Mapping[str, str | None]) -> None:
    """Write a label with the identity of the model into a folder of embeddings.

    Raises:
        ValueError: the folder holds the embeddings of another model.
        OSError: it cannot be written.
    """
    check_label(folder, identity)
    with replacing(folder / LABEL) as draft:
        draft.write_text(json.dumps(identity, indent=2) + "\n", encoding="utf-8")


def check_label(folder: Path, identity: Mapping[str, str | None]) -> None:
    """Refuse a folder whose label names another model; a folder without a label is accepted.

    Args:
        folder: folder of embeddings.
        identity: identity of the model; entries that are None on either side are unknown and not compared.

    Raises:
        ValueError: the label names another model, or is damaged.
    """
    file = folder / LABEL
    try:
        found = dict(json.loads(file.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file} is damaged ({error}): embed again, into a new folder") from error
    other = [
        f"{name} {found[name]} (here {value})"
        for name, value in identity.items()
        if None not in (value, found.get(name)) and found[name] != value
    ]
    if other:
        raise ValueError(
            f"the embeddings in {folder} are of another model: {', '.join(other)}. Every model and "
            "precision needs a folder of its own: `python -m dreamfusion_pl embed --out FOLDER`"
        )


def cache_of(kind: str, *identity: str) -> EmbeddingFolder:
    """Return the folder for one model in the user's cache.

    Args:
        kind: class of the pipeline.
        identity: everything except the text that the embeddings of this model depend on.
    """
    versions = [importlib.metadata.version(name) for name in LIBRARIES]
    return EmbeddingFolder(user_cache() / "embeddings" / _digest(FORMAT, *versions, kind, *identity), kind)


def fingerprint(files: Iterable[Path]) -> str:
    """Hash files by name, size, modification time and first MiB.

    This covers all of a configuration file and the header of a weight file. Reading a whole T5-XXL would take
    about as long as using it.
    """
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(files):
        with file.open("rb") as stream:
            head = stream.read(1 << 20)
            status = os.fstat(stream.fileno())
        digest.update(f"{file.name}/{status.st_size}/{status.st_mtime_ns}/{len(head)}/".encode())
        digest.update(head)
    return digest.hexdigest()


def _digest(*parts: str) -> str:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
