"""Which files the folder of a pipeline must hold, and what they need to be read."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable
from pathlib import Path

SENTENCEPIECE = (
    "its tokenizer is a SentencePiece file, which needs the package sentencepiece: "
    'pip install "sentencepiece>=0.2"'
)


def shards_of(file: Path) -> set[str]:
    """Return the names of the files that a network's weights are spread over."""
    try:
        return set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is damaged ({error!r}): download the model again") from error


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


def lacks_sentencepiece(folder: Path, parts: Iterable[str]) -> bool:
    """Whether one of a pipeline's parts is a tokenizer that only the absent package sentencepiece reads."""
    return importlib.util.find_spec("sentencepiece") is None and any(
        (folder / part / "spiece.model").is_file() and not (folder / part / "tokenizer.json").is_file()
        for part in parts
    )
