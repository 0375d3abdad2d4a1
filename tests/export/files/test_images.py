"""Pictures, read back by Pillow."""

import numpy as np
import pytest
import torch
from PIL import Image

from dreamfusion_pl.export.files.images import contact_sheet, enlarge, write_png


def test_png_round_trip(tmp_path):
    image = torch.rand(5, 7, 3)
    with Image.open(write_png(image, tmp_path / "image.png")) as file:
        read = np.asarray(file) / 255.0
    assert read.shape == (5, 7, 3)
    assert float(np.abs(read - image.numpy()).max()) <= 0.5 / 255 + 1e-6


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
