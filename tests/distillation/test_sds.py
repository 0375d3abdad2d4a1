"""SDS on a Gaussian prior, where eq. 2 has a closed form."""

import pytest
import torch

from dreamfusion_pl.diffusion.closed_form import GaussianPrior
from dreamfusion_pl.diffusion.noise import SigmaSquared, Uniform
from dreamfusion_pl.distillation.sds import ScoreDistillation
from dreamfusion_pl.schedule import Linear
from dreamfusion_pl.types import Condition

SIDE = 2  # pictures of 1 x 2 x 2: D = 4


@pytest.fixture
def prior() -> GaussianPrior:
    generator = torch.Generator().manual_seed(3)
    factor = 0.6 * torch.randn(SIDE**2, SIDE**2, generator=generator)
    mean = torch.randn(SIDE**2, generator=generator)
    covariance = factor @ factor.T + 0.05 * torch.eye(SIDE**2)
    return GaussianPrior(mean.tolist(), covariance.tolist(), (1, SIDE, SIDE))


def _condition(prior: GaussianPrior, count: int) -> Condition:
    return Condition(prior.embed(["y"]).expand(count), prior.embed([""]))


def _gradient(distillation, prior, z, seed=0, progress=0.0):
    z = z.clone().requires_grad_()
    generator = torch.Generator().manual_seed(seed)
    distillation(z, _condition(prior, len(z)), prior, progress, generator).total.backward()
    return z.grad


def _expected_gradient(prior, x, weighting, omega, t_min, t_max):
    """E_{t,eps}[w (eps_hat - eps)] by a sum over timesteps: eps_hat is linear in eps, whose mean is 0."""
    t = t_min + (t_max - t_min) * (torch.arange(4000) + 0.5) / 4000
    alpha, sigma = prior.schedule.alpha(t), prior.schedule.sigma(t)
    mean, covariance = prior.mean.float(), prior.covariance.float()
    total = torch.zeros(SIDE**2)
    for a, s, w in zip(alpha, sigma, weighting(alpha, sigma), strict=True):
        inverse = torch.linalg.inv(a**2 * covariance + s**2 * torch.eye(SIDE**2))
        conditional = s * inverse @ (a * x.flatten() - a * mean)
        unconditional = s * inverse @ (a * x.flatten())
        total += w * ((1 + omega) * conditional - omega * unconditional)
    return (total / 4000).view_as(x)


@pytest.mark.parametrize("weighting", [SigmaSquared(), Uniform()])
@pytest.mark.parametrize("omega", [0.0, 2.0])
def test_mean_gradient_is_the_closed_form(prior, weighting, omega):
    x = torch.tensor([[[0.3, -1.0], [2.0, 0.5]]])
    count = 20_000
    distillation = ScoreDistillation(omega, weighting, t_min=0.1, t_max=0.9)
    samples = count * _gradient(distillation, prior, x.expand(count, -1, -1, -1))  # undo the mean over views
    error = samples.std(0) / count**0.5
    expected = _expected_gradient(prior, x, weighting, omega, 0.1, 0.9)
    assert float(((samples.mean(0) - expected).abs() / error).max()) < 4.0
    assert float((expected.abs() / error).min()) > 8.0  # the test can tell the gradient from 0


def test_descent_ends_at_the_mean(prior):
    x = torch.zeros(1, 1, SIDE, SIDE)
    distillation = ScoreDistillation(0.0, SigmaSquared(), t_min=0.02, t_max=0.98)
    for step in range(400):
        rate = 2.0 if step < 200 else 0.2
        x = x - rate * _gradient(distillation, prior, x.expand(256, -1, -1, -1), seed=step).sum(
            0, keepdim=True
        )
    torch.testing.assert_close(x.flatten(), prior.mean.float(), atol=0.05, rtol=0.0)


def test_the_prior_is_asked_once_for_twice_the_rows(prior, monkeypatch):
    rows, predict = [], prior.predict
    monkeypatch.setattr(prior, "predict", lambda z_t, t, text: rows.append(len(z_t)) or predict(z_t, t, text))
    _gradient(ScoreDistillation(1.0, Uniform()), prior, torch.randn(3, 1, SIDE, SIDE))
    assert rows == [6]


def test_every_draw_comes_from_the_generator(prior):
    distillation, z = ScoreDistillation(1.0, Uniform()), torch.randn(2, 1, SIDE, SIDE)
    assert torch.equal(_gradient(distillation, prior, z, seed=5), _gradient(distillation, prior, z, seed=5))
    assert not torch.equal(
        _gradient(distillation, prior, z, seed=5), _gradient(distillation, prior, z, seed=6)
    )


def test_times_fill_the_annealed_range(prior):
    distillation = ScoreDistillation(1.0, Uniform(), t_min=0.1, t_max=Linear(0.9, 0.3))
    early = distillation.times.draw(5000, 0.0, prior.schedule, torch.Generator().manual_seed(0))
    late = distillation.times.draw(5000, 1.0, prior.schedule, torch.Generator().manual_seed(0))
    assert 0.1 <= float(early.min()) < 0.11 and 0.89 < float(early.max()) <= 0.9
    assert 0.1 <= float(late.min()) < 0.11 and 0.29 < float(late.max()) <= 0.3


@pytest.mark.parametrize(
    "arguments",
    [
        {"guidance_scale": -1.0},
        {"t_min": -0.1},
        {"t_max": 1.1},
        {"t_min": 0.5, "t_max": 0.5},
        {"t_min": 0.4, "t_max": Linear(0.9, 0.3)},
    ],
)
def test_bad_settings_are_refused(arguments):
    with pytest.raises(ValueError, match="omega|t_min < t_max"):
        ScoreDistillation(**{"guidance_scale": 1.0, "weighting": Uniform(), **arguments})
