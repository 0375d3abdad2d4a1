"""Files of a pipeline folder: which ones are required, and how many weights they hold."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterable
from pathlib import Path

VOCABULARIES = (("tokenizer.json",), ("spiece.model",), ("vocab.json", "merges.txt"))  # one of them is enough
SENTENCEPIECE = (
    "its tokenizer is a SentencePiece file, which needs the package sentencepiece: "
    'pip install "sentencepiece>=0.2"'
)


def shards_of(file: Path) -> set[str]:
    """Return the file names of the shards in an index file of sharded weights."""
    try:
        return set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is damaged ({error!r}): download the model again") from error


def weight_files(part: Path) -> list[Path]:
    """Return the safetensors files of a network, under the names that diffusers and transformers use."""
    name = "model" if part.name.startswith("text_encoder") else "diffusion_pytorch_model"
    index = part / f"{name}.safetensors.index.json"
    if index.is_file():
        return sorted(part / shard for shard in shards_of(index))
    return [part / f"{name}.safetensors"]


def missing_files(part: Path) -> list[Path]:
    """Return the required files that are missing in the folder of a pipeline component."""
    if not part.is_dir():
        return [part]
    if part.name.startswith("scheduler"):
        needed = [part / "scheduler_config.json"]
    elif part.name.startswith("tokenizer"):
        found = [names for names in VOCABULARIES if all((part / name).is_file() for name in names)]
        names = (
            found[0] if found else VOCABULARIES[0]
        )  # if none exists, transformers would invent a vocabulary
        needed = [part / "tokenizer_config.json", *(part / name for name in names)]
    else:
        needed = [part / "config.json", *weight_files(part)]
    return [file for file in needed if not file.is_file()]


def num_weights(part: Path) -> int:
    """Count the weights in the folder of a component, from file headers; 0 for a component without weights.

    Raises:
        ValueError: a file is damaged.
    """
    return sum(sum(numbers_of(file).values()) for file in weight_files(part) if file.is_file())


def numbers_of(file: Path) -> dict[str, int]:
    """Return the number of weights of every tensor in a safetensors file, by name; reads only the header.

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
    """Whether a component is a tokenizer that needs the package sentencepiece, and that is not installed."""
    return importlib.util.find_spec("sentencepiece") is None and any(
        (folder / part / "spiece.model").is_file() and not (folder / part / "tokenizer.json").is_file()
        for part in parts
    )
