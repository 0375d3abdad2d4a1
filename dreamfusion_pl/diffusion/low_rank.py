"""A low-rank copy of a frozen network, with a camera as one more condition."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn

from dreamfusion_pl.types import CAMERA

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")  # ends of the names of the layers that are copied
# Where the families add the embedding of the time, and pooled texts, to what conditions every block.
EMBEDDINGS = ("time_embedding", "time_text_embed", "adaln_single.emb.timestep_embedder")
CAMERA_WIDTH = 64  # of the hidden layer of the camera's embedding


@final
class LowRankCopy(nn.Module):
    """Layers W + B A in place of the attention layers W of a frozen network (LoRA, Hu et al. 2022).

    The network itself stays as it is: the copy is in place inside ``active`` only. It begins as the network.

    Args:
        network: the network; it is not a part of this module.
        rank: number of rows of A, 1 or more.

    Raises:
        ValueError: the rank is below 1 or above that of all layers, or the network has none of them.
    """

    def __init__(self, network: nn.Module, rank: int) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"a low-rank copy needs a rank of 1 or more, got {rank}")
        layers = {
            name: layer
            for name, layer in network.named_modules()
            if name.endswith(ATTENTION) and isinstance(layer, nn.Linear)
        }
        embedding = next((name for name in EMBEDDINGS if _has(network, name)), None)
        if not layers or embedding is None:
            raise ValueError(f"a {type(network).__name__} has no attention layers that could be copied")
        full = max(min(layer.in_features, layer.out_features) for layer in layers.values())
        if rank > full:
            raise ValueError(f"a low-rank copy of this network has a rank of {full} at most, got {rank}")
        self.down, self.up = nn.ParameterDict(), nn.ParameterDict()
        for name, layer in layers.items():
            key = name.replace(".", "/")
            bound = layer.in_features**-0.5
            self.down[key] = nn.Parameter(bound * torch.randn(rank, layer.in_features))
            self.up[key] = nn.Parameter(torch.zeros(layer.out_features, rank))
        parts = network.get_submodule(embedding).modules()
        last = [part for part in parts if isinstance(part, nn.Linear)][-1]
        self.camera = nn.Parameter(CAMERA**-0.5 * torch.randn(CAMERA_WIDTH, CAMERA))
        self.camera_out = nn.Parameter(torch.zeros(last.out_features, CAMERA_WIDTH))
        self._layers, self._embedding = list(layers), embedding

    @contextmanager
    def active(self, network: nn.Module, camera: Tensor) -> Iterator[None]:
        """Put the copy in the place of the network's layers.

        Args:
            network: the network that this is a copy of.
            camera: of each row of the next calls, [N, 12].
        """
        shift = torch.nn.functional.silu(camera @ self.camera.T) @ self.camera_out.T
        handles = [
            network.get_submodule(name).register_forward_hook(self._layer(name.replace(".", "/")))
            for name in self._layers
        ]
        handles.append(
            network.get_submodule(self._embedding).register_forward_hook(
                lambda module, arguments, output: output + shift.to(output.dtype)
            )
        )
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _layer(self, key: str) -> Any:
        down, up = self.down[key], self.up[key]

        def add(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
            given = arguments[0]
            inner = torch.nn.functional.linear(given, down.to(given.dtype))
            return output + torch.nn.functional.linear(inner, up.to(given.dtype))

        return add


def _has(network: nn.Module, name: str) -> bool:
    try:
        network.get_submodule(name)
    except AttributeError:
        return False
    return True
