"""Approximate colours of latents, for scenes that predict latents (Latent-NeRF, Metzer et al. 2023)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn


@final
class LatentColors(nn.Module):
    """Affine maps between the latents of an autoencoder and colours, in both directions.

    Latents are roughly an affine map of the colours of the downsampled picture. The map differs between
    autoencoders; ``fit`` finds it. Before that, all colours are black.

    Args:
        channels: number of latent channels L.

    Raises:
        ValueError: the number is below 1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"latents are the number of channels of the prior's own, got {channels}")
        self.channels = channels
        self.is_fitted: Tensor
        self.to_color: Tensor  # [L + 1, 3], the last row is the offset
        self.to_latent: Tensor  # [4, L], likewise
        self.register_buffer("is_fitted", torch.tensor(False))
        self.register_buffer("to_color", torch.zeros(channels + 1, 3))
        self.register_buffer("to_latent", torch.zeros(4, channels))

    def check(self, channels: int) -> None:
        """Raise ValueError unless the prior's latents have the same number of channels."""
        if channels != self.channels:
            raise ValueError(
                f"the scene emits latents of {self.channels} channels, and this prior's have {channels}: "
                f"pass --model.scene.latents {channels}"
            )

    def colors(self, latents: Tensor) -> Tensor:
        """Colours of latents [..., L], clamped to [0, 1]: [..., 3]; the gradient ignores the clamp."""
        colors = latents @ self.to_color[:-1] + self.to_color[-1]
        return colors.detach().clamp(0.0, 1.0) + (colors - colors.detach())

    def latents(self, colors: Tensor) -> Tensor:
        """Latents of uniform areas of colours [..., 3] in [0, 1]: [..., L]."""
        return colors @ self.to_latent[:-1] + self.to_latent[-1]

    @torch.no_grad()
    def fit(self, colors: Tensor, latents: Tensor) -> None:
        """Fit both maps by least squares.

        Args:
            colors: N colours [N, 3] in [0, 1].
            latents: their latents, [N, L].
        """
        for source, target, buffer in (
            (latents, colors, self.to_color),
            (colors, latents, self.to_latent),
        ):
            inputs = torch.cat([source, torch.ones_like(source[:, :1])], dim=1).cpu().double()
            buffer.copy_(torch.linalg.pinv(inputs) @ target.cpu().double())
        self.is_fitted.fill_(True)
