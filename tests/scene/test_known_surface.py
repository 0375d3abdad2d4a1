"""A scene that knows its surface, as a signed distance does: mesh, solid and normals follow it."""

from __future__ import annotations

from typing import Any, final

import pytest
import torch
from torch import Tensor

from dreamfusion_pl.data.orbit import orbit
from dreamfusion_pl.export.asset import Settings, make_asset
from dreamfusion_pl.export.surface.mesh import extract, surface_threshold
from dreamfusion_pl.metrics.solid import solid_of
from dreamfusion_pl.rendering.renderer import Renderer
from dreamfusion_pl.rendering.shading import exact_normals
from dreamfusion_pl.scene.background import SolidBackground
from dreamfusion_pl.scene.density import LaplaceDensity
from dreamfusion_pl.scene.features import Features
from dreamfusion_pl.scene.field_scene import FieldScene
from dreamfusion_pl.scene.initial_shape import Ball
from dreamfusion_pl.schedule import Constant

BALL = 0.4


@final
class NoFeatures(Features):
    """Says nothing about any point."""

    width = 1

    def forward(self, points: Tensor, radius: float, progress: float) -> Tensor:
        return torch.zeros_like(points[:, :1]).T

    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return [{"params": [], "lr": learning_rate}]


@pytest.fixture
def ball() -> FieldScene:
    """A ball of distance, gray."""
    scene = FieldScene(NoFeatures(), LaplaceDensity(Ball(BALL), width=Constant(0.01)), radius=0.8)
    torch.nn.init.zeros_(scene.head.weight)
    torch.nn.init.zeros_(scene.head.bias)
    return scene


def test_the_mesh_lies_on_the_surface(ball):
    mesh = extract(ball, resolution=48)
    assert (mesh.vertices.norm(dim=-1) - BALL).abs().max() < 1e-3  # of a cell of .018
    assert surface_threshold(ball) == 0.0
    asset = make_asset(ball, Settings(resolution=32, texture_size=64))
    cosine = (asset.charts.normals * torch.nn.functional.normalize(asset.charts.vertices, dim=-1)).sum(-1)
    assert cosine.min() > 0.999


def test_no_other_threshold_is_taken(ball):
    extract(ball, resolution=16, threshold=0.0)
    with pytest.raises(ValueError, match="knows where its surface is"):
        extract(ball, resolution=16, threshold=5.0)


def test_the_solid_is_the_inside(ball):
    solid = solid_of(extract(ball, resolution=48))
    points = solid.start + solid.spacing * torch.ones_like(solid.inside).nonzero()
    signed = points.norm(dim=-1) - BALL
    clear = signed.abs() > 1e-3  # the mesh lies on the surface up to that
    assert torch.equal(solid.inside.reshape(-1)[clear], (signed < 0.0)[clear])


@pytest.mark.parametrize("normals", ["exact", "finite_difference", "surface"])
def test_normals_are_the_gradient_of_the_distance(ball, normals):
    views = orbit([0.0, 120.0], 20.0, 1.5, 1.2, 16, 16)
    rendering = Renderer(128, normals, occupancy_resolution=0)(ball, SolidBackground(), views, 0.0)
    is_seen = rendering.opacity > 0.99
    assert 0.1 < is_seen.float().mean() < 0.6
    assert (rendering.depth[is_seen] > 1.0).all()
    points = torch.nn.functional.normalize(torch.randn(50, 3), dim=-1) * torch.linspace(0.1, 0.7, 50)[:, None]
    sample, normal = exact_normals(ball, points, 0.0)
    torch.testing.assert_close(normal, torch.nn.functional.normalize(points, dim=-1), atol=1e-4, rtol=0.0)
    torch.testing.assert_close(sample.level, BALL - points.norm(dim=-1), atol=1e-4, rtol=0.0)
    centre = rendering.normal[0][7:9, 7:9].mean((0, 1))  # the front, seen from 20 degrees above
    wanted = torch.nn.functional.normalize(views.origin[0], dim=0)
    assert (centre * wanted).sum() > 0.95
