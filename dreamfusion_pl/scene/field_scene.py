"""A scene put together from features and a field: (tau, rho) = MLP(mu; theta), seed 4."""

from __future__ import annotations

from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dreamfusion_pl.scene.base import Matter, Scene
from dreamfusion_pl.scene.features import Features
from dreamfusion_pl.scene.field import Field
from dreamfusion_pl.scene.latent_colors import LatentColors


@final
class FieldScene(Scene):
    """A linear layer reads 1 + C raw numbers off the features: the first is the field's, the rest are looks.

    ``rho = sigmoid(.)``; of a scene that emits latents, the colours that they stand for.

    Args:
        features: what is learned about a point.
        field: makes density and surface of the first number.
        radius: radius of the bounding sphere, in world units.
        latents: channels of latents of the prior's autoencoder that are emitted in the place of colours, 0
            for none; see ``DreamFusion.latent_until``.

    Raises:
        ValueError: the radius is not positive.
    """

    def __init__(self, features: Features, field: Field, radius: float = 0.75, latents: int = 0) -> None:
        super().__init__()
        if not radius > 0.0:
            raise ValueError(f"the bounding sphere's radius must be > 0, in world units; got {radius}")
        self.radius = radius
        self.latent_colors = LatentColors(latents) if latents else None
        self.features, self.field = features, field
        self.surface, self.empty_level = field.surface, field.empty_level
        self.head = nn.Linear(features.width, 1 + (latents or 3))

    def forward(self, points: Tensor, progress: float) -> Matter:
        first, rest = self._read(self.features(points, self.radius, progress))
        level = self.field.level(first, points)
        return Matter(self.field.density(level, progress), self._looks(rest), level)

    def density(self, points: Tensor, progress: float) -> Tensor:
        return self.field.density(self.level(points, progress), progress)

    def level(self, points: Tensor, progress: float) -> Tensor:
        features = self.features(points, self.radius, progress)
        if features.is_contiguous():
            raw = (self.head.weight[:1] @ features)[0] + self.head.bias[0]
        else:
            raw, _ = self._read(features)
        return self.field.level(raw, points)

    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        groups = self.features.param_groups(learning_rate)
        groups[-1]["params"] += list(self.head.parameters())
        own = list(self.field.parameters())
        return [*groups, {"params": own, "lr": learning_rate}] if own else groups

    def _read(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The first raw number [P] and the rest [P, C] of features [F, P], computed in their layout."""
        if features.is_contiguous():
            raw = torch.addmm(self.head.bias[:, None], self.head.weight, features)
            return raw[0], raw[1:].T
        raw = F.linear(features.T, self.head.weight, self.head.bias)
        return raw[:, 0], raw[:, 1:]

    def _looks(self, raw: Tensor) -> Tensor:
        """Albedo in [0, 1], [P, 3], or albedo and latents, [P, 3 + L], of raw numbers [P, 3] or [P, L]."""
        if self.latent_colors is None:
            return torch.sigmoid(raw)
        return torch.cat([self.latent_colors.colors(raw), raw], dim=-1)
