"""Loss terms for diffusion training: w(t) of paper eq. 1, the variational bound, and a loss on words."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.noise import per_row


def stratified_timesteps(
    batch: int, num_timesteps: int, source: torch.Generator, noisy_share: float = 0.0, noisy_from: float = 0.8
) -> Tensor:
    """Draw timesteps [B] (int64) by stratified sampling, one in each of B equal strata of the distribution.

    A share of them is uniform in the noisiest part, the rest in all of [0, num_timesteps). In an image of a
    plain object on a plain background, the viewpoint is visible as soon as a tenth of the signal is left.
    The text's word for the view direction can therefore be learned only at higher noise levels.

    Args:
        batch: B.
        num_timesteps: T.
        source: generator that draws the offset in the strata.
        noisy_share: share of timesteps in the noisiest part, in [0, 1].
        noisy_from: t / T where the noisiest part begins, in [0, 1).
    """
    offset = torch.rand(batch, generator=source, device=source.device)
    uniform = (torch.arange(batch, device=source.device) + offset) / batch
    below = noisy_from * (1.0 - noisy_share)  # probability of t / T < noisy_from
    late = noisy_from + (uniform - below) / (1.0 - below) * (1.0 - noisy_from)
    fraction = torch.where(uniform < below, uniform * (noisy_from / max(below, 1e-6)), late)
    return (fraction * num_timesteps).long().clamp_(max=num_timesteps - 1)


def min_snr_weight(squared_alpha: Tensor, cap: float) -> Tensor:
    """Return the weight w(t) of the squared error of v = alpha_t eps - sigma_t x (Salimans and Ho 2022).

    At high noise v is close to -x, and its error concerns the object and the view direction. At low noise v
    is close to eps, and its error concerns the finest detail; its gradients would dominate. The weight is
    therefore cap / SNR where the SNR is above the cap (Hang et al. 2023), and 1 elsewhere.

    Args:
        squared_alpha: alpha_t^2, [B], in (0, 1).
        cap: SNR above which the weight decreases, at least 1.
    """
    return (cap * (1.0 - squared_alpha) / squared_alpha).clamp(max=1.0)


def variational_bound(eps_error: Tensor, variance: Tensor, t: Tensor, squared_alphas: Tensor) -> Tensor:
    """Return KL(q(z_{t-1} | z_t, x) || p(z_{t-1} | z_t)) in bits per channel of a pixel.

    Nichol and Dhariwal 2021, eq. 15: the log variance of p is interpolated between that of the posterior and
    that of the forward step. The error of the mean is passed without gradient, so that the bound trains only
    the variance. The term of t = 0 is 0, since samplers add no noise there.

    Args:
        eps_error: eps_hat - eps, [B, 3, H, W], without gradient.
        variance: variance channels of the network, [B, 3, H, W]: -1 posterior variance, +1 forward variance.
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
    """Return the cross-entropy, in nats, of a text's words predicted from the mean of its embedding.

    The U-Net attends to padding as well. A word such as "left" is one of 77 tokens, and the U-Net does not
    learn to attend to it. This loss trains the text encoder to put the words of the text into every token.

    Args:
        embedding: [N, T, D].
        words: token ids [N, T].
        mask: 1 token, 0 padding, [N, T].
        table: the text encoder's token embeddings, [V, D].

    Returns:
        Scalar: cross-entropy against a uniform distribution over the text's words, averaged over the texts.
    """
    logits = embedding.float().mean(dim=1) @ table.float().T / math.sqrt(table.shape[1])
    present = torch.zeros_like(logits).scatter_reduce(1, words, mask.to(logits), reduce="amax")
    return -(present * logits.log_softmax(dim=1)).sum(dim=1).div(present.sum(dim=1)).mean()
