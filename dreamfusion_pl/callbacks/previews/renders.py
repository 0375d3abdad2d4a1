"""Validation renders on one contact sheet: colour, normals, opacity, and what the prior makes of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, final

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.callbacks.previews.prior_view import decoded, prior_view
from dreamfusion_pl.data.orbit import GRAY
from dreamfusion_pl.rendering.volume import over
from dreamfusion_pl.run_folder import layout
from dreamfusion_pl.types import Rendering, Views


def sheet(rendering: Rendering, *more: Tensor) -> Tensor:
    """Lay out B views side by side, in rows of colour, normals and opacity.

    Args:
        rendering: rendering of the views.
        more: further pictures of the views, [B, H, W, 3] each; every one is a row.

    Returns:
        Image [n H, B W, 3] in [0, 1] with n = 3 rows or more; normals are shown as 0.5 n + 0.5 over gray.
    """
    opacity = rendering.opacity[..., None]
    normals = over(0.5 * (rendering.normal + opacity), rendering.opacity, opacity.new_tensor(GRAY))
    rows = [rendering.rgb, normals, opacity.expand_as(normals), *more]
    return torch.cat([torch.cat(list(row), dim=1) for row in rows]).clamp(0.0, 1.0)


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

    Rows are colour, normals and opacity; while a scene gives the prior its latents, also these, decoded; and
    during a fit, what the prior wants each view to be (``prior_view``). The views are rendered with the
    averaged weights if there are any. ``predict`` writes every view to its own file,
    ``renders/azimuth_090.png``.
    """

    _has_memory = True  # for the prior's decoder

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start an empty sheet."""
        self._renderings: list[tuple[Views, Rendering]] = []

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
        self._renderings.append((batch, outputs))

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
            batches = [on_device(views, pl_module.device) for views in trainer.datamodule.val_dataloader()]
            sheets = [pl_module.validation_step(views, index) for index, views in enumerate(batches)]
        self._write(trainer, pl_module, list(zip(batches, sheets, strict=True)))

    def _wanted(self, model: DreamFusion, views: Views, rendering: Rendering) -> list[Tensor]:
        """What the prior wants, or nothing where memory does not suffice for its decoder."""
        if not self._has_memory:
            return []
        try:
            return [prior_view(model, views, rendering)]
        except torch.OutOfMemoryError as error:
            self._has_memory = False
            print(
                f"dreamfusion_pl: warning: previews do not show what the prior wants: {error}",
                file=sys.stderr,
                flush=True,
            )
            return []

    def _path(self, trainer: Trainer) -> Path:
        return layout.run_folder(trainer) / layout.RENDERS / f"step_{trainer.global_step:06d}.png"

    def _write(
        self, trainer: Trainer, pl_module: LightningModule, found: list[tuple[Views, Rendering]]
    ) -> None:
        from dreamfusion_pl.export.files import images

        views, renderings = zip(*found, strict=True)
        views = Views(*(torch.cat(parts) for parts in zip(*views, strict=True)))
        rendering = Rendering(*(torch.cat(parts) for parts in zip(*renderings, strict=True)))
        assert isinstance(pl_module, DreamFusion)
        more, prior = [], pl_module.prior
        if pl_module.gives_latents:
            more.append(decoded(prior, prior.resize(rendering.latent), rendering))
        if trainer.state.fn == "fit":  # only then the prior is there
            more += self._wanted(pl_module, views, rendering)
        picture = sheet(rendering, *more).cpu()
        path = self._path(trainer)
        path.parent.mkdir(parents=True, exist_ok=True)
        images.write_png(picture, path)
        writer = layout.tensorboard(trainer)
        if writer is not None:
            writer.add_image("renders", picture, trainer.global_step, dataformats="HWC")
