import math

import pytest
import torch

from dreamfusion_pl.scene.density import LaplaceDensity
from dreamfusion_pl.scene.field_scene import FieldScene
from dreamfusion_pl.scene.hash_grid import HashFeatures


def small_grid(**changes):
    return HashFeatures(
        **{"levels": 3, "log2_entries": 7, "coarsest": 3, "finest": 20, "initial_noise": 1.0, "width": 8}
        | changes
    )


def slow_sample(grid, point):
    """Loops over levels and corners, from the words of Instant-NGP's section 3."""
    features = []
    for cells, table in zip(grid.cells, grid.tables, strict=True):
        position = [0.5 * (min(max(x, -1.0), 1.0) + 1.0) * cells for x in point]
        corner = [min(math.floor(x), cells - 1) for x in position]
        total = torch.zeros(table.shape[1], dtype=table.dtype)
        for number in range(8):
            offset = [number & 1, number >> 1 & 1, number >> 2]
            x, y, z = (c + o for c, o in zip(corner, offset, strict=True))
            if (cells + 1) ** 3 <= grid.entries:
                entry = x + (cells + 1) * y + (cells + 1) ** 2 * z
            else:
                entry = (x ^ (y * 2654435761) ^ (z * 805459861)) % grid.entries
            weight = 1.0
            for p, c, o in zip(position, corner, offset, strict=True):
                weight *= p - c if o else 1.0 - (p - c)
            total = total + weight * table[entry]
        features.append(total)
    return torch.cat(features)


def test_sample_is_that_of_a_slow_loop():
    grid = small_grid().double()
    assert [len(table) for table in grid.tables] == [4**3, 128, 128]  # one dense level, two with collisions
    points = 2.4 * torch.rand(60, 3, dtype=torch.double, generator=torch.Generator().manual_seed(0)) - 1.2
    points[0], points[1] = 1.0, -1.0
    slow = torch.stack([slow_sample(grid, point.tolist()) for point in points])
    torch.testing.assert_close(grid.sample(points).T, slow, rtol=0, atol=1e-12)


def test_levels_grow_geometrically():
    grid = HashFeatures(levels=16, log2_entries=4, coarsest=16, finest=512)
    assert grid.cells[0] == 16 and grid.cells[-1] == 512
    ratios = [b / a for a, b in zip(grid.cells, grid.cells[1:], strict=False)]
    assert all(abs(ratio - 2 ** (1 / 3)) < 0.04 for ratio in ratios)


def test_features_are_continuous_across_cells():
    grid = small_grid().double()
    edge = torch.tensor([[-1.0 + 2.0 / 20.0 * 7, 0.3, -0.2]], dtype=torch.double)
    before, after = grid.sample(edge - 1e-9), grid.sample(edge + 1e-9)
    torch.testing.assert_close(before, after, rtol=0, atol=1e-6)


def test_first_and_second_derivatives():
    scene = FieldScene(small_grid(), LaplaceDensity(), radius=0.6).double()
    points = 0.4 * torch.rand(5, 3, dtype=torch.double, generator=torch.Generator().manual_seed(2))
    points.requires_grad_()
    table = scene.features.tables[1]

    def level(points, table):
        features = torch.func.functional_call(scene.features, {"tables.1": table}, (points, 0.6, 0.0))
        return scene.field.level((scene.head.weight[:1] @ features)[0], points)

    assert torch.autograd.gradcheck(level, (points, table))
    assert torch.autograd.gradgradcheck(level, (points, table))


def test_a_point_that_is_not_a_number_has_no_features():
    features = small_grid().sample(
        torch.tensor([[math.nan, 0.0, 0.0], [0.1, 0.2, 0.3], [math.inf, 0.0, 0.0]])
    )
    assert not features[:, 0].isfinite().any() and features[:, 1:].isfinite().all()


def test_parameter_groups_cover_every_parameter_once():
    scene = FieldScene(small_grid(), LaplaceDensity())
    groups = scene.param_groups(0.02)
    listed = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(listed) == len(set(listed)) and set(listed) == {id(p) for p in scene.parameters()}
    assert [group["lr"] for group in groups] == [0.02, 0.002]


def test_fine_levels_learn_bumps_that_coarse_ones_cannot():
    def distance(points):
        bumps = 0.02 * torch.sin(25.0 * points).prod(-1)
        return points.norm(dim=-1) - 0.3 + bumps

    errors = []
    for finest in (32, 4):
        torch.manual_seed(0)
        scene = FieldScene(HashFeatures(4, 2, 12, 4, finest, 16), LaplaceDensity(), radius=0.6)
        optimizer = torch.optim.Adam(scene.param_groups(0.02), betas=(0.9, 0.99))
        for _ in range(250):
            points = torch.rand(2048, 3) - 0.5
            error = (scene.level(points, 0.0) + distance(points)).square().mean()
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
        errors.append(error.item())
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": 0}, "levels, channels, coarsest and width must be 1 or more"),
        ({"mlp_rate": -0.1}, "initial_noise and mlp_rate 0 or more"),
        ({"finest": 2}, "finest must lie between coarsest and 65536"),
        ({"log2_entries": 40}, "log2_entries between 1 and 24"),
    ],
)
def test_sizes_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small_grid(**changes)
