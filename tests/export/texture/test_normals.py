"""Normal maps on surfaces whose true normals are known."""

import json
import struct

import pytest
import torch
import torch.nn.functional as F
from scenes import Balls

from dreamfusion_pl.export.asset import Settings, make_asset
from dreamfusion_pl.export.files.meshes import write_asset
from dreamfusion_pl.export.surface.mesh import extract, simplify
from dreamfusion_pl.export.texture.atlas import Charts, surface_texels, unwrap
from dreamfusion_pl.export.texture.normals import bake_normals, tangents

SOFT = Balls([(torch.zeros(3), 0.4)], inside=100.0, edge=0.03)


def square(mirrored: bool = False) -> Charts:
    """A unit square that looks up, its texture running along x (or against it) and along y."""
    vertices = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    uv = vertices[:, :2].clone()
    if mirrored:
        uv[:, 0] = 1.0 - uv[:, 0]
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    return Charts(vertices, torch.tensor([[0.0, 0.0, 1.0]]).expand(4, 3), faces, uv)


@pytest.mark.parametrize(("mirrored", "expected"), [(False, [1.0, 0, 0, 1]), (True, [-1.0, 0, 0, -1])])
def test_tangents_run_with_the_texture(mirrored, expected):
    torch.testing.assert_close(tangents(square(mirrored)), torch.tensor(expected).expand(4, 4))


def test_without_a_texture_tangents_are_still_directions_along_the_surface():
    charts = square()._replace(uv=torch.zeros(4, 2))
    found = tangents(charts)
    torch.testing.assert_close(found[:, :3].norm(dim=-1), torch.ones(4))
    torch.testing.assert_close((found[:, :3] * charts.normals).sum(-1), torch.zeros(4))


def errors(max_faces: int) -> tuple[float, float, float]:
    """Mean angles in degrees: of the map from (0, 0, 1); of normals without and with it from the truth."""
    charts = unwrap(simplify(extract(SOFT, 32), max_faces, SOFT), 128)  # with the surface's own normals
    normal_map, texels = bake_normals(SOFT, charts, 128), surface_texels(charts, 128)
    tangent = tangents(charts)
    normal = F.normalize(texels.interpolate(charts, charts.normals), dim=-1)
    right = F.normalize(texels.interpolate(charts, tangent[:, :3]), dim=-1)
    up = texels.interpolate(charts, tangent[:, 3:]).sign() * torch.linalg.cross(normal, right)
    local = 2.0 * normal_map.view(-1, 3)[texels.covered] - 1.0
    shaded = local[:, :1] * right + local[:, 1:2] * up + local[:, 2:] * normal
    truth = F.normalize(texels.interpolate(charts, charts.vertices), dim=-1)

    def angle(first: torch.Tensor, second: torch.Tensor) -> float:
        cosine = (F.normalize(first, dim=-1) * second).sum(-1).clamp(-1.0, 1.0)
        return float(torch.rad2deg(torch.acos(cosine)).mean())

    return angle(local, torch.tensor([0.0, 0.0, 1.0])), angle(normal, truth), angle(shaded, truth)


def test_on_a_fine_sphere_the_map_says_little_and_on_a_coarse_one_it_corrects():
    fine, _, right = errors(max_faces=4000)
    assert fine < 3.0 and right < 1.0
    coarse, without, corrected = errors(max_faces=40)
    assert coarse > 1.5 * fine and without > 3.0
    assert corrected < 0.4 * without


def test_where_the_field_has_no_gradient_the_surface_is_kept():
    flat = Balls([(torch.zeros(3), 5.0)], inside=1.0)
    picture = bake_normals(flat, square()._replace(vertices=0.2 * square().vertices), 8)
    torch.testing.assert_close(picture, torch.tensor([0.5, 0.5, 1.0]).expand(8, 8, 3))


def test_the_glb_has_picture_and_tangents(tmp_path):
    asset = make_asset(SOFT, Settings(24, None, 500, 64, normal_map=True))
    data = write_asset(asset, tmp_path / "object.glb").read_bytes()
    (length,) = struct.unpack("<I", data[12:16])
    tree = json.loads(data[20 : 20 + length])
    assert len(tree["images"]) == 2 and "normalTexture" in tree["materials"][0]
    attributes = tree["meshes"][0]["primitives"][0]["attributes"]
    assert tree["accessors"][attributes["TANGENT"]]["type"] == "VEC4"
    assert not any(name.startswith("_") for name in attributes)


def test_an_assets_normals_are_the_fields():
    asset = make_asset(SOFT, Settings(32, None, 600, 32))
    own = unwrap(asset.mesh, 32).normals
    truth = F.normalize(asset.charts.vertices, dim=-1)
    cosines = [(normals * truth).sum(-1) for normals in (asset.charts.normals, own)]
    field, surface = (torch.rad2deg(torch.acos(cosine.clamp(-1.0, 1.0))) for cosine in cosines)
    assert float(field.max()) < 1.5 < float(surface.mean())
