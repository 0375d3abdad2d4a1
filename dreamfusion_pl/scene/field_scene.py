"""A scene made of features and a field: (tau, rho) = MLP(mu; theta), paper 3.1."""

from __future__ import annotations

from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dreamfusion_pl.scene.base import Scene, SceneSample
from dreamfusion_pl.scene.features import Features
from dreamfusion_pl.scene.field import Field
from dreamfusion_pl.scene.latent_colors import LatentColors


@final
class FieldScene(Scene):
    """A linear layer maps the features to 1 + C raw outputs: the first for the field, the rest for colour.

    The rest gives the albedo, ``rho = sigmoid(.)``, or latents, where rho is their approximate colour.

    Args:
        features: learned function of position.
        field: turns the first raw output into density and surface.
        radius: radius of the bounding sphere, in world units.
        latents: channels of the prior's latents, predicted in place of colours; 0: predict colours. See
            ``DreamFusion.latent_until``.

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

    def forward(self, points: Tensor, progress: float) -> SceneSample:
        geometry, color = self._apply_head(self.features(points, self.radius, progress))
        level = self.field.level(geometry, points)
        return SceneSample(self.field.density(level, progress), self._appearance(color), level)

    def density(self, points: Tensor, progress: float) -> Tensor:
        return self.field.density(self.level(points, progress), progress)

    def level(self, points: Tensor, progress: float) -> Tensor:
        features = self.features(points, self.radius, progress)
        if features.is_contiguous():
            raw = (self.head.weight[:1] @ features)[0] + self.head.bias[0]
        else:
            raw, _ = self._apply_head(features)
        return self.field.level(raw, points)

    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        groups = self.features.param_groups(learning_rate)
        groups[-1]["params"] += list(self.head.parameters())
        field_parameters = list(self.field.parameters())
        return [*groups, {"params": field_parameters, "lr": learning_rate}] if field_parameters else groups

    def after_step(self, learning_rate: float) -> None:
        self.features.after_step(learning_rate)

    def _apply_head(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first raw output [P] and the rest [P, C], computed in the layout of features [F, P]."""
        if features.is_contiguous():
            raw = torch.addmm(self.head.bias[:, None], self.head.weight, features)
            return raw[0], raw[1:].T
        raw = F.linear(features.T, self.head.weight, self.head.bias)
        return raw[:, 0], raw[:, 1:]

    def _appearance(self, raw: Tensor) -> Tensor:
        """Map raw outputs [P, 3] to albedo in [0, 1], or latents [P, L] to albedo and latents [P, 3 + L]."""
        if self.latent_colors is None:
            return torch.sigmoid(raw)
        return torch.cat([self.latent_colors.colors(raw), raw], dim=-1)
