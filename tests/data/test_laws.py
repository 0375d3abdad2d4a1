"""Cameras and lights follow the laws that the paper states (3.2, A.2): Kolmogorov-Smirnov tests, seeded."""

import math

import pytest
import torch
from scipy import stats

from dreamfusion_pl.data.views import RandomViews

COUNT = 4000
LEVEL = 1e-3  # a right law fails one seeded test in a thousand, and these seeds are fixed


@pytest.fixture(scope="module")
def paper():
    views = RandomViews(views_per_step=COUNT, spread=False, seed=1)
    return views.draw(0, 1.0, resolution=1)


@pytest.fixture(scope="module")
def still():
    """The same laws without perturbations."""
    views = RandomViews(
        views_per_step=COUNT, spread=False, position_noise=0.0, target_noise=0.0, up_noise=0.0, seed=2
    )
    return views.draw(0, 1.0, resolution=1)


def follows(values, cdf) -> bool:
    return stats.kstest(values.double().numpy(), cdf).pvalue > LEVEL


def uniform(low, high):
    return stats.uniform(low, high - low).cdf


def test_azimuth_distance_and_focal_length_are_uniform(still):
    assert follows(still.azimuth_deg, uniform(0.0, 360.0))
    assert follows(still.origin.norm(dim=-1), uniform(1.0, 1.5))
    assert follows(still.focal, uniform(0.7, 1.35))
    assert not follows(still.focal, uniform(0.7, 1.30))  # the test can tell


def test_elevation_is_half_in_angle_half_in_area(still):
    def cdf(x):
        by_angle = (x + 10.0) / 100.0
        by_area = torch.sin(torch.deg2rad(torch.as_tensor(x).clamp(min=0.0))).numpy()
        return 0.5 * by_angle + 0.5 * by_area

    assert follows(still.elevation_deg, cdf)
    assert not follows(still.elevation_deg, uniform(-10.0, 90.0))


def test_perturbations(paper, still):
    free = RandomViews(views_per_step=COUNT, spread=False, target_noise=0.0, up_noise=0.0, seed=2)
    moved = free.draw(0, 1.0, resolution=1).origin - still.origin
    for axis in range(3):
        assert follows(moved[:, axis], uniform(-0.1, 0.1))
    # the ray through the middle of the picture passes the origin as far away as the point looked at
    toward = -paper.rotation[:, :, 2]
    missed = torch.linalg.cross(paper.origin, toward).norm(dim=-1)
    assert 0.15 < float(missed.median()) < 0.35


def test_lights_surround_the_camera(still):
    assert follows(still.light.norm(dim=-1), uniform(0.8, 1.5))
    generator = torch.Generator().manual_seed(3)
    expected = torch.nn.functional.normalize(
        still.origin + torch.randn(COUNT, 3, generator=generator), dim=-1
    )
    ours, theirs = (
        (torch.nn.functional.normalize(x, dim=-1) * torch.nn.functional.normalize(still.origin, dim=-1)).sum(
            -1
        )
        for x in (still.light, expected)
    )
    assert stats.ks_2samp(ours.numpy(), theirs.numpy()).pvalue > LEVEL
    assert float(ours.mean()) > 0.4  # and not all around


def test_shading_probabilities(paper):
    shaded = (paper.diffuse > 0).float().mean()
    textureless = paper.textureless[paper.diffuse > 0].float().mean()
    assert abs(float(shaded) - 0.75) < 4 * math.sqrt(0.75 * 0.25 / COUNT)
    assert abs(float(textureless) - 0.5) < 4 * math.sqrt(0.25 / (0.75 * COUNT))
