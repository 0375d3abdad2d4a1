"""Embeddings of texts on disk: computed once, here or on another machine."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import final

from dreamfusion_pl.atomic import replacing
from dreamfusion_pl.types import TextEmbedding

FORMAT = "1"  # goes up when an entry comes to mean something else: older ones are then not found
LABEL = "model.json"  # says in a folder of embeddings of which model they are
LIBRARIES = ("diffusers", "transformers")  # their code says how a text is embedded


@final
class EmbeddingFolder:
    """One safetensors file for every text, so that runs with other prompts find those that they share.

    Args:
        folder: where the files lie; it is made when there is something to write.
        kind: class of the pipeline whose encoders embed.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self._kind = folder, kind

    def file(self, text: str) -> Path:
        """Where the embedding of a text lies."""
        return self.folder / f"{_digest(FORMAT, self._kind, text)}.safetensors"

    def read(self, text: str) -> TextEmbedding | None:
        """Return the embedding of one text; None where there is none, or its file is damaged."""
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
        """Write the embedding of one text; the file is there whole or not at all.

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
        return {"entry": json.dumps([FORMAT, self._kind, text])}  # in one: safetensors would shuffle several


def write_label(folder: Path, identity: Mapping[str, str | None]) -> None:
    """Say in a folder of which model its embeddings are.

    Raises:
        ValueError: it holds those of another model.
        OSError: it cannot be written.
    """
    check_label(folder, identity)
    with replacing(folder / LABEL) as draft:
        draft.write_text(json.dumps(identity, indent=2) + "\n", encoding="utf-8")


def check_label(folder: Path, identity: Mapping[str, str | None]) -> None:
    """Refuse a folder that says that its embeddings are of another model; one that says nothing passes.

    Args:
        folder: of embeddings.
        identity: of the model; what is None, here or there, is not known and not compared.

    Raises:
        ValueError: they are, or what it says is damaged.
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
    """Return the folder in the user's cache for one model.

    Args:
        kind: class of the pipeline.
        identity: all that the embeddings of this model depend on but the text.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dreamfusion_pl" / "embeddings"
    versions = [importlib.metadata.version(name) for name in LIBRARIES]
    return EmbeddingFolder(root / _digest(FORMAT, *versions, kind, *identity), kind)


def fingerprint(files: Iterable[Path]) -> str:
    """Digest files by name, size, time of change and first MiB.

    That is all of a configuration and the header of any weights. All of a T5-XXL would take about as long to
    read as to use.
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
