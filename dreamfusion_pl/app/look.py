"""What a run folder says of its run: how far it is, how long it takes, its newest picture, its log."""

from __future__ import annotations

import functools
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dreamfusion_pl.run_folder import layout
from dreamfusion_pl.terminal import ERROR

if TYPE_CHECKING:
    from PIL.Image import Image

RUN = re.compile(r"[a-z0-9-]{1,80}/seed_\d{1,12}")  # a run folder relative to the page's folder
TAIL_BYTES = 20_000  # of the log
TAIL_LINES = 60
FRAME_MILLISECONDS = 600  # of the turning preview
_PROGRESS = re.compile(r"^step (\d{1,12})/(\d{1,12}), (\d{1,6}:\d\d) left", re.MULTILINE)
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Look(NamedTuple):
    """What is known of a run."""

    prompt: str
    seed: int
    state: str  # as in status.json; "" before the run has one
    step: int
    max_steps: int  # 0 before it is known
    left: str  # time left, "m:ss"; "" if it is not known
    seconds: float | None  # how long it took
    notes: tuple[str, ...]  # warnings, as that the object vanished
    error: str  # of a failed run
    log: str
    preview: Path | None  # the newest preview sheet
    turning: Path | None  # the film of a finished run
    model: Path | None  # object.glb
    viewer: Path | None


def look_at(run: Path) -> Look:
    """Look at a run folder; whatever is missing or can't be read counts as not known."""
    known = layout.read_status(run)
    log = tail(run / layout.LOG)
    step, most, left = _number(known.get("step")), _number(known.get("max_steps")), ""
    for found in _PROGRESS.finditer(log):  # newer than status.json, which is refreshed at validations
        step, most, left = max(step, int(found[1])), int(found[2]), found[3]
    is_finished = known.get("state") == "finished"
    return Look(
        prompt=str(known.get("prompt", ""))[:1000],
        seed=_number(known.get("seed")),
        state=str(known.get("state", ""))[:40],
        step=step,
        max_steps=most,
        left="" if is_finished else left,
        seconds=float(known["seconds"]) if _is_number(known.get("seconds")) else None,
        notes=_texts(known.get("notes")),
        error=str(known.get("error") or "").partition("\n")[0][:500] or _error(log),
        log=log,
        preview=newest_preview(run),
        turning=_there(run / layout.TURNTABLE_GIF) if is_finished else None,
        model=_there(run / layout.OBJECT) if is_finished else None,
        viewer=_there(run / layout.VIEWER) if is_finished else None,
    )


def runs_in(out: Path) -> list[str]:
    """Return the keys of all runs in the page's folder, the oldest first: those of ``batch`` too."""
    found = [place.parent for place in out.glob(f"*/seed_*/{layout.STATUS}")]
    keys = [(run.stat().st_ctime, f"{run.parent.name}/{run.name}") for run in found]
    return [key for _, key in sorted(keys) if RUN.fullmatch(key)]


def newest_preview(run: Path) -> Path | None:
    """Return the newest preview sheet of a run; None if there is none."""
    return next(reversed(layout.previews(run)), None)


def tail(log: Path) -> str:
    """Return the last lines of a log, without control characters; "" if there is none."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(max(size - TAIL_BYTES, 0))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    lines = text.replace("\r", "\n").split("\n")
    return _UNPRINTABLE.sub("", "\n".join(lines[-TAIL_LINES:])).strip()


@functools.lru_cache(maxsize=16)
def turning(sheet: Path, stamp: int) -> bytes:
    """Return the views of a preview sheet one after another, as an animated GIF: the object turns.

    Args:
        sheet: the sheet; its first row has the colours, in square views side by side.
        stamp: its time, so that a new sheet of the same name is read again.

    Raises:
        OSError: it can't be read.
    """
    first, *others = _views(sheet)
    buffer = io.BytesIO()
    first.save(
        buffer, "GIF", save_all=True, append_images=others, duration=FRAME_MILLISECONDS, loop=0, disposal=2
    )
    return buffer.getvalue()


@functools.lru_cache(maxsize=256)
def still(sheet: Path, stamp: int) -> bytes:
    """Return the first view of a preview sheet, the object's front, as a PNG; see ``turning``."""
    buffer = io.BytesIO()
    _views(sheet)[0].save(buffer, "PNG")
    return buffer.getvalue()


def _views(sheet: Path) -> list[Image]:
    from PIL import Image

    with Image.open(sheet) as opened:
        picture = opened.convert("RGB")
    side = picture.width // views_of(sheet.parent.parent, picture.size)
    return [picture.crop((left, 0, left + side, side)) for left in range(0, picture.width - side + 1, side)]


def views_of(run: Path, size: tuple[int, int]) -> int:
    """Return how many square views a row of a preview sheet has: the configuration says so.

    Args:
        run: the run folder.
        size: width and height of the sheet in pixels.
    """
    width, height = size
    try:
        found = re.search(r"num_val_views: (\d{1,4})\b", (run / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        found = None
    count = int(found[1]) if found else 4
    fits = count > 0 and width % count == 0 and height >= width // count
    return count if fits else max(width // max(height, 1), 1)


def _error(log: str) -> str:
    said = [line.removeprefix(ERROR) for line in log.splitlines() if line.startswith(ERROR)]
    return said[-1][:500] if said else ""


def _there(path: Path) -> Path | None:
    return path if path.is_file() else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any) -> int:
    return value if type(value) is int and value >= 0 else 0


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(one)[:300] for one in value[:5]) if isinstance(value, list) else ()
