"""Pairs of colours and encoded latents, from which a latent scene learns to convert between them."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamfusion_pl import rng
from dreamfusion_pl.diffusion.prior import DiffusionPrior

NUM_PICTURES, NUM_PATCHES = 4, 8  # images, and patches along a side of each


@torch.no_grad()
def encoded_colors(prior: DiffusionPrior, device: torch.device) -> tuple[Tensor, Tensor]:
    """Encode images of random colour patches, always the same ones; a patch covers several latents.

    Args:
        prior: the frozen model, on ``device``.
        device: where the images are made.

    Returns:
        Colours [N, 3] in [0, 1], and the latents [N, C] at the same positions.
    """
    draws = rng.generator(0, "color pairs")
    patches = torch.rand(NUM_PICTURES, 3, NUM_PATCHES, NUM_PATCHES, generator=draws).to(device)
    pictures = torch.nn.functional.interpolate(patches, size=(prior.resolution, prior.resolution))
    pictures = pictures.permute(0, 2, 3, 1)
    latents = torch.cat([prior.encode(picture, 1.0) for picture in pictures.split(1)])
    return pictures.reshape(-1, 3), latents.permute(0, 2, 3, 1).reshape(-1, prior.channels)
