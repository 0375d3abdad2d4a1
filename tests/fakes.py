"""Small stand-ins that several tests share."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any, Self, final

import torch
import yaml
from pytorch_lightning import Callback
from scenes import plane_scene
from torch import Tensor, nn

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.diffusion.noise import SigmaSquared, VariancePreserving, per_row
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.diffusion.text.prompts import ViewDependentPrompts
from dreamfusion_pl.distillation.base import (
    Distillation,
    DistillationLoss,
    draw_noise,
    loss_unit,
    surrogate,
)
from dreamfusion_pl.distillation.sds import ScoreDistillation
from dreamfusion_pl.rendering.regularizers import Regularizers
from dreamfusion_pl.rendering.renderer import Renderer
from dreamfusion_pl.scene.background import SolidBackground
from dreamfusion_pl.schedule import Constant, Schedule
from dreamfusion_pl.types import Condition, TextEmbedding


@final
class ColorPrior(DiffusionPrior):
    """Closed-form prior whose pictures are one colour plus white noise of standard deviation ``spread``.

    Args:
        rgb: the colour, in [0, 1].
        spread: standard deviation of the pictures around it, in [-1, 1] units.
        resolution: side of the pictures in pixels.
    """

    differentiable = True

    def __init__(
        self, rgb: tuple[float, float, float] = (0.9, 0.1, 0.1), spread: float = 0.1, resolution: int = 8
    ) -> None:
        self.mean = 2.0 * torch.tensor(rgb)[:, None, None] - 1.0
        self.spread, self.resolution, self.channels = spread, resolution, 3
        self.schedule = VariancePreserving(torch.linspace(0.9999, 0.0001, 1000))

    def to(self, device: torch.device | str) -> Self:
        self.mean = self.mean.to(device)
        self.schedule.to(device)
        return self

    def encode(self, rgb: Tensor, progress: float) -> Tensor:
        return 2.0 * rgb.permute(0, 3, 1, 2) - 1.0

    def decode(self, z: Tensor) -> Tensor:
        return 0.5 * z.detach().permute(0, 2, 3, 1) + 0.5

    def embed(self, prompts: list[str]) -> TextEmbedding:
        return TextEmbedding(torch.zeros(len(prompts), 1, 1))

    def predict(self, z_t: Tensor, t: Tensor, text: TextEmbedding) -> Tensor:
        alpha, sigma = per_row(self.schedule.alpha(t)), per_row(self.schedule.sigma(t))
        variance = alpha.square() * self.spread**2 + sigma.square()
        return sigma * (z_t - alpha * self.mean) / variance


@final
class LearnedMean(Distillation):
    """Learns, as VSD does, a model of the scene's own pictures; here their mean, one number a channel."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(3, 1, 1))

    def check(self, prior: DiffusionPrior) -> None:
        """Any prior serves."""

    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return [{"params": [self.mean], "lr": 0.5 * learning_rate}]

    def forward(
        self,
        z: Tensor,
        condition: Condition,
        prior: DiffusionPrior,
        progress: float,
        generator: torch.Generator,
        rgb: Tensor | None = None,
    ) -> DistillationLoss:
        t = torch.full((len(z),), 0.5, device=z.device)
        eps = draw_noise(z, generator)
        eps_hat = prior.guided(prior.schedule.diffuse(z, eps, t), t, condition, 0.0)
        own = (z.detach() - self.mean).square().mean()
        return DistillationLoss(surrogate(z, eps_hat - eps), loss_unit(z, 0.0), {"mean": own})


@final
class Fragile(Callback):
    """Kills its process the first time that its run comes to a step.

    Args:
        step: which.
    """

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        mark = Path(trainer.log_dir) / "died.txt"
        if trainer.global_step == self.step and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


@final
class FullMemory(Callback):
    """Runs out of memory after a step, unless fewer views are rendered at once.

    Args:
        step: after which.
        always: even then.
    """

    def __init__(self, step: int, always: bool = False) -> None:
        self.step, self.always = step, always

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step >= self.step and (self.always or not pl_module.renderer.views_at_once):
            raise torch.OutOfMemoryError("tried to allocate 80 GiB")


@final
class Impatient(Callback):
    """Presses Ctrl-C when the fit's results are about to be written."""

    def on_fit_end(self, trainer, pl_module):
        os.kill(os.getpid(), signal.SIGINT)


SMALL_WEIGHT = Constant(1e-5)


def small_model(
    seed: int = 0,
    prior: DiffusionPrior | None = None,
    distillation: Distillation | None = None,
    opacity: Schedule = SMALL_WEIGHT,
    orientation: Schedule = SMALL_WEIGHT,
    latents: int = 0,
    latent_until: float = 0.0,
) -> DreamFusion:
    """A DreamFusion that takes a step in milliseconds; parameters depend on ``seed``."""
    torch.manual_seed(seed)
    return DreamFusion(
        prompt="a red ball",
        scene=plane_scene(resolution=8, channels=4, width=8, latents=latents),
        background=SolidBackground(),
        renderer=Renderer(num_samples=8, occupancy_resolution=8, num_strata=16),
        prior=prior or ColorPrior(),
        distillation=distillation or ScoreDistillation(4.0, SigmaSquared()),
        regularizers=Regularizers(opacity, orientation),
        prompts=ViewDependentPrompts(),
        learning_rate=0.03,
        warmup=Constant(1.0),
        decay=Constant(1.0),
        latent_until=latent_until,
        seed=seed,
    )


SMALL = Path(__file__).parent / "small.yaml"
SMALL_RUN = ["--config", str(SMALL)]
SMALL_CALLBACKS = yaml.safe_load(SMALL.read_text(encoding="utf-8"))["trainer"]["callbacks"]
SMALL_EXPORT = ["--resolution", "24", "--faces", "400", "--texture", "32"]


def finish(process: subprocess.Popen, timeout: float) -> tuple[str, str]:
    """Wait for a process and return what it printed; one that does not end is killed."""
    try:
        return process.communicate(timeout=timeout)
    finally:
        process.kill()
