"""Mesh files, read back by trimesh."""

import pytest
import torch
import trimesh

from dreamfusion_pl.export.files import to_linear, write_mesh
from dreamfusion_pl.export.mesh import Mesh


@pytest.fixture
def mesh() -> Mesh:
    """A tetrahedron whose red corner is in front (+x) and whose green corner is on top (+z)."""
    vertices = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 3.0], [-1.0, 1.0, 0.0], [-1.0, -1.0, 0.0]])
    faces = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    colors = torch.tensor([[0.8, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.5], [1.0, 1.0, 1.0]])
    return Mesh(vertices, faces, colors)


def test_glb_has_the_front_at_z_and_the_top_at_y(mesh, tmp_path):
    path = write_mesh(mesh, tmp_path / "object.glb")
    read = trimesh.load_mesh(path, process=False)
    assert read.vertices[0].tolist() == [0.0, 0.0, 2.0]
    assert read.vertices[1].tolist() == [0.0, 3.0, 0.0]
    assert read.vertices[2].tolist() == [1.0, 0.0, -1.0]
    assert read.volume == pytest.approx(trimesh.Trimesh(mesh.vertices, mesh.faces).volume)
    assert read.volume > 0.0


def test_glb_has_linear_colours_normals_and_a_matte_material(mesh, tmp_path):
    (read,) = trimesh.load_scene(write_mesh(mesh, tmp_path / "object.glb"), process=False).geometry.values()
    colors = torch.from_numpy(read.visual.vertex_attributes["color"][:, :3] / 255.0).float()
    torch.testing.assert_close(colors, to_linear(mesh.colors), atol=0.003, rtol=0.0)
    assert read.visual.material.metallicFactor == 0.0
    assert b'"NORMAL"' in (tmp_path / "object.glb").read_bytes()


@pytest.mark.parametrize(("suffix", "front"), [(".obj", [0.0, 0.0, 2.0]), (".ply", [2.0, 0.0, 0.0])])
def test_obj_and_ply_keep_colours_as_displayed(mesh, tmp_path, suffix, front):
    read = trimesh.load_mesh(write_mesh(mesh, tmp_path / f"object{suffix}"), process=False)
    assert read.vertices[0].tolist() == front
    colors = torch.from_numpy(read.visual.vertex_colors[:, :3] / 255.0).float()
    torch.testing.assert_close(colors, mesh.colors, atol=0.003, rtol=0.0)
    assert read.volume > 0.0


def test_to_linear_at_known_points():
    torch.testing.assert_close(
        to_linear(torch.tensor([0.0, 0.04045, 0.5, 1.0])), torch.tensor([0.0, 0.0031308, 0.2140411, 1.0])
    )


def test_other_suffixes_are_refused(mesh, tmp_path):
    with pytest.raises(ValueError, match=".glb, .obj, .ply; got 'object.fbx'"):
        write_mesh(mesh, tmp_path / "object.fbx")
