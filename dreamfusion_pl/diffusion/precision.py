"""In which precision a frozen network computes."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]


def resolve_dtype(name: Precision, device: torch.device) -> torch.dtype:
    """Return the precision of that name on a device; ``auto``: bfloat16 where it is native, else float32.

    Raises:
        ValueError: the device does not compute in it.
    """
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        if name == "bfloat16" and not native:
            raise ValueError("this GPU does not compute in bfloat16: take --model.prior.dtype float32")
    else:
        native = device.type == "cpu" and _cpu_has_bfloat16()
    if name == "auto":
        return torch.bfloat16 if native else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def _cpu_has_bfloat16() -> bool:
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))
