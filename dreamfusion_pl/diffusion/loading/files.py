"""Which files the folder of a pipeline must hold, and what they need to be read."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterable
from pathlib import Path

VOCABULARIES = (("tokenizer.json",), ("spiece.model",), ("vocab.json", "merges.txt"))  # one is enough
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


def weight_files(part: Path) -> list[Path]:
    """Return the files that a network's weights are in, by the names that its loader looks for."""
    name = "model" if part.name.startswith("text_encoder") else "diffusion_pytorch_model"
    index = part / f"{name}.safetensors.index.json"
    if index.is_file():
        return sorted(part / shard for shard in shards_of(index))
    return [part / f"{name}.safetensors"]


def missing_files(part: Path) -> list[Path]:
    """Return the files that the folder of a part lacks, of those without which it is not loaded."""
    if not part.is_dir():
        return [part]
    if part.name.startswith("scheduler"):
        needed = [part / "scheduler_config.json"]
    elif part.name.startswith("tokenizer"):
        found = [names for names in VOCABULARIES if all((part / name).is_file() for name in names)]
        names = found[0] if found else VOCABULARIES[0]  # without any, transformers would make up a vocabulary
        needed = [part / "tokenizer_config.json", *(part / name for name in names)]
    else:
        needed = [part / "config.json", *weight_files(part)]
    return [file for file in needed if not file.is_file()]


def num_weights(part: Path) -> int:
    """Number of weights in the folder of a part, from the headers of its files; 0 for a part without any.

    Raises:
        ValueError: a file is damaged.
    """
    return sum(sum(numbers_of(file).values()) for file in weight_files(part) if file.is_file())


def numbers_of(file: Path) -> dict[str, int]:
    """Number of weights in every tensor of a safetensors file, by name; only its header is read.

    Raises:
        ValueError: the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as stored:
            names = list(stored.keys())
            return {name: math.prod(stored.get_slice(name).get_shape()) for name in names}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} is damaged ({error}): download it again") from error


def lacks_sentencepiece(folder: Path, parts: Iterable[str]) -> bool:
    """Whether one of a pipeline's parts is a tokenizer that only the absent package sentencepiece reads."""
    return importlib.util.find_spec("sentencepiece") is None and any(
        (folder / part / "spiece.model").is_file() and not (folder / part / "tokenizer.json").is_file()
        for part in parts
    )
