"""Writes and arranges images: float in [0, 1], [H, W, 3]."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dreamfusion_pl.atomic import replacing


def enlarge(images: Tensor, side: int, mode: Literal["nearest", "bicubic"] = "bicubic") -> Tensor:
    """Upscale images by the smallest integer factor that makes their shorter side at least ``side`` pixels.

    Args:
        images: [N, H, W, 3] in [0, 1].
        side: minimum side in pixels; larger images are returned unchanged.
        mode: ``nearest`` keeps pixels visible, ``bicubic`` interpolates.
    """
    factor = math.ceil(side / min(images.shape[1:3]))
    if factor <= 1:
        return images
    channels_first = images.movedim(-1, 1)
    large = F.interpolate(channels_first, scale_factor=factor, mode=mode)
    return large.movedim(1, -1).clamp(0.0, 1.0)


def contact_sheet(images: Tensor, columns: int | None = None, gap: int = 2) -> Tensor:
    """Arrange images in rows on white.

    Args:
        images: [N, H, W, 3] in [0, 1], N >= 1.
        columns: images per row; by default the sheet is about square.
        gap: pixels between images.

    Returns:
        One image [H', W', 3].
    """
    count, height, width, _ = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = images.new_ones(rows * (height + gap) - gap, columns * (width + gap) - gap, 3)
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def write_png(image: Tensor, path: str | Path) -> Path:
    """Write an image [H, W, 3], or [H, W, 4] with opacity, atomically; return the path.

    Raises:
        OSError: the file cannot be written.
    """
    from PIL import Image

    path = Path(path)
    with replacing(path) as temporary:
        Image.fromarray(to_bytes(image)).save(temporary, format="PNG")
    return path


def to_bytes(image: Tensor) -> np.ndarray:
    """Round [H, W, 3] or [H, W, 4] in [0, 1] to uint8 on the CPU."""
    return (image.detach().float().clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).cpu().numpy()
