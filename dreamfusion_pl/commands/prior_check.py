"""Whether a ``PretrainedPrior`` can be loaded here: what its files tell, without loading it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from dreamfusion_pl.diffusion.families.adapter import Adapter
from dreamfusion_pl.diffusion.families.precision import resolve_dtype
from dreamfusion_pl.diffusion.families.text_encoders import check_folder
from dreamfusion_pl.diffusion.loading import files, lora, single_file, sources
from dreamfusion_pl.export.surface.memory import available_memory

GB = 1e9
LISTS = ("tokenizer", "scheduler")  # parts without weights
BYTES = {"float32": 4, "bfloat16": 2}


def examine(settings: dict[str, Any]) -> dict[str, Any]:
    """Say whether a prior is there, whole, supported and not too large; a problem comes with what to do.

    Args:
        settings: the arguments of ``PretrainedPrior``.

    Returns:
        ``ok``, ``problem``, ``todo`` (commands that help) and what was found; sizes in GB (10^9 bytes).
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
    except ValueError as error:
        if "kind" not in report and sources.is_hub_name(model) and not Path(model).exists():
            todo.append(f"hf download {model}")
        return report | {"problem": str(error)}
    return report | {"ok": True}


def _parts(source: sources.Source, adapter: type[Adapter], embeddings: str | None) -> list[str]:
    """Names of the parts that are read from the pipeline's folder."""
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
    """Raise ValueError where files are missing that the hub does not give now either."""
    from huggingface_hub import hf_hub_download

    try:
        if source.commit is not None:  # the cache does not count
            hf_hub_download(source.location, sources.INDEX, revision=source.revision, force_download=True)
            return
    except Exception:  # whatever it raises, there is no answer
        pass
    cure = f"download it again (`{_fetch(source)}`, where there is a network)"
    raise ValueError(f"not whole, there is no {', '.join(missing)}: {cure}")


def _lacks_lora(name: str | None) -> bool:
    """Whether a LoRA is still to be fetched."""
    if name is None:
        return False
    lora.check_peft()
    file = Path(name).expanduser()
    if not file.is_file():
        found = _cached(*lora.place_on_hub(name))
        if found is None:
            return True
        file = found
    files.numbers_of(file)
    return False


def _lacks_tiny(name: str | None, source: sources.Source) -> bool:
    """Whether a tiny autoencoder is still to be fetched."""
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
            f"the autoencoder {name!r} is not whole, there is no {missing[0].name}: download it again"
        )
    files.num_weights(folder)
    return False


def _cached(repository: str, file: str) -> Path | None:
    """Return a hub's file that is on this disk; None where the hub has it.

    Raises:
        ValueError: it is neither here nor to be had.
    """
    from huggingface_hub import file_exists, try_to_load_from_cache

    try:
        place = try_to_load_from_cache(repository, file)
        if isinstance(place, str):
            return Path(place)
        if file_exists(repository, file):
            return None
    except Exception:  # whatever it raises, there is no answer
        pass
    raise ValueError(
        f"there is no {file} of {repository!r} on this disk, nor does the hub give it: "
        f"`hf download {repository} {file}`, where there is a network"
    )


def _sizes(source: sources.Source, adapter: type[Adapter], parts: list[str]) -> dict[str, Any]:
    """GB of the weights of network and autoencoder, and of those of text encoders, by precision."""
    numbers = {name: files.num_weights(source.folder / name) for name in parts if not name.startswith(LISTS)}
    texts = sum(number for name, number in numbers.items() if name in adapter.text_encoders)
    rest = sum(numbers.values()) - texts
    if source.checkpoint is not None:
        held, held_texts = single_file.num_weights(source.checkpoint)
        rest, texts = rest + held, texts + held_texts
    counts = {"weights_gb": rest, "text_encoders_gb": texts}
    return {key: {name: size * count / GB for name, size in BYTES.items()} for key, count in counts.items()}


def _check_memory(report: dict[str, Any], settings: dict[str, Any]) -> None:
    """Add ``fits_memory``: whether the weights alone fit; raise ValueError where the network's do not."""
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
                "--model.prior.dtype bfloat16 or a smaller model"
            )
    report["fits_memory"] = network + texts <= room["machine"][2]
    if not report["fits_memory"]:
        report["todo"].append(
            "python -m dreamfusion_pl embed --out FOLDER, with the options of the fit, where there is "
            f"more memory: the text encoders take {texts:.1f} GB. Then --model.prior.embeddings FOLDER here"
        )


def device() -> torch.device:
    """The device that ``--trainer.accelerator auto`` takes."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _name(settings: dict[str, Any], device: torch.device) -> str:
    """Name of the precision that the prior has on a device; ValueError where the device has it not."""
    return str(resolve_dtype(settings["dtype"], device)).removeprefix("torch.")
