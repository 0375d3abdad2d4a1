"""What training a diffusion model minimizes: w(t) of seed eq. 1, the bound of the variance, legible texts."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.noise import per_row


def stratified_timesteps(
    batch: int, num_timesteps: int, source: torch.Generator, noisy_share: float = 0.0, noisy_from: float = 0.8
) -> Tensor:
    """Return timesteps [B] (int64), one draw in each of B equal parts of their law.

    A share of them is uniform in the noisiest part, the rest in all of [0, num_timesteps). A flat object on
    a flat ground shows from where it is seen as soon as a tenth of the picture is left: what a text says
    about the side can be learned only where there is more noise.

    Args:
        batch: B.
        num_timesteps: T.
        source: draws the place in each part.
        noisy_share: in [0, 1].
        noisy_from: t / T from which on timesteps belong to the noisiest part, in [0, 1).
    """
    offset = torch.rand(batch, generator=source, device=source.device)
    uniform = (torch.arange(batch, device=source.device) + offset) / batch
    below = noisy_from * (1.0 - noisy_share)  # the mass of what is less noisy
    late = noisy_from + (uniform - below) / (1.0 - below) * (1.0 - noisy_from)
    fraction = torch.where(uniform < below, uniform * (noisy_from / max(below, 1e-6)), late)
    return (fraction * num_timesteps).long().clamp_(max=num_timesteps - 1)


def min_snr_weight(squared_alpha: Tensor, cap: float) -> Tensor:
    """Return w(t) of the squared error of v = alpha_t eps - sigma_t x (Salimans and Ho 2022).

    Where there is much noise, v is the picture, and its error is about the object and the side that it is
    seen from. Where there is little, v is the noise, its error is about the finest detail, and its gradients
    would drown the rest: the weight is cap / SNR there (Hang et al. 2023), and 1 below the cap.

    Args:
        squared_alpha: alpha_t^2, [B], in (0, 1).
        cap: SNR from which on the weight falls, at least 1.
    """
    return (cap * (1.0 - squared_alpha) / squared_alpha).clamp(max=1.0)


def variational_bound(eps_error: Tensor, variance: Tensor, t: Tensor, squared_alphas: Tensor) -> Tensor:
    """Return KL(q(z_{t-1} | z_t, x) || p(z_{t-1} | z_t)) in bits per channel of a pixel.

    Nichol and Dhariwal 2021, eq. 15: p's log variance lies between the posterior's and the forward step's.
    The error of the mean is a given number here: the bound teaches the variance only. The term of t = 0 is 0,
    since samplers add no noise there.

    Args:
        eps_error: eps_hat - eps, [B, 3, H, W], without gradient.
        variance: the network's other channels, [B, 3, H, W]: -1 is the posterior's variance, +1 the step's.
        t: timesteps [B] (int64).
        squared_alphas: alpha_t^2 of all T timesteps, [T].

    Returns:
        Bits [B].
    """
    now, before = squared_alphas[t], squared_alphas[(t - 1).clamp(min=0)]
    beta = (1.0 - now / before).clamp(min=1e-8)
    low, high = per_row((beta * (1.0 - before) / (1.0 - now)).log()), per_row(beta.log())
    squared_mean_error = per_row(beta.square() / ((1.0 - now) * (1.0 - beta))) * eps_error.square()
    log_variance = low + 0.5 * (variance + 1.0) * (high - low)
    gap = low - log_variance
    nats = 0.5 * (gap.exp() - 1.0 - gap + squared_mean_error * (-log_variance).exp())
    return torch.where(t > 0, nats.mean(dim=(1, 2, 3)) / math.log(2.0), 0.0)


def words_error(embedding: Tensor, words: Tensor, mask: Tensor, table: Tensor) -> Tensor:
    """Return the cross-entropy, in nats, of the words that are read off the mean row of a text's embedding.

    A U-Net that sees the padding too finds a word such as "left" in one row of 77 and does not learn to look
    there. This error teaches the text encoder to tell every row which words the text has.

    Args:
        embedding: [N, T, D].
        words: token ids [N, T].
        mask: 1 where there is a token, 0 where there is padding, [N, T].
        table: the text encoder's own vectors of all V tokens, [V, D].

    Returns:
        Mean over the texts of the cross-entropy against equal shares for the text's words, a number.
    """
    logits = embedding.float().mean(dim=1) @ table.float().T / math.sqrt(table.shape[1])
    present = torch.zeros_like(logits).scatter_reduce(1, words, mask.to(logits), reduce="amax")
    return -(present * logits.log_softmax(dim=1)).sum(dim=1).div(present.sum(dim=1)).mean()
