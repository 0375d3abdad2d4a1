"""Views that results are judged on: the data's cameras, the whole object, no learned background."""

import pytest
import torch
from scenes import Balls

from dreamfusion_pl.data.orbit import GRAY, orbit, ring
from dreamfusion_pl.data.steps import Steps
from dreamfusion_pl.data.views import RandomViews
from dreamfusion_pl.metrics.looks import Camera, camera_of, looks, seeing_all
from dreamfusion_pl.rendering.renderer import Renderer

RENDERER = Renderer(num_samples=48, occupancy_resolution=0)


def views(distance: float = 1.5, focal: float = 1.2):
    return orbit(ring(3), 15.0, distance, focal, 16, 16, GRAY)


def test_cameras_are_those_of_the_data():
    assert camera_of(RandomViews(distance=(1.5, 2.0), focal=(0.7, 1.3))) == Camera(1.75, 1.0)
    assert camera_of(RandomViews(look_distance=3.0, look_focal=2.0)) == Camera(3.0, 2.0)
    assert camera_of(None) == camera_of(Steps()) == Camera(1.5, 1.2)


def test_cameras_stay_where_they_see_the_whole_object():
    scene, near = Balls([(torch.zeros(3), 0.45)], edge=0.01), views()
    assert torch.equal(seeing_all(scene, RENDERER, near).origin, near.origin)


@pytest.mark.parametrize("distance", [1.5, 0.9])  # the second inside of the bounding sphere
def test_cameras_step_back_until_they_do(distance):
    scene, near = Balls([(torch.tensor([0.2, 0.0, 0.0]), 0.7)], edge=0.01), views(distance)
    border = looks(scene, RENDERER, near).opacity[:, 0]
    assert float(border.max()) > 0.9  # cut off
    far = seeing_all(scene, RENDERER, near)
    opacity = looks(scene, RENDERER, far).opacity
    assert max(float(opacity[:, [0, -1]].max()), float(opacity[:, :, [0, -1]].max())) < 0.5
    ratio = far.origin / near.origin
    assert float(ratio[near.origin.abs() > 0.01].std()) < 1e-5  # all by the same factor
    assert float(opacity.mean()) > 0.2 and torch.equal(far.rotation, near.rotation)


def test_a_speck_does_not_send_the_cameras_away():
    speck = (torch.tensor([0.0, 0.64, 0.0]), 0.03)
    scene, near = Balls([(torch.zeros(3), 0.4), speck], inside=200.0), views()
    fine = near._replace(jitter=torch.full((3, 64, 64), 0.5))
    assert float(looks(scene, RENDERER, fine).opacity[:, :, -1].max()) > 0.5
    assert torch.equal(seeing_all(scene, RENDERER, near).origin, near.origin)


def test_behind_the_object_there_is_the_views_plain_background():
    seen = looks(Balls([(torch.zeros(3), 0.3)], edge=0.01), RENDERER, views())
    for picture in (seen.rgb, seen.albedo):
        assert torch.allclose(picture[:, 0, 0], torch.tensor(GRAY).expand(3, 3), atol=1e-4)
        assert torch.allclose(picture[0, 8, 8], torch.tensor([1.0, 0.0, 0.0]), atol=0.01)
