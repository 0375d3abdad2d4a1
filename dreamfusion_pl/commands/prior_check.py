"""Checks whether a ``PretrainedPrior`` can be loaded here: from its files, and then by loading it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from dreamfusion_pl.diffusion.families.adapter import Adapter
from dreamfusion_pl.diffusion.families.precision import DTYPES, encoder_dtype, resolve_dtype
from dreamfusion_pl.diffusion.families.text_encoders import check_folder
from dreamfusion_pl.diffusion.loading import files, lora, single_file, sources, suitability
from dreamfusion_pl.export.surface.memory import available_memory

GB = 1e9
BYTES = {name: dtype.itemsize for name, dtype in DTYPES.items()}


def examine(settings: dict[str, Any]) -> dict[str, Any]:
    """Check that a prior is present, complete, supported and fits into memory.

    Args:
        settings: the arguments of ``PretrainedPrior``.

    Returns:
        ``ok``, ``problem``, ``todo`` (commands that fix it) and all findings; sizes in GB (10^9 bytes).
    """
    from dreamfusion_pl.diffusion.families.pretrained import family

    model, todo = settings["model"], list[str]()
    report: dict[str, Any] = {"model": model, "ok": False, "problem": None, "todo": todo}
    try:
        _name(settings, device())
        source = sources.find(model, settings["revision"], settings["config"])
        adapter = family(source)
        report |= {"kind": source.kind, "folder": str(source.folder)}
        if settings["embeddings"] is not None and not Path(settings["embeddings"]).is_dir():
            todo.append(f"python -m dreamfusion_pl embed --out {settings['embeddings']}")
        parts = _parts(source, adapter, settings["embeddings"])
        suitability.check(source, parts, may_fetch=False)
        absent = [file for name in parts for file in files.missing_files(source.folder / name)]
        report["missing"] = [str(file.relative_to(source.folder)) for file in absent]
        if absent:
            todo.append(_fetch(source))
            _check_hub(source, report["missing"])
        needs_network = [
            bool(absent),
            _lacks_lora(settings["lora"]),
            _lacks_tiny(settings["autoencoder"], source),
        ]
        report["needs_network"] = any(needs_network)
        if not absent:
            report |= _sizes(source, adapter, parts)
            _check_memory(report, settings)
        if not report["needs_network"] and report["fits_memory"]:
            _load(settings)
    except ValueError as error:
        if "kind" not in report and sources.is_hub_name(model) and not Path(model).exists():
            todo.append(f"hf download {model}")
        return report | {"problem": str(error)}
    return report | {"ok": True}


def _load(settings: dict[str, Any]) -> None:
    """Load the prior and embed a text, as a fit does: only this finds what files do not show.

    Raises:
        ValueError: it cannot be loaded.
    """
    from dreamfusion_pl.diffusion.families.pretrained import PretrainedPrior

    prior = PretrainedPrior(**settings)
    if settings["embeddings"] is None:  # otherwise only the texts of the fit's own prompts are there
        prior.embed([""])


def _parts(source: sources.Source, adapter: type[Adapter], embeddings: str | None) -> list[str]:
    """Return the names of the components that are loaded from the pipeline's folder."""
    spare = adapter.unused
    if embeddings is not None:  # no text encoders
        check_folder(embeddings, source)
        spare = (*spare, *adapter.text_encoders)
    parts = [name for name in source.parts if name not in spare]
    if files.lacks_sentencepiece(source.folder, parts):
        raise ValueError(files.SENTENCEPIECE)
    if source.checkpoint is None:
        return parts
    held = single_file.parts_in(source.checkpoint, source.kind, parts)
    return [name for name in parts if name not in held]


def _fetch(source: sources.Source) -> str:
    if source.commit is not None:
        return f"hf download {source.location}"
    return f"hf download OWNER/NAME --local-dir {source.location}"


def _check_hub(source: sources.Source, missing: list[str]) -> None:
    """Raise ValueError if the missing files cannot be downloaded from the hub now."""
    from huggingface_hub import hf_hub_download

    try:
        if source.commit is not None:  # force_download: the cache does not count
            hf_hub_download(source.location, sources.INDEX, revision=source.revision, force_download=True)
            return
    except Exception:  # any error means that the hub is not available
        pass
    cure = f"Download it again (`{_fetch(source)}`, on a machine with a network)"
    raise ValueError(f"incomplete, missing: {', '.join(missing)}. {cure}")


def _lacks_lora(name: str | None) -> bool:
    """Return whether a LoRA still has to be downloaded."""
    if name is None:
        return False
    lora.check_peft()
    file = Path(name).expanduser()
    if not file.is_file():
        found = _cached(*lora.place_on_hub(name))
        if found is None:
            return True
        file = found
    lora.check_kind(name, files.numbers_of(file))
    return False


def _lacks_tiny(name: str | None, source: sources.Source) -> bool:
    """Return whether a tiny autoencoder still has to be downloaded."""
    if name is None:
        return False
    if "vae" not in source.parts:
        raise ValueError(f"a {source.kind} works on pixels: it has no use for an autoencoder")
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if not sources.is_hub_name(name):
            raise ValueError(f"there is no autoencoder {name!r}: no such folder")
        places = [_cached(name, file) for file in ("config.json", "diffusion_pytorch_model.safetensors")]
        if None in places:
            return True
        assert places[0] is not None
        folder = places[0].parent
    missing = files.missing_files(folder)
    if missing:
        raise ValueError(
            f"the autoencoder {name!r} is incomplete, missing: {missing[0].name}. Download it again"
        )
    files.num_weights(folder)
    return False


def _cached(repository: str, file: str) -> Path | None:
    """Return the cached path of a hub file; None if it is not cached but can be downloaded.

    Raises:
        ValueError: it is neither cached nor available from the hub.
    """
    from huggingface_hub import file_exists, try_to_load_from_cache

    try:
        place = try_to_load_from_cache(repository, file)
        if isinstance(place, str):
            return Path(place)
        if file_exists(repository, file):
            return None
    except Exception:  # any error means that the hub is not available
        pass
    raise ValueError(
        f"{file} of {repository!r} is neither on this disk nor available from the hub: "
        f"`hf download {repository} {file}`, on a machine with a network"
    )


def _sizes(source: sources.Source, adapter: type[Adapter], parts: list[str]) -> dict[str, Any]:
    """Return the size in GB of network with autoencoder, and of text encoders, for every precision.

    An autoencoder that would overflow in float16 is counted as what it then stays: float32.
    """
    numbers = {
        name: files.num_weights(source.folder / name)
        for name in parts
        if not name.startswith(suitability.WITHOUT_WEIGHTS)
    }
    texts = sum(number for name, number in numbers.items() if name in adapter.text_encoders)
    vae = numbers.get("vae", 0)
    network = sum(numbers.values()) - vae - texts
    if source.checkpoint is not None:
        held, held_vae, held_texts = single_file.num_weights(source.checkpoint)
        network, vae, texts = network + held, vae + held_vae, texts + held_texts
    overflows = adapter.vae_overflows and suitability.config_of(source, "vae").get("force_upcast", True)
    bytes_of_vae = {name: encoder_dtype(dtype, overflows).itemsize for name, dtype in DTYPES.items()}
    weights = {name: size * network + bytes_of_vae[name] * vae for name, size in BYTES.items()}
    return {
        "weights_gb": {name: count / GB for name, count in weights.items()},
        "text_encoders_gb": {name: size * texts / GB for name, size in BYTES.items()},
    }


def _check_memory(report: dict[str, Any], settings: dict[str, Any]) -> None:
    """Add ``fits_memory``, whether all weights fit into memory; raise ValueError if the network's do not."""
    here, host = device(), available_memory()
    on_host, on_device = (_name(settings, place) for place in (torch.device("cpu"), here))
    network, texts = (report[key][on_host] for key in ("weights_gb", "text_encoders_gb"))
    room = {"machine": (network, on_host, host / GB if host else math.inf)}
    if here.type == "cuda" and not settings["offload"]:
        memory = torch.cuda.get_device_properties(0).total_memory / GB
        room["GPU"] = (report["weights_gb"][on_device], on_device, memory)
    for name, (needed, dtype, memory) in room.items():
        if needed > memory:
            report["fits_memory"] = False
            raise ValueError(
                f"its weights take {needed:.1f} GB in {dtype}, and this {name} has {memory:.1f} GB: take "
                "a smaller model, or --model.prior.dtype bfloat16 (float16 on a GPU without it)"
            )
    report["fits_memory"] = network + texts <= room["machine"][2]
    if not report["fits_memory"]:
        report["todo"].append(
            "python -m dreamfusion_pl embed --out FOLDER, with the options of the fit, where there is "
            f"more memory: the text encoders take {texts:.1f} GB. Then --model.prior.embeddings FOLDER here"
        )


def device() -> torch.device:
    """Return the device that ``--trainer.accelerator auto`` selects."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _name(settings: dict[str, Any], device: torch.device) -> str:
    """Return the name of the prior's dtype on a device; raise ValueError if it is not supported there."""
    return str(resolve_dtype(settings["dtype"], device)).removeprefix("torch.")
