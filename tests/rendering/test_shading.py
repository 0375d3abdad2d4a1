import math

import pytest
import torch
from scenes import frequency_scene

from dreamfusion_pl.rendering import shading
from dreamfusion_pl.rendering.shading import (
    exact_normals,
    facing_away,
    finite_difference_normals,
    lambert,
    outward,
)
from dreamfusion_pl.scene.density import GaussianBias, LinearBias
from dreamfusion_pl.scene.initial_shape import Ball


@pytest.fixture
def wall_points(sphere):
    directions = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    return sphere.ball * torch.nn.functional.normalize(directions, dim=-1)


def test_normals_of_a_sphere_point_outwards(sphere, wall_points):
    expected = wall_points / sphere.ball
    _, exact = exact_normals(sphere, wall_points, 0.0)
    torch.testing.assert_close(exact, expected, atol=1e-4, rtol=0.0)
    near = finite_difference_normals(lambda p: sphere.density(p, 0.0), wall_points, 0.0005)
    torch.testing.assert_close(near, expected, atol=1e-2, rtol=0.0)


def test_a_step_wider_than_the_wall_still_finds_the_direction(sphere, wall_points):
    normals = finite_difference_normals(lambda p: sphere.density(p, 0.0), wall_points, 0.02)
    assert ((normals * wall_points).sum(-1) / sphere.ball).min() > 0.8


def test_finite_differences_converge_to_the_gradient_with_the_square_of_the_step():
    points = 0.3 * torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ball, bias = Ball(0.4), GaussianBias(5.0, 0.3)

    def field(points):
        return bias(ball.squared_radius(points), ball.size)

    truth = points / points.norm(dim=-1, keepdim=True)
    errors = [(finite_difference_normals(field, points, h) - truth).norm(dim=-1).mean() for h in (0.08, 0.04)]
    assert errors[1] < 0.3 * errors[0] < 0.02


def test_exact_normals_work_without_gradients_and_leave_no_graph(sphere, wall_points):
    with torch.no_grad():
        sample, normal = exact_normals(sphere, wall_points, 0.0)
    torch.testing.assert_close(normal, wall_points / sphere.ball, atol=1e-4, rtol=0.0)
    assert not any(field.requires_grad for field in (*sample, normal))


def test_exact_normals_in_pieces_are_those_of_the_whole(monkeypatch):
    torch.manual_seed(0)
    scene, points = frequency_scene(width=16, num_blocks=1), 0.4 * torch.randn(50, 3)

    def look() -> list[torch.Tensor]:
        scene.zero_grad()
        sample, normal = exact_normals(scene, points, 0.5)
        (sample.density.sum() + sample.appearance.square().sum() + normal[:, 0].sum()).backward()
        return [*sample, normal, *(p.grad for p in scene.parameters())]

    whole = look()
    monkeypatch.setattr(shading, "POINTS_AT_ONCE", 7)
    torch.testing.assert_close(look(), whole, rtol=1e-4, atol=1e-5)
    assert len(exact_normals(scene, points[:0], 0.5)[1]) == 0


def test_a_vanishing_gradient_gives_a_finite_normal_with_a_finite_gradient():
    gradient = torch.zeros(1, 3, requires_grad=True)
    outward(gradient).sum().backward()
    assert gradient.grad is not None and gradient.grad.isfinite().all()
    assert torch.equal(outward(gradient), torch.zeros(1, 3))


def test_lambert_by_hand():
    normal = torch.tensor([0.0, 0.0, 1.0])
    points = torch.tensor([0.0, 0.0, 1.0])
    light = torch.tensor([[0.0, 0.0, 3.0], [2.0, 0.0, 3.0], [0.0, 0.0, -1.0]])
    irradiance = lambert(normal, points, light, torch.tensor(0.1), torch.tensor(0.9))
    torch.testing.assert_close(irradiance, torch.tensor([1.0, 0.1 + 0.9 * math.sqrt(0.5), 0.1]))


def test_facing_away_counts_back_faces_only():
    normal = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
    assert facing_away(normal, torch.tensor([0.0, 0.0, -1.0])).tolist() == [0.0, 1.0, 0.0]


def test_density_biases_by_hand():
    points = torch.tensor([[0.0, 0.0, 0.0], [0.2, 0.0, 0.0], [0.0, 0.3, 0.4]])
    gaussian = [5.0, 5.0 * math.exp(-0.5), 5.0 * math.exp(-0.5 * 6.25)]
    for ball in (Ball(0.5), Ball(0.2)):  # the Gaussian does not depend on the ball
        bias = GaussianBias()(ball.squared_radius(points), ball.size)
        torch.testing.assert_close(bias, torch.tensor(gaussian), atol=1e-4, rtol=0.0)
    ball = Ball(0.5)
    cone = LinearBias()(ball.squared_radius(points), ball.size)
    torch.testing.assert_close(cone, torch.tensor([10.0, 6.0, 0.0]), atol=1e-4, rtol=0.0)
