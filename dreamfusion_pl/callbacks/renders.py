"""Previews during training: colour, normals and opacity from fixed sides, on one sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from dreamfusion_pl.callbacks import folder
from dreamfusion_pl.types import Rendering, Views


def sheet(rendering: Rendering) -> Tensor:
    """Lay out B views side by side: a row of colours, a row of normals, a row of opacities.

    Returns:
        Picture [3 H, B W, 3] in [0, 1]; normals are shown as 0.5 n + 0.5 over white.
    """
    opacity = rendering.opacity[..., None]
    normals = 0.5 * rendering.normal + 1.0 - 0.5 * opacity
    rows = [rendering.rgb, normals, opacity.expand_as(normals)]
    return torch.cat([torch.cat(list(row), dim=1) for row in rows]).clamp(0.0, 1.0)


def on_device(views: Views, device: torch.device) -> Views:
    """Copy views to a device."""
    return Views(*(field.to(device) for field in views))


@final
class Renders(Callback):
    """Writes every validation's views to ``renders/step_000100.png`` and to TensorBoard.

    The validation step renders with averaged weights where the trainer averages them. Predicted views become
    files of their own, ``renders/azimuth_090.png``.
    """

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the previous sheet."""
        self._renderings: list[Rendering] = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep what the validation step rendered."""
        self._renderings.append(outputs)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write every view."""
        from dreamfusion_pl.export import media

        renders = folder.run_folder(trainer) / folder.RENDERS
        renders.mkdir(parents=True, exist_ok=True)
        for azimuth_deg, picture in zip(batch.azimuth_deg.tolist(), outputs.rgb, strict=True):
            media.write_png(picture, renders / f"azimuth_{azimuth_deg:03.0f}.png")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the sheet."""
        if trainer.is_global_zero and not trainer.sanity_checking and self._renderings:
            self._write(trainer, self._renderings)
        self._renderings = []

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the finished object's sheet, unless the last step was validated."""
        if not trainer.is_global_zero or self._path(trainer).exists():
            return
        with torch.no_grad():
            sheets = [
                pl_module.validation_step(on_device(views, pl_module.device), index)
                for index, views in enumerate(trainer.datamodule.val_dataloader())
            ]
        self._write(trainer, sheets)

    def _path(self, trainer: Trainer) -> Path:
        return folder.run_folder(trainer) / folder.RENDERS / f"step_{trainer.global_step:06d}.png"

    def _write(self, trainer: Trainer, renderings: list[Rendering]) -> None:
        from dreamfusion_pl.export import media

        batches = zip(*renderings, strict=True)
        picture = sheet(Rendering(*(torch.cat(fields) for fields in batches))).cpu()
        path = self._path(trainer)
        path.parent.mkdir(parents=True, exist_ok=True)
        media.write_png(picture, path)
        writer = folder.tensorboard(trainer)
        if writer is not None:
            writer.add_image("renders", picture, trainer.global_step, dataformats="HWC")
