"""Validation renders on one contact sheet: colour, normals, opacity, and decoded latents if there are any."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.data.orbit import GRAY
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.rendering.volume import over
from dreamfusion_pl.run_folder import layout
from dreamfusion_pl.types import Rendering, Views


def sheet(rendering: Rendering, decoded: Tensor | None = None) -> Tensor:
    """Lay out B views side by side, in rows of colour, normals and opacity.

    Args:
        rendering: rendering of the views.
        decoded: their latents decoded by the prior, [B, H, W, 3]; shown as a fourth row.

    Returns:
        Image [3 H or 4 H, B W, 3] in [0, 1]; normals are shown as 0.5 n + 0.5 over gray.
    """
    opacity = rendering.opacity[..., None]
    normals = over(0.5 * (rendering.normal + opacity), rendering.opacity, opacity.new_tensor(GRAY))
    rows = [rendering.rgb, normals, opacity.expand_as(normals)]
    if decoded is not None:
        rows.append(decoded)
    return torch.cat([torch.cat(list(row), dim=1) for row in rows]).clamp(0.0, 1.0)


def decode(prior: DiffusionPrior, rendering: Rendering) -> Tensor:
    """Decode rendered latents with the prior's decoder: images [B, H, W, 3] of the rendering's size."""
    z = prior.resize(rendering.latent)
    pictures = torch.cat([prior.decode(one) for one in z.split(1)]).permute(0, 3, 1, 2)
    shown = torch.nn.functional.interpolate(
        pictures, rendering.rgb.shape[1:3], mode="bilinear", antialias=True
    )
    return shown.permute(0, 2, 3, 1)


def on_device(views: Views, device: torch.device) -> Views:
    """Move views to a device."""
    return Views(*(field.to(device) for field in views))


def azimuth_name(azimuth_deg: float) -> str:
    """File name of a predicted view, azimuth_090.png or azimuth_022_50.png; names sort by azimuth."""
    whole, hundredths = divmod(round(100.0 * azimuth_deg), 100)
    return f"azimuth_{whole:03d}_{hundredths:02d}.png" if hundredths else f"azimuth_{whole:03d}.png"


@final
class Renders(Callback):
    """Writes the views of every validation to ``renders/step_000100.png`` and to TensorBoard.

    They are rendered with the averaged weights if there are any. ``predict`` writes every view to its own
    file, ``renders/azimuth_090.png``.
    """

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start an empty sheet."""
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
        """Collect the renderings of the validation step."""
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
        from dreamfusion_pl.export.files import images

        renders = layout.run_folder(trainer) / layout.RENDERS
        renders.mkdir(parents=True, exist_ok=True)
        for azimuth_deg, picture in zip(batch.azimuth_deg.tolist(), outputs.rgb, strict=True):
            images.write_png(picture, renders / azimuth_name(azimuth_deg))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the sheet."""
        if trainer.is_global_zero and not trainer.sanity_checking and self._renderings:
            self._write(trainer, pl_module, self._renderings)
        self._renderings = []

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the sheet of the finished object, unless the last step was validated."""
        if not trainer.is_global_zero or self._path(trainer).exists():
            return
        with torch.no_grad():
            sheets = [
                pl_module.validation_step(on_device(views, pl_module.device), index)
                for index, views in enumerate(trainer.datamodule.val_dataloader())
            ]
        self._write(trainer, pl_module, sheets)

    def _path(self, trainer: Trainer) -> Path:
        return layout.run_folder(trainer) / layout.RENDERS / f"step_{trainer.global_step:06d}.png"

    def _write(self, trainer: Trainer, pl_module: LightningModule, renderings: list[Rendering]) -> None:
        from dreamfusion_pl.export.files import images

        rendering = Rendering(*(torch.cat(fields) for fields in zip(*renderings, strict=True)))
        assert isinstance(pl_module, DreamFusion)
        decoded = decode(pl_module.prior, rendering) if pl_module.gives_latents else None
        picture = sheet(rendering, decoded).cpu()
        path = self._path(trainer)
        path.parent.mkdir(parents=True, exist_ok=True)
        images.write_png(picture, path)
        writer = layout.tensorboard(trainer)
        if writer is not None:
            writer.add_image("renders", picture, trainer.global_step, dataformats="HWC")
