"""Closed-form priors against torch's own distributions and automatic differentiation, in double precision."""

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from dreamfusion_pl.diffusion.closed_form import GaussianPrior, MixturePrior, Mode
from dreamfusion_pl.types import Condition

MEAN = (0.5, -1.0, 0.2, 0.9)
COVARIANCE = (
    (0.9, 0.2, 0.1, 0.0),
    (0.2, 0.5, -0.1, 0.1),
    (0.1, -0.1, 0.7, 0.2),
    (0.0, 0.1, 0.2, 0.4),
)
EYE = ((1.0, 0.0), (0.0, 1.0))
TIMES = torch.tensor([0.02, 0.3, 0.6, 0.98])


def gaussian() -> GaussianPrior:
    return GaussianPrior(MEAN, COVARIANCE, shape=(1, 2, 2))


def mixture() -> MixturePrior:
    modes = {
        "left": Mode((-2.0, 0.0), ((0.3, 0.1), (0.1, 0.2)), 2.0),
        "right": Mode((2.0, 0.5), ((0.1, 0.0), (0.0, 0.4))),
        "top": Mode((0.0, 3.0), EYE, 0.5),
    }
    return MixturePrior(modes)


def noisy(prior, count=4) -> torch.Tensor:
    shape = (count, prior.channels, prior.resolution, prior.resolution)
    return 1.5 * torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def marginal(prior: GaussianPrior, t: torch.Tensor) -> MultivariateNormal:
    alpha, sigma = prior.schedule.alpha(t).double(), prior.schedule.sigma(t).double()
    covariance = alpha**2 * torch.tensor(COVARIANCE).double() + sigma**2 * torch.eye(4)
    return MultivariateNormal(alpha * torch.tensor(MEAN).double(), covariance)


def test_the_gaussians_density_is_torchs():
    prior, z_t = gaussian(), noisy(gaussian())
    ours = prior.log_density(z_t, TIMES, prior.embed(["y"]).expand(4))
    theirs = [marginal(prior, t).log_prob(z.flatten()) for t, z in zip(TIMES, z_t, strict=True)]
    torch.testing.assert_close(ours, torch.stack(theirs), rtol=1e-6, atol=1e-6)


def test_the_divergence_is_torchs():
    prior, x = gaussian(), noisy(gaussian())
    ours = prior.divergence(x, TIMES, prior.embed(["y"]).expand(4))
    for value, t, picture in zip(ours, TIMES, x, strict=True):
        alpha, sigma = prior.schedule.alpha(t).double(), prior.schedule.sigma(t).double()
        q = MultivariateNormal(alpha * picture.flatten(), sigma**2 * torch.eye(4).double())
        torch.testing.assert_close(value, kl_divergence(q, marginal(prior, t)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make, prompt", [(gaussian, "y"), (mixture, ""), (mixture, "left top")])
def test_the_noise_is_minus_sigma_times_the_score(make, prompt):
    prior = make()
    z_t, text = noisy(prior).requires_grad_(), prior.embed([prompt]).expand(4)
    (score,) = torch.autograd.grad(prior.log_density(z_t, TIMES, text).sum(), z_t)
    expected = -prior.schedule.sigma(TIMES).double()[:, None, None, None] * score
    torch.testing.assert_close(prior.predict(z_t, TIMES, text).detach(), expected, rtol=1e-9, atol=1e-9)


def test_a_mixture_of_one_is_the_gaussian():
    single = MixturePrior({"y": Mode(MEAN, COVARIANCE)}, shape=(1, 2, 2))
    z_t, prior = noisy(single), gaussian()
    for method in ("predict", "log_density"):
        torch.testing.assert_close(
            getattr(single, method)(z_t, TIMES, single.embed(["y"] * 4)),
            getattr(prior, method)(z_t, TIMES, prior.embed(["y"] * 4)),
            rtol=1e-6,
            atol=1e-6,
        )


def test_a_prompt_chooses_modes():
    prior = mixture()
    assert prior.embed(["", "left", "right, front view"]).tokens.squeeze(1).tolist() == pytest.approx(
        [pytest.approx([4 / 7, 2 / 7, 1 / 7]), pytest.approx([1, 0, 0]), pytest.approx([0, 1, 0])]
    )
    with pytest.raises(ValueError, match="it knows: left, right, top"):
        prior.embed(["bottom"])


def test_guidance_is_the_difference_of_two_scores():
    prior, omega = mixture(), 3.0
    z_t = noisy(prior)
    condition = Condition(prior.embed(["left"]).expand(4), prior.embed([""]))
    left, any_mode = (prior.predict(z_t, TIMES, prior.embed([name] * 4)) for name in ("left", ""))
    expected = (1 + omega) * left - omega * any_mode
    torch.testing.assert_close(prior.guided(z_t, TIMES, condition, omega), expected)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: GaussianPrior((0.0, 0.0), ((1.0, 2.0), (2.0, 1.0))), "positive definite"),
        (lambda: GaussianPrior((0.0, 0.0), ((1.0, 0.5), (0.0, 1.0))), "symmetric"),
        (lambda: GaussianPrior((0.0,), EYE), "D x D"),
        (lambda: GaussianPrior((0.0, 0.0), EYE, shape=(3, 1, 1)), "C h w = 2"),
        (lambda: GaussianPrior((0.0, 0.0), EYE, shape=(2, -1, -1)), "C h w = 2"),
        (lambda: MixturePrior({}), "at least one mode"),
        (lambda: MixturePrior({"a": Mode((0.0, 0.0), EYE, -1.0)}), "above 0"),
        (lambda: MixturePrior({"a": Mode((0.0, 0.0), EYE), "b": Mode((0.0,), ((1.0,),))}), "same length"),
    ],
)
def test_impossible_priors_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
