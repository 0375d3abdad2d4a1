"""Appendix A.4: the gradient of the weighted KL divergence is the gradient of SDS."""

import pytest
import torch
from fakes import ColorPrior

from dreamfusion_pl.diffusion.closed_form import GaussianPrior
from dreamfusion_pl.diffusion.noise import SigmaSquared, Uniform
from dreamfusion_pl.distillation.density import DensityDistillation
from dreamfusion_pl.distillation.sds import ScoreDistillation
from dreamfusion_pl.types import Condition, TextEmbedding

MEAN = torch.tensor([0.5, -1.0, 0.2, 0.9], dtype=torch.float64)


def prior_of(correlation: float) -> GaussianPrior:
    covariance = 0.6 * torch.eye(4, dtype=torch.float64)
    covariance[0, 1] = covariance[1, 0] = 0.6 * correlation
    covariance[3, 3] = 0.05
    return GaussianPrior(MEAN.tolist(), covariance.tolist(), (1, 2, 2))


def gradient(distillation, prior, x, seed=0):
    z = x.clone().requires_grad_()
    # the embedding is in single precision: the prior's own mean instead, for a comparison in double
    mean = TextEmbedding(MEAN.expand(len(x), 1, 4))
    condition = Condition(mean, mean.rows(slice(1)).each(torch.zeros_like))
    generator = torch.Generator().manual_seed(seed)
    distillation(z, condition, prior, 0.0, generator).total.backward()
    return z.grad


@pytest.mark.parametrize("weighting", [SigmaSquared(), Uniform()])
@pytest.mark.parametrize("t", [0.02, 0.2, 0.5, 0.8, 0.98])
@pytest.mark.parametrize("correlation", [0.0, 0.7, -0.9])
def test_its_gradient_is_that_of_sds(weighting, t, correlation):
    prior = prior_of(correlation)
    x = torch.randn(8, 1, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    here = {"t_min": t, "t_max": t + 1e-9}
    sds = ScoreDistillation(0.0, weighting, **here)
    # eps_hat is linear, so the same draws at x = mu carry all of the noise and none of the mean
    at_the_mean = gradient(sds, prior, MEAN.view(1, 1, 2, 2).expand(8, -1, -1, -1))
    expected = gradient(sds, prior, x) - at_the_mean
    assert at_the_mean.abs().max() > 1e-3
    torch.testing.assert_close(
        gradient(DensityDistillation(weighting, **here), prior, x), expected, rtol=1e-5, atol=1e-9
    )


def test_its_gradient_is_that_of_its_own_value():
    prior, distillation = prior_of(0.5), DensityDistillation(SigmaSquared())
    x = torch.randn(1, 1, 2, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    slope = gradient(distillation, prior, x).flatten()

    def value(point):
        condition = Condition(TextEmbedding(MEAN.expand(1, 1, 4)), TextEmbedding(torch.zeros(1, 1, 4)))
        return distillation(point, condition, prior, 0.0, torch.Generator().manual_seed(0)).total

    for i, step in enumerate(1e-5 * torch.eye(4, dtype=torch.float64)):
        step = step.view(1, 1, 2, 2)
        numeric = (value(x + step) - value(x - step)) / 2e-5
        torch.testing.assert_close(slope[i], numeric, rtol=1e-5, atol=1e-8)


def test_a_prior_without_closed_form_is_refused():
    with pytest.raises(ValueError, match="ColorPrior does not have in closed form: take a GaussianPrior"):
        DensityDistillation(Uniform()).check(ColorPrior())
