"""Features of a multiresolution hash grid with a small MLP, for GPUs."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn

from dreamfusion_pl.scene.features import Features

_PRIMES = (1, 2_654_435_761, 805_459_861)  # Instant-NGP, eq. 4


@final
class HashFeatures(Features):
    """Features of a multiresolution hash grid (Instant-NGP, section 3), then one hidden layer.

    Each level divides the cube [-radius, radius]^3 into N^3 cells and interpolates linearly between learned
    features at their corners; N grows geometrically from ``coarsest`` to ``finest`` (eq. 2 and 3). Where a
    level has more corners than entries, a hash of the coordinates finds the entry (eq. 4), and corners share.

    On a GPU, use it with ``renderer.compile``: uncompiled, each level takes a dozen kernels. On a CPU it is
    several times slower than planes.

    Args:
        levels: number of levels L.
        channels: features of each level.
        log2_entries: binary logarithm of the entries of a level's table.
        coarsest: cells N along a side of the first level.
        finest: cells along a side of the last level.
        width: width of the hidden layer.
        initial_noise: features begin uniform in [-initial_noise, initial_noise].
        mlp_rate: learning rate of the layers after the grid, as a fraction of the grid's.

    Raises:
        ValueError: a size is out of range, the finest level is coarser than the first, or the noise or the
            rate is negative.
    """

    def __init__(
        self,
        levels: int = 16,
        channels: int = 2,
        log2_entries: int = 19,
        coarsest: int = 16,
        finest: int = 512,
        width: int = 64,
        initial_noise: float = 1e-4,
        mlp_rate: float = 0.1,
    ) -> None:
        super().__init__()
        if min(levels, channels, coarsest, width) < 1 or min(initial_noise, mlp_rate) < 0.0:
            raise ValueError(
                "levels, channels, coarsest and width must be 1 or more, initial_noise and mlp_rate 0 or "
                f"more, got {levels}, {channels}, {coarsest}, {width}, {initial_noise} and {mlp_rate}"
            )
        if not coarsest <= finest <= 2**16 or not 1 <= log2_entries <= 24:
            raise ValueError(
                "finest must lie between coarsest and 65536 and log2_entries between 1 and 24, "
                f"got {finest} with coarsest {coarsest}, and {log2_entries}"
            )
        self.width, self.mlp_rate, self.entries = width, mlp_rate, 2**log2_entries
        growth = (finest / coarsest) ** (1.0 / max(levels - 1, 1))
        self.cells = [round(coarsest * growth**level) for level in range(levels)]
        self.tables = nn.ParameterList(
            torch.empty(min((cells + 1) ** 3, self.entries), channels).uniform_(-initial_noise, initial_noise)
            for cells in self.cells
        )
        self.hidden = nn.Linear(levels * channels, width)

    def forward(self, points: Tensor, radius: float, progress: float) -> Tensor:
        samples = self.sample(points / radius)
        return torch.relu_(torch.addmm(self.hidden.bias[:, None], self.hidden.weight, samples))

    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return [
            {"params": list(self.tables), "lr": learning_rate},
            {"params": list(self.hidden.parameters()), "lr": learning_rate * self.mlp_rate},
        ]

    def sample(self, points: Tensor) -> Tensor:
        """Interpolated features of all levels, at points [P, 3] in [-1, 1]: [L C, P].

        A point outside has the features of the nearest point on the cube. A point that is not a number has
        features that are none either, and ``Safety`` ends the run.
        """
        unit = (0.5 * points + 0.5).clamp(0.0, 1.0)
        levels = [self._interpolate(unit, *level) for level in zip(self.cells, self.tables, strict=True)]
        return torch.cat(levels, dim=1).T

    def _interpolate(self, unit: Tensor, cells: int, table: Tensor) -> Tensor:
        """Return the features [P, C] of one level at points [P, 3] in [0, 1]."""
        position = unit * cells
        corner = position.detach().nan_to_num().floor().clamp(max=cells - 1)  # of the cell, the nearest to 0
        fraction = position - corner
        x, y, z = torch.stack([1.0 - fraction, fraction]).unbind(-1)  # each [2, P]
        weights = x[:, None, None] * y[:, None] * z
        entries = self._entries(corner.long(), cells)
        features = table.index_select(0, entries.flatten()).view(*entries.shape, -1)
        return (weights[..., None] * features).sum((0, 1, 2))

    def _entries(self, corner: Tensor, cells: int) -> Tensor:
        """Return the table's entries for the eight corners of cells [P, 3]: [2, 2, 2, P]."""
        x, y, z = torch.stack([corner, corner + 1]).unbind(-1)
        x, y = x[:, None, None], y[:, None]
        if (cells + 1) ** 3 <= self.entries:
            return x + (cells + 1) * (y + (cells + 1) * z)
        return (x * _PRIMES[0] ^ y * _PRIMES[1] ^ z * _PRIMES[2]) & (self.entries - 1)
