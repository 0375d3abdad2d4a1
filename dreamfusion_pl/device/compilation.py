"""``torch.compile``: how a configuration asks for it, and whether it works on this machine."""

from __future__ import annotations

import warnings
from typing import Literal, get_args

import torch
from torch import Tensor

GraphMode = Literal["reduce-overhead", "max-autotune"]  # modes of torch.compile that record CUDA graphs
Compilation = bool | GraphMode
"""False: not compiled; True: torch.compile's default mode; or one of its modes."""

_WITHOUT_GRAPHS: dict[str, str | None] = {
    "reduce-overhead": None,
    "max-autotune": "max-autotune-no-cudagraphs",
}


def checked(compilation: Compilation) -> Compilation:
    """Return what a configuration asks for.

    Raises:
        ValueError: it is neither true, false nor a mode.
    """
    if isinstance(compilation, bool) or compilation in get_args(GraphMode):
        return compilation
    modes = " or ".join(get_args(GraphMode))
    raise ValueError(f"compile is true, false or a mode of torch.compile, {modes}; got {compilation!r}")


def mode_of(compilation: Compilation, graphs: bool = True) -> str | None:
    """Return the ``mode`` argument of ``torch.compile``; None is its default.

    Args:
        compilation: what a configuration asks for, not False.
        graphs: False: the mode that is closest to it without CUDA graphs.
    """
    if isinstance(compilation, bool):
        return None
    return compilation if graphs else _WITHOUT_GRAPHS[compilation]


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
