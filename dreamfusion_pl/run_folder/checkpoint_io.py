"""Checkpoint files: written whole and proved so, or not there."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, final

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO


@final
class WholeCheckpoints(TorchCheckpointIO):
    """Saves as ``write_whole`` does, with nothing in the system's folder for temporary files.

    Args:
        update: brings what earlier versions wrote up to date.
    """

    def __init__(self, update: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._update = update

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            OSError: it could not be written; what was at ``path`` before is still there.
        """
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_whole(content.getbuffer(), Path(path))

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint.

        Raises:
            ValueError: the file holds something else.
            UnpicklingError: it holds more than numbers.
        """
        checkpoint = super().load_checkpoint(path, map_location, weights_only)
        if not {"state_dict", "pytorch-lightning_version"} <= set(checkpoint):
            raise ValueError(f"{path} is no checkpoint of a run: it holds {', '.join(map(str, checkpoint))}")
        return self._update(checkpoint)


def write_whole(content: bytes | memoryview, path: Path) -> None:
    """Write a checkpoint beside its place, on the disk itself, check it, and move it there.

    Args:
        content: the file's bytes.
        path: its place; folders are made as needed.

    Raises:
        OSError: it could not be written, or is not what was written; what was there before still is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if not is_whole(draft):
            raise OSError(f"the checkpoint {path} could not be written: the disk returns other bytes")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def keep_as(path: Path, previous: Path) -> None:
    """Give a file a second name, in the place of what had it; the first stays if the disk has hard links."""
    spare = previous.with_name(f".{previous.name}.part")
    spare.unlink(missing_ok=True)
    try:
        os.link(path, spare)
    except OSError:
        os.replace(path, previous)
        return
    os.replace(spare, previous)
    spare.unlink(missing_ok=True)  # it is still there if both were one file


def sync_folder(folder: Path) -> None:
    """Make sure that the names in a folder are on the disk, where the system can do that."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_whole(checkpoint: Path) -> bool:
    """Whether a file is a checkpoint with all of its bytes, by their check sums."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            if archive.testzip() is not None:
                return False
        return isinstance(torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True), dict)
    except UnpicklingError:
        return True  # who loads it refuses it, and says why
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, zlib.error):
        return False


def has_weights_only(checkpoint: Path) -> bool:
    """Whether a whole checkpoint lacks what a fit goes on with: ``save_weights_only`` leaves it out."""
    try:
        stored = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except UnpicklingError:
        return False  # who loads it refuses it, and says why
    return "state_dict" in stored and "optimizer_states" not in stored
