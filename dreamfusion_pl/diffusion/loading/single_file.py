"""Checkpoints in one safetensors file, as they go round outside of diffusers: what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dreamfusion_pl.diffusion.loading import files
from dreamfusion_pl.diffusion.loading.errors import explained

PICKLED = (".ckpt", ".pt", ".pth", ".bin")
TEXT = ("cond_stage_model.", "conditioner.", "text_encoders.")  # how weights of text encoders begin
T5 = ("text_encoders.t5xxl.",)
HELD_BY = {  # how the names of a part's weights begin; any other weights are the network's
    "vae": ("first_stage_model.", "vae."),
    "text_encoder": ("cond_stage_model.", "conditioner.embedders.0.", "text_encoders.clip_l."),
    "text_encoder_2": ("conditioner.embedders.1.", "text_encoders.clip_g."),
    "text_encoder_3": T5,
}


def check_not_pickled(model: str) -> None:
    """Refuse a pickled checkpoint.

    Raises:
        ValueError: it is one.
    """
    if model.lower().endswith(PICKLED):
        raise ValueError(
            f"the checkpoint {model} is pickled, and is not opened, for it may run code: take its "
            ".safetensors, or convert it where you trust it"
        )


def check_kind(kind: str) -> None:
    """Refuse a kind of pipeline that diffusers loads from no single file; one that it does not know passes.

    Raises:
        ValueError: it is of such a kind.
    """
    import diffusers
    from diffusers.loaders.single_file import FromSingleFileMixin

    pipeline = getattr(diffusers, kind, FromSingleFileMixin)
    if not issubclass(pipeline, FromSingleFileMixin):
        raise ValueError(
            f"diffusers loads no {kind} from a checkpoint in one file: take its folder or hub name"
        )


def config_of(file: Path) -> str:
    """Return the hub name of the pipeline that a checkpoint is one of: names and shapes of weights tell.

    Raises:
        ValueError: the file is damaged, or its weights are of no kind that diffusers knows.
    """
    from diffusers.loaders.single_file_utils import fetch_diffusers_config

    header = _header(file)
    try:
        return str(fetch_diffusers_config(header)["pretrained_model_name_or_path"])
    except Exception as error:
        what = f"the checkpoint {file} does not tell which pipeline it is one of"
        raise explained(error, what, "Say it with --model.prior.config") from error


def parts_in(file: Path, kind: str, names: list[str]) -> list[str]:
    """Return those parts of a pipeline whose weights a checkpoint holds.

    Args:
        file: the checkpoint.
        kind: class of the pipeline.
        names: of the parts that are asked for.

    Raises:
        ValueError: the file is damaged.
    """
    keys = _header(file).keys()

    begins = HELD_BY | ({"text_encoder_2": T5} if kind == "FluxPipeline" else {})

    def holds(name: str) -> bool:
        return name in ("unet", "transformer") or any(key.startswith(begins.get(name, ())) for key in keys)

    return [name for name in names if holds(name)]


def num_weights(file: Path) -> tuple[int, int]:
    """Numbers of a checkpoint's weights: of the network and the autoencoder, and of text encoders.

    Raises:
        ValueError: the file is damaged.
    """
    numbers = files.numbers_of(file)
    of_texts = sum(count for name, count in numbers.items() if name.startswith(TEXT))
    return sum(numbers.values()) - of_texts, of_texts


def _header(file: Path) -> dict[str, Any]:
    """Names and shapes of the weights, without the weights."""
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as stored:
            names = list(stored.keys())
            shapes = [stored.get_slice(name).get_shape() for name in names]
    except (SafetensorError, OSError) as error:
        raise ValueError(f"the checkpoint {file} is damaged ({error}): download it again") from error
    return {name: torch.empty(shape, device="meta") for name, shape in zip(names, shapes, strict=True)}
