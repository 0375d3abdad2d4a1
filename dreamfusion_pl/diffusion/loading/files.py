"""Files of a pipeline folder: which ones are required, and how many weights they hold."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Collection, Iterable
from pathlib import Path

VOCABULARIES = (("tokenizer.json",), ("spiece.model",), ("vocab.json", "merges.txt"))  # one of them is enough
VARIANTS = ("fp16", "bf16")  # hub names of smaller copies of the weights, as in model.fp16.safetensors
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
    """Return the safetensors files of a network, under the names that diffusers and transformers use.

    If the folder has only the files of a variant, such as ``model.fp16.safetensors``, these are returned.
    """
    names = {file.name for file in part.iterdir()} if part.is_dir() else set()
    variant = _variant_of(part.name, names)
    index = part / _index(part.name, variant)
    if index.is_file():
        return sorted(part / shard for shard in shards_of(index))
    return [part / _weights(part.name, variant)]


def variant_of(files: Collection[str], parts: Iterable[str]) -> str | None:
    """Return the variant that a pipeline must be loaded as: the one that some component has nothing but.

    Args:
        files: paths of the pipeline's files, such as ``unet/diffusion_pytorch_model.fp16.safetensors``.
        parts: names of the components that are loaded.
    """
    for part in parts:
        names = {file.removeprefix(f"{part}/") for file in files if file.startswith(f"{part}/")}
        variant = _variant_of(part, names)
        if variant is not None:
            return variant
    return None


def _variant_of(part: str, names: Collection[str]) -> str | None:
    """Return the only variant that a component's file names offer; None if the plain files are there."""

    def offers(variant: str | None) -> bool:
        return _weights(part, variant) in names or _index(part, variant) in names

    return None if offers(None) else next(filter(offers, VARIANTS), None)


def _weights(part: str, variant: str | None) -> str:
    """Return the file name of a component's weights in a variant."""
    stem = "model" if part.startswith("text_encoder") else "diffusion_pytorch_model"
    return f"{stem}.safetensors" if variant is None else f"{stem}.{variant}.safetensors"


def _index(part: str, variant: str | None) -> str:
    """Return the file name of the index of a component's sharded weights in a variant."""
    plain = f"{_weights(part, None)}.index"
    return f"{plain}.json" if variant is None else f"{plain}.{variant}.json"


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
