"""Refuses pipelines whose files load, but which are not plain text-to-image models in floating point."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dreamfusion_pl.diffusion.loading import files
from dreamfusion_pl.diffusion.loading.sources import Source

WITHOUT_WEIGHTS = ("tokenizer", "scheduler")  # prefixes of components that have no weights
NETWORKS = ("unet", "transformer")
READS = {  # what a network with so many channels for latents of 4 (or pictures of 3) reads besides the noise
    (9, 4): "an inpainting model, which also reads a mask and the masked picture",
    (8, 4): "a model that edits a given picture (InstructPix2Pix)",
    (7, 4): "a model that enlarges a given picture",
    (5, 4): "a model that also reads a depth map",
    (6, 3): "a later stage of DeepFloyd IF, which enlarges a given picture",
}
INTEGERS = ("I8", "U8", "I16", "U16", "I32", "U32")
SCALES = re.compile(
    r"(quant_state|absmax|quant_map|qweight|qzeros|wscales|weight_scale|scale_weight|scaled_fp8|\bSCB$)"
)  # in the names of tensors that hold, or accompany, quantized weights
CURE = "Take the model in float16, bfloat16 or float32"


def check(source: Source, parts: list[str], may_fetch: bool) -> None:
    """Check the configurations and the headers of the weights of a pipeline's components.

    Args:
        source: location of the pipeline.
        parts: names of the components that are loaded.
        may_fetch: whether to download the configurations of a hub model. Those that are not there are not
            checked.

    Raises:
        ValueError: weights are quantized; the network reads more than a noisy image, a time and a text; or
            the pipeline's class would ignore how its autoencoder normalizes latents.
    """
    parts = [name for name in parts if not name.startswith(WITHOUT_WEIGHTS)]
    configs = {name: config_of(source, name, may_fetch) for name in parts}
    _check_not_quantized(source, configs)
    _check_inputs(source, configs)
    vae = configs.get("vae", {})
    if source.kind != "StableDiffusionXLPipeline" and vae.get("latents_mean") and vae.get("latents_std"):
        raise ValueError(
            f"the prior {source.model!r}: its autoencoder normalizes latents by mean and deviation "
            f"(latents_mean, latents_std), which a {source.kind} of diffusers ignores. Its pictures would be "
            "wrong there too: take another model"
        )


def config_of(source: Source, part: str, may_fetch: bool = False) -> dict[str, Any]:
    """Return the configuration of a component; an empty one if it is not there or damaged."""
    file = source.folder / part / "config.json"
    if not file.is_file() and may_fetch and source.commit is not None:
        from huggingface_hub import hf_hub_download

        try:
            file = Path(hf_hub_download(source.location, f"{part}/config.json", revision=source.revision))
        except Exception:  # the loader reports what is missing
            return {}
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # the loader reports it
        return {}
    return config if isinstance(config, dict) else {}


def _check_not_quantized(source: Source, configs: Mapping[str, dict[str, Any]]) -> None:
    found = {
        name: (config["quantization_config"] or {}).get("quant_method", "unknown method")
        for name, config in configs.items()
        if config.get("quantization_config")
    }
    for name in configs:
        if name not in found and any(map(_has_quantized, files.weight_files(source.folder / name))):
            found[name] = "by its weights"
    if found:
        named = ", ".join(f"{name} ({method})" for name, method in found.items())
        raise ValueError(f"the prior {source.model!r} is quantized: {named}. That is not supported. {CURE}")
    if source.checkpoint is not None and _has_quantized(source.checkpoint):
        raise ValueError(
            f"the checkpoint {source.model!r} holds quantized weights. That is not supported. {CURE}"
        )


def _has_quantized(file: Path) -> bool:
    """Whether a safetensors file holds quantized weights: integers, or numbers that need a scale."""
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        return False
    try:
        with safe_open(file, "pt") as stored:
            names = list(stored.keys())
            kinds = {name: stored.get_slice(name).get_dtype() for name in names}
    except (SafetensorError, OSError):  # the loader reports it
        return False
    return any(
        SCALES.search(name) or (name.endswith("weight") and kind in INTEGERS) for name, kind in kinds.items()
    )


def _check_inputs(source: Source, configs: Mapping[str, dict[str, Any]]) -> None:
    network = next((configs[name] for name in NETWORKS if name in configs), {})
    own = network.get("in_channels")
    expected = configs["vae"].get("latent_channels") if "vae" in configs else 3
    if "vae" not in configs and "vae" in source.parts:
        expected = None  # the autoencoder is elsewhere: in a single file
    if isinstance(own, int) and isinstance(expected, int):
        own //= 4 if source.kind == "FluxPipeline" else 1  # 2 x 2 latents are one token
        if own != expected:
            space = "latents" if "vae" in configs else "pictures"
            what = READS.get((own, expected), "it reads more than a noisy picture and a text")
            raise ValueError(
                f"the prior {source.model!r} is no text-to-image model: its network takes {own} channels, "
                f"and its {space} have {expected} ({what}). Take the text-to-image model that it comes from"
            )
    if network.get("class_embed_type") or network.get("num_class_embeds"):
        raise ValueError(
            f"the prior {source.model!r} is no text-to-image model: its network also takes a class label or "
            "a noise level (as models that enlarge pictures do). Take a text-to-image model"
        )
