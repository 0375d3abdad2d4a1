"""Files, read back by trimesh."""

import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from scenes import Balls

from dreamfusion_pl.export.asset import Asset, Settings, make_asset
from dreamfusion_pl.export.files.meshes import check_formats, write_asset

CENTRE = torch.tensor([0.1, -0.05, 0.15])


@pytest.fixture(scope="module")
def asset() -> Asset:
    """A ball that is red in front (x > 0) and blue behind."""
    scene = Balls([(CENTRE, 0.4)], inside=60.0, edge=0.002)
    return make_asset(scene, Settings(resolution=48, max_faces=1500, texture_size=128))


def test_glb_is_textured_matte_closed_and_y_up(asset, tmp_path):
    path = write_asset(asset, tmp_path / "object.glb")
    (read,) = trimesh.load_scene(path, process=False).geometry.values()
    center = 0.5 * (read.bounds[0] + read.bounds[1])
    assert center == pytest.approx(CENTRE[[1, 2, 0]].numpy(), abs=0.01)  # y, z, x: front at +z, top at +y
    material = read.visual.material
    assert material.metallicFactor == 0.0 and material.baseColorTexture.size == (128, 128)
    assert not material.doubleSided
    merged = trimesh.Trimesh(read.vertices, read.faces)  # seams closed again
    assert merged.is_watertight and merged.volume == pytest.approx(4 / 3 * np.pi * 0.4**3, rel=0.1)
    outward = ((read.vertices - center) * read.vertex_normals).sum(-1)
    assert outward.min() > 0.3


@pytest.mark.parametrize("suffix", [".glb", ".obj"])
def test_the_texture_lies_where_it_belongs(asset, tmp_path, suffix):
    path = write_asset(asset, tmp_path / f"object{suffix}")
    read = trimesh.load_mesh(path, process=False)
    material = read.visual.material
    picture = material.baseColorTexture if suffix == ".glb" else material.image
    colors = trimesh.visual.color.uv_to_color(read.visual.uv, picture)[:, :3] / 255.0
    depth = read.vertices[:, 2]  # the front is at +z
    front, back = colors[depth > 0.08], colors[depth < -0.08]  # no colour of the other half shines through
    assert len(front) > 50 and len(back) > 50
    assert np.abs(front - [1.0, 0.0, 0.0]).max() < 0.02
    assert np.abs(back - [0.0, 0.0, 1.0]).max() < 0.02


def test_obj_brings_material_and_picture(asset, tmp_path):
    write_asset(asset, tmp_path / "object.obj")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["object.mtl", "object.obj", "object.png"]
    with Image.open(tmp_path / "object.png") as picture:
        assert picture.size == (128, 128)


@pytest.mark.parametrize("name", ["red chair", "a\tb #1", "椅子 (2)"])
def test_no_name_inside_a_file_has_a_space(asset, tmp_path, name):
    """Most programs take a space, or a #, for the end of a name in .obj and .mtl."""
    for suffix in (".glb", ".obj", ".ply", ".stl", ".usdz"):
        assert write_asset(asset, tmp_path / f"{name}{suffix}").name == f"{name}{suffix}"
    words = (tmp_path / f"{name}.obj").read_text(encoding="utf-8").splitlines()[0].split()
    assert words[0] == "mtllib" and len(words) == 2
    material = tmp_path / words[1]
    (picture,) = (
        line.split() for line in material.read_text(encoding="utf-8").splitlines() if "map_Kd" in line
    )
    assert len(picture) == 2 and (tmp_path / picture[1]).is_file() and "#" not in words[1] + picture[1]
    assert len(list(tmp_path.iterdir())) == 7
    read = trimesh.load_scene(tmp_path / f"{name}.obj", process=False)
    (geometry,) = read.geometry.values()
    assert geometry.visual.material.image is not None
    with zipfile.ZipFile(tmp_path / f"{name}.usdz") as archive:
        assert not any(" " in entry for entry in archive.namelist())
    glb = (tmp_path / f"{name}.glb").read_bytes()
    assert name.encode() not in glb


def test_an_open_surface_shows_its_inside(asset, tmp_path):
    path = write_asset(
        asset._replace(mesh=asset.mesh._replace(faces=asset.mesh.faces[1:])), tmp_path / "a.glb"
    )
    (read,) = trimesh.load_scene(path, process=False).geometry.values()
    assert read.visual.material.doubleSided


def test_an_obj_is_replaced_with_all_that_it_names_or_not_at_all(asset, tmp_path, monkeypatch):
    before = write_asset(asset, tmp_path / "object.obj").read_bytes()
    picture = (tmp_path / "object.png").read_bytes()
    other = asset._replace(texture=1.0 - asset.texture)
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.suffix == ".png":
            raise OSError(28, "No space left on device")
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space"):
            write_asset(other, tmp_path / "object.obj")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["object.mtl", "object.obj", "object.png"]
    assert (tmp_path / "object.obj").read_bytes() == before
    assert (tmp_path / "object.png").read_bytes() == picture


def test_ply_and_stl_keep_the_worlds_axes(asset, tmp_path):
    for suffix, units in ((".ply", 1.0), (".stl", 1000.0)):  # metres, millimetres
        read = trimesh.load_mesh(write_asset(asset, tmp_path / f"object{suffix}"))
        middle = 0.5 * (read.bounds[0] + read.bounds[1])
        assert middle == pytest.approx(units * CENTRE.numpy(), abs=0.01 * units)
        assert read.is_watertight and read.volume > 0.0
    read = trimesh.load_mesh(tmp_path / "object.ply", process=False)
    front = read.visual.vertex_colors[read.vertices[:, 0] > 0.05]
    assert np.abs(front[:, :3] - np.array([255, 0, 0])).max() < 3


def test_usdz_is_an_archive_that_can_be_mapped(asset, tmp_path):
    path = write_asset(asset, tmp_path / "object.usdz")
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["object.usda", "albedo.png"] and archive.testzip() is None
        for entry in archive.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            name, extra = data[entry.header_offset + 26], data[entry.header_offset + 28]
            assert (entry.header_offset + 30 + name + extra) % 64 == 0
        with Image.open(archive.open("albedo.png")) as picture:
            assert picture.size == (128, 128)
        scene = archive.read("object.usda").decode()
    (points,) = re.findall(r"point3f\[\] points = \[(.*)\]", scene)
    read = np.array(re.findall(r"[-\d.e]+", points), float).reshape(-1, 3)
    assert read == pytest.approx(asset.charts.vertices[:, [1, 2, 0]].numpy(), abs=1e-5)
    assert scene.count("{") == scene.count("}")


def test_usdz_is_read_by_usd(asset, tmp_path):
    Usd, UsdGeom, UsdValidation = (
        pytest.importorskip(f"pxr.{name}") for name in ("Usd", "UsdGeom", "UsdValidation")
    )
    path = str(write_asset(asset, tmp_path / "object.usdz"))
    stage = Usd.Stage.Open(path)
    assert UsdGeom.GetStageUpAxis(stage) == "Y" and UsdGeom.GetStageMetersPerUnit(stage) == 1.0
    surface = UsdGeom.Mesh(stage.GetPrimAtPath("/Object/Surface"))
    assert len(surface.GetPointsAttr().Get()) == len(asset.charts.vertices)
    assert len(surface.GetFaceVertexCountsAttr().Get()) == len(asset.charts.faces)
    everything = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    found = UsdValidation.ValidationContext(everything).Validate(stage)
    assert len(everything) > 10 and [error.GetMessage() for error in found] == []


def test_formats():
    assert check_formats("glb, STL,.obj,glb") == [".glb", ".stl", ".obj"]
    for names in ("fbx", "glb,dae", "", ","):
        with pytest.raises(ValueError, match="glb, obj, ply, stl, usdz"):
            check_formats(names)


def test_other_suffixes_are_refused(asset, tmp_path):
    with pytest.raises(ValueError, match=".glb, .obj, .ply, .stl, .usdz; got 'object.fbx'"):
        write_asset(asset, tmp_path / "object.fbx")
    assert not list(tmp_path.iterdir())
