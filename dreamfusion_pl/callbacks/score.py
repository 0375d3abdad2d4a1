"""Score of the finished object, which selects the best of several seeds."""

from __future__ import annotations

from typing import final

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.callbacks.previews.renders import on_device
from dreamfusion_pl.callbacks.previews.stages import stage
from dreamfusion_pl.data.orbit import orbit, ring
from dreamfusion_pl.data.views import RandomViews
from dreamfusion_pl.metrics.likelihood import prompt_evidence
from dreamfusion_pl.metrics.looks import camera_of, seeing_all
from dreamfusion_pl.run_folder import layout
from dreamfusion_pl.scene.background import SolidBackground
from dreamfusion_pl.types import Views


@final
class Score(Callback):
    """Measures how much the prompt helps the prior to denoise images of the finished object.

    The views, as large as those of the last training steps, show albedo without shading, over gray, and not
    over the background that was learned. Their cameras are those of the data's rings, so that the seeds of a
    prompt are seen alike; they step back where the object would be cut off.

    Args:
        num_azimuths: number of views, 1 or more.

    Raises:
        ValueError: ``num_azimuths`` is below 1.
    """

    def __init__(self, num_azimuths: int = 8) -> None:
        if num_azimuths < 1:
            raise ValueError(f"num_azimuths must be 1 or more, got {num_azimuths}")
        self.num_azimuths = num_azimuths
        self.value: float | None = None  # score of the last fit that ended

    @torch.no_grad()
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute the score and log it to TensorBoard."""
        self.value = None
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, DreamFusion)
        data, side = getattr(trainer, "datamodule", None), pl_module.prior.resolution
        if isinstance(data, RandomViews):
            side = data.side(pl_module.progress, side)
        camera = camera_of(data)
        scene, renderer, progress = pl_module.scene, pl_module.renderer, pl_module.progress
        views = orbit(ring(self.num_azimuths), 15.0, *camera, side, side)
        views = seeing_all(scene, renderer, views, progress)
        gains = []
        with stage(trainer, "scoring", self.num_azimuths) as advance:
            for index in range(self.num_azimuths):  # one at a time: memory may not suffice for more
                view = on_device(Views(*(field[index : index + 1] for field in views)), pl_module.device)
                rendering = renderer(scene, SolidBackground(), view, progress, needs_normals=False)
                z = pl_module.encode(rendering)
                gains.append(prompt_evidence(pl_module.prior, z, pl_module.prompts(view)))
                advance()
        self.value = sum(gains) / len(gains)
        writer = layout.tensorboard(trainer)
        if writer is not None:
            writer.add_scalar("score", self.value, trainer.global_step)
