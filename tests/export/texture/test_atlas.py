"""Unrolling and baking on surfaces where every texel's colour is known."""

import math
from typing import final

import pytest
import torch
from scenes import AnalyticDensity
from torch import Tensor

from dreamfusion_pl.export.asset import Settings, make_asset
from dreamfusion_pl.export.surface.mesh import extract, simplify
from dreamfusion_pl.export.surface.visible_albedo import oblique_directions, visible_albedo
from dreamfusion_pl.export.texture import atlas
from dreamfusion_pl.export.texture.atlas import Charts, bake, surface_texels, unwrap


@final
class Colorful(AnalyticDensity):
    """A ball whose albedo is its position."""

    radius = 1.0

    def density(self, points: Tensor, progress: float) -> Tensor:
        return 60.0 * torch.sigmoid((0.5 - points.norm(dim=-1)) / 0.01)

    def appearance(self, points: Tensor) -> Tensor:
        return (0.5 + 0.9 * points).clamp(0.0, 1.0)


def square() -> Charts:
    """A unit square in the plane z = 2, as two triangles that fill the texture."""
    vertices = torch.tensor([[0.0, 0.0, 2.0], [1.0, 0.0, 2.0], [1.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    return Charts(vertices, torch.tensor([[0.0, 0.0, 1.0]]).expand(4, 3), faces, vertices[:, :2].clone())


def test_texels_of_a_square_by_hand():
    texels = surface_texels(square(), 4)
    assert bool(texels.covered.all())
    grid = texels.interpolate(square(), square().vertices).view(4, 4, 3)
    centres = (torch.arange(4) + 0.5) / 4
    torch.testing.assert_close(grid[..., 0], centres.expand(4, 4))
    torch.testing.assert_close(grid[..., 1], centres.flip(0)[:, None].expand(4, 4))  # row 0 is v = 1
    torch.testing.assert_close(grid[..., 2], torch.full((4, 4), 2.0))


def test_a_triangle_covers_its_texels_only():
    charts = square()._replace(faces=torch.tensor([[0, 1, 2]]))
    covered = surface_texels(charts, 64).covered
    assert float(covered.float().mean()) == pytest.approx(0.5, abs=0.02)


def test_a_baked_ball_has_the_fields_colours():
    scene = Colorful()
    charts = unwrap(extract(scene, resolution=48), 256)
    baked = bake(scene, charts, 256)
    texels = surface_texels(charts, 256)
    positions, normals = (texels.interpolate(charts, values) for values in (charts.vertices, charts.normals))
    sides = [
        oblique_directions(normals, torch.full((len(normals),), turn * math.pi / 2)) for turn in range(4)
    ]
    expected = torch.stack([visible_albedo(scene, positions, side, 1.0) for side in sides]).mean(0)
    error = (baked.view(-1, 3)[texels.covered] - expected).abs()
    assert float(error.mean()) < 2e-3
    assert float(error.quantile(0.999)) < 0.05  # of a few at the rim of a chart only the centre lies on it
    assert float(texels.covered.float().mean()) > 0.3  # the charts fill the texture
    assert baked.min() >= 0.0 and baked.max() <= 1.0


def test_a_texture_is_the_same_in_bands(monkeypatch):
    scene = Colorful()
    charts = unwrap(extract(scene, resolution=24), 64)
    whole = bake(scene, charts, 64)
    monkeypatch.setattr(atlas, "BAND", 64 * 4 * 5)  # five rows, and four at the end
    torch.testing.assert_close(bake(scene, charts, 64), whole)


def test_gaps_take_the_nearest_colour():
    scene = Colorful()
    charts = unwrap(extract(scene, resolution=24), 64)
    baked = bake(scene, charts, 64)
    covered = surface_texels(charts, 64).covered
    assert float(baked.view(-1, 3)[~covered].sum(-1).min()) > 0.1  # no black between charts


def test_simplified_surfaces_stay_closed_and_near():
    import trimesh

    mesh = extract(Colorful(), resolution=64)
    small = simplify(mesh, 1000, Colorful())
    assert len(mesh.faces) > 5000 and len(small.faces) <= 1000
    assert trimesh.Trimesh(small.vertices.numpy(), small.faces.numpy()).is_watertight
    radius = float(mesh.vertices.norm(dim=-1).mean())
    assert float((small.vertices.norm(dim=-1) - radius).abs().max()) < 0.02
    torch.testing.assert_close(small.colors, (0.5 + 0.9 * small.vertices).clamp(0, 1), rtol=0.0, atol=0.05)
    assert simplify(small, 1000, Colorful()) is small


def test_size_in_metres():
    asset = make_asset(Colorful(), Settings(resolution=24, texture_size=32, size_m=0.25))
    for vertices in (asset.mesh.vertices, asset.charts.vertices):
        sides = vertices.amax(0) - vertices.amin(0)
        assert float(sides.max()) == pytest.approx(0.25, rel=1e-4)


@pytest.mark.parametrize(
    "setting", [{"max_faces": 3}, {"texture_size": 4}, {"size_m": 0.0}, {"size_m": math.inf}]
)
def test_settings_out_of_range(setting):
    with pytest.raises(ValueError, match="asset needs|size is in metres"):
        make_asset(Colorful(), Settings(**setting))
