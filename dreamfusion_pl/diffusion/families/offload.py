"""Offloading: a frozen network stays in host memory and is copied to the device for every call."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn
from torch.func import functional_call


@final
class Offloaded:
    """A network in host memory whose weights are on the device only during a call.

    Every call copies all weights. Gradients flow through a call; tensors that its graph needs stay on the
    device until the graph is freed.

    Args:
        network: frozen network in host memory.
        device: device that it runs on.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.network, self._device = network, device
        if device.type == "cuda":  # copies from pinned memory are several times faster
            for tensor in (*network.parameters(), *network.buffers()):
                tensor.data = tensor.data.pin_memory()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the network; tensor arguments must be on the device."""
        tensors: dict[str, Tensor] = {**dict(self.network.named_parameters())}
        tensors |= dict(self.network.named_buffers())
        here = {name: tensor.to(self._device, non_blocking=True) for name, tensor in tensors.items()}
        return functional_call(self.network, here, args, kwargs)
