"""Locks that keep two workers off one job; only POSIX systems have them."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def check_system() -> None:
    """Check that this operating system has the file locks that keep two workers off one job.

    Raises:
        ValueError: it has none, as Windows.
    """
    try:
        _file_locks()
    except ImportError as error:
        raise ValueError(
            "batch needs file locks (Python's module fcntl), which this operating system does not have: run "
            "it on Linux, macOS or WSL, or make the objects one by one with fit"
        ) from error


def _file_locks() -> Any:
    """Import and return ``fcntl``, which only POSIX systems have."""
    return importlib.import_module("fcntl")


@contextmanager
def try_lock(path: Path) -> Iterator[int | None]:
    """Lock a file while the block runs, without waiting.

    Yields:
        The descriptor of the locked file, or None if another process holds the lock.
    """
    fcntl = _file_locks()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
