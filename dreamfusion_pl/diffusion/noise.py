"""The forward process q(z_t | x), loss weights, and conversions between prediction types (paper 2).

Time is continuous, t in [0, 1]. For a network trained with T discrete timesteps, t is rounded to the nearest
one, and alpha_t, sigma_t are those of that timestep, so that it only sees noise levels of its training.
Flow-matching networks are trained at every t.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, Self, final

import torch
from torch import Tensor


class NoiseSchedule(ABC):
    """Signal and noise level at time t: z_t = alpha_t x + sigma_t eps."""

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """Move the schedule's tensors; return self."""

    @abstractmethod
    def timestep(self, t: Tensor) -> Tensor:
        """Time input of the network for times t in [0, 1]; same shape."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """alpha_t at times t in [0, 1]; same shape."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """sigma_t at times t in [0, 1]; same shape."""

    @final
    def diffuse(self, x: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Return z_t = alpha_t x + sigma_t eps for data x and noise eps, [B, C, h, w], at times t, [B]."""
        return per_row(self.alpha(t)) * x + per_row(self.sigma(t)) * eps


@final
class VariancePreserving(NoiseSchedule):
    """A diffusion model with alpha_t^2 + sigma_t^2 = 1, trained at T discrete timesteps.

    Args:
        alphas_cumprod: alpha^2 at the T training timesteps, [T], strictly decreasing, in [0, 1], as in the
            schedulers of diffusers.

    Raises:
        ValueError: the values are not one-dimensional, strictly decreasing and in [0, 1].
    """

    def __init__(self, alphas_cumprod: Tensor) -> None:
        squared = alphas_cumprod.detach().double()
        if squared.ndim != 1 or len(squared) < 2 or not bool((squared.diff() < 0).all()):
            raise ValueError(f"alphas_cumprod must be a falling row [T], got shape {tuple(squared.shape)}")
        if not 0.0 <= float(squared[-1]) < float(squared[0]) <= 1.0:
            raise ValueError("alphas_cumprod must lie in [0, 1]: alpha_t^2 of a variance-preserving process")
        self.num_timesteps = len(squared)
        self._alphas = squared.sqrt().float()
        self._sigmas = (1.0 - squared).sqrt().float()

    def to(self, device: torch.device | str) -> Self:
        self._alphas, self._sigmas = self._alphas.to(device), self._sigmas.to(device)
        return self

    def timestep(self, t: Tensor) -> Tensor:
        """Nearest training timestep, int64 in [0, T - 1], of times t in [0, 1]; same shape."""
        return (t * (self.num_timesteps - 1)).round().long()

    def alpha(self, t: Tensor) -> Tensor:
        return self._alphas.to(t.device)[self.timestep(t)]

    def sigma(self, t: Tensor) -> Tensor:
        return self._sigmas.to(t.device)[self.timestep(t)]


@final
class StraightPath(NoiseSchedule):
    """A flow-matching model: z_t = (1 - t) x + t eps, for every t in [0, 1].

    Args:
        num_timesteps: the network's time input at t = 1.
    """

    def __init__(self, num_timesteps: int = 1000) -> None:
        self.num_timesteps = num_timesteps

    def to(self, device: torch.device | str) -> Self:
        return self

    def timestep(self, t: Tensor) -> Tensor:
        return t * self.num_timesteps

    def alpha(self, t: Tensor) -> Tensor:
        return 1.0 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t


def per_row(value: Tensor) -> Tensor:
    """Reshape one number per row, [B], to [B, 1, 1, 1], which broadcasts over images."""
    return value[:, None, None, None]


class Weighting(ABC):
    """The weight w(t) of paper eq. 1 and 3."""

    @abstractmethod
    def __call__(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return w(t) >= 0, [B], from alpha_t and sigma_t, [B]."""


@final
class SigmaSquared(Weighting):
    """w(t) = sigma_t^2, the paper's choice."""

    def __call__(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return sigma.square()


@final
class Uniform(Weighting):
    """w(t) = 1."""

    def __call__(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return torch.ones_like(sigma)


@final
class Velocity(Weighting):
    """w(t) = 1 / alpha_t: with it SDS distills the velocity of a flow (RFDS, Yang et al. 2024).

    On the straight path v = eps - x = (eps - z_t) / (1 - t), so that v_hat - v = (eps_hat - eps) / (1 - t).
    """

    def __call__(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return 1.0 / alpha


# Conversions. Tensors are [B, C, h, w]; alpha, sigma and s broadcast against them (see per_row).


def x0_from_eps(eps: Tensor, z_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """E[x | z_t] = (z_t - sigma eps) / alpha; not defined where alpha = 0."""
    return (z_t - sigma * eps) / alpha


def eps_from_x0(x0: Tensor, z_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Eps = (z_t - alpha x0) / sigma; not defined where sigma = 0."""
    return (z_t - alpha * x0) / sigma


def eps_from_v(v: Tensor, z_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Eps = alpha v + sigma z_t, for v = alpha eps - sigma x0."""
    return alpha * v + sigma * z_t


def v_from_eps(eps: Tensor, z_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """V = (eps - sigma z_t) / alpha, the inverse of ``eps_from_v``; not defined where alpha = 0."""
    return (eps - sigma * z_t) / alpha


def eps_from_flow(velocity: Tensor, z_s: Tensor, s: Tensor) -> Tensor:
    """Eps = z_s + (1 - s) v, for the straight path z_s = (1 - s) x + s eps and v = eps - x."""
    return z_s + (1.0 - s) * velocity


def x0_from_flow(velocity: Tensor, z_s: Tensor, s: Tensor) -> Tensor:
    """X = z_s - s v on the straight path."""
    return z_s - s * velocity


Prediction = Literal["epsilon", "v_prediction", "sample", "flow"]  # diffusers' names of the prediction types


def eps_from(kind: Prediction, output: Tensor, z_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Convert a network's output of any prediction type to eps; see the conversions above."""
    match kind:
        case "epsilon":
            return output
        case "v_prediction":
            return eps_from_v(output, z_t, alpha, sigma)
        case "sample":
            return eps_from_x0(output, z_t, alpha, sigma)
        case "flow":
            return eps_from_flow(output, z_t, sigma)
