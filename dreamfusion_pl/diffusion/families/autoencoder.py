"""Encodes images to latents and decodes them, optionally with a tiny autoencoder early in training."""

from __future__ import annotations

from functools import partial
from typing import Any, Self, final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.families.precision import with_scaled_gradient


@final
class LatentEncoder:
    """z = scale (m - shift), where m is the mean of the autoencoder's posterior, or a tiny one's output.

    Differentiable.

    An autoencoder with ``latents_mean`` and ``latents_std`` has a shift and a scale for every channel:
    z = scale (m - mean) / std, as in ``StableDiffusionXLPipeline``.

    Args:
        vae: the model's own, diffusers ``AutoencoderKL`` or ``AutoencoderTiny``.
        tiny: diffusers ``AutoencoderTiny`` of the same latent space, which stands in for ``vae``, or None.
        tiny_until: progress in [0, 1] at which encoding switches from ``tiny`` (if given) to ``vae``.

    Raises:
        ValueError: the latents of the two differ, or ``tiny_until`` is out of range.
    """

    def __init__(self, vae: Any, tiny: Any = None, tiny_until: float = 1.0) -> None:
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
        self._mean, self._std = _statistics(vae.config)
        if tiny is not None and self._mean is not None:
            raise ValueError(
                "the model's own autoencoder normalizes latents by their mean and deviation, and tiny "
                "autoencoders do not: leave out --model.prior.autoencoder"
            )
        self._vae, self._tiny, self._tiny_until = vae, tiny, tiny_until

    @property
    def demands_float32(self) -> bool:
        """Whether the autoencoder's configuration demands float32 where the network is float16."""
        return bool(self._vae.config.force_upcast)

    def to(self, device: torch.device | str, dtype: torch.dtype, layout: torch.memory_format) -> Self:
        """Move to a device, dtype and memory layout; return self."""
        for part in (self._vae, self._tiny):
            if part is not None:
                part.to(device=device, dtype=dtype, memory_format=layout)
        return self

    def compile(self, mode: str | None = None) -> None:
        """Compile the encoders; compilation happens at the first call.

        Args:
            mode: mode of ``torch.compile`` without CUDA graphs; None: its default.
        """
        for part in (self._vae, self._tiny):
            if part is not None:
                part.encoder.compile(mode=mode)

    def __call__(self, pixels: Tensor, progress: float) -> Tensor:
        """Encode pixels [B, 3, H, W] in [-1, 1] to z [B, C, H / factor, W / factor]."""
        stands_in = self._tiny is not None and progress < self._tiny_until
        part = self._tiny if stands_in else self._vae
        encode = partial(self._encode, part)
        return with_scaled_gradient(encode, pixels) if part.dtype == torch.float16 else encode(pixels)

    def _encode(self, part: Any, pixels: Tensor) -> Tensor:
        from diffusers import AutoencoderTiny

        found, config = part.encode(pixels.to(part.dtype), return_dict=False)[0], part.config
        moments = (found if isinstance(part, AutoencoderTiny) else found.mode()).to(pixels.dtype)
        if self._mean is not None and self._std is not None:
            moments = (moments - self._mean.to(moments)) / self._std.to(moments)
        return (moments - (config.shift_factor or 0.0)) * config.scaling_factor

    def decode(self, z: Tensor) -> Tensor:
        """Decode z [B, C, H / factor, W / factor] to pixels [B, 3, H, W], always with ``vae``."""
        config = self._vae.config
        moments = z / config.scaling_factor + (config.shift_factor or 0.0)
        if self._mean is not None and self._std is not None:
            moments = moments * self._std.to(moments) + self._mean.to(moments)
        return self._vae.decode(moments.to(self._vae.dtype), return_dict=False)[0].to(z.dtype)


def _statistics(config: Any) -> tuple[Tensor | None, Tensor | None]:
    """Return mean and standard deviation of each latent channel, [C, 1, 1]; None without them."""
    if config.get("latents_mean") is None or config.get("latents_std") is None:
        return None, None
    mean, std = (torch.tensor(config[name])[:, None, None] for name in ("latents_mean", "latents_std"))
    return mean, std
