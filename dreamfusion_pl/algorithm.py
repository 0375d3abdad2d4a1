"""DreamFusion: optimize a 3D scene with a 2D diffusion model as the prior (paper 3.2)."""

from __future__ import annotations

from typing import Any, final

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.cli import OptimizerCallable
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from dreamfusion_pl import rng
from dreamfusion_pl.device.matmul import MatmulPrecision, matmul_precision
from dreamfusion_pl.diffusion.encoded_colors import encoded_colors
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.diffusion.text.prompts import ViewDependentPrompts
from dreamfusion_pl.distillation.base import Distillation, checked_loss
from dreamfusion_pl.rendering.regularizers import Regularizers
from dreamfusion_pl.rendering.renderer import Renderer
from dreamfusion_pl.scene.background import Background
from dreamfusion_pl.scene.base import Scene
from dreamfusion_pl.schedule import Schedule, check_not_negative, check_steps
from dreamfusion_pl.types import Rendering, Views


@final
class DreamFusion(LightningModule):
    """Text-to-3D by score distillation.

    Args:
        prompt: what to make, for example "a red chair".
        scene: the 3D representation theta that is optimized.
        background: the background behind the object.
        renderer: the differentiable renderer g.
        prior: the frozen text-to-image model; shared by copies, and not saved in checkpoints.
        distillation: the loss of rendered pictures under the prior.
        regularizers: losses of the rendering that are added to it.
        prompts: settings of view-dependent prompts.
        learning_rate: peak learning rate; the scene may scale it per part.
        warmup: factor on the learning rate over training, rising to 1.
        decay: factor on the learning rate over training, falling from 1.
        optimizer: makes the optimizer, given parameter groups with their learning rates.
        occupancy_interval: steps between updates of the renderer's occupancy grid, 1 or more.
        latent_until: progress in [0, 1] until which the prior gets the scene's latents directly, without its
            encoder (Latent-NeRF). After that it encodes their colours, to refine them. 1: always latents.
            Needs a scene with ``latents``; 0 for other scenes.
        seed: seed of all random draws of the distillation.
        schedule_steps: steps in which progress goes from 0 to 1, where it stays; None: all of training.
        matmul_precision: of float32 matrix products in a training step, as in
            ``torch.set_float32_matmul_precision``. "medium" computes them from bfloat16 factors with float32
            sums: faster where there is hardware for it, and meant for scenes that are large networks. None
            leaves the setting of the process, "highest" by default.

    Raises:
        ValueError: the prompt is empty or not a string, the learning rate or the interval is not positive, a
            factor is negative at some point of training, ``latent_until`` is outside of [0, 1] or above 0
            without latents, the prior has no pixels, or the distillation cannot use it.
    """

    def __init__(
        self,
        prompt: str,
        scene: Scene,
        background: Background,
        renderer: Renderer,
        prior: DiffusionPrior,
        distillation: Distillation,
        regularizers: Regularizers,
        prompts: ViewDependentPrompts,
        learning_rate: float,
        warmup: Schedule,
        decay: Schedule,
        optimizer: OptimizerCallable = torch.optim.Adam,
        occupancy_interval: int = 16,
        latent_until: float = 0.0,
        seed: int = 0,
        schedule_steps: int | None = None,
        matmul_precision: MatmulPrecision | None = None,
    ) -> None:
        super().__init__()
        if learning_rate <= 0.0 or occupancy_interval < 1:
            raise ValueError(
                "learning_rate must be above 0 and occupancy_interval 1 or more, "
                f"got {learning_rate} and {occupancy_interval}"
            )
        if not 0.0 <= latent_until <= 1.0:
            raise ValueError(f"latent_until is a progress in [0, 1], got {latent_until}")
        if latent_until > 0.0 and scene.latent_colors is None:
            raise ValueError(
                f"latent_until is {latent_until}, and the scene emits colours: pass --model.scene.latents "
                "with the prior's number of channels; 4 for Stable Diffusion 1, 2 and XL and PixArt, 16 for "
                "Stable Diffusion 3 and FLUX"
            )
        check_not_negative(warmup=warmup, decay=decay)
        if prior.resolution < 1 or prior.channels < 1:
            raise ValueError(
                f"the prior denoises {prior.channels} channels of {prior.resolution} x {prior.resolution}: "
                "its resolution and channels must be 1 or more"
            )
        distillation.check(prior)
        self.save_hyperparameters("learning_rate", "seed")
        self.scene, self.background, self.renderer = scene, background, renderer
        self.prior, self.distillation, self.regularizers = prior, distillation, regularizers
        self.prompt = prompt
        source = distillation.source_text, distillation.source_is_of_prompt
        self.prompts = prompts.embed(prior, prompt, *source)
        self.learning_rate, self.warmup, self.decay = learning_rate, warmup, decay
        self.make_optimizer = optimizer
        self.occupancy_interval, self.latent_until, self.seed = occupancy_interval, latent_until, seed
        self.progress, self.schedule_steps = 0.0, check_steps(schedule_steps)
        self.matmul_precision = matmul_precision

    def forward(self, views: Views, needs_normals: bool = True, skip_empty_rays: bool = False) -> Rendering:
        """Render B views of the current scene, x = g(theta); the options are those of ``Renderer``."""
        with torch.autocast(self.device.type, enabled=False):  # bfloat16 rays would miss their pixels
            options = needs_normals, skip_empty_rays
            return self.renderer(self.scene, self.background, views, self.progress, *options)

    def training_step(self, views: Views, batch_idx: int) -> Tensor:
        """One iteration of the algorithm (docs/mathematics.md), 2b to 2f: the loss."""
        with matmul_precision(self.matmul_precision):
            return self._loss(views, batch_idx)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Differentiate in the precision of the step."""
        with matmul_precision(self.matmul_precision):
            super().backward(loss, *args, **kwargs)

    def _loss(self, views: Views, batch_idx: int) -> Tensor:
        rendering = self(views)  # 2b  x = g(theta)
        condition = self.prompts(views)  # view-dependent y
        z = self.encode(rendering).to(rendering.rgb)  # z = x for a pixel-space prior
        generator = self._generator("distillation", batch_idx, self.global_rank)
        self.distillation.step = self._index(batch_idx)
        rgb = None if self.gives_latents else rendering.rgb
        found = self.distillation(z, condition, self.prior, self.progress, generator, rgb)  # 2c-2f
        losses = checked_loss(found, self.distillation, z)
        regularizers, parts = self.regularizers(rendering, self.progress)
        total = losses.total + losses.unit * regularizers
        terms = {"distillation": losses.surrogate, **losses.own, **parts}
        self.log_dict({f"loss/{name}": term.detach() for name, term in terms.items()})
        self.log("loss", total.detach())  # not for Lightning's bar, which waits for it in every step
        self.log("opacity", rendering.opacity.detach().mean())
        return total

    @property
    def gives_latents(self) -> bool:
        """Whether the prior currently gets the scene's latents instead of encoded pictures."""
        return self.progress < self.latent_until or self.latent_until == 1.0

    def encode(self, rendering: Rendering) -> Tensor:
        """Return the input of the prior for B views, z [B, C, h, w]."""
        if self.gives_latents:
            return self.prior.resize(rendering.latent)
        return self.prior.encode(rendering.rgb, self.progress)

    def validation_step(self, views: Views, batch_idx: int) -> Rendering:
        """Render the views of a validation sheet, for the callbacks."""
        return self(views)

    def test_step(self, views: Views, batch_idx: int) -> Rendering:
        """Render frames of a turntable."""
        return self(views, needs_normals=False, skip_empty_rays=True)

    def predict_step(self, views: Views, batch_idx: int) -> Rendering:
        """Render any views."""
        return self(views)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer of the scene, the background and the distillation's own parameters.

        The learning rate is a function of progress.
        """
        groups = self.scene.param_groups(self.learning_rate)
        groups += self.background.param_groups(self.learning_rate)
        groups += self.distillation.param_groups(self.learning_rate)
        optimizer = self.make_optimizer(groups)
        steps = self.schedule_steps or self.trainer.max_steps

        def factor(step: int) -> float:
            progress = min(step / steps, 1.0)
            return self.warmup(progress) * self.decay(progress)

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def optimizer_step(self, *args: Any, **keywords: Any) -> None:
        """Step, then let the scene do what follows, before averages and checkpoints see it."""
        super().optimizer_step(*args, **keywords)
        self.scene.after_step(self.trainer.optimizers[0].param_groups[0]["lr"])

    def setup(self, stage: str) -> None:
        """Check that the number of steps, which schedules need, is known and that latents match the prior.

        Raises:
            ValueError: the trainer has no ``max_steps``, or the scene's latents do not match the prior's.
        """
        if stage != "fit":
            return
        if self.trainer.max_steps < 1:
            raise ValueError("the number of steps must be known: pass --trainer.max_steps 400 or similar")
        if self.scene.latent_colors is not None:
            self.scene.latent_colors.check(self.prior.channels)

    def on_fit_start(self) -> None:
        """Move the prior, which Lightning does not see, to the device; fit the colours of latents."""
        self.prior.to(self.device)
        colors = self.scene.latent_colors
        if colors is not None and not colors.is_fitted:
            colors.fit(*encoded_colors(self.prior, self.device))

    def on_validation_start(self) -> None:
        """Move the prior to the device for validation alone, if its decoder is needed for latents."""
        if self.trainer.state.fn == "validate" and self.gives_latents:
            self.prior.to(self.device)

    def on_train_batch_start(self, batch: Views, batch_idx: int) -> None:
        """Set progress and, every few optimizer steps, update the occupancy grid."""
        self._set_progress()
        is_first = batch_idx % self.trainer.accumulate_grad_batches == 0
        if is_first and self.trainer.global_step % self.occupancy_interval == 0:
            generator = self._generator("occupancy", batch_idx, rank=0)  # the same grid on every rank
            self.renderer.update_occupancy(self.scene, self.progress, generator)

    def on_train_batch_end(self, outputs: Any, batch: Views, batch_idx: int) -> None:
        """Set progress for callbacks that use the scene between steps."""
        self._set_progress()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the gradient's norm and the learning rate."""
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        self.log("gradient_norm", torch.nn.utils.get_total_norm(gradients))
        rate = optimizer.param_groups[0]["lr"]
        self.log("learning_rate", torch.full((), rate, device=self.device))  # a number would wait for the GPU

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save progress, on which the scene depends, and the prompt."""
        if self.trainer.state.fn == "fit":  # a callback may save before this module's own hook
            self._set_progress()
        checkpoint.update(progress=self.progress, prompt=self.prompt)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore progress."""
        self.progress = checkpoint["progress"]

    def _set_progress(self) -> None:
        self.progress = min(self.trainer.global_step / (self.schedule_steps or self.trainer.max_steps), 1.0)

    def _index(self, batch_idx: int) -> int:
        """The index of a training step among all batches, which is also that of its views."""
        accumulated = self.trainer.accumulate_grad_batches
        return self.trainer.global_step * accumulated + batch_idx % accumulated

    def _generator(self, stream: str, batch_idx: int, rank: int) -> torch.Generator:
        step = self._index(batch_idx)
        # On the CPU for a CPU and a Mac; a GPU draws its own noise and does not wait for it.
        device = torch.device("cpu") if self.device.type in ("cpu", "mps") else self.device
        return rng.generator(self.seed, stream, rank, step, device)
