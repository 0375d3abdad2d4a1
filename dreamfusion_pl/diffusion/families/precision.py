"""Precision of the frozen networks."""

from __future__ import annotations

import warnings
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]


def resolve_dtype(name: Precision, device: torch.device) -> torch.dtype:
    """Return the dtype of that name; ``auto`` is bfloat16 if the device supports it natively, else float32.

    Raises:
        ValueError: the device does not support it.
    """
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        if name == "bfloat16" and not native:
            raise ValueError("this GPU does not compute in bfloat16: take --model.prior.dtype float32")
    elif device.type == "mps":
        native = False  # auto takes float32, which every Mac supports
        if name == "bfloat16" and not torch.backends.mps.is_macos_or_newer(14, 0):
            raise ValueError(
                "before macOS 14 a Mac's GPU does not compute in bfloat16: take --model.prior.dtype float32"
            )
    else:
        native = device.type == "cpu" and _cpu_has_bfloat16()
    if name == "auto":
        return torch.bfloat16 if native else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def warn_if_slow(name: Precision, device: torch.device) -> None:
    """Warn if a CPU has to emulate the requested precision."""
    if name == "bfloat16" and device.type == "cpu" and not _cpu_has_bfloat16():
        warnings.warn(
            "this CPU does not compute in bfloat16 and emulates it, which is slower than float32: take "
            "--model.prior.dtype auto",
            stacklevel=3,
        )


def _cpu_has_bfloat16() -> bool:
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))
