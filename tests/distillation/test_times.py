"""How times are chosen, and what is done to guided predictions."""

import pytest
import torch
from gaussians import condition, gradient, guided, levels, pictures, prior

from dreamfusion_pl.diffusion.closed_form import GaussianPrior
from dreamfusion_pl.diffusion.noise import Uniform
from dreamfusion_pl.distillation.adjustments import Clip, Noisy, Rescale
from dreamfusion_pl.distillation.sds import ScoreDistillation
from dreamfusion_pl.distillation.times import FallingTimes, PriorWeightedTimes, TimeRange
from dreamfusion_pl.schedule import Linear, Steps


def drawn(times: TimeRange, count: int, progress: float) -> torch.Tensor:
    return times.draw(count, progress, prior().schedule, torch.Generator().manual_seed(0))


def test_one_draw_of_each_part_of_the_range():
    t = drawn(TimeRange(0.2, 0.8, draws=3), 500, 0.0).view(3, 500)
    for part, low in zip(t, (0.2, 0.4, 0.6), strict=True):
        assert low <= float(part.min()) < low + 0.01
        assert low + 0.19 < float(part.max()) <= low + 0.2


def test_a_falling_law_does_not_fall_twice():
    for law in (FallingTimes(1.0), PriorWeightedTimes()):
        paths = [
            [float(drawn(TimeRange(0.1, t_max, law), 1, progress)) for progress in (0.0, 0.3, 0.7, 1.0)]
            for t_max in (0.9, Linear(0.9, 0.5))
        ]
        assert paths[0] == paths[1]


@pytest.mark.parametrize(("power", "middle"), [(0.5, 0.5), (1.0, 0.7)])
def test_falling_times(power, middle):
    times = TimeRange(0.1, 0.9, FallingTimes(power))
    for progress, expected in ((0.0, 0.9), (0.25, middle), (1.0, 0.1)):
        assert drawn(times, 3, progress).tolist() == pytest.approx([expected] * 3)


def test_the_weighted_law_spends_its_steps_by_its_weight():
    times = TimeRange(0.02, 0.98, PriorWeightedTimes(0.6, 0.2))
    path = torch.cat([drawn(times, 1, step / 2000) for step in range(2001)])
    assert bool((path.diff() <= 0.0).all())
    assert float(path[0]) == pytest.approx(0.98)
    assert float(path[-1]) == pytest.approx(0.02)
    grid = torch.linspace(0.02, 0.98, 4001)
    alpha, sigma = prior().schedule.alpha(grid), prior().schedule.sigma(grid)
    weight = sigma / alpha * torch.exp(-((grid - 0.6) ** 2) / 0.08)
    for t in (0.3, 0.5, 0.7, 0.9):
        share = float(weight[grid > t].sum() / weight.sum())
        assert float((path > t).float().mean()) == pytest.approx(share, abs=0.01)


def test_a_center_far_away_does_not_stop_the_times():
    far = TimeRange(0.5, 0.98, PriorWeightedTimes(0.02, 0.03))
    assert float(drawn(far, 1, 0.0)) == pytest.approx(0.98)
    assert float(drawn(far, 1, 0.5)) == pytest.approx(0.5, abs=0.01)
    narrow = TimeRange(0.1, 0.9, PriorWeightedTimes(0.5, 1e-6))
    assert [float(drawn(narrow, 1, at)) for at in (0.1, 0.5, 0.9)] == pytest.approx([0.5] * 3, abs=0.01)


@pytest.mark.parametrize("values", [{0.0: 0.98, 0.2: 0.01, 0.4: 0.5}, {0.0: 0.9, 0.7: 1.2, 0.8: 0.5}])
def test_a_highest_time_is_in_order_at_every_step(values):
    with pytest.raises(ValueError, match="t_min < t_max"):
        TimeRange(0.02, Steps(values))


def test_one_number_has_no_contrast():
    number = GaussianPrior([1.0], [[0.3]], (1, 1, 1))
    with pytest.raises(ValueError, match="pictures of 2 elements or more"):
        ScoreDistillation(1.0, Uniform(), adjustment=Rescale()).check(number)


def noisy(z, t=0.5):
    alpha, sigma = (level.view(1, 1, 1, 1) for level in levels(t))
    eps = pictures(len(z), seed=5)
    return Noisy(alpha * z + sigma * eps, torch.full((len(z),), t), eps, alpha, sigma)


def test_a_rescaled_picture_has_the_contrast_of_the_one_without_guidance():
    at = noisy(pictures(4))
    strong, plain = guided(at.z_t, 0.5, 20.0), guided(at.z_t, 0.5, 0.0)

    def picture(eps):
        return (at.z_t - at.sigma * eps) / at.alpha

    def contrast(eps):
        return picture(eps).std(dim=(1, 2, 3))

    assert bool((contrast(strong) > 2.0 * contrast(plain)).all())
    torch.testing.assert_close(contrast(Rescale(1.0)(strong, plain, at, 0.0)), contrast(plain))
    torch.testing.assert_close(Rescale(0.0)(strong, plain, at, 0.0), strong)
    half = 0.5 * (picture(strong) + picture(Rescale(1.0)(strong, plain, at, 0.0)))
    torch.testing.assert_close(picture(Rescale(0.5)(strong, plain, at, 0.0)), half)


def test_a_clipped_gradient_stays_within_its_bound():
    z = pictures(8)
    plain, clipped = (
        gradient(ScoreDistillation(5.0, Uniform(), 0.4, 0.6, adjustment=what), z, condition(8), progress=0.5)
        for what in (None, Clip(Linear(0.5, 1.5)))
    )
    assert plain.abs().max() > 2.0
    torch.testing.assert_close(clipped, plain.clamp(-1.0, 1.0))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Rescale(1.2),
        lambda: Clip(0.0),
        lambda: Clip(Linear(1.0, 0.0)),
        lambda: PriorWeightedTimes(2.0),
        lambda: FallingTimes(0.0),
    ],
)
def test_bad_settings_are_refused(make):
    with pytest.raises(ValueError, match="got"):
        make()
