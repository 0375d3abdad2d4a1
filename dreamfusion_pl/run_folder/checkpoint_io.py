"""Atomic, verified reading and writing of checkpoint files."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, final

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from dreamfusion_pl.atomic import move


@final
class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoint I/O that writes with ``write_whole``, and not through the system's temporary folder.

    Args:
        update: converts checkpoints of earlier versions.
    """

    def __init__(self, update: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._update = update

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            OSError: it could not be written; an earlier file at ``path`` is kept.
        """
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_whole(content.getbuffer(), Path(path))

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint.

        Raises:
            ValueError: the file is not a checkpoint of Lightning.
            UnpicklingError: it contains more than tensors and plain data.
        """
        checkpoint = super().load_checkpoint(path, map_location, weights_only)
        check_is_of_a_run(checkpoint, path)
        return self._update(checkpoint)


def check_is_of_a_run(checkpoint: dict[str, Any], path: Any) -> None:
    """Raise ValueError if what a file holds is not a checkpoint of Lightning."""
    if not {"state_dict", "pytorch-lightning_version"} <= set(checkpoint):
        raise ValueError(f"{path} is no checkpoint of a run: it holds {', '.join(map(str, checkpoint))}")


def write_whole(content: bytes | memoryview, path: Path) -> None:
    """Write a checkpoint atomically: to a temporary file, flushed to disk, verified, then renamed.

    Args:
        content: the file's bytes.
        path: destination; folders are created as needed.

    Raises:
        OSError: it could not be written, or reads back differently; an earlier file at ``path`` is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if not is_whole(draft):
            raise OSError(f"the checkpoint {path} could not be written: the disk returned different data")
        move(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def keep_as(path: Path, previous: Path) -> None:
    """Hard-link a file to the name ``previous``, replacing it; without hard links, rename the file."""
    spare = previous.with_name(f".{previous.name}.part")
    spare.unlink(missing_ok=True)
    try:
        os.link(path, spare)
    except OSError:
        move(path, previous)
        return
    move(spare, previous)
    spare.unlink(missing_ok=True)  # the move leaves it if both were the same file


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, on systems that support it."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_mapped(checkpoint: Path) -> Any:
    """Read a checkpoint; its tensors stay in the file until they are used.

    Raises:
        UnpicklingError: it contains more than tensors and plain data.
    """
    try:
        str(checkpoint).encode()
    except UnicodeEncodeError:  # torch cannot map a file whose name is not UTF-8
        return torch.load(checkpoint, map_location="cpu", weights_only=True)
    return torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)


def is_whole(checkpoint: Path) -> bool:
    """Return whether a file is an intact checkpoint, by its checksums."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            if archive.testzip() is not None:
                return False
        return isinstance(read_mapped(checkpoint), dict)
    except UnpicklingError:
        return True  # the loader rejects it with a reason
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, zlib.error):
        return False


def has_weights_only(checkpoint: Path) -> bool:
    """Return whether an intact checkpoint has no training state, as with ``save_weights_only``."""
    try:
        stored = read_mapped(checkpoint)
    except UnpicklingError:
        return False  # the loader rejects it with a reason
    return "state_dict" in stored and "optimizer_states" not in stored


def step_of(checkpoint: Path) -> int:
    """Return the number of steps that a checkpoint holds; -1 if it cannot be read, or does not say."""
    import dreamfusion_pl.optimizers  # noqa: F401 - lets torch read the state of Shampoo

    try:
        stored = read_mapped(checkpoint)
    except (UnpicklingError, OSError, EOFError, RuntimeError, ValueError):
        return -1
    step = stored.get("global_step") if isinstance(stored, dict) else None
    return step if type(step) is int else -1


def newest_first(checkpoints: Iterable[Path]) -> list[Path]:
    """Sort the checkpoints of a run by what they hold: most steps first.

    File times do not count, since copying changes them. Files that do not say how far they came are first,
    so that whoever takes the first one that can be used notices them. Of several with as many steps,
    ``last.ckpt`` is first.
    """

    def order(file: Path) -> tuple[bool, int, bool, str]:
        step = step_of(file)
        return step >= 0 or is_whole(file), -step, file.name != "last.ckpt", file.name

    return sorted(checkpoints, key=order)
