"""Initial shapes against their closed forms."""

import pytest
import torch

from dreamfusion_pl.scene.initial_shape import Ball


def test_a_ball_is_its_signed_distance():
    points = torch.tensor([[0.0, 0.0, 0.0], [0.3, 0.0, 0.4], [0.0, -1.0, 0.0]])
    torch.testing.assert_close(Ball(0.5)(points), torch.tensor([-0.5, 0.0, 0.5]), atol=1e-5, rtol=0.0)


def test_the_squared_radius_is_that_of_distance_and_size():
    points, ball = torch.randn(100, 3, dtype=torch.float64), Ball(0.3)
    torch.testing.assert_close(
        ball.squared_radius(points), (ball(points) + ball.size).square(), rtol=1e-9, atol=1e-9
    )
    assert ball.squared_radius(torch.zeros(1, 3)) == 0.0


def test_a_ball_has_a_gradient_in_its_centre():
    points = torch.zeros(1, 3, requires_grad=True)
    Ball(0.3)(points).sum().backward()
    assert points.grad.isfinite().all()


@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan")])
def test_an_impossible_radius_is_refused(radius):
    with pytest.raises(ValueError, match="radius must be > 0"):
        Ball(radius)
