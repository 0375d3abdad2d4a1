"""A distillation without a renderer: optimize x = g(theta) directly, to study it (paper 2.1)."""

from __future__ import annotations

from typing import final

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor

from dreamfusion_pl import rng
from dreamfusion_pl.diffusion.closed_form import ClosedFormPrior
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.diffusion.text.prompts import embed_sources
from dreamfusion_pl.distillation.base import Distillation, checked_loss
from dreamfusion_pl.scene.pictures import Parametrization
from dreamfusion_pl.schedule import check_steps
from dreamfusion_pl.types import Condition, TextEmbedding


@final
class Playground(LightningModule):
    """Optimizes pictures or points with a distillation and a prior; every view has the same prompt.

    Args:
        prompt: text prompt of all pictures.
        parametrization: generator of the pictures, g(theta).
        prior: the frozen model.
        distillation: the loss of the pictures under the prior.
        optimizer: makes the optimizer.
        seed: seed of all random draws of the distillation.
        schedule_steps: steps in which progress goes from 0 to 1, where it stays; None: all of training.

    Raises:
        ValueError: the distillation cannot use the prior, the prior does not know the prompt, or
            ``schedule_steps`` is below 1.
    """

    def __init__(
        self,
        prompt: str,
        parametrization: Parametrization,
        prior: DiffusionPrior,
        distillation: Distillation,
        optimizer: OptimizerCallable = torch.optim.Adam,
        seed: int = 0,
        schedule_steps: int | None = None,
    ) -> None:
        super().__init__()
        distillation.check(prior)
        self.schedule_steps = check_steps(schedule_steps)
        self.parametrization, self.prior, self.distillation = parametrization, prior, distillation
        self.prompt, self.make_optimizer, self.seed = prompt, optimizer, seed
        self._condition = Condition(text=prior.embed([prompt]), null=prior.embed([""]))
        if distillation.source_text is not None:
            table = prior.embed([prompt, ""])
            source = distillation.source_text, distillation.source_is_of_prompt
            sources = embed_sources(prior, *source, [prompt, ""], table)
            self._condition = self._condition._replace(source=sources.rows(slice(0, 1)))

    def training_step(self, batch: int, batch_idx: int) -> Tensor:
        """Return the distillation's loss of all pictures."""
        progress = min(self.global_step / (self.schedule_steps or self.trainer.max_steps), 1.0)
        rgb = self.parametrization()
        z = self.prior.encode(rgb, progress)
        null, source = self._condition.null.to(z.device), self._condition.source
        if source is not None:
            source = source.to(z.device).expand(len(z))
        condition = Condition(self.text(len(z)), null, source=source)
        generator = rng.generator(self.seed, "distillation", self.global_rank, self.global_step)
        self.distillation.step = self.global_step
        found = self.distillation(z, condition, self.prior, progress, generator, rgb)
        losses = checked_loss(found, self.distillation, z)
        self.log("loss", losses.total.detach())
        self.log_dict({f"loss/{name}": loss.detach() for name, loss in losses.own.items()})
        if isinstance(self.prior, ClosedFormPrior):
            self.log("log_density", self.log_density(z.detach()).mean())
        return losses.total

    def text(self, count: int) -> TextEmbedding:
        """Return the prompt's embedding for ``count`` rows, on the module's device."""
        return self._condition.text.to(self.device).expand(count)

    def log_density(self, z: Tensor) -> Tensor:
        """Return log p(z | prompt) of z [N, C, h, w], [N], in nats; closed-form priors only."""
        assert isinstance(self.prior, ClosedFormPrior)
        return self.prior.log_density(z, z.new_zeros(len(z)), self.text(len(z)))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer of theta and the distillation's own parameters, with the same learning rate."""
        optimizer = self.make_optimizer(self.parametrization.parameters())
        for group in self.distillation.param_groups(optimizer.defaults["lr"]):
            optimizer.add_param_group(group)
        return optimizer

    def setup(self, stage: str) -> None:
        """Check that the number of steps is known.

        Raises:
            ValueError: the trainer has no ``max_steps``.
        """
        if stage == "fit" and self.trainer.max_steps < 1:
            raise ValueError("the number of steps must be known: pass --trainer.max_steps 300 or similar")

    def on_fit_start(self) -> None:
        """Move the prior, which Lightning does not see, to the device."""
        self.prior.to(self.device)
