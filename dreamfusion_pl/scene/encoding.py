"""Positional encodings of points and directions."""

from __future__ import annotations

import torch
from torch import Tensor


def encode_points(points: Tensor, covariance: float, num_frequencies: int) -> Tensor:
    """Integrated positional encoding with an isotropic covariance (mip-NeRF; paper A.2).

    The expectation of ``sin(2^l x)`` and ``cos(2^l x)`` for ``x ~ N(points, covariance I)``: each wave is
    damped by ``exp(-4^l covariance / 2)``.

    Args:
        points: means, [..., 3].
        covariance: variance lambda_Sigma of each coordinate, in squared world units, >= 0.
        num_frequencies: number L of frequencies 2^0 ... 2^(L-1).

    Returns:
        Encoding [..., 6 L]: all sines, then all cosines.
    """
    scales = 2.0 ** torch.arange(num_frequencies, device=points.device, dtype=points.dtype)
    phases = (points[..., None, :] * scales[:, None]).flatten(-2)
    damping = torch.exp(-0.5 * covariance * scales.square()).repeat_interleave(points.shape[-1])
    return torch.cat([torch.sin(phases) * damping, torch.cos(phases) * damping], dim=-1)


def encode_directions(directions: Tensor, num_frequencies: int) -> Tensor:
    """Unit directions [..., 3], followed by their positional encoding: [..., 3 + 6 L]."""
    return torch.cat([directions, encode_points(directions, 0.0, num_frequencies)], dim=-1)
