import pytest
import torch

from dreamfusion_pl.rendering.rays import pixel_rays, sphere_bounds
from dreamfusion_pl.rendering.sampling import OccupancyGrid, place_samples, uniform_samples
from dreamfusion_pl.types import Rays

NEAR, FAR = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([3.0, 4.0, 1.5])
OCCUPIED = torch.tensor(
    [[0, 1, 1, 0, 0, 0, 1, 0], [1, 1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0, 0]], dtype=torch.bool
)


def test_samples_lie_in_occupied_pieces_only_and_in_order():
    jitter = torch.tensor([0.3, 0.999, 0.0])
    distances, delta = place_samples(OCCUPIED, NEAR, FAR, jitter, 12)
    piece = ((distances - NEAR[:, None]) / (FAR - NEAR)[:, None] * 8).long()
    assert (distances.diff(dim=1) > 0).all()
    assert set(piece[0].tolist()) == {1, 2, 6} and piece[0].bincount().tolist() == [0, 4, 4, 0, 0, 0, 4]
    torch.testing.assert_close(delta[:, 0] * 12, torch.tensor([0.75, 2.0, 1.0]))


def test_rays_with_everything_or_nothing_occupied_are_sampled_uniformly():
    jitter = torch.tensor([0.3, 0.9, 0.0])
    placed, delta = place_samples(OCCUPIED, NEAR, FAR, jitter, 16)
    uniform, length = uniform_samples(NEAR, FAR, jitter, 16)
    torch.testing.assert_close(placed[1:], uniform[1:])
    torch.testing.assert_close(delta[1:], length[1:])


def test_quadrature_over_the_occupied_pieces_is_unbiased():
    distances, delta = place_samples(OCCUPIED[:1], NEAR[:1], FAR[:1], torch.tensor([0.5]), 600)
    integral = (distances.square() * delta).sum()
    exact = sum((b**3 - a**3) / 3.0 for a, b in ((1.25, 1.75), (2.5, 2.75)))
    assert integral.item() == pytest.approx(exact, rel=1e-4)


def test_strata_look_up_the_cells_that_rays_cross():
    grid = OccupancyGrid(4)
    grid.occupied.zero_()
    grid.occupied[3, 1, 2] = True  # x in [.5, 1], y in [-.5, 0], z in [0, .5] for radius 1
    rays = Rays(
        torch.tensor([[2.0, -0.2, 0.2], [0.7, -0.2, 2.0]]), torch.tensor([[-1.0, 0, 0], [0, 0, -1.0]])
    )
    near, far = torch.tensor([1.0, 1.0]), torch.tensor([3.0, 3.0])
    occupied = grid.strata(rays, near, far, radius=1.0, num_strata=8)
    assert occupied[0].nonzero().flatten().tolist() == [0, 1]
    assert occupied[1].nonzero().flatten().tolist() == [2, 3]


def test_rays_that_cannot_meet_an_occupied_cell_meet_none(make_views):
    views = make_views(8, 24)
    rays = Rays(*(f.reshape(-1, 3) for f in pixel_rays(views.origin, views.rotation, views.focal, 24, 24)))
    grid = OccupancyGrid(8)
    bounds = sphere_bounds(rays, 1.0)
    for seed in range(4):
        grid.occupied.zero_()
        assert not grid.can_meet(rays, *bounds, 1.0).any()
        corner = torch.randint(0, 6, (3,), generator=torch.Generator().manual_seed(seed)).tolist()
        x, y, z = (slice(c, c + 2) for c in corner)
        grid.occupied[x, y, z] = True
        can_meet = grid.can_meet(rays, *bounds, 1.0)
        meets = grid.strata(rays, *bounds, radius=1.0, num_strata=256).any(1)
        assert not (meets & ~can_meet).any()
        assert (
            can_meet & ~meets
        ).sum() < 0.1 * can_meet.sum() + 3  # the box is full: only grazing rays miss it
    rays = Rays(torch.tensor([[0.1, 0.1, 2.0], [2.0, 0.1, 0.1]]), torch.tensor([[0.0, 0, -1], [-1.0, 0, 0]]))
    grid.occupied[:] = True
    assert grid.can_meet(rays, torch.ones(2), torch.tensor([3.0, 1.0]), 1.0).tolist() == [True, False]


def test_the_grid_covers_the_sphere_and_prunes_the_rest(sphere):
    grid = OccupancyGrid(24)
    for step in range(3):
        grid.update(sphere, 0.0, torch.Generator().manual_seed(step))
    axis = (torch.arange(24) + 0.5) / 24 * 1.6 - 0.8
    distance = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0)
    assert grid.occupied[distance < sphere.ball].all()
    assert not grid.occupied[distance > sphere.ball + 0.2].any()


def test_the_grid_forgets_what_has_gone(sphere):
    grid = OccupancyGrid(8)
    grid.density.fill_(100.0)
    sphere.peak = 0.0
    for step in range(20):
        grid.update(sphere, 0.0, torch.Generator().manual_seed(step))
    assert grid.density.max() < 100.0 * 0.8**19


def test_the_grid_is_a_function_of_the_generator(sphere):
    grids = [OccupancyGrid(8) for _ in range(2)]
    for grid in grids:
        grid.update(sphere, 0.0, torch.Generator().manual_seed(3))
    assert torch.equal(grids[0].density, grids[1].density)


def test_occupied_length_is_shorter_than_the_bound(sphere, make_views):
    views = make_views()
    grid = OccupancyGrid(32)
    grid.update(sphere, 0.0, torch.Generator().manual_seed(0))
    rays = pixel_rays(views.origin, views.rotation, views.focal, 12, 12)
    flat = Rays(rays.origins.reshape(-1, 3), rays.directions.reshape(-1, 3))
    near, far = sphere_bounds(flat, sphere.radius)
    occupied = grid.strata(flat, near, far, sphere.radius, 64)
    middle = occupied.reshape(2, 12, 12, 64)[:, 5, 5]
    assert 0.5 <= middle.float().mean() <= 0.7  # the ball's diameter is half of the bound's
