"""An analytic sphere and hand-made views."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import pytest
import torch
from scenes import AnalyticDensity
from torch import Tensor

from dreamfusion_pl.data.cameras import look_at, positions
from dreamfusion_pl.types import Rays, Views


@final
class SphereScene(AnalyticDensity):
    """A ball of radius 0.4 with a nearly hard wall; its albedo is a function of position."""

    ball = 0.4

    def __init__(self, peak: float = 800.0, wall: float = 0.002) -> None:
        super().__init__()
        self.radius, self.peak, self.wall = 0.8, peak, wall

    def density(self, points: Tensor, progress: float) -> Tensor:
        return self.peak * torch.sigmoid((self.ball - points.norm(dim=-1)) / self.wall)

    def appearance(self, points: Tensor) -> Tensor:
        return self.albedo(points)

    @staticmethod
    def albedo(points: Tensor) -> Tensor:
        return 0.5 + 0.5 * points

    def hit(self, rays: Rays) -> tuple[Tensor, Tensor]:
        """Distance to the ball, and whether a ray comes well inside its silhouette."""
        along = -(rays.origins * rays.directions).sum(-1)
        squared = (rays.origins + along[..., None] * rays.directions).square().sum(-1)
        return along - (self.ball**2 - squared).clamp_min(0.0).sqrt(), squared < (0.9 * self.ball) ** 2


@pytest.fixture
def sphere() -> SphereScene:
    return SphereScene()


@pytest.fixture
def make_views() -> Callable[..., Views]:
    def make(num_views: int = 2, size: int = 12, diffuse: float = 0.9, seed: int = 0) -> Views:
        generator = torch.Generator().manual_seed(seed)
        azimuth_deg = torch.arange(num_views) * (360.0 / num_views) + 20.0
        elevation_deg = torch.full((num_views,), 25.0)
        origin = positions(elevation_deg, azimuth_deg, torch.full((num_views,), 1.3))
        up = torch.tensor([0.0, 0.0, 1.0]).expand(num_views, 3)
        return Views(
            origin=origin,
            rotation=look_at(origin, torch.zeros(num_views, 3), up),
            focal=torch.full((num_views,), 1.2),
            elevation_deg=elevation_deg,
            azimuth_deg=azimuth_deg,
            light=origin + 0.5 * torch.randn(num_views, 3, generator=generator),
            ambient=torch.full((num_views,), 0.1),
            diffuse=torch.full((num_views,), diffuse),
            textureless=torch.arange(num_views) % 2 == 1,
            background=torch.rand(num_views, 3, generator=generator),
            solid=torch.zeros(num_views, dtype=torch.bool),
            jitter=torch.rand(num_views, size, size, generator=generator),
        )

    return make
