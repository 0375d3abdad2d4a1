import pytest
import torch

from dreamfusion_pl.scene.density import LaplaceDensity
from dreamfusion_pl.scene.initial_shape import Ball
from dreamfusion_pl.schedule import Constant, Linear


def test_the_density_is_the_laplace_distribution_over_its_width():
    field = LaplaceDensity(width=Linear(0.1, 0.02))
    level = torch.linspace(-0.5, 0.5, 101, dtype=torch.float64)
    for progress, width in ((0.0, 0.1), (0.5, 0.06), (1.0, 0.02)):
        wanted = torch.distributions.Laplace(0.0, width).cdf(level) / width
        torch.testing.assert_close(field.density(level, progress), wanted)


def test_it_begins_as_its_shape_which_the_network_moves():
    field = LaplaceDensity(Ball(0.4), scale=0.1)
    points = torch.tensor([[0.1, 0.0, 0.0], [0.0, 0.4, 0.0], [0.0, 0.0, 0.7]])
    raw = torch.tensor([0.0, 1.0, -2.0])
    torch.testing.assert_close(field.level(raw, points), torch.tensor([0.3, -0.1, -0.1]))


def test_derivatives_are_exact_and_finite_everywhere():
    field = LaplaceDensity(width=Constant(0.05)).double()
    level = torch.tensor([-0.3, -0.01, 0.01, 0.3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: field.density(x, 0.5), level)
    far = torch.tensor([-1e4, 0.0, 1e4], requires_grad=True)
    (gradient,) = torch.autograd.grad(field.density(far, 0.5).sum(), far)
    assert gradient.isfinite().all()


def test_gradients_far_from_the_surface_are_zero_and_not_subnormal():
    field = LaplaceDensity(width=Constant(0.01))
    level = torch.linspace(-2.0, 2.0, 801, requires_grad=True)
    (gradient,) = torch.autograd.grad(field.density(level, 0.5).sum(), level)
    smallest = torch.finfo(torch.float32).tiny
    assert bool(((gradient == 0.0) | (gradient.abs() > smallest)).all())
    assert bool((gradient[level.abs() < 0.45] > 0.0).all()) and not bool(gradient[level.abs() > 0.55].any())


@pytest.mark.parametrize("wrong", [{"scale": 0.0}, {"scale": -1.0}, {"width": Constant(0.0)}])
def test_sizes_are_positive(wrong):
    with pytest.raises(ValueError, match="must be > 0"):
        LaplaceDensity(**wrong)
