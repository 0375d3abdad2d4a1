"""Interface of a distillation, and the surrogate loss (paper 2.1)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.types import Condition


class DistillationLoss(NamedTuple):
    """Losses of a distillation; their sum is minimized."""

    surrogate: Tensor  # scalar whose gradient with respect to z is that of the distillation
    unit: float  # the unit in which regularizers are weighted, see loss_unit
    own: dict[str, Tensor] = {}  # scalar losses of the distillation's own parameters, by name

    @property
    def total(self) -> Tensor:
        """Sum of all losses, a scalar."""
        return sum(self.own.values(), self.surrogate)


class Distillation(nn.Module, ABC):
    """Turns the predictions of a prior for rendered pictures into a loss.

    It may have parameters of its own, such as a low-rank copy of the prior's network. They are trained
    together with the scene, with losses of their own. Checkpoints contain them; weight averaging (EMA) leaves
    them out, because they are not part of the result.

    ``source_text`` is a second text that the distillation compares the prompt's with, or None. A ``{}`` in it
    stands for the text of each view; its embedding is the condition's ``source``. It must not say the same as
    the empty or negative text, or, if ``source_is_of_prompt``, as the prompt.

    ``guidance_scale`` is omega >= 0 of classifier-free guidance, with which previews ask the prior too.
    ``step`` is the index of the training step, which the module sets; it is that of ``view_step``.
    """

    source_text: str | None = None
    source_is_of_prompt: bool = False
    guidance_scale: float = 0.0
    step: int = 0

    @abstractmethod
    def check(self, prior: DiffusionPrior) -> None:
        """Check before training that this distillation can use the prior, and make what depends on it.

        Raises:
            ValueError: it cannot; the message says why, and what to use instead.
        """

    def view_step(self, step: int) -> int:
        """Return the step whose random views a training step sees: its own, unless views are seen again."""
        return step

    @abstractmethod
    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return optimizer groups of the distillation's own parameters, each with its ``lr``; often empty."""

    @abstractmethod
    def forward(
        self,
        z: Tensor,
        condition: Condition,
        prior: DiffusionPrior,
        progress: float,
        generator: torch.Generator,
        rgb: Tensor | None = None,
    ) -> DistillationLoss:
        """Return the loss of B encoded views.

        Args:
            z: encoded pictures [B, C, h, w], attached to the graph.
            condition: text embeddings of the views.
            prior: the frozen model.
            progress: training progress in [0, 1].
            generator: source of all random draws.
            rgb: the pictures [B, H, W, 3] that z encodes, attached to the graph; None where the scene itself
                gives z.

        Returns:
            Scalar losses, each a mean over views.
        """


def checked_loss(found: object, distillation: Distillation, z: Tensor) -> DistillationLoss:
    """Return what a distillation's ``forward`` has returned for z, if it can train a scene.

    Raises:
        ValueError: it is no ``DistillationLoss``, or does not depend on z.
    """
    name = type(distillation).__name__
    if not isinstance(found, DistillationLoss):
        raise ValueError(
            f"{name}.forward must return a DistillationLoss, such as "
            f"DistillationLoss(surrogate(z, gradient), loss_unit(z, omega)); got a {type(found).__name__}"
        )
    if z.requires_grad and not found.surrogate.requires_grad:
        raise ValueError(
            f"the surrogate loss of {name} does not depend on z, so that nothing would be trained: make it "
            "of z itself, not of z.detach()"
        )
    return found


def draw_noise(z: Tensor, generator: torch.Generator) -> Tensor:
    """Draw eps ~ N(0, I) with the shape, device and dtype of z."""
    return torch.randn(z.shape, generator=generator, device=generator.device).to(z)


def check_guidance(guidance_scale: float) -> float:
    """Return the guidance scale.

    Raises:
        ValueError: it is negative.
    """
    if guidance_scale < 0.0:
        raise ValueError(f"guidance_scale is omega >= 0 (0 is no guidance), got {guidance_scale}")
    return guidance_scale


def loss_unit(z: Tensor, guidance_scale: float) -> float:
    """Return the unit of loss of z [B, C, h, w], ``h w (1 + omega)``.

    Eq. 2 sums over all elements of z, and the difference of predictions grows with 1 + omega, while
    regularizers are means over pixels. Multiplied by this unit, a regularizer of the same weight has the same
    strength relative to the distillation for every resolution, prior, guidance scale and number of views.
    """
    return z.shape[-2] * z.shape[-1] * (1.0 + guidance_scale)


def surrogate(z: Tensor, gradient: Tensor) -> Tensor:
    """Return a scalar whose gradient with respect to z is exactly ``gradient`` / B: eq. 3, a mean over views.

    Its value, for logging, is the mean over views of half the squared norm of ``gradient``.

    Args:
        z: encoded pictures [B, C, h, w], attached to the graph.
        gradient: the desired gradient of each view [B, C, h, w]; it is detached.
    """
    gradient = gradient.detach()
    linear = (z * gradient).sum() / len(z)
    value = 0.5 * gradient.square().sum() / len(z)
    return value + (linear - linear.detach())
