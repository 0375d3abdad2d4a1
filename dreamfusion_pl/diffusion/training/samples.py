"""Writes pictures that a training draws to its run folder and to TensorBoard."""

from __future__ import annotations

from pathlib import Path

from pytorch_lightning.loggers import Logger, TensorBoardLogger
from torch import Tensor

from dreamfusion_pl.atomic import replacing


def write_sheet(sheet: Tensor, name: str, step: int, run_folder: Path, logger: Logger | None) -> None:
    """Write a picture [H, W, 3] in [0, 1] as ``samples/step_N.png``, and to TensorBoard under a name."""
    from PIL import Image

    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, sheet, step, dataformats="HWC")
    file = run_folder / "samples" / f"step_{step:06d}.png"
    with replacing(file) as temporary:
        Image.fromarray((sheet * 255.0).round().byte().numpy()).save(temporary)
