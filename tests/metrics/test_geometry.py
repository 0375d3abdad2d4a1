"""Geometry metrics against shapes whose overlap and distance are known."""

from __future__ import annotations

import math

import pytest
import torch
from solids import IDENTITY, ball, solid

from dreamfusion_pl.metrics.geometry import (
    ChamferDistance,
    Samples,
    VolumeIoU,
    albedo_error,
    chamfer_distance,
    distance_surface,
    f_score,
    normal_consistency,
    saturation_bias,
    surface_points,
    surface_samples,
)
from dreamfusion_pl.metrics.solid import truth_of


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


def test_saturation_bias_is_signed_and_looks_where_both_are_seen() -> None:
    red, dull = torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.7, 0.3, 0.3])
    opacity, none = torch.ones(1, 2, 2), torch.zeros(1, 2, 2)
    pictures = [color.expand(1, 2, 2, 3) for color in (red, dull)]
    assert saturation_bias(pictures[0], opacity, pictures[1], opacity) == pytest.approx(0.4)
    assert saturation_bias(pictures[1], opacity, pictures[0], opacity) == pytest.approx(-0.4)
    assert math.isnan(saturation_bias(pictures[0], opacity, pictures[1], none))


def test_metrics_average() -> None:
    metric, truth = VolumeIoU(), truth_of(ball(0.5))
    for radius in (0.4, 0.5):
        metric.update(solid(ball(radius)), truth, IDENTITY)
    assert float(metric.compute()) == pytest.approx((1.0 + 0.512) / 2, abs=0.02)


def test_f_score_by_hand() -> None:
    line = torch.arange(10.0)[:, None] * torch.tensor([1.0, 0.0, 0.0])
    assert f_score(line, line + 0.01, 0.02) == pytest.approx(1.0)
    assert f_score(line, line + 0.5, 0.02) == 0.0
    assert f_score(line[:5], line, 0.02) == pytest.approx(2 * 1.0 * 0.5 / 1.5)  # precise, and half is missing
    assert f_score(line, line[:5], 0.02) == pytest.approx(2 * 1.0 * 0.5 / 1.5)


def test_normals_point_outwards_and_their_consistency_is_a_cosine() -> None:
    sphere = surface_samples(*distance_surface(ball(0.4)), count=2000)
    outward = torch.nn.functional.normalize(sphere.points, dim=-1)
    assert float((sphere.normals * outward).sum(-1).min()) > 0.97
    assert normal_consistency(sphere, Samples(sphere.points, outward)) > 0.99
    flat = Samples(torch.rand(500, 3), torch.tensor([0.0, 0.0, 1.0]).expand(500, 3))
    tilted = flat.normals.new_tensor([0.0, math.sin(1.0), math.cos(1.0)]).expand(500, 3)
    assert normal_consistency(flat, Samples(flat.points, tilted)) == pytest.approx(math.cos(1.0), abs=1e-5)
    chance = torch.nn.functional.normalize(torch.randn(2000, 3), dim=-1)
    assert normal_consistency(sphere, Samples(sphere.points, chance)) == pytest.approx(0.5, abs=0.03)
