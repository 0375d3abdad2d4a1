"""LoRA, low-rank adaptation: W + scale B A, fused into the weights of the network at loading."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from dreamfusion_pl.diffusion.loading.errors import explained
from dreamfusion_pl.diffusion.loading.library_logging import quiet

HUB_FILE = "pytorch_lora_weights.safetensors"  # file name of diffusers' training scripts
TEXT = ("text_encoder", "lora_te")  # prefixes of text encoders' weights
OTHERS = {  # other adaptations, by a part of their weights' names; diffusers would drop or not find these
    "dora_scale": "DoRA in another format than that of diffusers",
    "hada_w": "LoHa",
    "lokr_w": "LoKr",
    ".oft_": "OFT",
    ".diff": "full differences of weights",
    ".on_input": "IA3",
}
DOWN = ("lora_A.weight", "lora.down.weight", "lora_down.weight")  # suffixes of A


def fuse_lora(pipeline: Any, part: str, name: str, scale: float) -> None:
    """Fuse a LoRA into the network of a diffusers pipeline.

    Weights for text encoders, which some files also contain, are ignored with a warning: texts are always
    embedded by the model's original text encoders.

    Args:
        pipeline: the pipeline; its network is changed in place.
        part: name of the network's component, such as "unet".
        name: a safetensors file, or ``owner/name`` or ``owner/name/file.safetensors`` on the hub.
        scale: LoRA scale; 1 is the strength of its training.

    Raises:
        ValueError: the LoRA is not found, is another kind of adaptation, or belongs to another model family.
    """
    from diffusers.loaders.lora_base import LoraBaseMixin
    from diffusers.utils.logging import CRITICAL, set_verbosity

    if not isinstance(pipeline, LoraBaseMixin):
        raise ValueError(f"diffusers loads no LoRA into a {type(pipeline).__name__}: leave out lora")
    check_peft()
    stored = _read(name)
    check_kind(name, stored)
    weights = {key: value for key, value in stored.items() if not key.startswith(TEXT)}
    if len(weights) < len(stored):
        warnings.warn(
            f"the LoRA {name!r} also changes text encoders: that part of it is ignored", stacklevel=2
        )
    network = getattr(pipeline, part)
    other = f"is it of another family than this {type(pipeline).__name__}? Take one that was trained with it"
    try:
        with quiet():
            set_verbosity(CRITICAL)  # mismatches are reported below
            pipeline.load_lora_weights(weights)
    except Exception as error:
        raise ValueError(f"the LoRA {name!r} does not fit: {other}.\n{_first_line(error)}") from error
    asked, found = sum(key.endswith(DOWN) for key in weights), _num_changed(network)
    if found < max(asked, 1):
        raise ValueError(f"of the LoRA {name!r} {found} of {asked} layers were found in the network: {other}")
    pipeline.fuse_lora(components=[part], lora_scale=scale)
    pipeline.unload_lora_weights()  # the fused weights stay
    network.requires_grad_(False)


def check_kind(name: str, keys: Iterable[str]) -> None:
    """Refuse other adaptations than LoRA and diffusers' DoRA, which would be applied in part or not at all.

    Args:
        name: the file, for the message.
        keys: names of its weights.

    Raises:
        ValueError: it holds another adaptation.
    """
    keys = list(keys)
    found = [kind for part, kind in OTHERS.items() if any(part in key for key in keys)]
    if found:
        raise ValueError(
            f"the LoRA {name!r} is no plain LoRA, it holds {' and '.join(found)}: that is not supported. "
            "Take a LoRA, or merge it into the model with the program that made it"
        )


def check_peft() -> None:
    """Raise ValueError if the package peft, which a LoRA needs, is not installed."""
    if importlib.util.find_spec("peft") is None:
        raise ValueError('a LoRA needs the package peft: pip install "peft>=0.21"')


def place_on_hub(name: str) -> tuple[str, str]:
    """Return repository and file name of a LoRA on the hub.

    Raises:
        ValueError: ``name`` is not a valid hub name.
    """
    owner, _, rest = name.partition("/")
    repository, _, file = rest.partition("/")
    if not owner or not repository or owner.startswith((".", "~")):
        raise ValueError(
            f"there is no LoRA {name!r}: give a safetensors file, or on the hub owner/name or "
            "owner/name/file.safetensors"
        )
    return f"{owner}/{repository}", file or HUB_FILE


def _read(name: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = Path(name).expanduser()
    if not file.is_file():
        file = _fetch(name)
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"the LoRA {name!r} is not a complete safetensors file ({error}): download it again (pickled "
            "files are not loaded, because they may run code)"
        ) from error


def _fetch(name: str) -> Path:
    from huggingface_hub import hf_hub_download

    repository, file = place_on_hub(name)
    try:
        return Path(hf_hub_download(repository, file))
    except Exception as error:
        cure = "Give a safetensors file, or on the hub owner/name or owner/name/file.safetensors"
        raise explained(error, f"the LoRA {name!r} could not be fetched", cure) from error


def _num_changed(network: Any) -> int:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return sum(isinstance(module, BaseTunerLayer) for module in network.modules())


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
