"""Films, read back by Pillow and ffmpeg."""

import resource
import subprocess
import sys
import weakref

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

from dreamfusion_pl.export.files import films
from dreamfusion_pl.export.files.films import write_film, write_gif, write_mp4, write_stills


def _film(count: int, height: int, width: int) -> torch.Tensor:
    """A white bar that moves over red."""
    film = torch.tensor([0.9, 0.1, 0.1]).expand(count, height, width, 3).clone()
    for index in range(count):
        film[index, :, index : index + 4] = 1.0
    return film


def test_gif_has_the_frames_the_time_and_the_colours(tmp_path):
    film = _film(12, 16, 20)
    with Image.open(write_gif(film, tmp_path / "film.gif", fps=10)) as gif:
        assert (gif.n_frames, gif.size, gif.info["duration"], gif.info["loop"]) == (12, (20, 16), 100, 0)
        gif.seek(7)
        error = np.asarray(gif.convert("RGB")) / 255.0 - film[7].numpy()
    assert float(np.abs(error).max()) < 0.02


@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 47)])
def test_mp4_has_the_frames_and_an_even_size(tmp_path, height, width):
    film = _film(11, height, width)
    path = write_mp4(film, tmp_path / "film.mp4", fps=10)
    decode = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    result = subprocess.run(decode, capture_output=True, check=True)
    log = result.stderr.decode()
    assert all(text in log for text in ("h264", f"48x{height + height % 2}", "yuv420p", "10 fps"))
    frames = np.frombuffer(result.stdout, np.uint8).reshape(-1, height + height % 2, 48, 3)
    assert len(frames) == 11
    error = frames[5, :height, :width] / 255.0 - film[5].numpy()
    assert float(np.abs(error).mean()) < 0.03


def test_an_mp4_on_a_full_disk_raises_oserror_and_writes_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="film.mp4"):
            write_mp4(torch.rand(4, 64, 64, 3), tmp_path / "film.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_raises_oserror_and_writes_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for write in (write_gif, write_mp4):
        with pytest.raises(OSError, match="file"):
            write(_film(2, 8, 8), tmp_path / "file" / "film")


class Once:
    """Frames that are made when they are asked for, once; the film may break off at one of them."""

    def __init__(self, count: int, breaks_at: int = -1) -> None:
        self.count, self.breaks_at, self.asked, self.alive = count, breaks_at, [], 0
        self.most_alive = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> torch.Tensor:
        assert index not in self.asked
        self.asked.append(index)
        if index == self.breaks_at:
            raise ValueError("nothing to see")
        frame = torch.full((8, 10, 3), 0.25 + 0.5 * index / self.count)
        self.alive += 1
        self.most_alive = max(self.most_alive, self.alive)
        weakref.finalize(frame, self._forget)
        return frame

    def _forget(self) -> None:
        self.alive -= 1


def test_a_film_is_written_a_frame_at_a_time(tmp_path):
    frames = Once(100)
    mp4, gif = write_film(frames, tmp_path / "film", 10)
    assert sorted(frames.asked) == list(range(100)) and frames.most_alive <= 2
    with Image.open(gif) as film:
        assert film.n_frames == 100
        for index in (0, 37, 99):
            film.seek(index)
            assert film.convert("RGB").getpixel((4, 4))[0] == pytest.approx(255 * (0.25 + index / 200), abs=5)
    decode = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(mp4), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    shown = np.frombuffer(subprocess.run(decode, capture_output=True, check=True).stdout, np.uint8)
    assert np.abs(shown.reshape(100, -1).mean(1) - 255 * (0.25 + np.arange(100) / 200)).max() < 4
    frames = Once(100)
    assert len(write_stills(frames, tmp_path / "still")) == 100 and frames.most_alive <= 2


@pytest.mark.parametrize("write", [write_film, write_stills])
def test_a_film_that_breaks_off_leaves_what_was_there_before(tmp_path, write):
    before = ["film.gif", "film.mp4", "film_000.png"]
    for name in before:
        (tmp_path / name).write_text("before")
    with pytest.raises(ValueError, match="nothing to see"):
        write(Once(40, breaks_at=39), tmp_path / "film")
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert all((tmp_path / name).read_text() == "before" for name in before)


def test_a_film_is_not_named_where_one_of_its_files_fails(tmp_path, monkeypatch):
    def fail(*arguments) -> None:
        raise OSError("not whole")

    monkeypatch.setattr(films, "_require_frames", fail)
    with pytest.raises(OSError, match="not whole"):
        write_film(_film(3, 8, 8), tmp_path / "film")
    assert list(tmp_path.iterdir()) == []


def test_a_gif_that_stands_still_keeps_its_time(tmp_path):
    still = torch.full((5, 6, 7, 3), 0.5)
    with Image.open(write_gif(still, tmp_path / "film.gif", fps=10)) as gif:
        total = 0
        for index in range(gif.n_frames):
            gif.seek(index)
            total += gif.info["duration"]
            assert gif.size == (7, 6) and gif.convert("RGB").getpixel((6, 5)) == (128, 128, 128)
    assert total == 500


@pytest.mark.parametrize("lacks", ["program", "module"])
def test_without_ffmpeg_a_film_is_a_gif(tmp_path, monkeypatch, lacks):
    if lacks == "program":
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "nowhere"))
    else:
        monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    (tmp_path / "film.mp4").write_text("of an earlier object")
    with pytest.warns(UserWarning, match="film.mp4 is left out: there is no ffmpeg program"):
        assert write_film(_film(3, 8, 8), tmp_path / "film") == [tmp_path / "film.gif"]
    with pytest.raises(OSError, match="other.mp4 cannot be written: there is no ffmpeg program"):
        write_mp4(_film(3, 8, 8), tmp_path / "other.mp4")
    assert list(tmp_path.iterdir()) == [tmp_path / "film.gif"]
