import math

import pytest
import torch

from dreamfusion_pl.rendering.rays import pixel_rays, sphere_bounds
from dreamfusion_pl.types import Rays


def bounds(origin, direction, radius=1.0):
    direction = torch.nn.functional.normalize(torch.tensor([direction]), dim=-1)
    near, far = sphere_bounds(Rays(torch.tensor([origin]), direction), radius)
    return near.item(), far.item()


def test_bounds_of_rays_worked_out_by_hand():
    assert bounds([2.0, 0.0, 0.0], [-1.0, 0.0, 0.0]) == pytest.approx((1.0, 3.0))
    half_chord = math.sqrt(1.0 - 0.36)
    assert bounds([2.0, 0.6, 0.0], [-1.0, 0.0, 0.0]) == pytest.approx((2.0 - half_chord, 2.0 + half_chord))
    assert bounds([0.0, 0.0, 3.0], [0.0, 0.0, -2.0], radius=0.5) == pytest.approx((2.5, 3.5))


def test_bounds_start_at_the_camera_inside_the_sphere_and_are_empty_beside_and_behind_it():
    assert bounds([0.5, 0.0, 0.0], [1.0, 0.0, 0.0]) == pytest.approx((0.0, 0.5))
    near, far = bounds([2.0, 1.5, 0.0], [-1.0, 0.0, 0.0])
    assert near == far == pytest.approx(2.0)
    assert bounds([2.0, 0.0, 0.0], [1.0, 0.0, 0.0]) == (0.0, 0.0)


def test_pixel_rays_pass_through_pixel_centres():
    origin = torch.tensor([[0.0, 0.0, 2.0]])
    rays = pixel_rays(origin, torch.eye(3)[None], torch.tensor([0.5]), height=2, width=4)
    top_left = torch.tensor([-0.375 / 0.5, 0.125 / 0.5, -1.0])
    torch.testing.assert_close(rays.directions[0, 0, 0], top_left / top_left.norm())
    torch.testing.assert_close(rays.directions.norm(dim=-1), torch.ones(1, 2, 4))
    torch.testing.assert_close(rays.origins, origin[:, None, None].expand(1, 2, 4, 3))
