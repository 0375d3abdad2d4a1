"""Precision of the frozen networks."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Precision = Literal["auto", "float32", "bfloat16", "float16"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_dtype(name: Precision, device: torch.device) -> torch.dtype:
    """Return the dtype that the denoising network gets on a device.

    ``auto`` is bfloat16 if the device computes in it natively; else float16 on a CUDA GPU that is made for it
    (Volta and Turing); else float32. On a CPU ``float16`` means float32: it is slow there, and text encoders,
    which always run there, may overflow in it (T5 does).

    Raises:
        ValueError: the device does not support it.
    """
    native = _has_bfloat16(device)
    if name == "bfloat16" and device.type == "cuda" and not native:
        raise ValueError(
            "this GPU does not compute in bfloat16: take --model.prior.dtype auto, which is float16 where "
            "that is safe, or float32"
        )
    if name == "bfloat16" and device.type == "mps" and not torch.backends.mps.is_macos_or_newer(14, 0):
        raise ValueError(
            "before macOS 14 a Mac's GPU does not compute in bfloat16: take --model.prior.dtype float32"
        )
    if name == "auto":
        half = torch.bfloat16 if native else torch.float16
        return half if native or _has_float16(device) else torch.float32
    if name == "float16" and device.type == "cpu":
        return torch.float32
    return DTYPES[name]


def encoder_dtype(network: torch.dtype, overflows: bool) -> torch.dtype:
    """Return the dtype of a latent encoder beside a network: float32 where float16 would overflow.

    Args:
        network: dtype of the denoising network.
        overflows: whether the encoder may overflow in float16, as that of Stable Diffusion XL does.
    """
    return torch.float32 if overflows and network == torch.float16 else network


def warn_if_slow(name: Precision, device: torch.device) -> None:
    """Warn if a CPU has to emulate the requested precision, or does not use it."""
    if device.type != "cpu":
        return
    if name == "bfloat16" and not _cpu_has_bfloat16():
        warnings.warn(
            "this CPU does not compute in bfloat16 and emulates it, which is slower than float32: take "
            "--model.prior.dtype auto",
            stacklevel=3,
        )
    if name == "float16":
        warnings.warn("float16 is for GPUs: on this CPU the prior runs in float32", stacklevel=3)


def with_scaled_gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Call a network that computes in float16, so that gradients keep their precision in it.

    Behind the network the gradient of every row is scaled to a largest value of 1, and before it scaled back:
    otherwise small gradients are rounded to zero, and large ones overflow.

    Args:
        function: the network, from x to [B, ...] in float32.
        x: its input, [B, C, H, W] in float32.
    """
    if not (torch.is_grad_enabled() and x.requires_grad):
        return function(x)
    largest: list[Tensor] = []

    def shrink(gradient: Tensor) -> Tensor:
        size = gradient.abs().amax(dim=(1, 2, 3), keepdim=True)
        largest.append(size.clamp_min(torch.finfo(size.dtype).tiny))
        return gradient / largest[-1]

    inside = x.view_as(x)
    inside.register_hook(lambda gradient: gradient * largest.pop())
    output = function(inside)
    output.register_hook(shrink)
    return output


def _has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 natively: CUDA GPUs from Ampere on, and some CPUs.

    A Mac's GPU counts as one that does not: ``auto`` takes float32, which every Mac supports.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and _cpu_has_bfloat16()


def _has_float16(device: torch.device) -> bool:
    """Whether a device is a CUDA GPU with tensor cores for float16.

    The GeForce GTX 16 series has the number of a Turing GPU, but no tensor cores, and is known for results
    that are not numbers.
    """
    if device.type != "cuda":
        return False
    card = torch.cuda.get_device_properties(device)
    return card.major >= 7 and "GTX 16" not in card.name


def _cpu_has_bfloat16() -> bool:
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))
