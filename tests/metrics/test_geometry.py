"""Geometry metrics against shapes whose overlap and distance are known."""

from __future__ import annotations

import math

import pytest
import torch

from dreamfusion_pl.data.world.captions import parse
from dreamfusion_pl.metrics.alignment import Alignment, Solid, align, cube, overlap
from dreamfusion_pl.metrics.geometry import (
    ChamferDistance,
    VolumeIoU,
    albedo_error,
    chamfer_distance,
    distance_surface,
    surface_points,
)

IDENTITY = Alignment(0.0, 1.0, (0.0, 0.0, 0.0))


def ball(radius: float):  # noqa: ANN201
    return lambda points: points.norm(dim=-1) - radius


def test_overlap_of_concentric_balls_is_the_ratio_of_volumes() -> None:
    points = cube(0.6, 96)
    solid = Solid(points, ball(0.4)(points) < 0)
    assert overlap(solid, ball(0.5), IDENTITY) == pytest.approx((0.4 / 0.5) ** 3, abs=0.01)


def test_alignment_round_trip() -> None:
    alignment = Alignment(0.7, 1.3, (0.1, -0.2, 0.3))
    points = torch.randn(10, 3)
    assert torch.allclose(alignment.to_truth(alignment.to_result(points)), points, atol=1e-5)


def test_align_finds_a_known_similarity() -> None:
    scene = parse("a red chair")
    assert scene is not None
    known = Alignment(1.1, 0.85, (0.05, -0.03, 0.06))
    points = cube(0.7, 48)
    solid = Solid(points, scene.distance(known.to_truth(points)) < 0)
    found = align(solid, scene.distance)
    assert overlap(solid, scene.distance, found) > 0.8  # the chair's plates are three grid cells thick
    assert math.cos(found.yaw - known.yaw) > 0.99 and found.scale == pytest.approx(0.85, abs=0.05)


def test_align_refuses_nothing() -> None:
    points = cube(0.6, 16)
    with pytest.raises(ValueError, match="empty solid"):
        align(Solid(points, torch.zeros(len(points), dtype=torch.bool)), ball(0.4))


def test_chamfer_of_parallel_planes_and_of_concentric_spheres() -> None:
    u = torch.rand(5000, 2)
    low, high = torch.cat([u, torch.zeros(5000, 1)], 1), torch.cat([u, torch.full((5000, 1), 0.25)], 1)
    assert chamfer_distance(low, high) == pytest.approx(0.25, abs=5e-3)
    metric = ChamferDistance()
    metric.update(*distance_surface(ball(0.3)), ball(0.4), IDENTITY)
    assert float(metric.compute()) == pytest.approx(0.1, abs=5e-3)


def test_surface_points_are_uniform_by_area() -> None:
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 0, 0], [5, 3, 0], [5, 0, 1]])
    points = surface_points(vertices, torch.tensor([[0, 1, 2], [3, 4, 5]]), 8000)
    assert (points[:, 0] > 4).float().mean() == pytest.approx(0.75, abs=0.02)  # areas 0.5 and 1.5


def test_albedo_error_looks_only_where_both_are_seen() -> None:
    opacity = torch.zeros(1, 4, 4)
    opacity[:, :2] = 1.0
    true_opacity = torch.zeros(1, 4, 4)
    true_opacity[:, 1:] = 1.0
    albedo, truth = torch.zeros(1, 4, 4, 3), torch.ones(1, 4, 4, 3)
    truth[:, 1] = 0.25
    assert albedo_error(albedo, opacity, truth, true_opacity) == pytest.approx(0.25)
    assert albedo_error(albedo, opacity, truth, torch.zeros(1, 4, 4)) == 1.0


def test_metrics_average() -> None:
    points = cube(0.6, 48)
    metric = VolumeIoU()
    for radius in (0.4, 0.5):
        metric.update(Solid(points, ball(radius)(points) < 0), ball(0.5), IDENTITY)
    assert float(metric.compute()) == pytest.approx((1.0 + 0.512) / 2, abs=0.02)
