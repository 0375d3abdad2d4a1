"""Checks whether ``torch.compile`` works on this machine."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor


def can_compile(device: torch.device) -> bool:
    """Return whether ``torch.compile`` works on a device; warn with the reason if it does not.

    Compiles a small function, which shows before the first step whether a C++ compiler or Triton is missing.
    """
    try:
        torch.compile(_small)(torch.ones(8, device=device))
    except Exception as error:  # any failure means: run without compilation
        reason = str(error).strip().split("\n", 1)[0]
        warnings.warn(
            f"torch.compile does not work on this {device.type} ({type(error).__name__}: {reason}); going on "
            "without. It needs a C++ compiler, and on a GPU also Triton",
            stacklevel=2,
        )
        return False
    return True


def _small(x: Tensor) -> Tensor:
    return (2.0 * x).sin() + 1.0
