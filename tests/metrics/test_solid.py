"""The inside of a mesh against formulas, and what an export drops."""

from __future__ import annotations

import math

import pytest
import torch
from scenes import Balls, Torus
from solids import ball, solid

from dreamfusion_pl.export.surface.mesh import extract
from dreamfusion_pl.metrics.solid import solid_of

BIG, FLOATER = (torch.tensor([0.3, 0.0, 0.0]), 0.3), (torch.tensor([0.0, 0.0, 0.8]), 0.04)


def volume(of) -> float:
    return len(of.points) * of.spacing**3


@pytest.mark.parametrize("shift", [0.0, 0.013])
def test_every_point_of_a_ball_is_inside_and_no_other(shift):
    found = solid(lambda points: ball(0.4)(points - shift))
    everywhere = found.start + found.spacing * torch.ones_like(found.inside).nonzero()
    signed = ball(0.4)(everywhere - shift)
    clear = signed.abs() > 2e-3  # the mesh is a polyhedron
    assert torch.equal(found.inside.reshape(-1)[clear], (signed < 0.0)[clear])
    assert volume(found) == pytest.approx(4 / 3 * math.pi * 0.4**3, rel=0.02)


def test_a_hole_stays_open():
    found = solid_of(extract(Torus(0.4, 0.12, inside=300.0, edge=0.0005), resolution=48))
    assert volume(found) == pytest.approx(2 * math.pi**2 * 0.4 * 0.12**2, rel=0.06)
    assert float(found.points[:, :2].norm(dim=-1).min()) > 0.25


def test_what_the_mesh_drops_is_not_judged():
    scene = Balls([BIG, FLOATER], inside=300.0, edge=0.002)
    for smallest_part, top in ((0.02, 0.3), (0.0, 0.84)):
        found = solid_of(extract(scene, resolution=48, smallest_part=smallest_part))
        assert float(found.points[:, 2].max()) == pytest.approx(top, abs=0.03)


def test_points_off_the_grid_are_outside():
    found = solid(ball(0.4))
    far = torch.tensor([[-1, 5, 5], [5, 1000, 5], [32, 32, 32]])
    assert found.at(far).tolist() == [False, False, True]
