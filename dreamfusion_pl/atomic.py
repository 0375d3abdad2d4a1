"""Atomic file writes: a file is either complete or absent."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE_SECONDS = 2.0 if os.name == "nt" else 0.0  # in which a file is moved in spite of who reads it


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path`` (same suffix) and rename it to ``path`` if the block succeeds.

    An existing file at ``path`` stays in place until the rename, and stays if the block fails. The data is
    flushed to disk before the rename. Parent folders are created as needed.

    Args:
        path: the file to write.

    Yields:
        The temporary path to write to.

    Raises:
        OSError: the folder cannot be created or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(
        f".{path.stem}.{secrets.token_hex(4)}{path.suffix}"
    )  # several machines may write here
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        move(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def move(source: Path, target: Path) -> None:
    """Rename a file; an existing ``target`` is replaced.

    Windows refuses this while another program has one of the two open, as a page does that shows a run's
    status, or a virus scanner. So it is tried again there for a short time.

    Raises:
        OSError: it is not possible.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.05)
