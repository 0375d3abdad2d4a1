"""The ``render`` command and its channels, on a ball."""

import math

import pytest
import torch
from fakes import small_model
from PIL import Image
from scenes import Balls

from dreamfusion_pl.commands import render as command
from dreamfusion_pl.data.orbit import orbit
from dreamfusion_pl.evaluation.film import Film, on_color
from dreamfusion_pl.rendering.renderer import Renderer


@pytest.fixture
def ball():
    """A ball, red in front and blue behind."""
    model = small_model()
    model.scene = Balls([(torch.zeros(3), 0.4)], 300.0, 0.005)
    model.renderer = Renderer(num_samples=64, occupancy_resolution=0)
    model.progress = 1.0
    return model.eval()


def test_channels(ball):
    views = orbit([0.0, 180.0], 0.0, 2.0, 1.0, 33, 33)
    shown = {
        name: torch.stack(list(Film(ball, name, views)))
        for name in ("color", "albedo", "normal", "opacity", "textureless")
    }
    for frames in shown.values():
        assert frames.shape == (2, 33, 33, 4)
        assert float(frames[:, 16, 16, 3].min()) > 0.99 and float(frames[:, 0, 0, 3].max()) < 1e-6
    middle = {name: frames[:, 16, 16, :3] for name, frames in shown.items()}
    torch.testing.assert_close(middle["albedo"], torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    facing = torch.tensor([[1.0, 0.5, 0.5], [0.0, 0.5, 0.5]])  # the normal points at the camera: +x, then -x
    torch.testing.assert_close(middle["normal"], facing, atol=0.02, rtol=0.0)
    torch.testing.assert_close(middle["opacity"], torch.ones(2, 3))
    torch.testing.assert_close(middle["textureless"], torch.ones(2, 3), atol=0.02, rtol=0.0)
    torch.testing.assert_close(middle["color"], middle["albedo"], atol=0.02, rtol=0.0)
    rim = shown["color"][0, 16, 16 + 6, 0]  # lit from the camera: darker where it turns away
    assert 0.5 < float(rim) < 0.97


def test_frames_are_rendered_when_they_are_asked_for(ball):
    views = orbit(torch.zeros(3600), 0.0, 2.0, 1.0, 512, 512)  # their jitter alone would take 4 GB
    assert sum(field.untyped_storage().nbytes() for field in views) < 1_000_000
    frames = Film(ball, "albedo", orbit([0.0, 180.0], 0.0, 2.0, 1.0, 9, 9), (0.0, 1.0, 0.0))
    assert len(frames) == 2 and frames[-1].shape == (9, 9, 3)
    assert frames[1][0, 0].tolist() == [0.0, 1.0, 0.0]
    assert frames[1][4, 4].tolist() == pytest.approx([0.0, 0.0, 1.0], abs=1e-5)
    with pytest.raises(IndexError):
        frames[2]
    with pytest.raises(ValueError, match="the channel is one of"):
        Film(ball, "depth", orbit([0.0], 0.0, 2.0, 1.0, 9, 9))


def test_over_a_colour():
    frames = torch.tensor([[[[1.0, 0.0, 0.0, 0.25]]]])
    assert on_color(frames, (0.0, 0.0, 1.0)).flatten().tolist() == [0.25, 0.0, 0.75]


def test_films_and_stills(ball, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "load", lambda run, trusted: ball)

    def run(*words: str) -> list[str]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        options = ["run", "--size", "16", "--frames", "3", "--out", str(folder), *words]
        assert command.main(options) == 0, capsys.readouterr().err
        return sorted(str(path) for path in folder.iterdir())

    gif, mp4 = run("--channel", "normal", "--background", "#0000ff")
    with Image.open(gif) as film_:
        assert film_.n_frames == 3 and film_.size == (16, 16)
        assert film_.convert("RGB").getpixel((0, 0)) == (0, 0, 255)
    assert mp4.endswith("normal.mp4")
    stills = run("--stills", "--channel", "opacity", "--background", "black")
    assert [name[-15:] for name in stills] == [f"opacity_00{i}.png" for i in range(3)]
    with Image.open(stills[0]) as still:
        assert still.mode == "RGB" and still.getpixel((8, 8)) == (255, 255, 255)
    with Image.open(run("--stills", "--channel", "opacity")[0]) as still:  # on black unless told otherwise
        assert still.getpixel((8, 8)) == (255, 255, 255) and still.getpixel((0, 0)) == (0, 0, 0)
    with Image.open(run("--stills", "--channel", "albedo")[0]) as still:
        assert still.getpixel((8, 8)) == (255, 0, 0) and still.getpixel((0, 0)) == (184, 184, 184)
    with Image.open(run("--channel", "albedo", "--background", "transparent")[0]) as still:
        assert still.mode == "RGBA"
        assert still.getpixel((0, 0))[3] == 0 and still.getpixel((8, 8)) == (255, 0, 0, 255)


def test_a_scene_fits_into_its_pictures(ball, tmp_path, monkeypatch):
    ball.scene.radius = 1.4
    ball.scene.balls = [(torch.tensor([0.0, 0.0, 0.9]), 0.4)]  # its top is 1.3 up
    monkeypatch.setattr(command, "load", lambda run, trusted: ball)
    words = ["run", "--stills", "--channel", "opacity", "--frames", "1", "--size", "32", "--elevation", "0"]
    assert command.main([*words, "--out", str(tmp_path)]) == 0
    with Image.open(tmp_path / "opacity_000.png") as still:
        left, top, right, bottom = still.convert("L").getbbox()
    assert 0 < left < right < 32 and 0 < top < bottom < 17


@pytest.mark.parametrize(
    ("density", "message"),
    [(math.nan, "training diverged"), (0.0, "nothing to see"), (0.02, "nothing to see")],
)
@pytest.mark.parametrize("resolution", [0, 8])
def test_a_field_that_shows_nothing_is_refused(
    ball, density, message, resolution, tmp_path, monkeypatch, capsys
):
    ball.scene.inside = density
    ball.renderer = Renderer(num_samples=8, occupancy_resolution=resolution)
    monkeypatch.setattr(command, "load", lambda run, trusted: ball)
    assert command.main(["run", "--size", "8", "--frames", "2", "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--frames", "0"], "--frames and --fps must be 1 or more"),
        (["--size", "1025"], "--size 1 to 1024"),
        (["--elevation", "91"], "--elevation must be in"),
        (["--distance", "inf"], "--distance must be a finite number above 0, got inf"),
        (["--distance", "0"], "--distance must be a finite number above 0"),
        (["--focal", "inf"], "--focal must be a finite number above 0, got inf"),
        (["--focal", "nan"], "--focal must be a finite number above 0, got nan"),
        (["--background", "<b>"], "--background is a colour such as white"),
        ([], "no finished run at nowhere"),
    ],
)
def test_bad_options(words, message, capsys):
    assert command.main(["nowhere", *words]) == 2
    assert message in capsys.readouterr().err
