"""Pictures and films as files. Pictures are float in [0, 1], [H, W, 3]; films [N, H, W, 3]."""

from __future__ import annotations

import io
import math
import subprocess
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dreamfusion_pl.atomic import replacing


def enlarge(images: Tensor, side: int, mode: Literal["nearest", "bicubic"] = "bicubic") -> Tensor:
    """Scale pictures by the smallest whole factor that makes their shorter side at least ``side`` pixels.

    Args:
        images: [N, H, W, 3] in [0, 1].
        side: wanted pixels; larger pictures are returned as they are.
        mode: ``nearest`` shows the pixels, ``bicubic`` smooths them.
    """
    factor = math.ceil(side / min(images.shape[1:3]))
    if factor <= 1:
        return images
    channels_first = images.movedim(-1, 1)
    large = F.interpolate(channels_first, scale_factor=factor, mode=mode)
    return large.movedim(1, -1).clamp(0.0, 1.0)


def contact_sheet(images: Tensor, columns: int | None = None, gap: int = 2) -> Tensor:
    """Lay pictures out in rows on white.

    Args:
        images: [N, H, W, 3] in [0, 1], N >= 1.
        columns: pictures in a row; about a square by default.
        gap: pixels between them.

    Returns:
        One picture [H', W', 3].
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
    """Write a picture [H, W, 3], or [H, W, 4] with opacity, whole or not at all; return the path.

    Raises:
        OSError: the file cannot be written.
    """
    from PIL import Image

    path = Path(path)
    with replacing(path) as temporary:
        Image.fromarray(_to_bytes(image)).save(temporary, format="PNG")
    return path


def gif_bytes(frames: Tensor | Sequence[Tensor], fps: int = 20) -> bytes:
    """Encode a film [N, H, W, 3] as an animated GIF that repeats for ever, with one palette for all frames.

    Args:
        frames: the pictures; a frame equal to the one before is merged with it.
        fps: frames per second, at most 50; GIF counts time in hundredths of a second.
    """
    from PIL import Image

    pictures = [Image.fromarray(_to_bytes(frame)) for frame in frames]
    some = [_to_bytes(frame) for frame in frames[:: max(1, len(frames) // 16)]]
    palette = Image.fromarray(np.concatenate(some)).quantize(256)
    indexed = [picture.quantize(palette=palette) for picture in pictures]
    buffer = io.BytesIO()
    duration_ms = max(2, round(100 / fps)) * 10
    indexed[0].save(
        buffer, format="GIF", save_all=True, append_images=indexed[1:], duration=duration_ms, loop=0
    )
    return buffer.getvalue()


def write_gif(frames: Tensor | Sequence[Tensor], path: str | Path, fps: int = 20) -> Path:
    """Write :func:`gif_bytes` to ``path``, whole or not at all; return the path.

    Raises:
        OSError: the file cannot be written.
    """
    path, data = Path(path), gif_bytes(frames, fps)
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    return path


def write_mp4(frames: Tensor | Sequence[Tensor], path: str | Path, fps: int = 20) -> Path:
    """Write a film [N, H, W, 3] as H.264, whole or not at all; return the path.

    Pictures of odd height or width get their last row or column twice, because the format needs even sizes.

    Raises:
        OSError: the file cannot be written, or is not whole when it is read back.
    """
    from imageio_ffmpeg import write_frames

    path = Path(path)
    height, width = (size + size % 2 for size in frames[0].shape[:2])
    with replacing(path) as temporary:
        film = write_frames(
            str(temporary),
            (width, height),
            fps=fps,
            quality=8,
            macro_block_size=1,
            output_params=["-movflags", "+faststart"],
        )
        with closing(film):
            film.send(None)
            for frame in frames:
                pixels = _to_bytes(frame)
                missing = ((0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0))
                film.send(np.ascontiguousarray(np.pad(pixels, missing, mode="edge")))
        _require_frames(temporary, len(frames), path)
    return path


def _require_frames(film: Path, count: int, name: Path) -> None:
    """Raise OSError unless ``count`` frames of ``film`` decode: imageio_ffmpeg hides how ffmpeg ended."""
    from imageio_ffmpeg import get_ffmpeg_exe

    decode = [get_ffmpeg_exe(), "-v", "error", "-i", str(film), "-f", "framecrc", "-"]  # a line per frame
    result = subprocess.run(decode, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    whole = sum(not line.startswith(b"#") for line in result.stdout.splitlines())
    if result.returncode != 0 or result.stderr or whole != count:
        raise OSError(f"{name} could not be written: {whole} of {count} frames can be read back")


def write_film(frames: Tensor | Sequence[Tensor], path: Path, fps: int = 20) -> list[Path]:
    """Write a film [N, H, W, 3] as ``path`` with .mp4 and with .gif appended; return both paths.

    Raises:
        OSError: a file cannot be written.
    """
    return [
        write_mp4(frames, path.with_name(f"{path.name}.mp4"), fps),
        write_gif(frames, path.with_name(f"{path.name}.gif"), fps),
    ]


def _to_bytes(image: Tensor) -> np.ndarray:
    """Round [H, W, 3] or [H, W, 4] in [0, 1] to uint8 on the CPU."""
    return (image.detach().float().clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).cpu().numpy()
