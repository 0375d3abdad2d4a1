"""Analytic solids through the whole export: from the field to files, and back from them."""

import math
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from scenes import Balls, Torus

from dreamfusion_pl.export.asset import Settings, make_asset
from dreamfusion_pl.export.files.meshes import FORMATS, write_asset
from dreamfusion_pl.scene.base import Scene

SIZE, RESOLUTION = 0.2, 96  # longest side in metres, and in grid points
CELL = SIZE / (RESOLUTION - 1)
RING, TUBE = 0.4, 0.12  # radii of the torus, world units
BIG, SMALL, FLOATER = 0.3, 0.2, 0.03  # radii of the balls
APART = 0.35  # the balls' centres from the middle


@pytest.fixture(scope="module")
def torus(tmp_path_factory) -> dict[str, trimesh.Trimesh]:
    """A ring around the z-axis, written in every format and read again."""
    return there_and_back(Torus(RING, TUBE, inside=300.0, edge=0.0005), tmp_path_factory.mktemp("torus"))


@pytest.fixture(scope="module")
def balls(tmp_path_factory) -> dict[str, trimesh.Trimesh]:
    """A big ball in front, a small one behind, and a floater above."""
    places = [((APART, 0.0, 0.0), BIG), ((-APART, 0.0, 0.0), SMALL), ((0.0, 0.0, 0.8), FLOATER)]
    scene = Balls([(torch.tensor(place), radius) for place, radius in places], inside=300.0, edge=0.0005)
    return there_and_back(scene, tmp_path_factory.mktemp("balls"))


def there_and_back(scene: Scene, folder: Path) -> dict[str, trimesh.Trimesh]:
    """By suffix: the surface in world axes and metres, its seams closed."""
    asset = make_asset(scene, Settings(RESOLUTION, max_faces=6000, texture_size=128, size_m=SIZE))
    meshes = {}
    for suffix in FORMATS:
        path = write_asset(asset, folder / f"object{suffix}")
        points, faces = of_usdz(path) if suffix == ".usdz" else of_trimesh(path)
        if suffix in (".glb", ".obj", ".usdz"):  # y up
            points = points[:, [2, 0, 1]]
        if suffix == ".stl":  # millimetres
            points = points / 1000.0
        meshes[suffix] = trimesh.Trimesh(points, faces)
    return meshes


def of_trimesh(path: Path) -> tuple[np.ndarray, np.ndarray]:
    mesh = trimesh.load_mesh(path, process=False)
    return np.asarray(mesh.vertices), np.asarray(mesh.faces)


def of_usdz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """What trimesh does not read."""
    with zipfile.ZipFile(path) as archive:
        text = archive.read("object.usda").decode()
    points, faces = (
        np.array(re.findall(r"[-\d.e]+", re.search(rf" {name} = \[(.*)\]", text)[1]), float)
        for name in ("points", "faceVertexIndices")
    )
    return points.reshape(-1, 3), faces.astype(int).reshape(-1, 3)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_torus_keeps_its_hole_and_its_size(torus, suffix):
    mesh, scale = torus[suffix], SIZE / (2.0 * (RING + TUBE))
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.body_count == 1
    assert mesh.euler_number == 0  # genus 1
    assert mesh.extents == pytest.approx([SIZE, SIZE, 2.0 * TUBE * scale], abs=CELL)
    assert mesh.volume == pytest.approx(2.0 * math.pi**2 * RING * TUBE**2 * scale**3, rel=0.05)
    from_axis = np.linalg.norm(mesh.vertices[:, :2], axis=1)
    assert from_axis.min() == pytest.approx((RING - TUBE) * scale, abs=CELL)
    tube = np.hypot(from_axis - RING * scale, mesh.vertices[:, 2])
    assert np.abs(tube - TUBE * scale).max() < CELL


@pytest.mark.parametrize("suffix", FORMATS)
def test_two_balls_stay_and_a_floater_goes(balls, suffix):
    mesh, scale = balls[suffix], SIZE / (2.0 * APART + BIG + SMALL)
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.body_count == 2
    assert mesh.euler_number == 4
    assert mesh.extents == pytest.approx([SIZE, 2.0 * BIG * scale, 2.0 * BIG * scale], abs=CELL)
    small, big = sorted(mesh.split(), key=lambda part: part.volume)
    for part, radius, x in ((big, BIG, APART), (small, SMALL, -APART)):
        assert part.volume == pytest.approx(4.0 / 3.0 * math.pi * (radius * scale) ** 3, rel=0.03)
        assert part.center_mass == pytest.approx([x * scale, 0.0, 0.0], abs=CELL)
