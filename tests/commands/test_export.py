"""The ``export`` command on a finished object that is known: a ball, fitted in closed form."""

import errno
import io
import json
import math
import os
from pathlib import Path

import pytest
import torch
from fakes import SMALL_EXPORT, small_model
from pytorch_lightning.demos.boring_classes import BoringModel
from scenes import AnalyticDensity, Balls

from dreamfusion_pl.cli import main
from dreamfusion_pl.commands import export as command
from dreamfusion_pl.evaluation.finished_runs import judged_views, run_named
from dreamfusion_pl.export.asset import Settings, make_asset
from dreamfusion_pl.export.quality import compare, psnr
from dreamfusion_pl.rendering.premultiplied import render_premultiplied
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
    quality = compare(model.scene, model.renderer, make_asset(model.scene, SETTINGS), size=64)
    assert quality.outline_iou > 0.97
    assert quality.solid_db > 20.0 and quality.outline_db > 20.0  # the border of red and blue costs most


def test_a_wrong_texture_is_noticed():
    model = ball()
    asset = make_asset(model.scene, SETTINGS)
    flipped = asset._replace(texture=asset.texture.flip(-1))
    wrong = compare(model.scene, model.renderer, flipped, size=64)
    assert wrong.solid_db < 5.0
    shrunk = compare(model.scene, model.renderer, asset._replace(scale=2 * asset.scale), size=64)
    assert shrunk.outline_iou < 0.4


def test_colours_that_are_not_finite_are_refused():
    class Colourless(AnalyticDensity):
        radius = 1.0

        def density(self, points, progress):
            return ball().scene.density(points, progress)

        def appearance(self, points):
            return torch.full_like(points, math.nan)

    with pytest.raises(ValueError, match="colours are not finite"):
        make_asset(Colourless(), SETTINGS._replace(resolution=16, texture_size=16))


def test_psnr():
    black = torch.zeros(4, 3)
    assert psnr(black, black + 0.1) == pytest.approx(20.0, abs=1e-4)
    assert psnr(black, black) == 99.0 and psnr(black[:0], black[:0]) is None


def test_an_object_is_rendered_alone():
    model, views = ball(), judged_views(3, 30.0, 16, textureless=False)
    rendering = render_premultiplied(model.scene, model.renderer, views, needs_normals=False)
    assert rendering.albedo.shape == (3, 16, 16, 3)
    assert float(rendering.albedo[:, 0, 0].abs().max()) < 1e-6  # no background of the model's or the view's
    assert float(rendering.opacity[:, 8, 8].min()) > 0.99


def test_the_command_writes_files_and_a_report(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "load", lambda run, trusted: ball())
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


@pytest.mark.parametrize("name", ["export", "render", "evaluate", "gallery"])
def test_last_is_the_newest_run(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([name, "last"]) == 2
    assert "newest run in lightning_logs, where there is none" in capsys.readouterr().err
    for version, time in (("version_0", 100.0), ("version_1", 50.0)):
        checkpoint = tmp_path / "lightning_logs" / version / "checkpoints" / "last.ckpt"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.write_bytes(b"")
        os.utime(checkpoint, (time, time))
    assert run_named("last") == Path("lightning_logs/version_0") and run_named("other") == Path("other")


@pytest.mark.parametrize(("words", "parts"), [([], 1), (["--smallest_part", "0.005"], 2)])
def test_a_small_true_part_is_exported_if_asked(tmp_path, monkeypatch, words, parts):
    model = ball()
    eye = (torch.tensor([0.0, 0.0, 0.6]), 0.035)
    model.scene = Balls([(torch.zeros(3), 0.4), eye], inside=300.0, edge=0.005)
    monkeypatch.setattr(command, "load", lambda run, trusted: model)
    options = ["--resolution", "48", "--faces", "2000", "--texture", "32", "--formats", "ply"]
    assert command.main(["run", *options, *words, "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "object.report.json").read_text())
    assert report["components"] == parts


@pytest.fixture(scope="module")
def whole(finished_run) -> bytes:
    """The checkpoint of a finished run."""
    return (finished_run / "checkpoints/last.ckpt").read_bytes()


def damaged(whole: bytes, how: str) -> bytes:
    if how in ("truncated", "empty", "text"):
        return {"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"no checkpoint"}[how]
    checkpoint = torch.load(io.BytesIO(whole), weights_only=True)
    if how == "of other code":
        checkpoint = {"state_dict": {"layer.weight": torch.zeros(2)}, "epoch": 3}
    elif how == "a bare tensor":
        checkpoint = torch.zeros(2)
    elif how == "of another class":
        checkpoint["state_dict"] = BoringModel().state_dict()
        parameters = checkpoint["hyper_parameters"]
        parameters["_class_path"] = "pytorch_lightning.demos.boring_classes.BoringModel"
        checkpoint["hyper_parameters"] = {name: parameters[name] for name in ("_class_path", "_instantiator")}
    elif how == "of another scene":
        checkpoint["state_dict"]["scene.features.planes"] = torch.zeros(3, 2, 4, 4)
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "how",
    ["truncated", "empty", "text", "of other code", "a bare tensor", "of another class", "of another scene"],
)
def test_a_checkpoint_that_is_no_object(tmp_path, whole, capsys, how):
    file = tmp_path / "last.ckpt"
    file.write_bytes(damaged(whole, how))
    assert cli_export(str(file), "--out", str(tmp_path / "out")) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"dreamfusion_pl: error: {file}") and "Traceback" not in error
    assert not (tmp_path / "out").exists()


def cli_export(*words: str) -> int:
    return main(["export", *words, *SMALL_EXPORT])


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "load", lambda run, trusted: ball())
    (tmp_path / "file").write_text("in the way")
    assert cli_export("run", "--out", str(tmp_path / "file" / "out")) == 1
    assert "may this folder be written?" in capsys.readouterr().err


def test_a_full_disk_leaves_the_file_before_and_nothing_else(tmp_path, monkeypatch, capsys):
    def fill(path, data):
        with path.open("wb") as file:
            file.write(data[:100])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(command, "load", lambda run, trusted: ball())
    (tmp_path / "object.glb").write_bytes(b"before")
    monkeypatch.setattr(Path, "write_bytes", fill)
    assert cli_export("run", "--out", str(tmp_path)) == 1
    assert "No space left" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["object.glb"]
    assert (tmp_path / "object.glb").read_bytes() == b"before"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--formats", "glb,fbx"], "formats are some of"),
        (["--name", "../object"], "--name is a file's name"),
        (["--size", "-1"], "size is in metres"),
        (["--resolution", "100000"], "take a resolution of"),
        (["--threshold", "1e9"], "the scene is empty"),
        (["--smallest_part", "2"], "smallest part is a share"),
        (["--smallest_part", "nan"], "smallest part is a share"),
    ],
)
def test_bad_options(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.setattr(command, "load", lambda run, trusted: ball())
    assert command.main(["run", "--out", str(tmp_path), *words]) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())
