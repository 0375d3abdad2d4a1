"""Smoothing of the planes after a step."""

import math

import pytest
import torch

from dreamfusion_pl.scene.planes import PlaneFeatures


@pytest.mark.parametrize(("waves", "rate"), [(1, 0.02), (3, 0.1)])
def test_a_wave_decays_as_the_heat_equation_says(waves, rate):
    """cos(pi k (i + 1/2) / R) is an eigenvector of the Laplacian with reflected borders."""
    size = 16
    features = PlaneFeatures(resolution=size, channels=2, width=4, smoothing=rate / 0.5)
    wave = torch.cos(math.pi * waves * (torch.arange(size) + 0.5) / size)
    features.planes.data = (wave[:, None] * wave).expand(3, 2, -1, -1).clone()
    before = features.planes.detach().clone()
    features.after_step(0.5)
    factor = 1.0 - rate * 2.0 * (2.0 - 2.0 * math.cos(math.pi * waves / size))
    torch.testing.assert_close(features.planes.detach(), factor * before)


def test_smoothing_stays_stable_at_any_rate_and_is_off_by_default():
    features = PlaneFeatures(resolution=8, channels=1, width=4, smoothing=1e4)
    before = features.planes.detach().clone()
    features.after_step(1.0)
    assert features.planes.abs().max() <= before.abs().max()
    torch.testing.assert_close(features.planes.mean(), before.mean())
    plain = PlaneFeatures(resolution=8, channels=1, width=4)
    before = plain.planes.detach().clone()
    plain.after_step(1.0)
    assert torch.equal(plain.planes, before)


def test_negative_smoothing_is_refused():
    with pytest.raises(ValueError, match="smoothing 0 or more, got 64, 8, 32, 0.1, 0.1 and -1"):
        PlaneFeatures(smoothing=-1)
