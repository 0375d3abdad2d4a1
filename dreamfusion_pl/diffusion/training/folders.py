"""Writes a model's folder whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from dreamfusion_pl.diffusion.loading.library_logging import quiet

PIPELINE_INDEX = "model_index.json"  # file that marks the folder of a whole pipeline
MODEL_INDEX = "config.json"  # file that marks the folder of one network


def check_destination(folder: str | os.PathLike[str], index: str) -> Path:
    """Return the absolute folder if a model may be written there.

    Args:
        folder: destination.
        index: file that marks an older model, which may be replaced.

    Raises:
        ValueError: it exists and holds something else, or its parent is not writable.
    """
    folder = Path(folder).absolute()
    if folder.exists() and not (folder / index).exists():
        what = "a pipeline folder" if index == PIPELINE_INDEX else "a model's folder"
        raise ValueError(f"{folder} exists and is not {what}: choose another output or remove it")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder.parent).close()
    except OSError as error:
        raise ValueError(
            f"{folder.parent} is not writable ({error.strerror}): choose another output"
        ) from error
    return folder


def write(folder: str | os.PathLike[str], index: str, save: Callable[[Path], object]) -> Path:
    """Write a folder with ``save`` beside its destination, and then put it in the place of an older one.

    Args:
        folder: destination.
        index: file that marks an older model, which may be replaced.
        save: writes the model into the folder that it is given.

    Returns:
        The absolute folder.

    Raises:
        ValueError: the folder cannot be written.
    """
    folder = check_destination(folder, index)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        with quiet():
            save(staging / "new")
        if folder.exists():
            folder.replace(staging / "old")
        (staging / "new").replace(folder)
    finally:
        shutil.rmtree(staging)
    return folder
