"""Turntable of the object, as a video and as an animated GIF."""

from __future__ import annotations

from typing import Any, final

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from dreamfusion_pl.callbacks.previews.renders import on_device
from dreamfusion_pl.callbacks.previews.stages import stage
from dreamfusion_pl.run_folder import layout


@final
class Turntable(Callback):
    """Renders the test views of the data module when training or testing ends: turntable.mp4, turntable.gif.

    Args:
        frames_per_second: frame rate of the video.
    """

    def __init__(self, frames_per_second: int = 16) -> None:
        if frames_per_second < 1:
            raise ValueError(f"frames_per_second must be 1 or more, got {frames_per_second}")
        self.frames_per_second = frames_per_second
        self._frames: list[Tensor] = []

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Render the finished object."""
        if not trainer.is_global_zero:
            return
        batches = list(trainer.datamodule.test_dataloader())
        with torch.no_grad(), stage(trainer, "filming", len(batches)) as advance:
            for index, views in enumerate(batches):
                rendering = pl_module.test_step(on_device(views, pl_module.device), index)
                self._frames.append(rendering.rgb.cpu())
                advance()
        self._write(trainer)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect the frames."""
        self._frames.append(outputs.rgb.cpu())

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the video."""
        if trainer.is_global_zero:
            self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        from dreamfusion_pl.export.files.films import write_film

        run = layout.run_folder(trainer)
        run.mkdir(parents=True, exist_ok=True)
        frames = torch.cat(self._frames).clamp(0.0, 1.0)
        self._frames = []
        write_film(frames, run / layout.TURNTABLE, self.frames_per_second)
        _show(trainer, (run / layout.TURNTABLE_GIF).read_bytes(), frames)


def _show(trainer: Trainer, gif: bytes, frames: Tensor) -> None:
    """Log the GIF to TensorBoard as an image, which browsers animate."""
    writer = layout.tensorboard(trainer)
    if writer is None:
        return
    from tensorboard.compat.proto.summary_pb2 import Summary

    _, height, width, colors = frames.shape
    image = Summary.Image(height=height, width=width, colorspace=colors, encoded_image_string=gif)
    summary = Summary(value=[Summary.Value(tag="turntable", image=image)])
    writer._get_file_writer().add_summary(summary, trainer.global_step)
