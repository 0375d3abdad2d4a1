"""The forward process against a diffusers scheduler, and the conversions against each other."""

import pytest
import torch
from diffusers import DDPMScheduler

from dreamfusion_pl.diffusion.noise import (
    SigmaSquared,
    StraightPath,
    Uniform,
    VariancePreserving,
    eps_from,
    eps_from_flow,
    eps_from_v,
    eps_from_x0,
    per_row,
    v_from_eps,
    x0_from_eps,
    x0_from_flow,
)


@pytest.fixture
def scheduler() -> DDPMScheduler:
    return DDPMScheduler(beta_schedule="squaredcos_cap_v2")


def _pictures(seed: int) -> torch.Tensor:
    return torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_diffuse_adds_the_noise_that_the_training_scheduler_adds(scheduler):
    schedule = VariancePreserving(scheduler.alphas_cumprod)
    x, eps = _pictures(0).float(), _pictures(1).float()
    t = torch.tensor([0.0, 0.02, 0.5, 0.98, 1.0])
    expected = scheduler.add_noise(x, eps, torch.tensor([0, 20, 500, 979, 999]))
    torch.testing.assert_close(schedule.diffuse(x, eps, t), expected, atol=1e-6, rtol=1e-5)


def test_times_are_rounded_to_the_nearest_training_timestep(scheduler):
    schedule = VariancePreserving(scheduler.alphas_cumprod)
    assert schedule.timestep(torch.tensor([0.0, 0.4 / 999, 0.6 / 999, 1.0])).tolist() == [0, 0, 1, 999]
    a_bit_off = torch.tensor([499.6 / 999, 500 / 999, 500.4 / 999])
    assert len(schedule.alpha(a_bit_off).unique()) == 1


def test_variance_is_preserved_and_noise_grows(scheduler):
    schedule = VariancePreserving(scheduler.alphas_cumprod)
    t = torch.linspace(0, 1, 1000)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(1000))
    assert bool((sigma.diff() > 0).all())


@pytest.mark.parametrize(
    "table", [torch.rand(3, 3), torch.tensor([0.1, 0.9]), torch.tensor([1.5, 0.2]), torch.tensor([0.5, -0.1])]
)
def test_a_table_that_is_no_noise_schedule_is_refused(table):
    with pytest.raises(ValueError, match="alphas_cumprod"):
        VariancePreserving(table)


def test_weights():
    alpha, sigma = torch.tensor([0.8, 0.6]), torch.tensor([0.6, 0.8])
    torch.testing.assert_close(SigmaSquared()(alpha, sigma), torch.tensor([0.36, 0.64]))
    torch.testing.assert_close(Uniform()(alpha, sigma), torch.ones(2))


def test_conversions_recover_the_noise_and_the_picture():
    x, eps = _pictures(0), _pictures(1)
    sigma = per_row(torch.linspace(0.1, 0.9, 5, dtype=torch.float64))
    alpha = (1 - sigma**2).sqrt()
    z_t, v = alpha * x + sigma * eps, alpha * eps - sigma * x
    torch.testing.assert_close(x0_from_eps(eps, z_t, alpha, sigma), x)
    torch.testing.assert_close(eps_from_x0(x, z_t, alpha, sigma), eps)
    torch.testing.assert_close(eps_from_v(v, z_t, alpha, sigma), eps)
    torch.testing.assert_close(v_from_eps(eps, z_t, alpha, sigma), v)


def test_flow_conversions_recover_the_noise_and_the_picture():
    x, eps = _pictures(0), _pictures(1)
    s = per_row(torch.linspace(0.0, 1.0, 5, dtype=torch.float64))
    z_s = (1 - s) * x + s * eps
    torch.testing.assert_close(eps_from_flow(eps - x, z_s, s), eps)
    torch.testing.assert_close(x0_from_flow(eps - x, z_s, s), x)


def test_a_straight_path_goes_from_the_picture_to_the_noise():
    schedule, x, eps = StraightPath(), _pictures(0), _pictures(1)
    t = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64)
    z_t = schedule.diffuse(x, eps, t)
    torch.testing.assert_close(z_t[0], x[0])
    torch.testing.assert_close(z_t[4], eps[4])
    torch.testing.assert_close(z_t[1], 0.75 * x[1] + 0.25 * eps[1])
    assert schedule.timestep(t).tolist() == [0.0, 250.0, 500.0, 750.0, 1000.0]


@pytest.mark.parametrize("schedule", [VariancePreserving(torch.linspace(0.99, 0.01, 100)), StraightPath()])
def test_every_kind_of_prediction_gives_the_same_noise(schedule):
    x, eps, t = _pictures(0).float(), _pictures(1).float(), torch.linspace(0.1, 0.9, 5)
    z_t = schedule.diffuse(x, eps, t)
    alpha, sigma = per_row(schedule.alpha(t)), per_row(schedule.sigma(t))
    outputs = {"epsilon": eps, "sample": x}
    if isinstance(schedule, StraightPath):
        outputs["flow"] = eps - x
    else:
        outputs["v_prediction"] = alpha * eps - sigma * x
    for kind, output in outputs.items():
        torch.testing.assert_close(eps_from(kind, output, z_t, alpha, sigma), eps, atol=1e-5, rtol=1e-5)
