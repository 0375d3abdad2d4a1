"""A frozen network that stays in host memory and is copied to the device for every call."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn
from torch.func import functional_call


@final
class Offloaded:
    """A network in host memory, whose weights are on a device only while it is called.

    Every call copies all of them. Gradients flow through a call: what its graph needs stays on the device
    until the graph is gone.

    Args:
        network: in host memory, frozen.
        device: where it computes.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.network, self._device = network, device
        if device.type == "cuda":  # pinned memory is copied several times faster
            for tensor in (*network.parameters(), *network.buffers()):
                tensor.data = tensor.data.pin_memory()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the network with tensors on the device."""
        tensors: dict[str, Tensor] = {**dict(self.network.named_parameters())}
        tensors |= dict(self.network.named_buffers())
        here = {name: tensor.to(self._device, non_blocking=True) for name, tensor in tensors.items()}
        return functional_call(self.network, here, args, kwargs)
