"""Latents that a scene emits in the place of colours, and what they look like (Metzer et al. 2023)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn


@final
class LatentColors(nn.Module):
    """Affine maps between the latents of an autoencoder and colours, both ways.

    Latents are close to a small picture whose colours are seen through an affine map, different for every
    autoencoder. ``fit`` finds it. Before that everything is black.

    Args:
        channels: numbers of a latent, L.

    Raises:
        ValueError: there are none.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"latents are the number of channels of the prior's own, got {channels}")
        self.channels = channels
        self.is_fitted: Tensor
        self.to_color: Tensor  # [L + 1, 3], the last row is what is added
        self.to_latent: Tensor  # [4, L], likewise
        self.register_buffer("is_fitted", torch.tensor(False))
        self.register_buffer("to_color", torch.zeros(channels + 1, 3))
        self.register_buffer("to_latent", torch.zeros(4, channels))

    def check(self, channels: int) -> None:
        """Raise ValueError unless the prior's latents have as many channels."""
        if channels != self.channels:
            raise ValueError(
                f"the scene emits latents of {self.channels} channels, and this prior's have {channels}: "
                f"pass --model.scene.latents {channels}"
            )

    def colors(self, latents: Tensor) -> Tensor:
        """Colours in [0, 1] of latents [..., L]: [..., 3]; the gradient is that of the map without limits."""
        colors = latents @ self.to_color[:-1] + self.to_color[-1]
        return colors.detach().clamp(0.0, 1.0) + (colors - colors.detach())

    def latents(self, colors: Tensor) -> Tensor:
        """Latents of areas of a colour [..., 3] in [0, 1]: [..., L]."""
        return colors @ self.to_latent[:-1] + self.to_latent[-1]

    @torch.no_grad()
    def fit(self, colors: Tensor, latents: Tensor) -> None:
        """Take the maps of least squared error.

        Args:
            colors: N colours [N, 3] in [0, 1].
            latents: what the autoencoder makes of them, [N, L].
        """
        for source, target, place in (
            (latents, colors, self.to_color),
            (colors, latents, self.to_latent),
        ):
            known = torch.cat([source, torch.ones_like(source[:, :1])], dim=1).double().cpu()
            place.copy_(torch.linalg.pinv(known) @ target.double().cpu())
        self.is_fitted.fill_(True)
