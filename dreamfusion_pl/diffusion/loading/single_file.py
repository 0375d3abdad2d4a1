"""Single-file checkpoints (safetensors), as distributed outside of diffusers, and their contents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dreamfusion_pl.diffusion.loading import files
from dreamfusion_pl.diffusion.loading.errors import explained

PICKLED = (".ckpt", ".pt", ".pth", ".bin")
TEXT = ("cond_stage_model.", "conditioner.", "text_encoders.")  # prefixes of text encoders' weights
T5 = ("text_encoders.t5xxl.",)
PREFIXES = {  # of each component's weights; all other weights belong to the network
    "vae": ("first_stage_model.", "vae."),
    "text_encoder": ("cond_stage_model.", "conditioner.embedders.0.", "text_encoders.clip_l."),
    "text_encoder_2": ("conditioner.embedders.1.", "text_encoders.clip_g."),
    "text_encoder_3": T5,
}


def check_format(model: str) -> None:
    """Refuse pickled checkpoints, which could run code, and GGUF files, which are quantized.

    Raises:
        ValueError: ``model`` has the suffix of such a file.
    """
    if model.lower().endswith(".gguf"):
        raise ValueError(
            f"the checkpoint {model} is a GGUF file, which holds quantized weights. That is not supported. "
            "Take the model as safetensors in float16, bfloat16 or float32"
        )
    if model.lower().endswith(PICKLED):
        raise ValueError(
            f"the checkpoint {model} is pickled and is not loaded, because it may run code: use its "
            ".safetensors version, or convert it if you trust it"
        )


def check_kind(kind: str) -> None:
    """Check that diffusers can load this pipeline class from a single file. Unknown classes pass.

    Raises:
        ValueError: it cannot.
    """
    import diffusers
    from diffusers.loaders.single_file import FromSingleFileMixin

    pipeline = getattr(diffusers, kind, FromSingleFileMixin)
    if not issubclass(pipeline, FromSingleFileMixin):
        raise ValueError(
            f"diffusers cannot load a {kind} from a single-file checkpoint: use its folder or hub name"
        )


def config_of(file: Path) -> str:
    """Return the hub name of the pipeline that a checkpoint belongs to, from names and shapes of its weights.

    Raises:
        ValueError: the file is damaged, or diffusers does not recognize its weights.
    """
    from diffusers.loaders.single_file_utils import fetch_diffusers_config

    header = _header(file)
    try:
        return str(fetch_diffusers_config(header)["pretrained_model_name_or_path"])
    except Exception as error:
        what = f"the pipeline of the checkpoint {file} was not recognized"
        raise explained(error, what, "Name it with --model.prior.config") from error


def parts_in(file: Path, kind: str, names: list[str]) -> list[str]:
    """Return the pipeline components whose weights are in a checkpoint.

    Args:
        file: the checkpoint.
        kind: class name of the pipeline.
        names: names of the components to look for.

    Raises:
        ValueError: the file is damaged.
    """
    keys = _header(file).keys()

    prefixes = PREFIXES | ({"text_encoder_2": T5} if kind == "FluxPipeline" else {})

    def holds(name: str) -> bool:
        return name in ("unet", "transformer") or any(key.startswith(prefixes.get(name, ())) for key in keys)

    return [name for name in names if holds(name)]


def num_weights(file: Path) -> tuple[int, int, int]:
    """Count the weights in a checkpoint: (network, autoencoder, text encoders).

    Raises:
        ValueError: the file is damaged.
    """
    numbers = files.numbers_of(file)
    of_texts = sum(count for name, count in numbers.items() if name.startswith(TEXT))
    of_vae = sum(count for name, count in numbers.items() if name.startswith(PREFIXES["vae"]))
    return sum(numbers.values()) - of_vae - of_texts, of_vae, of_texts


def _header(file: Path) -> dict[str, Any]:
    """Return the weights' names and shapes, as tensors on the meta device."""
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as stored:
            names = list(stored.keys())
            shapes = [stored.get_slice(name).get_shape() for name in names]
    except (SafetensorError, OSError) as error:
        raise ValueError(f"the checkpoint {file} is damaged ({error}): download it again") from error
    return {name: torch.empty(shape, device="meta") for name, shape in zip(names, shapes, strict=True)}
