"""Writes videos frame by frame, so that only a few frames are in memory at a time."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from dreamfusion_pl.atomic import replacing
from dreamfusion_pl.export.files.images import to_bytes

NO_FFMPEG = "there is no ffmpeg program: install one, or imageio-ffmpeg, whose wheels bring it"
Put = Callable[[np.ndarray], None]  # takes the next frame, uint8 [H, W, 3]


class Frames(Protocol):
    """A sequence of images in [0, 1]: a tensor [N, H, W, 3], a list, or frames rendered on access."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Tensor: ...


class _Plan(NamedTuple):
    """Properties of a video that an encoder needs before the first frame."""

    num_frames: int
    sample: np.ndarray  # evenly spaced frames, stacked vertically, [n H, W, 3] uint8; for the GIF palette
    height: int
    width: int
    fps: int


Encoder = Callable[[Path, Path, _Plan], AbstractContextManager[Put]]  # (temporary file, final name, plan)


def write_gif(frames: Frames, path: str | Path, fps: int = 20) -> Path:
    """Write a video as an endlessly looping GIF with one global palette; return the path.

    Args:
        frames: [H, W, 3] each; every frame is accessed once, in any order.
        path: the file, written atomically.
        fps: frames per second, at most 50; GIF has a time resolution of 0.01 s.

    Raises:
        OSError: the file cannot be written.
    """
    return _encode(frames, fps, {Path(path): _gif})[0]


def write_mp4(frames: Frames, path: str | Path, fps: int = 20) -> Path:
    """Write a video as H.264; return the path.

    Odd heights and widths are padded by repeating the last row or column, because H.264 needs even sizes.

    Args:
        frames: [H, W, 3] each; every frame is accessed once, in any order.
        path: the file, written atomically.
        fps: frames per second.

    Raises:
        OSError: the file cannot be written, or is incomplete when it is read back; or there is no ffmpeg.
    """
    return _encode(frames, fps, {Path(path): _mp4})[0]


def write_film(frames: Frames, path: Path, fps: int = 20) -> list[Path]:
    """Write a video to ``path`` with .mp4 and with .gif appended, both or neither; return both paths.

    Arguments and errors are those of :func:`write_mp4` and :func:`write_gif`. Without an ffmpeg program the
    .mp4 is left out, with a warning.
    """
    mp4, gif = (path.with_name(f"{path.name}{suffix}") for suffix in (".mp4", ".gif"))
    if ffmpeg() is not None:
        return _encode(frames, fps, {mp4: _mp4, gif: _gif})
    warnings.warn(f"{mp4} is left out: {NO_FFMPEG}", stacklevel=2)
    written = _encode(frames, fps, {gif: _gif})
    mp4.unlink(missing_ok=True)  # of an earlier object
    return written


def ffmpeg() -> str | None:
    """Return the program that makes videos, imageio-ffmpeg's or the system's; None if there is none."""
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return shutil.which(get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return None


def write_stills(frames: Frames, path: Path) -> list[Path]:
    """Write frames [H, W, 3] or [H, W, 4] to ``path`` with _000.png and so on appended, all or none.

    Raises:
        OSError: a file cannot be written.
    """
    from PIL import Image

    paths = [path.with_name(f"{path.name}_{index:03d}.png") for index in range(len(frames))]
    with ExitStack() as stack:
        for index, place in enumerate(paths):
            picture = Image.fromarray(to_bytes(frames[index]))
            picture.save(stack.enter_context(replacing(place)), format="PNG")
    return paths


def _encode(frames: Frames, fps: int, encoders: dict[Path, Encoder]) -> list[Path]:
    """Pass every frame to all encoders; no file is renamed to its final name before all are complete."""
    count = len(frames)
    known = {index: to_bytes(frames[index]) for index in range(0, count, max(1, count // 16))}
    height, width = known[0].shape[:2]
    plan = _Plan(count, np.concatenate(list(known.values())), height, width, fps)
    with ExitStack() as names, ExitStack() as stack:
        puts = [
            stack.enter_context(encoder(names.enter_context(replacing(path)), path, plan))
            for path, encoder in encoders.items()
        ]
        for index in range(count):
            pixels = known.pop(index) if index in known else to_bytes(frames[index])
            for put in puts:
                put(pixels)
    return list(encoders)


@contextmanager
def _gif(temporary: Path, name: Path, plan: _Plan) -> Iterator[Put]:
    from PIL import Image
    from PIL.GifImagePlugin import getdata, getheader

    palette = Image.fromarray(plan.sample).quantize(256)
    duration_ms = max(2, round(100 / plan.fps)) * 10
    before: list[np.ndarray] = []  # palette indices of the previous frame

    with temporary.open("wb") as file:

        def put(pixels: np.ndarray) -> None:
            picture = Image.fromarray(pixels).quantize(palette=palette)
            indices = np.asarray(picture)
            if before:
                left, top, right, bottom = _changed(before.pop(), indices)
                picture = picture.crop((left, top, right, bottom))
            else:
                left, top = 0, 0
                file.writelines(getheader(picture, info={"loop": 0, "duration": duration_ms})[0])
            file.writelines(getdata(picture, (left, top), duration=duration_ms))
            before.append(indices)

        yield put
        file.write(b";")


def _changed(before: np.ndarray, after: np.ndarray) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of the changed region; one pixel if nothing changed."""
    rows, columns = np.nonzero(before != after)
    if not len(rows):
        return 0, 0, 1, 1
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


@contextmanager
def _mp4(temporary: Path, name: Path, plan: _Plan) -> Iterator[Put]:
    if ffmpeg() is None:
        raise OSError(f"{name} cannot be written: {NO_FFMPEG}")
    from imageio_ffmpeg import write_frames

    height, width = (size + size % 2 for size in (plan.height, plan.width))
    missing = ((0, height - plan.height), (0, width - plan.width), (0, 0))
    film = write_frames(
        str(temporary),
        (width, height),
        fps=plan.fps,
        quality=8,
        macro_block_size=1,
        output_params=["-movflags", "+faststart"],
    )
    with closing(film):
        film.send(None)
        yield lambda pixels: film.send(np.ascontiguousarray(np.pad(pixels, missing, mode="edge")))
    _require_frames(temporary, plan.num_frames, name)


def _require_frames(film: Path, count: int, name: Path) -> None:
    """Raise OSError unless ``count`` frames can be decoded: imageio_ffmpeg hides ffmpeg's exit status."""
    from imageio_ffmpeg import get_ffmpeg_exe

    decode = [get_ffmpeg_exe(), "-v", "error", "-i", str(film), "-f", "framecrc", "-"]  # a line per frame
    result = subprocess.run(decode, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    whole = sum(not line.startswith(b"#") for line in result.stdout.splitlines())
    if result.returncode != 0 or result.stderr or whole != count:
        raise OSError(f"{name} could not be written: {whole} of {count} frames can be read back")
