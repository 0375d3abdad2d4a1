"""Variational score distillation."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.low_rank import LowRankCopy
from dreamfusion_pl.diffusion.noise import Weighting
from dreamfusion_pl.diffusion.placeholder import PlaceholderPrior
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.distillation.adjustments import Noisy
from dreamfusion_pl.distillation.base import (
    Distillation,
    DistillationLoss,
    check_guidance,
    draw_noise,
    loss_unit,
    surrogate,
)
from dreamfusion_pl.distillation.score_gradient import add_noise
from dreamfusion_pl.distillation.times import TimeLaw, TimeRange
from dreamfusion_pl.schedule import Schedule
from dreamfusion_pl.types import CAMERA, Condition


@final
class VariationalDistillation(Distillation):
    """VSD: w(t) (eps_hat(z_t; y, t) - eps_phi(z_t; y, t, c)) (ProlificDreamer, Wang et al. 2023, eq. 9).

    eps_phi predicts the noise in pictures of the scene itself, from camera c. It is a low-rank copy of the
    prior's network, trained beside the scene with L_Diff on its pictures. Were it exact, the scene's
    pictures would end as samples of the prior, without a large guidance scale; were it the noise that was
    added, this would be SDS. Without a camera in the condition, c is 0. y is the text of the
    view for both; the paper leaves the view's name out for eps_phi.

    Args:
        guidance_scale: omega of classifier-free guidance, >= 0; the paper has s = 1 + omega = 7.5.
        weighting: w(t).
        t_min: lowest time drawn, in [0, 1).
        t_max: highest time drawn, in (t_min, 1]: a number, or a schedule that lowers it during training.
        time_law: how times are chosen between the two; None: uniformly. L_Diff takes all times.
        rank: rank of the copy, 1 or more.
        rate: learning rate of the copy, as a share of the scene's, > 0.

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
        rank: int = 4,
        rate: float = 0.01,
    ) -> None:
        super().__init__()
        if rate <= 0.0:
            raise ValueError(f"rate is a share of the learning rate, above 0; got {rate}")
        self.guidance_scale, self.weighting = check_guidance(guidance_scale), weighting
        self.times, self.rank, self.rate = TimeRange(t_min, t_max, time_law), rank, rate
        self.copy: LowRankCopy | None = None

    def check(self, prior: DiffusionPrior) -> None:
        """Make the copy of the prior's network.

        Raises:
            ValueError: the prior has no network that can be copied, or its noise levels do not fit to the
                range of t.
        """
        self.times.check_levels(prior.schedule, self.weighting)
        if isinstance(prior, PlaceholderPrior):
            return
        if prior.network is None:
            raise ValueError(
                "VariationalDistillation trains a low-rank copy of the prior's network, and none is at hand: "
                "compiled and offloaded networks, and one that fits share with --together, cannot be copied; "
                "a closed-form prior has none, and ParticleDistillation needs none"
            )
        self.copy = LowRankCopy(prior.network, self.rank)

    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        if self.copy is None:
            return []
        return [{"params": list(self.copy.parameters()), "lr": self.rate * learning_rate}]

    def forward(
        self,
        z: Tensor,
        condition: Condition,
        prior: DiffusionPrior,
        progress: float,
        generator: torch.Generator,
        rgb: Tensor | None = None,
    ) -> DistillationLoss:
        fixed = z.detach()
        with torch.no_grad():
            t = self.times.draw(len(z), progress, prior.schedule, generator).to(z.device)
            noisy = add_noise(fixed, draw_noise(z, generator), t, prior)
            eps_hat = prior.guided(noisy.z_t, t, condition, self.guidance_scale)
            own = self.own_score(noisy, condition, prior)
            gradient = self.weighting(noisy.alpha, noisy.sigma) * (eps_hat - own)
            t = torch.rand(len(z), generator=generator, device=generator.device).to(z.device)
            noisy = add_noise(fixed, draw_noise(z, generator), t, prior)
        error = self.own_score(noisy, condition, prior) - noisy.eps
        unit = loss_unit(z, self.guidance_scale)
        return DistillationLoss(surrogate(z, gradient), unit, {"own_score": error.square().mean()})

    def own_score(self, noisy: Noisy, condition: Condition, prior: DiffusionPrior) -> Tensor:
        """Return eps_phi of B noisy pictures of the scene, [B, C, h, w].

        Raises:
            ValueError: the network is in float16.
        """
        assert self.copy is not None and prior.network is not None, "check comes first"
        if next(prior.network.parameters()).dtype == torch.float16:
            raise ValueError(
                "VariationalDistillation differentiates through the prior's network, and small gradients "
                "vanish in float16: pass --model.prior.dtype float32, or bfloat16 where the GPU has it"
            )
        camera = condition.camera
        if camera is None:
            camera = noisy.z_t.new_zeros(len(noisy.z_t), CAMERA)
        with self.copy.active(prior.network, camera):
            return prior.predict(noisy.z_t, noisy.t, condition.text)
