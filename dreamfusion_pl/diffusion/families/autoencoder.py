"""Encodes images to latents and decodes them, optionally with a tiny autoencoder early in training."""

from __future__ import annotations

from typing import Any, Self, final

import torch
from torch import Tensor


@final
class LatentEncoder:
    """z = scale (m - shift), where m is the mean of the autoencoder's posterior. Differentiable.

    Args:
        vae: diffusers ``AutoencoderKL``.
        tiny: diffusers ``AutoencoderTiny`` of the same latent space, or None.
        tiny_until: progress in [0, 1] at which encoding switches from ``tiny`` (if given) to ``vae``.

    Raises:
        ValueError: ``vae`` is a tiny autoencoder, the latents differ, or ``tiny_until`` is out of range.
    """

    def __init__(self, vae: Any, tiny: Any = None, tiny_until: float = 1.0) -> None:
        from diffusers import AutoencoderTiny

        if isinstance(vae, AutoencoderTiny):
            raise ValueError(
                "the model's own autoencoder is an AutoencoderTiny, which only stands in for one: take the "
                "model with its full autoencoder, and this one as --model.prior.autoencoder"
            )
        self.factor = 2 ** (len(vae.config.block_out_channels) - 1)  # pixels per latent, along a side
        if not 0.0 <= tiny_until <= 1.0:
            raise ValueError(f"tiny_until is a progress in [0, 1], got {tiny_until}")
        if tiny is not None and tiny.config.latent_channels != vae.config.latent_channels:
            raise ValueError(
                f"the tiny autoencoder has {tiny.config.latent_channels} channels, the model's own "
                f"{vae.config.latent_channels}: it is of another family. Take madebyollin/taesd for Stable "
                "Diffusion 1 and 2, taesdxl for XL, taesd3 for 3, taef1 for FLUX"
            )
        if (
            tiny is not None
            and (factor := 2 ** (len(tiny.config.encoder_block_out_channels) - 1)) != self.factor
        ):
            raise ValueError(
                f"the tiny autoencoder makes one latent of {factor} x {factor} pixels, the model's own of "
                f"{self.factor} x {self.factor}: take one of the same family"
            )
        self._vae, self._tiny, self._tiny_until = vae, tiny, tiny_until

    def to(self, device: torch.device | str, dtype: torch.dtype, layout: torch.memory_format) -> Self:
        """Move to a device, dtype and memory layout; return self."""
        for part in (self._vae, self._tiny):
            if part is not None:
                part.to(device=device, dtype=dtype, memory_format=layout)
        return self

    def compile(self) -> None:
        """Compile the encoders; compilation happens at the first call."""
        for part in (self._vae, self._tiny):
            if part is not None:
                part.encoder.compile()

    def __call__(self, pixels: Tensor, progress: float) -> Tensor:
        """Encode pixels [B, 3, H, W] in [-1, 1] to z [B, C, H / factor, W / factor]."""
        if self._tiny is not None and progress < self._tiny_until:
            part = self._tiny
            moments = part.encode(pixels.to(part.dtype), return_dict=False)[0]
        else:
            part = self._vae
            moments = part.encode(pixels.to(part.dtype), return_dict=False)[0].mode()
        shift = part.config.shift_factor or 0.0
        return ((moments - shift) * part.config.scaling_factor).to(pixels.dtype)

    def decode(self, z: Tensor) -> Tensor:
        """Decode z [B, C, H / factor, W / factor] to pixels [B, 3, H, W], always with ``vae``."""
        config = self._vae.config
        moments = (z / config.scaling_factor + (config.shift_factor or 0.0)).to(self._vae.dtype)
        return self._vae.decode(moments, return_dict=False)[0].to(z.dtype)
