"""Extraction against an analytic sphere."""

import numpy as np
import pytest
import torch
from scenes import AnalyticDensity, Balls
from torch import Tensor

from dreamfusion_pl.export.surface import grid
from dreamfusion_pl.export.surface.grid import (
    EmptyFieldError,
    FullFieldError,
    level_grid,
    surface_density,
)
from dreamfusion_pl.export.surface.memory import check_fits
from dreamfusion_pl.export.surface.mesh import (
    Mesh,
    extract,
    is_closed,
    split_non_manifold,
    surface_threshold,
    without_flat_pairs,
)
from dreamfusion_pl.export.surface.visible_albedo import DEPTHS
from dreamfusion_pl.scene.base import Scene

CENTRE = torch.tensor([0.1, -0.05, 0.15])


def _volume(mesh: Mesh) -> float:
    """Signed volume by the divergence theorem: positive if the faces look outward."""
    a, b, c = mesh.vertices.double()[mesh.faces].unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6.0)


def _outline(scene: Scene, centre: Tensor) -> float:
    """Distance from a round object's centre at which a ray that passes it is half opaque."""
    along = torch.linspace(-1.0, 1.0, 2001)
    aside = torch.linspace(0.0, 0.9, 901)
    points = torch.stack(torch.broadcast_tensors(along, aside[:, None], torch.zeros(())), dim=-1)
    density = scene.density((points + centre).reshape(-1, 3), 1.0).view(901, 2001)
    opacity = 1.0 - torch.exp(-1e-3 * density.sum(-1))
    return float(aside[opacity > 0.5 * opacity.max()].max())


def _is_closed(mesh: Mesh) -> bool:
    return _is_closed_edges(mesh.faces.numpy())


def _is_closed_edges(faces: np.ndarray) -> bool:
    """Every directed edge has its opposite, and is there once."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    there = sorted(map(tuple, edges.tolist()))
    return there == sorted(map(tuple, edges[:, ::-1].tolist())) and len(set(there)) == len(there)


@pytest.mark.parametrize(("inside", "edge"), [(60.0, 0.0), (2000.0, 0.0), (60.0, 0.01), (20.0, 0.01)])
def test_a_sphere_is_found_closed_outward_and_coloured(inside, edge):
    scene = Balls([(CENTRE, 0.4)], inside, edge)
    mesh = extract(scene)
    radius = _outline(scene, CENTRE)
    error = (mesh.vertices - CENTRE).norm(dim=-1) - radius
    assert float(error.abs().max()) < 0.03 and abs(float(error.mean())) < 0.012
    assert _volume(mesh) == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.1)
    assert _is_closed(mesh)
    depth = DEPTHS.max() * (mesh.vertices - CENTRE)[:, 0] / radius
    first, last = mesh.vertices[:, 0], mesh.vertices[:, 0] - depth  # of what is looked at
    clear = (first * last > 0.0) & (torch.minimum(first.abs(), last.abs()) > 0.02)  # else both are seen
    assert float(clear.float().mean()) > 0.5
    expected = (mesh.vertices[clear, 0] > 0).float()
    torch.testing.assert_close(mesh.colors[clear, 0], expected)
    torch.testing.assert_close(mesh.colors[clear, 2], 1.0 - expected)


def test_a_given_threshold_is_the_level_of_the_surface():
    edge, inside = 0.05, 100.0
    for threshold in (10.0, 50.0, 90.0):
        mesh = extract(Balls([(CENTRE, 0.4)], inside, edge), resolution=64, threshold=threshold)
        expected = 0.4 + edge * np.log(inside / threshold - 1.0)  # where the sigmoid crosses the threshold
        assert float((mesh.vertices - CENTRE).norm(dim=-1).mean()) == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize(("inside", "edge"), [(200.0, 0.04), (12.0, 0.08), (8.0, 0.02)])
def test_the_surface_has_the_outline_of_the_renders(inside, edge):
    scene = Balls([(torch.zeros(3), 0.5)], inside, edge)
    found = float(extract(scene).vertices.norm(dim=-1).mean())
    assert found == pytest.approx(_outline(scene, torch.zeros(3)), abs=0.02)


def test_the_threshold_of_a_scene_gives_the_same_surface():
    scene = Balls([(CENTRE, 0.4)], edge=0.02)
    found, given = extract(scene), extract(scene, threshold=surface_threshold(scene))
    assert torch.equal(found.vertices, given.vertices)


def test_floaters_go_and_second_objects_stay():
    two = [(torch.tensor([0.4, 0.0, 0.0]), 0.3), (torch.tensor([-0.4, 0.0, 0.0]), 0.2)]
    floater = (torch.tensor([0.0, 0.0, 0.7]), 0.04)
    mesh = extract(Balls([*two, floater]))
    assert float(mesh.vertices[:, 2].max()) < 0.35
    assert _volume(mesh) == pytest.approx(4 / 3 * np.pi * (0.3**3 + 0.2**3), rel=0.08)


def test_a_small_true_part_stays_if_asked():
    """A bird's eye, say: a hundredth of the body's surface."""
    body, eye = (torch.tensor([0.0, 0.0, -0.2]), 0.4), (torch.tensor([0.0, 0.0, 0.6]), 0.045)
    scene = Balls([body, eye])
    assert float(extract(scene).vertices[:, 2].max()) == pytest.approx(0.2, abs=0.03)
    whole = extract(scene, smallest_part=0.005)
    assert float(whole.vertices[:, 2].max()) == pytest.approx(0.645, abs=0.03)
    assert _volume(whole) == pytest.approx(4 / 3 * np.pi * (0.4**3 + 0.045**3), rel=0.08)
    alone = extract(Balls([body, (eye[0], 0.35)]), smallest_part=1.0)
    assert float(alone.vertices[:, 2].max()) == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan"), float("inf")])
def test_the_smallest_part_is_a_share(share):
    with pytest.raises(ValueError, match="smallest part is a share"):
        extract(Balls([(CENTRE, 0.4)]), smallest_part=share)


def test_a_cavity_is_filled():
    class Shell(AnalyticDensity):
        radius = 1.0

        def density(self, points, progress):
            return 80.0 * ((points.norm(dim=-1) - 0.45).abs() < 0.1)

        def appearance(self, points):
            return torch.ones_like(points)

    assert _volume(extract(Shell())) == pytest.approx(4 / 3 * np.pi * 0.55**3, rel=0.05)


def test_a_field_that_reaches_over_the_bounding_sphere_is_closed_at_it():
    mesh = extract(Balls([(torch.tensor([2.0, 0.0, 0.0]), 2.0)]), resolution=48)
    assert _is_closed(mesh)
    right = mesh.vertices[mesh.vertices[:, 0] > 0.7]
    assert float(right.norm(dim=-1).mean()) == pytest.approx(1.0, abs=0.03)


def test_a_full_field_is_explained():
    with pytest.raises(FullFieldError, match="denser than.*opacity regularizer more weight"):
        extract(Balls([(torch.zeros(3), 5.0)]))
    with pytest.raises(FullFieldError, match="pass a higher threshold"):
        extract(Balls([(CENTRE, 0.4)], edge=1.0), threshold=1.0)


def test_a_grid_is_filled_in_chunks_and_says_where_its_points_are(monkeypatch):
    class Place(AnalyticDensity):
        radius = 9.0
        asked = []

        def density(self, points, progress):
            self.asked.append(len(points))
            return points @ torch.tensor([100.0, 10.0, 1.0])

        def appearance(self, points):
            return torch.ones_like(points)

    monkeypatch.setattr(grid, "CHUNK", 7)
    values = level_grid(Place(), torch.tensor([1.0, 2.0, 3.0]), 0.5, [2, 3, 4], 1.0)
    x, y, z = torch.meshgrid(torch.arange(2), torch.arange(3), torch.arange(4), indexing="ij")
    torch.testing.assert_close(values, 100 * (1 + 0.5 * x) + 10 * (2 + 0.5 * y) + 3 + 0.5 * z)
    assert Place.asked == [7, 7, 7, 3]


def test_a_grid_that_does_not_fit_into_memory_is_refused_with_one_that_does():
    check_fits([100, 100, 100], 40_000_001)
    with pytest.raises(ValueError, match=r"200 x 100 x 100 points needs about 0.1 GB.*resolution of 158"):
        check_fits([200, 100, 100], 40_000_000)
    with pytest.raises(ValueError, match="take a resolution of"):
        extract(Balls([(CENTRE, 0.4)]), resolution=100_000)


def test_a_faint_field_still_has_a_surface():
    mesh = extract(Balls([(CENTRE, 0.4)], inside=0.3))
    assert _volume(mesh) == pytest.approx(4 / 3 * np.pi * 0.4**3, rel=0.25)


def test_an_empty_field_is_explained():
    with pytest.raises(EmptyFieldError, match="no ray becomes opaque.*opacity regularizer"):
        extract(Balls([(CENTRE, 0.4)], inside=1e-3))
    with pytest.raises(EmptyFieldError, match="highest density is 60 and the surface's threshold is 70"):
        extract(Balls([(CENTRE, 0.4)]), threshold=70.0)


def test_a_field_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not finite.*learning rate"):
        extract(Balls([(CENTRE, 0.4)], inside=float("nan"), edge=0.1))


@pytest.mark.parametrize(
    "arguments", [{"resolution": 4}, {"threshold": 0.0}, {"threshold": -1.0}, {"smoothing": -0.1}]
)
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match="the mesh's"):
        extract(Balls([(CENTRE, 0.4)]), **arguments)


def test_smoothing_removes_noise_and_keeps_the_size():
    class Noisy(AnalyticDensity):
        radius = 1.0

        def density(self, points, progress):
            noise = torch.sin(160.0 * points).prod(-1)  # a wavelength of 0.04
            return 40.0 * torch.sigmoid((0.4 - points.norm(dim=-1)) / 0.02) * (1.0 + 0.6 * noise)

        def appearance(self, points):
            return torch.ones_like(points)

    scene = Noisy()
    rough, smooth = (extract(scene, smoothing=smoothing) for smoothing in (0.0, 0.02))
    spread = [float(mesh.vertices.norm(dim=-1).std()) for mesh in (rough, smooth)]
    assert spread[1] < 0.5 * spread[0]
    size = float(smooth.vertices.norm(dim=-1).mean())
    assert size == pytest.approx(_outline(scene, torch.zeros(3)), abs=0.03)


def test_the_threshold_ignores_haze():
    grid = torch.linspace(-1, 1, 48)
    distance = torch.stack(torch.meshgrid(grid, grid, grid, indexing="ij")).norm(dim=0)
    density = 50.0 * (distance < 0.4) + 0.1
    assert 0.1 < surface_density(density, float(grid[1] - grid[0])) < 50.0


def test_sheets_that_share_an_edge_are_separated():
    tetrahedron = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])
    other = np.array([[0, 1, 4], [0, 4, 5], [0, 5, 1], [1, 5, 4]])  # shares the edge 0 1
    vertices, faces = np.random.default_rng(0).random((6, 3)), np.concatenate([tetrahedron, other])
    points, triangles = split_non_manifold(vertices, faces)
    assert len(points) == 8
    assert np.array_equal(points[triangles], vertices[faces])
    assert not _is_closed_edges(faces) and _is_closed_edges(triangles)
    assert not is_closed(faces) and is_closed(triangles) and not is_closed(triangles[1:])
    same, unchanged = split_non_manifold(vertices[:4], tetrahedron)
    assert len(same) == 4 and np.array_equal(same[unchanged], vertices[tetrahedron])


def test_triangles_back_to_back_go():
    tetrahedron = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
    flat = np.array([[1, 3, 4], [4, 3, 1]])  # hangs on an edge
    both = np.concatenate([tetrahedron[:2], flat, tetrahedron[2:]])
    assert not is_closed(both) and np.array_equal(without_flat_pairs(both), tetrahedron)
    assert np.array_equal(without_flat_pairs(tetrahedron), tetrahedron)
