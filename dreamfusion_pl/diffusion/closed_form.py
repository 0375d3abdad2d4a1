"""Priors with a closed-form score, for tests and for experiments with distillation without a network.

For data x ~ N(mu, Sigma) the noisy marginal is N(alpha_t mu, P_t), P_t = alpha_t^2 Sigma + sigma_t^2 I,
so that (paper 2, A.4)

    score:  grad log p(z_t) = -P_t^-1 (z_t - alpha_t mu)
    noise:  eps_hat(z_t)    = -sigma_t grad log p(z_t) = sigma_t P_t^-1 (z_t - alpha_t mu)

For a mixture of Gaussians these are averaged with the responsibilities of its modes at z_t.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.gaussian import checked_gaussian, gaussian_log_density, marginal_covariance
from dreamfusion_pl.diffusion.noise import NoiseSchedule, VariancePreserving
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.types import TextEmbedding


class ClosedFormPrior(DiffusionPrior):
    """A prior over z = x whose density can be evaluated. D = C h w is the number of dimensions."""

    differentiable = True

    @abstractmethod
    def log_density(self, z_t: Tensor, t: Tensor, text: TextEmbedding) -> Tensor:
        """Return log p(z_t; y, t) in nats, [N].

        Args:
            z_t: noisy data [N, C, h, w]; at t = 0 the data, up to the noise of the first timestep.
            t: times [N] in [0, 1].
            text: embeddings of N texts.
        """

    def encode(self, rgb: Tensor, progress: float) -> Tensor:
        return rgb.permute(0, 3, 1, 2)

    def decode(self, z: Tensor) -> Tensor:
        return z.detach().permute(0, 2, 3, 1)


def closed_form_schedule(num_timesteps: int = 1000) -> NoiseSchedule:
    """Return a schedule whose alpha_t^2 decreases linearly from .9999 to 1e-4."""
    return VariancePreserving(torch.linspace(0.9999, 1e-4, num_timesteps, dtype=torch.float64))


@final
class GaussianPrior(ClosedFormPrior):
    """x ~ N(mu, Sigma) for any prompt, and x ~ N(0, Sigma) for the empty prompt.

    The embedding of a text is its mean, one token [1, D].

    Args:
        mean: mu, D numbers.
        covariance: Sigma, D rows of D numbers; symmetric and positive definite.
        shape: (C, h, w) of z, h = w; None is (D, 1, 1), a point.

    Raises:
        ValueError: the shapes disagree, or Sigma is not a covariance matrix.
    """

    def __init__(
        self,
        mean: Sequence[float],
        covariance: Sequence[Sequence[float]],
        shape: tuple[int, int, int] | None = None,
    ) -> None:
        self.mean, self.covariance = checked_gaussian(mean, covariance)
        self.channels, self.resolution = checked_shape(shape, len(self.mean))
        self.schedule = closed_form_schedule()

    def to(self, device: torch.device | str) -> Self:
        self.mean, self.covariance = self.mean.to(device), self.covariance.to(device)
        self.schedule.to(device)
        return self

    def embed(self, prompts: list[str]) -> TextEmbedding:
        means = [self.mean[None] * float(bool(prompt)) for prompt in prompts]
        return TextEmbedding(torch.stack(means).float())

    def predict(self, z_t: Tensor, t: Tensor, text: TextEmbedding) -> Tensor:
        residual, marginal = self._at(z_t, t, text)
        _, solved = gaussian_log_density(residual, marginal)
        return (self.schedule.sigma(t).to(z_t)[:, None] * solved).view_as(z_t)

    def log_density(self, z_t: Tensor, t: Tensor, text: TextEmbedding) -> Tensor:
        return gaussian_log_density(*self._at(z_t, t, text))[0]

    def divergence(self, x: Tensor, t: Tensor, text: TextEmbedding) -> Tensor:
        """Return KL(q(z_t | x) || p(z_t; y, t)) in nats, [N], for x [N, C, h, w] at times t [N] (A.4).

        Both are Gaussian. With d = alpha_t (x - mu) it is
        (sigma_t^2 tr P_t^-1 + d' P_t^-1 d - D + log det P_t - D log sigma_t^2) / 2.
        """
        alpha, sigma = self.schedule.alpha(t).to(x)[:, None], self.schedule.sigma(t).to(x)
        difference, marginal = self._at(alpha[..., None, None] * x, t, text)
        factor = torch.linalg.cholesky(marginal)
        solved = torch.cholesky_solve(difference[..., None], factor)[..., 0]
        trace = torch.cholesky_inverse(factor).diagonal(dim1=-2, dim2=-1).sum(-1)
        log_determinant = 2.0 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        count = difference.shape[-1]
        spread = sigma.square() * trace - count + log_determinant - 2.0 * count * sigma.log()
        return 0.5 * (spread + (difference * solved).sum(-1))

    def _at(self, z_t: Tensor, t: Tensor, text: TextEmbedding) -> tuple[Tensor, Tensor]:
        """Return z_t - alpha_t mu, [N, D], and P_t, [N, D, D]."""
        alpha, sigma = self.schedule.alpha(t).to(z_t), self.schedule.sigma(t).to(z_t)
        residual = z_t.flatten(1) - alpha[:, None] * text.tokens.to(z_t).flatten(1)
        return residual, marginal_covariance(self.covariance.to(z_t), alpha, sigma)


@dataclass(frozen=True)
class Mode:
    """One Gaussian of a mixture.

    Args:
        mean: mu, D numbers.
        covariance: Sigma, D rows of D numbers; symmetric and positive definite.
        weight: mixture weight, > 0; a mixture normalizes the weights.
    """

    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    weight: float = 1.0


@final
class MixturePrior(ClosedFormPrior):
    """A mixture of named Gaussians. A prompt selects modes by name; the empty prompt selects all of them.

    The embedding of a text is the weights of the K modes, one token [1, K].

    Args:
        modes: the Gaussians by name; a name is one word.
        shape: (C, h, w) of z, h = w; None is (D, 1, 1), a point.

    Raises:
        ValueError: there is no mode, or shapes, weights or covariances are invalid.
    """

    def __init__(self, modes: dict[str, Mode], shape: tuple[int, int, int] | None = None) -> None:
        if not modes:
            raise ValueError("a mixture needs at least one mode")
        if not all(mode.weight > 0.0 for mode in modes.values()):
            raise ValueError(f"weights of modes must be above 0, got {[m.weight for m in modes.values()]}")
        parts = [checked_gaussian(mode.mean, mode.covariance) for mode in modes.values()]
        if len({len(mean) for mean, _ in parts}) > 1:
            raise ValueError("all modes of a mixture need means of the same length")
        self.names = list(modes)
        self.means = torch.stack([mean for mean, _ in parts])  # [K, D]
        self.covariances = torch.stack([covariance for _, covariance in parts])  # [K, D, D]
        weights = torch.tensor([mode.weight for mode in modes.values()], dtype=torch.float64)
        self.weights = weights / weights.sum()  # [K]
        self.channels, self.resolution = checked_shape(shape, self.means.shape[1])
        self.schedule = closed_form_schedule()

    def to(self, device: torch.device | str) -> Self:
        self.means, self.covariances = self.means.to(device), self.covariances.to(device)
        self.weights = self.weights.to(device)
        self.schedule.to(device)
        return self

    def embed(self, prompts: list[str]) -> TextEmbedding:
        """Embed N prompts as the weights of the modes that they select: tokens [N, 1, K].

        Raises:
            ValueError: a prompt that is not empty names no mode.
        """
        return TextEmbedding(torch.stack([self._allowed(prompt)[None] for prompt in prompts]).float())

    def predict(self, z_t: Tensor, t: Tensor, text: TextEmbedding) -> Tensor:
        joint, solved = self._modes(z_t, t, text)
        responsibility = joint.softmax(-1)  # p(mode | z_t)
        eps_hat = (responsibility[..., None] * solved).sum(1)
        return (self.schedule.sigma(t).to(z_t)[:, None] * eps_hat).view_as(z_t)

    def log_density(self, z_t: Tensor, t: Tensor, text: TextEmbedding) -> Tensor:
        return self._modes(z_t, t, text)[0].logsumexp(-1)

    def _allowed(self, prompt: str) -> Tensor:
        words = prompt.lower().replace(",", " ").split()
        chosen = [name.lower() in words for name in self.names]
        if prompt and not any(chosen):
            raise ValueError(
                f"the prompt {prompt!r} names no mode of the mixture; it knows: {', '.join(self.names)}"
            )
        mask = torch.tensor([not prompt or choice for choice in chosen], device=self.weights.device)
        weights = self.weights * mask
        return weights / weights.sum()

    def _modes(self, z_t: Tensor, t: Tensor, text: TextEmbedding) -> tuple[Tensor, Tensor]:
        """Return log (weight_k N(z_t; mode k)), [N, K], and P_k^-1 (z_t - alpha_t mu_k), [N, K, D]."""
        alpha, sigma = self.schedule.alpha(t).to(z_t), self.schedule.sigma(t).to(z_t)
        residual = z_t.flatten(1)[:, None] - alpha[:, None, None] * self.means.to(z_t)
        marginal = marginal_covariance(self.covariances.to(z_t), alpha, sigma)
        log_density, solved = gaussian_log_density(residual, marginal)
        return text.tokens.to(z_t).flatten(1).log() + log_density, solved


def checked_shape(shape: tuple[int, int, int] | None, count: int) -> tuple[int, int]:
    """Return (C, h) of a shape (C, h, h) with ``count`` elements.

    Raises:
        ValueError: the shape is not square, not positive, or has another number of elements.
    """
    channels, height, width = shape or (count, 1, 1)
    if min(channels, height) < 1 or height != width or channels * height * width != count:
        raise ValueError(
            f"shape is (C, h, w) with h = w and C h w = {count}, got {(channels, height, width)}"
        )
    return channels, height
