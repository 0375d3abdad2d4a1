"""Compositing along rays (paper 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor


def compositing_weights(
    density: Tensor,  # [..., S] tau_i >= 0
    delta: Tensor,  # [..., S] or [..., 1] interval length of sample i
) -> Tensor:  # [..., S]
    """Weights ``w_i = alpha_i prod_{j<i} (1 - alpha_j)`` with ``alpha_i = 1 - exp(-tau_i delta_i)`` (3.1).

    The product, the transmittance up to sample i, is computed as ``exp(-sum_{j<i} tau_j delta_j)``. The sum
    over j < i is never a difference of two large sums, so that the weights add up to 1 at most.
    """
    thickness = density * delta
    in_front = torch.cumsum(torch.nn.functional.pad(thickness[..., :-1], (1, 0)), dim=-1)
    return -torch.expm1(-thickness) * torch.exp(-in_front)


def accumulate(weights: Tensor, values: Tensor) -> Tensor:
    """Weighted sum over samples of ``values`` [..., S, C] with ``weights`` [..., S]: [..., C]."""
    return (weights[..., None] * values).sum(-2)


def over(color: Tensor, opacity: Tensor, background: Tensor) -> Tensor:
    """Composite premultiplied ``color`` [..., C] with ``opacity`` [...] over ``background`` [..., C]."""
    return color + (1.0 - opacity)[..., None] * background
