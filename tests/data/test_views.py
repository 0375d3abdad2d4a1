import math
from types import SimpleNamespace

import pytest
import torch

from dreamfusion_pl.data.cameras import pixel_rays
from dreamfusion_pl.data.orbit import GRAY, orbit, ring
from dreamfusion_pl.data.views import RandomViews
from dreamfusion_pl.schedule import Steps


def drawn(steps: int = 200, progress: float = 1.0, **arguments):
    views = RandomViews(**arguments)
    batches = [views.draw(step, progress, resolution=2) for step in range(steps)]
    return type(batches[0])(*(torch.cat(fields) for fields in zip(*batches, strict=True)))


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("spread", [True, False])
@pytest.mark.parametrize("limits", [(-90.0, 90.0), (30.0, 60.0), (45.0, 45.0), (180.0, 360.0)])
def test_azimuths_stay_in_their_range(limits, spread):
    data = RandomViews(views_per_step=4, azimuth_deg=limits, spread=spread)
    drawn = torch.cat([data.draw(step, 0.0, 1).azimuth_deg for step in range(50)])
    assert drawn.min() >= 0.0 and drawn.max() < 360.0
    above = (drawn - limits[0] + 1e-3) % 360.0
    width = limits[1] - limits[0]
    assert above.max() <= width + 2e-3
    if width:
        counts = torch.histc(above, 4, 0.0, width)
        assert counts.min() > 25  # of 200, in each quarter
    if spread and width:
        one = ((data.draw(0, 0.0, 1).azimuth_deg - limits[0]) % 360.0).sort().values
        assert one.diff().max() < width / 2 + 1e-3 and one.diff().min() >= 0.0


@pytest.mark.parametrize("limits", [(10.0, -10.0), (-10.0, 370.0), (-360.0, 10.0), (-400.0, 0.0)])
def test_odd_ranges_of_azimuths_are_refused(limits):
    with pytest.raises(ValueError, match="azimuth_deg"):
        RandomViews(azimuth_deg=limits)


def test_a_draw_depends_on_seed_rank_and_step_only():
    views = RandomViews(seed=3)
    first = views.draw(5, 0.5, 4, rank=1)
    torch.rand(7)
    assert same(first, RandomViews(seed=3).draw(5, 0.5, 4, rank=1))
    for other in (views.draw(6, 0.5, 4, 1), views.draw(5, 0.5, 4, 0), RandomViews(seed=4).draw(5, 0.5, 4, 1)):
        assert not torch.equal(first.origin, other.origin)
        assert not torch.equal(first.jitter, other.jitter)


def test_draws_stay_in_their_ranges():
    views = drawn(elevation_deg=(-10, 80), distance=(1.2, 1.4), position_noise=0.1, focal=(0.8, 0.9))
    assert views.elevation_deg.min() >= -10 and views.elevation_deg.max() <= 80
    assert views.azimuth_deg.min() >= 0 and views.azimuth_deg.max() < 360
    assert views.origin.norm(dim=-1).min() >= 1.2 - 0.1 * math.sqrt(3)
    assert views.origin.norm(dim=-1).max() <= 1.4 + 0.1 * math.sqrt(3)
    assert views.focal.min() >= 0.8 and views.focal.max() <= 0.9
    assert views.jitter.min() >= 0 and views.jitter.max() < 1
    assert views.background.min() >= 0 and views.background.max() <= 1


def test_without_noise_the_camera_looks_at_the_origin():
    views = drawn(20, position_noise=0.0, target_noise=0.0, up_noise=0.0)
    toward = -views.rotation[:, :, 2]
    torch.testing.assert_close(toward, -torch.nn.functional.normalize(views.origin, dim=-1))


def test_spread_puts_one_view_in_every_sector():
    views = RandomViews(views_per_step=4, spread=True)
    for step in range(20):
        azimuth = views.draw(step, 0.0, 1).azimuth_deg.sort().values
        gaps = torch.cat([azimuth.diff(), azimuth[:1] + 360 - azimuth[-1:]])
        assert gaps.max() <= 180.0 + 1e-3


def test_shading_schedule():
    early = drawn(progress=0.05, albedo_fraction=0.1)
    assert bool((early.ambient == 1).all() and (early.diffuse == 0).all() and not early.textureless.any())
    late = drawn(progress=0.1, albedo_fraction=0.1, shaded_probability=0.75, textureless_probability=0.5)
    shaded = late.diffuse > 0
    assert abs(shaded.float().mean() - 0.75) < 0.06
    assert abs(late.textureless[shaded].float().mean() - 0.5) < 0.08
    assert not late.textureless[~shaded].any()
    torch.testing.assert_close(late.ambient[shaded].unique(), torch.tensor([0.1]))
    torch.testing.assert_close(late.diffuse[shaded].unique(), torch.tensor([0.9]))


def test_orbit_by_hand():
    views = orbit([0.0, 90.0, 450.0], elevation_deg=0.0, distance=2.0, focal=1.0, height=3, width=3)
    torch.testing.assert_close(views.origin[0], torch.tensor([2.0, 0.0, 0.0]))
    torch.testing.assert_close(views.origin[1], torch.tensor([0.0, 2.0, 0.0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(views.origin[2], views.origin[1])
    centre = pixel_rays(views.origin, views.rotation, views.focal, 3, 3).directions[:, 1, 1]
    torch.testing.assert_close(centre, -views.origin / 2.0)
    assert bool((views.ambient == 1).all() and (views.diffuse == 0).all() and (views.jitter == 0.5).all())


def trainer_at(step: int, rank: int = 0, accumulated: int = 1):
    prior, distillation = SimpleNamespace(resolution=5), SimpleNamespace(view_step=lambda step: step)
    return SimpleNamespace(
        global_step=step,
        max_steps=10,
        accumulate_grad_batches=accumulated,
        global_rank=rank,
        lightning_module=SimpleNamespace(prior=prior, distillation=distillation),
    )


def test_the_train_loader_continues_at_the_trainers_step():
    whole, resumed = RandomViews(), RandomViews()
    whole.trainer, resumed.trainer = trainer_at(0), trainer_at(3)
    uninterrupted = iter(whole.train_dataloader())
    expected = [next(uninterrupted) for _ in range(5)][3:]
    continued = iter(resumed.train_dataloader())
    for views in expected:
        assert same(views, next(continued))
    assert expected[0].jitter.shape == (4, 5, 5)  # the prior's resolution


def test_the_resolution_follows_its_schedule():
    views = RandomViews(resolution=Steps({0: 4, 0.4: 8}))
    views.trainer = trainer_at(2)
    loader = iter(views.train_dataloader())
    assert [next(loader).jitter.shape[-1] for _ in range(4)] == [4, 4, 8, 8]
    with pytest.raises(ValueError, match="resolution must be 1 or more"):
        RandomViews(resolution=Steps({0: 4, 0.4: 0.2}))


def test_rings():
    views = RandomViews(num_val_views=3, num_test_views=10, views_per_step=4, look_resolution=6)
    (sheet,) = views.val_dataloader()
    assert sheet.azimuth_deg.tolist() == [0.0, 120.0, 240.0]
    frames = list(views.test_dataloader())
    assert [len(batch.origin) for batch in frames] == [4, 4, 2]
    torch.testing.assert_close(torch.cat([batch.azimuth_deg for batch in frames]), ring(10))
    assert sheet.jitter.shape == (3, 6, 6) and frames[0].jitter.shape == (4, 12, 12)
    assert torch.equal(sheet.background, torch.tensor(GRAY).expand(3, 3))  # white objects are visible on it
    (frame,) = RandomViews(num_test_views=1, turntable_resolution=5).test_dataloader()
    assert frame.jitter.shape == (1, 5, 5)


def test_the_turntable_of_the_default_run_has_256_pixels():
    assert RandomViews().turntable_resolution == 256


@pytest.mark.parametrize(
    "arguments",
    [
        {"views_per_step": 0},
        {"distance": (2.0, 1.0)},
        {"distance": (0.0, 1.0)},
        {"elevation_deg": (0.0, 95.0)},
        {"elevation_deg": (-100.0, 0.0)},
        {"resolution": 0},
    ],
)
def test_impossible_arguments(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        RandomViews(**arguments)


def test_views_go_to_a_gpu_from_pinned_memory_and_do_not_wait(monkeypatch):
    """The calls, since there may be no GPU here."""
    calls = []
    views = RandomViews().draw(0, 0.0, 4)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: calls.append("pinned") or self)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *where, **how: calls.append((where, how)) or self)
    device = torch.device("cuda", 0)
    assert same(RandomViews().transfer_batch_to_device(views, device, 0), views)
    assert calls.count("pinned") == len(views)
    assert calls.count(((device,), {"non_blocking": True})) == len(views)
    calls.clear()
    assert same(RandomViews().transfer_batch_to_device(views, torch.device("cpu"), 0), views)
    assert "pinned" not in calls
