import math

import pytest
import torch

from dreamfusion_pl.rendering.regularizers import (
    Regularizers,
    opacity_loss,
    orientation_loss,
)
from dreamfusion_pl.schedule import Constant
from dreamfusion_pl.types import Rendering


def rendering(weights, facing):
    zero = torch.zeros(1, 1, 1, 3)
    total = weights.sum(-1)
    return Rendering(zero, zero, total, torch.zeros_like(total), zero, weights, facing, zero[..., :0])


WEIGHTS = torch.tensor([0.25, 0.5]).reshape(1, 1, 1, 2)


def test_orientation_weighs_facing_by_fixed_weights():
    weights = WEIGHTS.clone().requires_grad_()
    facing = torch.tensor([0.4, 0.2]).reshape(1, 1, 1, 2).requires_grad_()
    loss = orientation_loss(rendering(weights, facing))
    assert loss.item() == pytest.approx((0.25 * 0.4 + 0.5 * 0.2) / 0.75)
    loss.backward()
    assert weights.grad is None
    torch.testing.assert_close(facing.grad, WEIGHTS / 0.75)


def test_orientation_with_one_normal_per_ray_uses_the_opacity():
    assert orientation_loss(rendering(WEIGHTS, torch.full((1, 1, 1, 1), 0.4))).item() == pytest.approx(0.4)


def test_orientation_does_not_depend_on_how_much_of_the_picture_is_filled():
    weights = torch.tensor([0.5, 0.4]).expand(1, 4, 4, 2).clone()
    facing = torch.rand(1, 4, 4, 2, generator=torch.Generator().manual_seed(0))
    whole = orientation_loss(rendering(weights, facing))
    padded = [torch.nn.functional.pad(part, (0, 0, 0, 0, 0, 12)) for part in (weights, facing)]
    assert orientation_loss(rendering(*padded)).item() == pytest.approx(whole.item())
    assert orientation_loss(rendering(torch.zeros(1, 4, 4, 2), facing)).item() == 0.0


def test_a_regularizer_without_a_weight_is_left_out():
    picture = rendering(WEIGHTS, torch.full((1, 1, 1, 1), 0.4))
    total, parts = Regularizers(opacity=Constant(2.0))(picture, 0.5)
    assert list(parts) == ["opacity"] and total.item() == pytest.approx(2.0 * math.sqrt(0.75**2 + 0.01))
    total, parts = Regularizers()(picture, 0.5)
    assert total.item() == 0.0 and not parts


def test_opacity_by_hand():
    facing = torch.zeros(1, 1, 1, 1)
    assert opacity_loss(rendering(WEIGHTS, facing)).item() == pytest.approx(math.sqrt(0.75**2 + 0.01))
