"""Score-based iterative reconstruction: denoised pictures that several steps are fitted to."""

from __future__ import annotations

from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor

from dreamfusion_pl.diffusion.noise import Weighting
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.distillation.base import (
    Distillation,
    DistillationLoss,
    check_guidance,
    loss_unit,
    surrogate,
)
from dreamfusion_pl.distillation.denoised import Denoiser, Target
from dreamfusion_pl.distillation.times import TimeLaw, TimeRange
from dreamfusion_pl.schedule import Schedule
from dreamfusion_pl.types import Condition


@final
class IterativeReconstruction(Distillation):
    """SIR: ``w(t) (alpha_t / sigma_t) |z - z_hat|^2 / 2`` with z_hat kept for some steps (Chen et al. 2024).

    This is MicroDreamer's scheme. Training goes in blocks of ``batches * passes`` steps. In the first pass of
    a block, every step asks the prior for z_hat, what DDIM makes of its noisy views. In the passes that
    follow the same views are rendered again, and the scene is fitted to the z_hat of the first pass without
    asking the prior. The factor alpha_t / sigma_t, which the paper does not have, keeps the unit of loss:
    with one pass and one step of DDIM this is SDS. The paper fits decoded pictures by their absolute
    difference, inverts by DDIM from a lower time, and renders one batch of 4 views 15 times.

    Checkpoints hold the targets of the block. A resumed run on several devices has them on the first device
    only; the others ask the prior anew.

    Args:
        guidance_scale: omega of classifier-free guidance, >= 0, in the paper's convention (s = 1 + omega).
        weighting: w(t).
        t_min: lowest time drawn, in [0, 1).
        t_max: highest time drawn, in (t_min, 1]: a number, or a schedule that lowers it during training.
        time_law: how times are chosen between the two; None: uniformly. MicroDreamer's fall evenly.
        steps: number of DDIM's steps from t to 0, 1 or more; each asks the prior once.
        batches: steps of a pass, each with views of its own, 1 or more.
        passes: how often the views of a block are rendered, 1 or more.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        guidance_scale: float,
        weighting: Weighting,
        t_min: float = 0.02,
        t_max: Schedule | float = 0.98,
        time_law: TimeLaw | None = None,
        steps: int = 1,
        batches: int = 4,
        passes: int = 2,
    ) -> None:
        super().__init__()
        if min(steps, batches, passes) < 1:
            raise ValueError(
                f"steps, batches and passes must be 1 or more, got {steps}, {batches} and {passes}"
            )
        self.guidance_scale = check_guidance(guidance_scale)
        self.denoiser = Denoiser(guidance_scale, weighting, TimeRange(t_min, t_max, time_law), steps)
        self.batches, self.passes = batches, passes
        self.targets = dict[int, Target]()  # by the step whose views they are of

    def view_step(self, step: int) -> int:
        within = step % (self.batches * self.passes)
        return step - within + within % self.batches  # its step of the first pass

    def check(self, prior: DiffusionPrior) -> None:
        """Accept any prior: nothing is differentiated through it.

        Raises:
            ValueError: the prior's noise levels do not fit to the range of t.
        """
        self.denoiser.check(prior)

    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return []

    def get_extra_state(self) -> dict[str, Any]:
        """Return the targets of the block, for checkpoints."""
        return {"targets": {step: (*target,) for step, target in self.targets.items()}}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore them, on the first device: those of others were not saved."""
        is_first = not dist.is_initialized() or dist.get_rank() == 0
        self.targets = {step: Target(*target) for step, target in state["targets"].items() if is_first}

    def forward(
        self,
        z: Tensor,
        condition: Condition,
        prior: DiffusionPrior,
        progress: float,
        generator: torch.Generator,
        rgb: Tensor | None = None,
    ) -> DistillationLoss:
        first = self.view_step(self.step - self.step % (self.batches * self.passes))
        self.targets = {step: kept for step, kept in self.targets.items() if step >= first}
        seen = self.view_step(self.step)
        target = self.targets.get(seen)
        if target is None or target.z.shape != z.shape:  # pictures may have grown
            target = self.denoiser.target(z, condition, prior, progress, generator)
            # What is not finite ends this step, and pulls at nothing in later passes.
            known = torch.where(target.z.isfinite(), target.z, z.detach())
            self.targets[seen] = Target(known, target.weight)
        pull = target.weight.to(z) * (z.detach() - target.z.to(z))
        return DistillationLoss(surrogate(z, pull), loss_unit(z, self.guidance_scale))
