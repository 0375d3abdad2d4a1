"""The surrogate's gradient is the given one."""

import torch

from dreamfusion_pl.distillation.base import surrogate


def test_gradient_is_exactly_the_given_one_over_the_number_of_views():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(4, 3, 8, 8, generator=generator, requires_grad=True)
    gradient = torch.randn(4, 3, 8, 8, generator=generator, requires_grad=True)
    surrogate(z, gradient).backward()
    assert torch.equal(z.grad, gradient.detach() / 4)
    assert gradient.grad is None


def test_value_is_half_the_squared_norm_of_the_gradient_per_view():
    gradient = torch.full((2, 1, 2, 2), 3.0)
    assert float(surrogate(torch.randn(2, 1, 2, 2), gradient)) == 0.5 * 9.0 * 4
