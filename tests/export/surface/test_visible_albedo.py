"""The colour of a surface, against colours that are known at every depth."""

import math
from typing import final

import pytest
import torch
import torch.nn.functional as F
from scenes import AnalyticDensity
from torch import Tensor

from dreamfusion_pl.export.surface.visible_albedo import oblique_directions, visible_albedo
from dreamfusion_pl.scene.base import Scene


@final
class Layers(AnalyticDensity):
    """Uniform density below the plane z = 0, red down to 0.05 and blue below; thin green air above."""

    radius = 1.0

    def __init__(self, inside: float, air: float = 0.0) -> None:
        super().__init__()
        self.inside, self.air = inside, air

    def density(self, points: Tensor, progress: float) -> Tensor:
        assert bool((points.norm(dim=-1) <= 1.0 + 1e-6).all()), "asked outside of the bounding sphere"
        return torch.where(points[:, 2] < 0.0, self.inside, self.air)

    def appearance(self, points: Tensor) -> Tensor:
        red, green, blue = torch.eye(3)
        z = points[:, 2:]
        return torch.where(z > 0.0, green, torch.where(z > -0.05, red, blue))


def look(scene: Scene, height: float = -0.001) -> list[float]:
    points = torch.tensor([[0.1, -0.2, height]]).expand(5, 3)
    colors = visible_albedo(scene, points, torch.tensor([[0.0, 0.0, 1.0]]).expand(5, 3), 1.0)
    assert colors.shape == (5, 3) and torch.equal(colors[0], colors[4])
    return colors[0].tolist()


def test_a_dense_surface_has_the_colour_of_its_skin():
    assert look(Layers(inside=2000.0)) == pytest.approx([1.0, 0.0, 0.0], abs=1e-6)


def test_a_soft_surface_mixes_what_shines_through():
    one = math.exp(-10.0 * 0.02)  # what a sample of 0.02 lets through
    red, blue = 1.0 - one**3, one**3 - one**11  # samples down to 0.04, and from 0.06 to 0.2 below
    expected = [red / (red + blue), 0.0, blue / (red + blue)]
    assert look(Layers(inside=10.0)) == pytest.approx(expected, abs=1e-5)


def from_four_sides(normals: Tensor) -> Tensor:
    return torch.stack(
        [oblique_directions(normals, torch.full(normals.shape[:1], turn * math.pi / 2)) for turn in range(4)]
    )


def test_four_who_look_aslant_stand_on_the_edges_of_a_cube():
    normals = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    sides = from_four_sides(normals)
    torch.testing.assert_close(sides.norm(dim=-1), torch.ones(4, 2))
    torch.testing.assert_close((sides * normals).sum(-1), torch.full((4, 2), 1.0 / math.sqrt(3.0)))
    torch.testing.assert_close((sides[0] * sides[1]).sum(-1), torch.full((2,), 1.0 / 3.0))
    torch.testing.assert_close((sides[0] * sides[2]).sum(-1), torch.full((2,), -1.0 / 3.0))


def test_nobody_looks_from_below_who_can_look_from_above():
    normals = F.normalize(torch.randn(200, 3, generator=torch.Generator().manual_seed(0)))
    sides = from_four_sides(normals)
    torch.testing.assert_close(sides.norm(dim=-1), torch.ones(4, 200))
    assert float((sides * normals).sum(-1).min()) > 0.19  # all see the surface
    is_wall = normals[:, 2] > -0.1
    assert float(sides[:, is_wall, 2].min()) >= 0.0
    assert float(sides[:, normals[:, 2] < -0.9, 2].max()) < 0.0


def test_thin_air_in_front_counts_little():
    assert look(Layers(inside=500.0, air=0.5))[1] == pytest.approx(1.0 - math.exp(-0.01), abs=1e-4)


def test_nothing_is_asked_outside_of_the_bounding_sphere():
    points = torch.tensor([[0.0, 0.0, 1.0]])
    assert visible_albedo(Layers(inside=1.0, air=1.0), points, points, 1.0)[0].tolist() == [0.0, 1.0, 0.0]
