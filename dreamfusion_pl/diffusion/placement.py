"""Where a frozen network lives and how it is called: compiled, or from host memory."""

from __future__ import annotations

import warnings
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


def can_compile(device: torch.device) -> bool:
    """Whether ``torch.compile`` works on a device; where it does not, say once why and go on without.

    A small function is compiled: that tells before the first step whether there is a C++ compiler or Triton.
    """
    try:
        torch.compile(_small)(torch.ones(8, device=device))
    except Exception as error:  # whatever is missing, the run can do without
        reason = str(error).strip().split("\n", 1)[0]
        warnings.warn(
            f"torch.compile does not work on this {device.type} ({type(error).__name__}: {reason}); going on "
            "without. It needs a C++ compiler, and on a GPU also Triton",
            stacklevel=2,
        )
        return False
    return True


def _small(x: Tensor) -> Tensor:
    return (2.0 * x).sin() + 1.0
