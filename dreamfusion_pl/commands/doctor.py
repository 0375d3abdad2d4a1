"""``python -m dreamfusion_pl doctor``: whether a prior can be loaded here, and what to do if not."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import platform
import shutil
from pathlib import Path
from typing import Any

import torch

from dreamfusion_pl import __version__, configs
from dreamfusion_pl.diffusion import files, loading, single_file
from dreamfusion_pl.export.grid import physical_memory
from dreamfusion_pl.terminal import FAILED, guarded

PRETRAINED = "dreamfusion_pl.diffusion.pretrained.PretrainedPrior"
LIBRARIES = ("torch", "pytorch-lightning", "diffusers", "transformers", "safetensors")
OPTIONAL = ("ray", "viser", "peft", "xatlas")
WEIGHTS = ("diffusion_pytorch_model.safetensors", "model.safetensors")
GB = 1e9


def main(args: list[str]) -> int:
    """Run ``doctor``; return 0 if the prior could be loaded here, 1 if not, 2 for wrong usage."""
    reports: list[dict[str, Any]] = []
    code = guarded(lambda: reports.append(_main(args)), "doctor")
    return FAILED if code == 0 and reports and not reports[0]["ok"] else code


def _main(args: list[str]) -> dict[str, Any]:
    parser = _parser()
    options, others = parser.parse_known_args(args)
    if others and options.trial is None:
        parser.error(f"{others[0]} is an option of fit: it goes with --trial STEPS")
    report = doctor(options)
    if options.trial is not None and report["ok"]:
        from dreamfusion_pl.commands.trial import trial

        report["trial"] = trial(_fit_words(args), options.trial)
    print(json.dumps(report, indent=2) if options.json else _text(report))
    return report


def _fit_words(args: list[str]) -> list[str]:
    """The words of doctor that are those of fit, with a prompt."""
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--trial")
    own.add_argument("--json", action="store_true")
    words = own.parse_known_args(args)[1]
    has_prompt = any(word.split("=")[0] == "--prompt" for word in words)
    return words if has_prompt else [*words, "--prompt=a red chair"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dreamfusion_pl doctor",
        description="Say what this machine has, and whether the prior of a configuration is there.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="append", default=[], help="YAML as of fit; may be repeated")
    parser.add_argument("--model.prior.model", dest="model", help="builtin, a folder or a hub name")
    parser.add_argument("--model.prior.revision", dest="revision", help="of a hub model")
    parser.add_argument("--model.prior.config", dest="config_of", help="pipeline of a one-file checkpoint")
    parser.add_argument("--model.prior.embeddings", dest="embeddings", help="folder that `embed` wrote")
    parser.add_argument(
        "--trial",
        type=int,
        metavar="STEPS",
        help="run so many steps of a fit and say what the whole takes; all options of fit may follow",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def doctor(options: argparse.Namespace) -> dict[str, Any]:
    """Examine the machine and the prior, and return what was found.

    Raises:
        ValueError: a configuration file is missing or no YAML mapping.
    """
    words = [word for name in options.config for word in ("--config", name)]
    class_path, settings = prior_of(configs.arrange(words).layers)
    given = {
        "model": options.model,
        "revision": options.revision,
        "config": options.config_of,
        "embeddings": options.embeddings,
    }
    settings = settings | {name: value for name, value in given.items() if value is not None}
    if class_path == PRETRAINED:
        names = ("revision", "config", "embeddings")
        prior = examine(settings.get("model", "builtin"), *(settings.get(name) for name in names))
    else:
        prior = {"model": class_path, "ok": True, "problem": None}
    return {"ok": prior["ok"], "machine": machine(), "prior": prior}


def prior_of(layers: list[configs.Config]) -> tuple[str, dict[str, Any]]:
    """Class and arguments of the prior that the layers name; another class drops the arguments before it."""
    class_path, settings = PRETRAINED, dict[str, Any]()
    for layer in layers:
        tree: Any = layer.tree
        for key in ("model", "init_args", "prior"):
            tree = tree.get(key) if isinstance(tree, dict) else None
        if isinstance(tree, dict):
            named = str(tree.get("class_path", class_path))
            settings = (settings if named == class_path else {}) | (tree.get("init_args") or {})
            class_path = named
    return class_path, settings


def machine() -> dict[str, Any]:
    """Device, memory and disk in GB (10^9 bytes), and versions; None for what is not there or not known."""
    memory, has_gpu = physical_memory(), torch.cuda.is_available()
    gpu = torch.cuda.get_device_properties(0) if has_gpu else None
    return {
        "device": gpu.name if gpu else "mps" if torch.backends.mps.is_available() else "cpu",
        "gpu_memory_gb": gpu.total_memory / GB if gpu else None,
        "memory_gb": memory / GB if memory else None,
        "free_disk_gb": shutil.disk_usage(".").free / GB,
        "versions": {"python": platform.python_version(), "dreamfusion_pl": __version__}
        | {name: importlib.metadata.version(name) for name in LIBRARIES},
        "optional": {name: importlib.util.find_spec(name) is not None for name in OPTIONAL},
    }


def examine(model: str, revision: str | None, config: str | None, embeddings: str | None) -> dict[str, Any]:
    """Say whether a pipeline is there, whole and supported; a problem comes with what to do.

    With a folder of embeddings it needs no text encoders.
    """
    from safetensors import SafetensorError

    from dreamfusion_pl.diffusion.pretrained import family

    try:
        source = loading.find(model, revision, config)
        adapter = family(source)
        folder = source.folder
        spare = (*adapter.unused, *(adapter.text_encoders if embeddings else ()))
        parts = [name for name in source.parts if name not in spare]
        if source.checkpoint is not None:
            held = single_file.parts_in(source.checkpoint, source.kind, parts)
            parts = [name for name in parts if name not in held]
        absent = [file for name in parts for file in files.missing_files(folder / name)]
    except ValueError as error:
        return {"model": model, "ok": False, "problem": str(error)}
    missing = [str(file.relative_to(folder)) for file in absent]
    found = {"model": model, "kind": source.kind, "folder": str(folder), "missing": missing}
    if missing and not (source.commit and _hub_answers(source)):
        cure = f"download it again (hub models: `hf download {model}`, where there is a network)"
        return found | {"ok": False, "problem": f"not whole, there is no {', '.join(missing)}: {cure}"}
    if missing:
        return found | {"ok": True, "problem": None, "needs_network": True}
    if files.lacks_sentencepiece(folder, parts):
        return found | {"ok": False, "problem": files.SENTENCEPIECE}
    try:
        count = sum(parameters(folder / name) for name in parts if not name.startswith("text_encoder"))
        if source.checkpoint is not None:
            count += single_file.num_weights(source.checkpoint)
    except (SafetensorError, ValueError) as error:
        return found | {"ok": False, "problem": f"damaged ({error}): download it again"}
    memory = {"float32": 4 * count / GB, "bfloat16": 2 * count / GB}
    return found | {"ok": True, "problem": None, "needs_network": False, "weights_gb": memory}


def _hub_answers(source: loading.Source) -> bool:
    """Whether the hub gives the model's index now; the cache does not count."""
    from huggingface_hub import hf_hub_download

    try:
        hf_hub_download(source.location, loading.INDEX, revision=source.revision, force_download=True)
    except Exception:  # whatever it raises, there is no answer
        return False
    return True


def parameters(part: Path) -> int:
    """Number of weights in a part's safetensors, from their headers; 0 for a part without any."""
    from safetensors import safe_open

    shards = [part / name for name in WEIGHTS if (part / name).is_file()]
    for index in part.glob("*.safetensors.index.json"):
        shards += [part / name for name in files.shards_of(index) if part / name not in shards]
    count = 0
    for shard in shards:
        with safe_open(shard, "pt") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
        count += sum(torch.Size(shape).numel() for shape in shapes)
    return count


def _text(report: dict[str, Any]) -> str:
    facts = report["machine"] | {f"prior {name}": value for name, value in report["prior"].items()}
    facts |= {f"trial {name}": value for name, value in report.get("trial", {}).items()}
    del facts["prior ok"]
    lines = [f"{name}: {_plain(value)}" for name, value in facts.items() if value not in (None, [], False)]
    return "\n".join([*lines, "the prior can be loaded" if report["ok"] else "the prior cannot be loaded"])


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
