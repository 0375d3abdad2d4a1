"""Every variant against its formula on a Gaussian or a mixture, in double precision."""

from unittest.mock import patch

import pytest
import torch
from gaussians import NULL, SOURCE, TEXT, condition, gradient, guided, levels, noise, pictures

from dreamfusion_pl.diffusion.closed_form import GaussianPrior, MixturePrior, Mode
from dreamfusion_pl.diffusion.noise import SigmaSquared, StraightPath, Uniform, Velocity
from dreamfusion_pl.distillation import score_gradient
from dreamfusion_pl.distillation.adjustments import Clip, Rescale
from dreamfusion_pl.distillation.ddim import invert
from dreamfusion_pl.distillation.parameter_space import ParameterSpaceSampling
from dreamfusion_pl.distillation.sds import ScoreDistillation
from dreamfusion_pl.distillation.times import PriorWeightedTimes
from dreamfusion_pl.distillation.variants.asd import AsynchronousDistillation
from dreamfusion_pl.distillation.variants.bridge import BridgeDistillation
from dreamfusion_pl.distillation.variants.csd import ClassifierScoreDistillation
from dreamfusion_pl.distillation.variants.hifa import DenoisedPictures
from dreamfusion_pl.distillation.variants.inversion import InversionDistillation
from dreamfusion_pl.distillation.variants.ism import IntervalScoreMatching
from dreamfusion_pl.distillation.variants.nfsd import NoiseFreeDistillation
from dreamfusion_pl.distillation.variants.particles import ParticleDistillation
from dreamfusion_pl.distillation.variants.vsd import VariationalDistillation
from dreamfusion_pl.schedule import Linear
from dreamfusion_pl.types import Condition

TIMES = [0.1, 0.4, 0.8]
OMEGA = 3.0


def at(t: float, omega: float = OMEGA, **more):
    return {"guidance_scale": omega, "weighting": Uniform(), "t_min": t, "t_max": t + 1e-9, **more}


@pytest.fixture
def without_noise(monkeypatch):
    """The noise is 0, its mean. All predictions are linear in it, so that a gradient is its expectation."""
    monkeypatch.setattr(score_gradient, "draw_noise", lambda z, generator: torch.zeros_like(z))


def close(found, expected):
    assert expected.abs().max() > 1e-2
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("t", TIMES)
def test_csd_is_the_score_of_the_implied_classifier(t):
    modes = {
        "a": Mode((-1.0, 0.0), ((0.3, 0.1), (0.1, 0.2))),
        "b": Mode((1.0, 0.5), ((0.1, 0.0), (0.0, 0.4))),
    }
    model = MixturePrior(modes)
    where = Condition(model.embed(["a"]).expand(6), model.embed([""]))
    z = torch.randn(6, 2, 1, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = gradient(ClassifierScoreDistillation(**at(t)), z, where, seed=4, model=model)

    generator = torch.Generator().manual_seed(4)
    when = torch.rand(1, 6, generator=generator).flatten() * 0.0 + t
    eps = torch.randn(z.shape, generator=generator).double()
    z_t = model.schedule.diffuse(z, eps, when).requires_grad_()
    given = model.log_density(z_t, when, where.text) - model.log_density(z_t, when, where.null.expand(6))
    score = torch.autograd.grad(given.sum(), z_t)[0]  # of log p(y | z_t), up to a constant
    close(found, -OMEGA * levels(t)[1] * score)


@pytest.mark.parametrize("t", TIMES)
def test_csd_with_an_annealed_negative_text(t, without_noise):
    z, scale = pictures(3), Linear(0.0, 2.0)
    csd = ClassifierScoreDistillation(**at(t), negative_text="bad", negative_scale=scale)
    z_t = levels(t)[0] * z
    for progress in (0.0, 0.5):
        negative = scale(progress)
        expected = (
            OMEGA * noise(z_t, t, TEXT)
            + (negative - OMEGA) * noise(z_t, t, NULL)
            - negative * noise(z_t, t, SOURCE)
        )
        close(gradient(csd, z, condition(3), progress), expected)


@pytest.mark.parametrize("t", TIMES)
def test_nfsd(t, without_noise):
    z = pictures(3)
    z_t = levels(t)[0] * z
    domain = noise(z_t, t, NULL) - (noise(z_t, t, SOURCE) if t >= 0.2 else 0.0)
    expected = domain + (1.0 + OMEGA) * (noise(z_t, t, TEXT) - noise(z_t, t, NULL))
    close(gradient(NoiseFreeDistillation(**at(t)), z, condition(3)), expected)


@pytest.mark.parametrize("t", TIMES)
def test_the_bridge_goes_from_the_source_to_the_prompt(t, without_noise):
    z = pictures(3)
    z_t = levels(t)[0] * z
    bridge = BridgeDistillation(**at(t))
    expected = (1.0 + OMEGA) * (noise(z_t, t, TEXT) - noise(z_t, t, SOURCE))
    close(gradient(bridge, z, condition(3)), expected)
    assert gradient(bridge, z, condition(3, source=TEXT)).abs().max() < 1e-12


def test_the_bridge_asks_for_two_texts():
    predict = GaussianPrior.predict
    with patch.object(GaussianPrior, "predict", autospec=True, side_effect=predict) as asked:
        gradient(BridgeDistillation(**at(0.4)), pictures(3), condition(3))
    assert [len(call.args[1]) for call in asked.call_args_list] == [6]


@pytest.mark.parametrize("t", TIMES)
def test_asd_compares_with_a_later_time(t, without_noise):
    z, shift = pictures(3), 0.3
    asd = AsynchronousDistillation(**{**at(t), "t_min": t - 0.05}, shift=shift)
    found = gradient(asd, z, condition(3), seed=7)
    generator = torch.Generator().manual_seed(7)
    when = t - 0.05 + 0.05 * torch.rand(1, 3, generator=generator).flatten()
    later = when + shift * torch.rand(3, generator=generator) * (when - (t - 0.05))
    rows = zip(z.split(1), when.tolist(), later.tolist(), strict=True)
    expected = [
        guided(levels(now)[0] * row, now, OMEGA) - noise(levels(then)[0] * row, then, TEXT)
        for row, now, then in rows
    ]
    close(found, torch.cat(expected))


def test_asd_without_a_shift_is_guidance_alone():
    z = pictures(3)
    found = gradient(AsynchronousDistillation(**at(0.4), shift=1e-12), z, condition(3))
    close(found, gradient(ClassifierScoreDistillation(**at(0.4)), z, condition(3)))


def inverted(z, t, steps, mean, omega=0.0):
    """DDIM inversion in plain steps."""
    for step in range(steps):
        (a, s), (b, r) = levels(t * step / steps), levels(t * (step + 1) / steps)
        now = t * step / steps
        eps = (1.0 + omega) * noise(z, now, mean) - omega * noise(z, now, NULL)
        z = b * (z - s * eps) / a + r * eps
    return z


@pytest.mark.parametrize("t", TIMES)
def test_sdi_is_sds_with_inverted_noise(t):
    z, (alpha, sigma) = pictures(3), levels(t)
    z_t = inverted(z, t, 5, TEXT, omega=-2.0)
    expected = guided(z_t, t, OMEGA) - (z_t - alpha * z) / sigma
    close(gradient(InversionDistillation(**at(t), steps=5, inversion_scale=-2.0), z, condition(3)), expected)


@pytest.mark.parametrize("t", [0.4, 0.8])
def test_the_inversion_follows_the_probability_flow(t):
    """In the limit of many steps z_t - alpha mu = (P_t / Sigma)^(1/2) (z - mu), for a scalar covariance."""
    variance, mean = 0.3, 0.7
    model = GaussianPrior([mean], [[variance]], (1, 1, 1))
    z = torch.tensor([-0.5, 0.2, 1.4], dtype=torch.float64).view(3, 1, 1, 1)
    text, when = model.embed(["y"]).expand(3), torch.full((3,), t)
    found = invert(z, when, lambda z_t, at: model.predict(z_t, at, text), 900, model.schedule)
    alpha, sigma = levels(t)
    spread = ((alpha**2 * variance + sigma**2) / variance) ** 0.5
    torch.testing.assert_close(found, alpha * mean + spread * (z - mean), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("t", TIMES)
def test_ism_takes_one_step_of_a_path(t):
    z, interval = pictures(3), 0.05
    steps = max(1, -int(-(t - interval) // 0.2))
    z_s = inverted(z, t - interval, steps, NULL)
    eps_s = noise(z_s, t - interval, NULL)
    (a, s), (b, r) = levels(t - interval), levels(t)
    z_t = b * (z_s - s * eps_s) / a + r * eps_s
    ism = IntervalScoreMatching(**at(t), interval=interval)
    close(gradient(ism, z, condition(3)), guided(z_t, t, OMEGA) - eps_s)


def test_the_weight_of_a_velocity():
    """RFDS: with w = 1 / alpha the gradient is v_hat - v of the straight path."""
    x, eps, eps_hat, t = *pictures(3).unbind(0), torch.tensor(0.3, dtype=torch.float64)
    z_t = (1.0 - t) * x + t * eps
    v_hat = (eps_hat - z_t) / (1.0 - t)
    torch.testing.assert_close(Velocity()(1.0 - t, t) * (eps_hat - eps), v_hat - (eps - x))


def test_more_draws_have_the_same_mean_and_less_variance():
    """Strata of t on top of more noise: less than a fourth of the variance for four draws."""
    count = 20_000
    z = pictures(1).expand(count, -1, -1, -1)
    where = condition(count)
    one, four = (
        gradient(ScoreDistillation(1.0, SigmaSquared(), 0.1, 0.9, draws=draws), z, where, seed=draws)
        for draws in (1, 4)
    )
    error = (one.var(0) / count + four.var(0) / count).sqrt()
    assert float(((one.mean(0) - four.mean(0)).abs() / error).max()) < 4.0
    ratio = float(four.var(0).sum() / one.var(0).sum())
    assert 0.05 < ratio < 0.245, ratio


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (ClassifierScoreDistillation, {"negative_scale": -1.0}, "negative_scale must not be negative"),
        (
            ClassifierScoreDistillation,
            {"negative_scale": 1.0},
            "go together, got None and a scale of at most 1",
        ),
        (
            ClassifierScoreDistillation,
            {"negative_text": "bad"},
            "go together, got 'bad' and a scale of at most 0",
        ),
        (ClassifierScoreDistillation, {"guidance_scale": 0.0}, "must be above 0, got 0"),
        (NoiseFreeDistillation, {"low_noise": 1.5}, "low_noise is a time"),
        (AsynchronousDistillation, {"shift": 0.0}, "shift is a share"),
        (InversionDistillation, {"steps": 0}, "1 step or more"),
        (IntervalScoreMatching, {"interval": 0.0}, "interval is in"),
        (ScoreDistillation, {"draws": 0}, "1 or more; got 0"),
    ],
)
def test_bad_settings_are_refused(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(**{**at(0.4), **arguments})


@pytest.mark.parametrize(
    "make",
    [
        lambda **where: ScoreDistillation(2.0, Velocity(), **where),
        lambda **where: ScoreDistillation(2.0, Uniform(), **where, adjustment=Rescale()),
        lambda **where: ScoreDistillation(2.0, Uniform(), **where, time_law=PriorWeightedTimes()),
        lambda **where: InversionDistillation(2.0, Uniform(), **where),
        lambda **where: IntervalScoreMatching(2.0, Uniform(), **where),
        lambda **where: DenoisedPictures(2.0, Uniform(), **where),
        lambda **where: ParticleDistillation(2.0, Uniform(), **where),
        lambda **where: ParameterSpaceSampling(2.0, Velocity(), **where),
    ],
)
@pytest.mark.parametrize("ends", [(0.0, 0.98), (0.02, 1.0)])
def test_what_divides_by_the_levels_refuses_ends_without_signal_or_noise(make, ends):
    class Flow:
        schedule, channels, resolution, differentiable = StraightPath(), 3, 4, True

    with pytest.raises(ValueError, match="the distillation divides by both levels"):
        make(t_min=ends[0], t_max=ends[1]).check(Flow())
    make(t_min=0.02, t_max=0.98).check(Flow())
    for adjustment in (None, Clip(2.0)):
        ScoreDistillation(2.0, Uniform(), *ends, adjustment=adjustment).check(Flow())
    with pytest.raises(ValueError, match="the distillation divides by both levels"):
        VariationalDistillation(2.0, Velocity(), *ends).check(Flow())
