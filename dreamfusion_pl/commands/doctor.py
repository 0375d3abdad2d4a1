"""``python -m dreamfusion_pl doctor``: checks whether a prior can be loaded, and what to do if not."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import platform
import shutil
from typing import Any

import torch

from dreamfusion_pl.commands.prior_check import GB, examine
from dreamfusion_pl.configuration.parsing import read_configuration
from dreamfusion_pl.diffusion.families.pretrained import PretrainedPrior
from dreamfusion_pl.export.files.films import ffmpeg
from dreamfusion_pl.export.surface.memory import available_memory
from dreamfusion_pl.terminal import FAILED, guarded
from dreamfusion_pl.version import VERSION

PRIOR_OPTIONS = {
    "model": "builtin, a folder, a hub name or a single-file checkpoint",
    "revision": "of a hub model",
    "config": "pipeline of a single-file checkpoint",
    "embeddings": "folder that `embed` wrote",
    "lora": "safetensors file, or its name on the hub",
    "autoencoder": "folder or hub name of a tiny autoencoder",
    "dtype": "auto, float32, bfloat16 or float16",
    "offload": "true: the network stays in host memory",
}
LIBRARIES = ("torch", "pytorch-lightning", "diffusers", "transformers", "safetensors")
OPTIONAL = ("ray", "viser", "peft", "xatlas")


def main(args: list[str]) -> int:
    """Run ``doctor``; return 1 if the prior cannot be loaded, 2 for a usage error, else 0."""
    reports: list[dict[str, Any]] = []
    code = guarded(lambda: reports.append(_main(args)), "doctor")
    return FAILED if code == 0 and reports and reports[0]["ok"] is False else code


def _main(args: list[str]) -> dict[str, Any]:
    parser = _parser()
    options, others = parser.parse_known_args(args)
    if others and options.trial is None:
        parser.error(f"{others[0]} is an option of fit: it goes with --trial STEPS")
    words = _fit_words(args)
    report = doctor(words)
    if options.trial is not None and report["ok"] is not False:
        from dreamfusion_pl.commands.cost_estimate import trial

        report["trial"] = trial(words, options.trial)
    print(json.dumps(report, indent=2) if options.json else _text(report))
    return report


def _fit_words(args: list[str]) -> list[str]:
    """Return the arguments that belong to ``fit``, with a prompt."""
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--trial")
    own.add_argument("--json", action="store_true")
    words = own.parse_known_args(args)[1]
    has_prompt = any(word.split("=")[0] == "--prompt" for word in words)
    return words if has_prompt else [*words, "--prompt=a red chair"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dreamfusion_pl doctor",
        description="Show this machine's resources, and check whether a configuration's prior can be loaded.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="append", help="YAML as of fit; may be repeated")
    parser.add_argument("--model.prior", metavar="CLASS", help="class of the prior, as of fit")
    for name, help_ in PRIOR_OPTIONS.items():
        parser.add_argument(f"--model.prior.{name}", metavar=name.upper(), help=help_)
    parser.add_argument(
        "--trial",
        type=int,
        metavar="STEPS",
        help="run so many steps of a fit and say what the whole takes; all options of fit may follow",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def doctor(words: list[str]) -> dict[str, Any]:
    """Check the machine and the prior of a fit with these command-line arguments; return the report.

    Raises:
        ArgumentError: an argument is invalid.
        ValueError: a configuration file is missing or invalid.
    """
    named = read_configuration(words)["model"]["init_args"].get("prior")
    if named is None:
        prior: dict[str, Any] = {"model": None, "ok": True, "problem": None, "todo": []}
    elif named["class_path"] == f"{PretrainedPrior.__module__}.{PretrainedPrior.__name__}":
        prior = examine(named["init_args"])
    else:
        unknown = "not checked: doctor can only check a PretrainedPrior"
        prior = {"model": named["class_path"], "ok": None, "problem": unknown, "todo": []}
    return {"ok": prior["ok"], "machine": machine(), "prior": prior}


def machine() -> dict[str, Any]:
    """Return device, memory and disk in GB (10^9 bytes), and versions; None if absent or unknown."""
    memory, has_gpu = available_memory(), torch.cuda.is_available()
    gpu = torch.cuda.get_device_properties(0) if has_gpu else None
    return {
        "device": gpu.name if gpu else "mps" if torch.backends.mps.is_available() else "cpu",
        "gpu_memory_gb": gpu.total_memory / GB if gpu else None,
        "memory_gb": memory / GB if memory else None,
        "free_disk_gb": shutil.disk_usage(".").free / GB,
        "versions": {"python": platform.python_version(), "dreamfusion_pl": VERSION}
        | {name: importlib.metadata.version(name) for name in LIBRARIES},
        "optional": {name: importlib.util.find_spec(name) is not None for name in OPTIONAL}
        | {"ffmpeg": ffmpeg() is not None},
    }


def _text(report: dict[str, Any]) -> str:
    facts = report["machine"] | {f"prior {name}": value for name, value in report["prior"].items()}
    facts |= {f"trial {name}": value for name, value in report.get("trial", {}).items()}
    del facts["prior ok"]
    lines = [f"{name}: {_plain(value)}" for name, value in facts.items() if value is not None and value != []]
    can = {True: "can be loaded", False: "cannot be loaded", None: "was not checked"}
    return "\n".join([*lines, f"the prior {can[report['ok']]}"])


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items())
    if isinstance(value, list):
        return "; ".join(str(one) for one in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
