"""Gaussian densities and their noisy marginals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def marginal_covariance(covariance: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return P_t = alpha_t^2 Sigma + sigma_t^2 I.

    Args:
        covariance: Sigma, [..., D, D].
        alpha: alpha_t, [N].
        sigma: sigma_t, [N].

    Returns:
        [N, ..., D, D].
    """
    shape = (-1, *[1] * covariance.ndim)
    eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    return alpha.view(shape).square() * covariance + sigma.view(shape).square() * eye


def gaussian_log_density(residual: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Return log N(r; 0, P) and P^-1 r.

    Args:
        residual: r, [..., D].
        covariance: P, [..., D, D], positive definite.

    Returns:
        Log density [...] in nats, and P^-1 r [..., D].
    """
    factor = torch.linalg.cholesky(covariance)
    solved = torch.cholesky_solve(residual[..., None], factor)[..., 0]
    log_determinant = 2.0 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    constant = residual.shape[-1] * math.log(2.0 * math.pi)
    return -0.5 * ((residual * solved).sum(-1) + log_determinant + constant), solved


def checked_gaussian(mean: Sequence[float], covariance: Sequence[Sequence[float]]) -> tuple[Tensor, Tensor]:
    """Return mean [D] and covariance [D, D] in double precision.

    Raises:
        ValueError: the shapes disagree, or the matrix is not symmetric and positive definite.
    """
    mu = torch.as_tensor(mean, dtype=torch.float64)
    sigma = torch.as_tensor(covariance, dtype=torch.float64)
    if mu.ndim != 1 or len(mu) < 1 or sigma.shape != (len(mu), len(mu)):
        raise ValueError(
            f"a Gaussian needs D numbers as its mean and D x D as its covariance, got {tuple(mu.shape)} and "
            f"{tuple(sigma.shape)}"
        )
    if not torch.allclose(sigma, sigma.T) or bool((torch.linalg.eigvalsh(sigma) <= 0).any()):
        raise ValueError(f"a covariance must be symmetric and positive definite, got {sigma.tolist()}")
    return mu, sigma
