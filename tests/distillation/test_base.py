"""The surrogate's gradient is the given one."""

import pytest
import torch
from gaussians import condition, gradient, pictures

from dreamfusion_pl.diffusion.noise import Uniform
from dreamfusion_pl.distillation.base import DistillationLoss, checked_loss, surrogate
from dreamfusion_pl.distillation.score_gradient import ScoreGradient
from dreamfusion_pl.distillation.times import TimeRange


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


class Own(ScoreGradient):
    """A method of a user, which may be wrong."""

    def __init__(self, change) -> None:
        super().__init__(1.0, Uniform(), TimeRange(0.02, 0.98))
        self.change = change

    def direction(self, z, noisy, condition, prior, progress, generator):
        return self.change(noisy.eps)


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda eps: eps.mean(0, keepdim=True), r"got \[1, 1, 2, 2\]"),  # would be added to every view
        (lambda eps: eps.sum(), r"got \[\]"),
        (lambda eps: None, "got NoneType"),
    ],
)
def test_a_direction_has_the_shape_of_z(change, got):
    with pytest.raises(ValueError, match=rf"Own.direction must .*\[3, 1, 2, 2\]; {got}"):
        gradient(Own(change), pictures(3), condition(3))


def test_a_loss_that_trains_nothing_is_refused():
    own, z = Own(lambda eps: eps), pictures(3).requires_grad_()
    good = DistillationLoss(surrogate(z, z), 1.0)
    assert checked_loss(good, own, z) is good
    with pytest.raises(ValueError, match="Own.forward must return a DistillationLoss, .* got a Tensor"):
        checked_loss(good.surrogate, own, z)
    with pytest.raises(ValueError, match="of Own does not depend on z"):
        checked_loss(DistillationLoss(surrogate(z.detach(), z), 1.0), own, z)
