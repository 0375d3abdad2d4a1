"""The measure of a cube's faces tells cubes from cylinders and balls."""

import math

import pytest
import trimesh
from benchmarks.cube_faces import flat_share

UPRIGHT = trimesh.transformations.rotation_matrix(math.pi / 2.0, [1, 0, 0])  # glTF has y up


def cut(mesh: trimesh.Trimesh, turned_deg: float = 0.0) -> trimesh.Trimesh:
    """The mesh in small triangles, as an export has them."""
    small = mesh.subdivide_to_size(0.06)
    small.apply_transform(trimesh.transformations.rotation_matrix(math.radians(turned_deg), [0, 1, 0]))
    return small


@pytest.mark.parametrize("turned_deg", [0.0, 20.0, 77.0])
def test_a_cube_is_flat_however_it_is_turned(turned_deg):
    assert flat_share(cut(trimesh.creation.box((1, 1, 1)), turned_deg)) == pytest.approx(1.0)


def test_others_are_not():
    cylinder = trimesh.creation.cylinder(0.5, 1.0, sections=96, transform=UPRIGHT)
    assert flat_share(cut(cylinder)) == pytest.approx(0.49, abs=0.03)
    assert flat_share(trimesh.creation.icosphere(4)) < 0.1
