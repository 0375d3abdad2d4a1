"""The ``export`` command on a finished object that is known: a ball, fitted in closed form."""

import json

import pytest
import torch
from balls import Balls
from fakes import small_model

from dreamfusion_pl.commands import export as command
from dreamfusion_pl.evaluation.bake import compare, psnr
from dreamfusion_pl.evaluation.runs import judged_views, render_alone
from dreamfusion_pl.export.asset import Settings, make_asset
from dreamfusion_pl.rendering.renderer import Renderer
from dreamfusion_pl.scene.background import DirectionBackground


def ball(edge: float = 0.005, inside: float = 300.0):
    """A model of a ball that is red in front and blue behind, which the renderer sees sharply."""
    model = small_model()
    model.scene = Balls([(torch.zeros(3), 0.4)], inside, edge)
    model.renderer = Renderer(num_samples=96, occupancy_resolution=0)
    model.background = DirectionBackground(width=4)
    model.progress = 1.0
    return model.eval()


SETTINGS = Settings(resolution=48, max_faces=3000, texture_size=256, size_m=0.1)


def test_a_sharp_field_looks_like_its_surface():
    model = ball()
    quality = compare(model, make_asset(model.scene, SETTINGS), size=64)
    assert quality.outline_iou > 0.97
    assert quality.solid_db > 20.0 and quality.outline_db > 20.0  # the border of red and blue costs most


def test_a_wrong_texture_is_noticed():
    model = ball()
    asset = make_asset(model.scene, SETTINGS)
    wrong = compare(model, asset._replace(texture=asset.texture.flip(-1)), size=64)
    assert wrong.solid_db < 5.0
    shrunk = compare(model, asset._replace(scale=2 * asset.scale), size=64)
    assert shrunk.outline_iou < 0.4


def test_psnr():
    black = torch.zeros(4, 3)
    assert psnr(black, black + 0.1) == pytest.approx(20.0, abs=1e-4)
    assert psnr(black, black) == 99.0 and psnr(black[:0], black[:0]) == 0.0


def test_an_object_is_rendered_alone():
    rendering = render_alone(ball(), judged_views(3, 30.0, 16, textureless=False), needs_normals=False)
    assert rendering.albedo.shape == (3, 16, 16, 3)
    assert float(rendering.albedo[:, 0, 0].abs().max()) < 1e-6  # no background of the model's or the view's
    assert float(rendering.opacity[:, 8, 8].min()) > 0.99


def test_the_command_writes_files_and_a_report(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "load", lambda run: ball())
    options = ["--resolution", "32", "--faces", "1500", "--texture", "64", "--size", "0.1"]
    assert command.main(["run", "--formats", "glb,obj,ply,stl", *options, "--out", str(tmp_path)]) == 0
    names = ["glb", "mtl", "obj", "ply", "png", "report.json", "stl"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"object.{name}" for name in names]
    report = json.loads((tmp_path / "object.report.json").read_text())
    assert report["watertight"] and report["components"] == 1
    assert max(report["size_m"]) == pytest.approx(0.1)
    assert report["thinnest_m"] == pytest.approx(0.1, rel=0.1)
    assert report["texture"]["solid_db"] > 15.0
    out = capsys.readouterr().out
    assert "1500 triangles, watertight, 1 component" in out and "dB where the field is opaque" in out
