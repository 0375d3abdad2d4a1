"""Surfaces whose volume and walls are known."""

import json

import numpy as np
import pytest
import torch
import trimesh

from dreamfusion_pl.export.report import examine, sentence, wall_thickness, write_report
from dreamfusion_pl.export.surface.mesh import Mesh


def mesh_of(solid: trimesh.Trimesh) -> Mesh:
    vertices = torch.from_numpy(np.asarray(solid.vertices)).float()
    return Mesh(vertices, torch.from_numpy(np.asarray(solid.faces)).long(), torch.ones_like(vertices))


BALL = trimesh.creation.icosphere(subdivisions=4, radius=0.3)
PLATE = trimesh.creation.box((0.8, 0.5, 0.02))
TORUS = trimesh.creation.torus(0.4, 0.1, major_sections=96, minor_sections=48)


@pytest.mark.parametrize(
    ("solid", "volume", "size", "thinnest"),
    [
        (BALL, 4 / 3 * np.pi * 0.3**3, (0.6, 0.6, 0.6), 0.6),
        (PLATE, 0.8 * 0.5 * 0.02, (0.8, 0.5, 0.02), 0.02),
        (TORUS, 2 * np.pi**2 * 0.4 * 0.1**2, (1.0, 1.0, 0.2), 0.2),
    ],
    ids=["ball", "plate", "torus"],
)
def test_known_solids(solid, volume, size, thinnest):
    report = examine(mesh_of(solid))
    assert (report.triangles, report.watertight, report.components) == (len(solid.faces), True, 1)
    assert report.volume_m3 == pytest.approx(volume, rel=0.01)
    assert report.size_m == pytest.approx(size, rel=0.01)
    assert report.thinnest_m == pytest.approx(thinnest, rel=0.01)


def test_the_thin_part_of_a_solid_is_found():
    handle = trimesh.creation.cylinder(0.01, 0.6)  # 2 cm thick
    both = trimesh.util.concatenate([BALL, handle.apply_translation((0.0, 0.0, 0.9))])
    report = examine(mesh_of(both))
    assert report.components == 2
    assert report.thinnest_m == pytest.approx(0.02, rel=0.05)


def test_an_open_surface_is_reported():
    ball = mesh_of(BALL)
    report = examine(ball._replace(faces=ball.faces[1:]))
    assert not report.watertight and report.thinnest_m is None
    assert "NOT watertight" in sentence(report)


def test_thickness_does_not_depend_on_chance_or_on_the_place():
    plate = mesh_of(PLATE)
    again = wall_thickness(plate.vertices + 3.0, plate.faces)
    torch.testing.assert_close(wall_thickness(plate.vertices, plate.faces), again, rtol=0.0, atol=1e-5)
    assert len(again) == 1024


def test_report_on_paper(tmp_path):
    report = examine(mesh_of(PLATE))
    assert sentence(report) == (
        "12 triangles, watertight, 1 component, 8e+03 cm3, 80 x 50 x 2 cm (deep, wide, high), "
        "thinnest part 2 cm"
    )
    read = json.loads(write_report(report, tmp_path / "object.report.json", {"psnr_db": 31.5}).read_text())
    assert read == {
        "format": 1,
        **report._asdict(),
        "size_m": list(report.size_m),
        "texture": {"psnr_db": 31.5},
    }
