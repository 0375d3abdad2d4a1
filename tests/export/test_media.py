"""Pictures and films, read back by Pillow and ffmpeg."""

import resource
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

from dreamfusion_pl.export.media import contact_sheet, enlarge, write_gif, write_mp4, write_png


def _film(count: int, height: int, width: int) -> torch.Tensor:
    """A white bar that moves over red."""
    film = torch.tensor([0.9, 0.1, 0.1]).expand(count, height, width, 3).clone()
    for index in range(count):
        film[index, :, index : index + 4] = 1.0
    return film


def test_png_round_trip(tmp_path):
    image = torch.rand(5, 7, 3)
    with Image.open(write_png(image, tmp_path / "image.png")) as file:
        read = np.asarray(file) / 255.0
    assert read.shape == (5, 7, 3)
    assert float(np.abs(read - image.numpy()).max()) <= 0.5 / 255 + 1e-6


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


def test_enlarge_repeats_pixels_or_smooths_them():
    images = torch.rand(2, 3, 4, 3)
    large = enlarge(images, 10, mode="nearest")
    assert large.shape == (2, 12, 16, 3)
    assert torch.equal(large[:, ::4, ::4], images)
    assert torch.equal(large[:, 3::4, 3::4], images)
    smooth = enlarge(images, 10)
    assert smooth.shape == large.shape
    assert float(smooth.min()) >= 0.0 and float(smooth.max()) <= 1.0
    assert enlarge(images, 3) is images


def test_contact_sheet_places_pictures_row_by_row():
    images = torch.arange(5.0)[:, None, None, None].expand(5, 2, 3, 3) / 10
    sheet = contact_sheet(images, columns=3, gap=1)
    assert sheet.shape == (5, 11, 3)
    assert sheet[0, ::4, 0].tolist() == pytest.approx([0.0, 0.1, 0.2])
    assert sheet[3, ::4, 0].tolist() == pytest.approx([0.3, 0.4, 1.0])
    assert sheet[2].unique().tolist() == [1.0]


def test_an_unwritable_folder_raises_oserror_and_writes_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for write in (write_gif, write_mp4):
        with pytest.raises(OSError, match="file"):
            write(_film(2, 8, 8), tmp_path / "file" / "film")
