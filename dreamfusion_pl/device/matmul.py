"""Precision of float32 matrix products, for the time of a computation."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

MatmulPrecision = Literal["highest", "high", "medium"]

_lock = threading.Lock()
_inside = 0  # computations with a precision of their own, in all threads
_before = "highest"  # precision outside of them


@contextmanager
def matmul_precision(precision: MatmulPrecision | None) -> Iterator[None]:
    """Set the precision of matrix products, and restore it however the computation ends.

    It is a setting of the process: threads that compute at the same time share the precision set last, and
    the last one to end restores what was before all of them.

    Args:
        precision: as in ``torch.set_float32_matmul_precision``; None changes nothing.
    """
    global _inside, _before
    if precision is None:
        yield
        return
    with _lock:
        if _inside == 0:
            _before = torch.get_float32_matmul_precision()
        _inside += 1
        torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                torch.set_float32_matmul_precision(_before)
