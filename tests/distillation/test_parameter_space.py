"""Sampling in parameter space on a Gaussian prior, whose Jacobian is known."""

import pytest
import torch
from fakes import ColorPrior, small_model

from dreamfusion_pl.diffusion.closed_form import GaussianPrior
from dreamfusion_pl.diffusion.gaussian import marginal_covariance
from dreamfusion_pl.diffusion.noise import SigmaSquared, Uniform
from dreamfusion_pl.distillation.parameter_space import ParameterSpaceSampling
from dreamfusion_pl.distillation.sds import ScoreDistillation
from dreamfusion_pl.types import Condition, TextEmbedding

MEAN = (0.5, -1.0)
COVARIANCE = ((0.9, 0.3), (0.3, 0.4))


@pytest.fixture
def prior() -> GaussianPrior:
    return GaussianPrior(MEAN, COVARIANCE)


def loss_of(distillation, prior, z, seed=0):
    mean = TextEmbedding(torch.tensor([[MEAN]], dtype=z.dtype))
    condition = Condition(mean.expand(len(z)), mean.each(torch.zeros_like))
    return distillation(z, condition, prior, 0.0, torch.Generator().manual_seed(seed)).total


def points(count=6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 2, 1, 1, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("weighting", [SigmaSquared(), Uniform()])
@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_its_gradient_holds_the_jacobian(prior, weighting, t):
    z = points().requires_grad_()
    here = {"t_min": t, "t_max": t + 1e-9}
    loss_of(ParameterSpaceSampling(0.0, weighting, **here), prior, z).backward()
    sds = points().requires_grad_()
    loss_of(ScoreDistillation(0.0, weighting, **here), prior, sds).backward()  # w (eps_hat - eps) / B
    time = torch.tensor([t])
    alpha, sigma = prior.schedule.alpha(time).double(), prior.schedule.sigma(time).double()
    jacobian = sigma * torch.linalg.inv(marginal_covariance(prior.covariance, alpha, sigma)[0])
    expected = 2.0 * alpha * (sds.grad.flatten(1) @ jacobian)
    torch.testing.assert_close(z.grad.flatten(1), expected, rtol=1e-6, atol=1e-10)


def test_its_gradient_is_that_of_its_own_value(prior):
    distillation = ParameterSpaceSampling(2.0, SigmaSquared())
    z = points(1).requires_grad_()
    loss_of(distillation, prior, z).backward()
    for i, step in enumerate(1e-5 * torch.eye(2, dtype=torch.float64)):
        step = step.view(1, 2, 1, 1)
        difference = loss_of(distillation, prior, points(1) + step) - loss_of(
            distillation, prior, points(1) - step
        )
        torch.testing.assert_close(z.grad.flatten()[i], difference / 2e-5, rtol=1e-5, atol=1e-8)


def test_its_value_is_the_diffusion_loss(prior):
    z, t = points(), 0.4
    generator = torch.Generator().manual_seed(0)
    times = t + 1e-9 * torch.rand(6, generator=generator)
    eps = torch.randn(z.shape, generator=generator).double()
    z_t = prior.schedule.diffuse(z, eps, times)
    eps_hat = prior.predict(z_t, times, TextEmbedding(torch.tensor([[MEAN]])).expand(6))
    expected = (eps_hat - eps).square().sum() / 6
    ours = loss_of(ParameterSpaceSampling(0.0, Uniform(), t_min=t, t_max=t + 1e-9), prior, z)
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-8)


def test_a_prior_without_gradients_is_refused_before_training():
    prior = ColorPrior()
    prior.differentiable = False
    distillation = ParameterSpaceSampling(1.0, Uniform())
    with pytest.raises(ValueError, match="ColorPrior gives no gradients"):
        distillation.check(prior)
    with pytest.raises(ValueError, match="ColorPrior gives no gradients"):
        small_model(prior=prior, distillation=distillation)


def test_negative_guidance_is_refused():
    with pytest.raises(ValueError, match="omega"):
        ParameterSpaceSampling(-1.0, Uniform())
