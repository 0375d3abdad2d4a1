import math

import pytest
import torch

from dreamfusion_pl.rendering.regularizers import opacity, opacity_entropy, orientation
from dreamfusion_pl.types import Rendering


def rendering(weights, facing):
    zero = torch.zeros(1, 1, 1, 3)
    total = weights.sum(-1)
    return Rendering(zero, zero, total, torch.zeros_like(total), zero, weights, facing, zero[..., :0])


WEIGHTS = torch.tensor([0.25, 0.5]).reshape(1, 1, 1, 2)


def test_orientation_weighs_facing_by_fixed_weights():
    weights = WEIGHTS.clone().requires_grad_()
    facing = torch.tensor([0.4, 0.2]).reshape(1, 1, 1, 2).requires_grad_()
    loss = orientation(rendering(weights, facing))
    assert loss.item() == pytest.approx(0.25 * 0.4 + 0.5 * 0.2)
    loss.backward()
    assert weights.grad is None
    torch.testing.assert_close(facing.grad, WEIGHTS)


def test_orientation_with_one_normal_per_ray_uses_the_opacity():
    assert orientation(rendering(WEIGHTS, torch.full((1, 1, 1, 1), 0.4))).item() == pytest.approx(0.75 * 0.4)


def test_opacity_by_hand():
    facing = torch.zeros(1, 1, 1, 1)
    assert opacity(rendering(WEIGHTS, facing)).item() == pytest.approx(math.sqrt(0.75**2 + 0.01))


def test_entropy_is_high_for_half_transparent_pixels_and_low_for_clear_ones():
    facing = torch.zeros(1, 1, 1, 1)
    half = opacity_entropy(rendering(torch.full((1, 1, 1, 1), 0.5), facing))
    full = opacity_entropy(rendering(torch.full((1, 1, 1, 1), 1.0), facing))
    assert half.item() == pytest.approx(math.log(2.0))
    assert full.item() < 0.002
