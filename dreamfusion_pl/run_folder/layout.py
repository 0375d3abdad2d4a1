"""Layout of a run folder: file names, status, and the TensorBoard writer."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pytorch_lightning import Trainer
from pytorch_lightning.loggers import TensorBoardLogger

from dreamfusion_pl.run_folder.checkpoint_io import is_whole

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

PROMPT = "prompt.txt"
RENDERS = "renders"
TURNTABLE = "turntable"
TURNTABLE_VIDEO = f"{TURNTABLE}.mp4"
TURNTABLE_GIF = f"{TURNTABLE}.gif"
OBJECT = "object.glb"
OBJECT_REPORT = "object.report.json"
TRAJECTORY = "trajectory.png"
VIEWER = "viewer.html"
STATUS = "status.json"
LOG = "log.txt"  # output of a fit in a batch
_MOST_BYTES = 10_000_000  # of a status.json


_KNOWN: WeakKeyDictionary[Trainer, Path] = WeakKeyDictionary()
_NUMBERS: WeakKeyDictionary[Trainer, tuple[int, int] | None] = WeakKeyDictionary()  # device, inode


def previews(run: Path) -> list[Path]:
    """Return the previews of a run, in the order of their steps; other files beside them are left out."""
    found = (run / RENDERS).glob("step_*.png")
    return sorted((path for path in found if path.stem.removeprefix("step_").isdecimal()), key=step_of)


def step_of(preview: Path) -> int:
    """Return the step of a preview."""
    return int(preview.stem.removeprefix("step_"))


def run_folder(trainer: Trainer) -> Path:
    """Return the run folder.

    The first call must be made on every rank, since ``trainer.log_dir`` synchronizes the ranks;
    ``SavedConfiguration`` makes it at setup. Later calls return the stored path and may come from one rank.
    """
    if trainer not in _KNOWN:
        _KNOWN[trainer] = Path(trainer.log_dir or trainer.default_root_dir)
    return _KNOWN[trainer]


def follow(trainer: Trainer) -> Path | None:
    """Notice that the folder of a running fit was renamed, moved or deleted, and say where the run goes on.

    The first call remembers the folder. A renamed one is found by its number in the file system, among its
    neighbours; from then on ``run_folder`` returns its new path.

    Returns:
        None if the folder is where it was; the new path if it was found; the old one if it is gone.
    """
    run = run_folder(trainer)
    number = _number(run)
    known = _NUMBERS.setdefault(trainer, number)
    if known is None:  # it was not there yet
        _NUMBERS[trainer] = number
        return None
    if number == known:
        return None
    moved = [run.parent / path.name for path in _folders(run.absolute().parent) if _number(path) == known]
    _KNOWN[trainer] = moved[0] if moved else run
    _NUMBERS[trainer] = _number(_KNOWN[trainer])
    if not moved and (run / "config.yaml").exists():  # a file system with passing numbers
        return None
    return _KNOWN[trainer]


def _number(folder: Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _folders(place: Path) -> list[Path]:
    try:
        return sorted(path for path in place.iterdir() if path.is_dir())
    except OSError:
        return []


def make_room(run: Path, prompt: str, seed: int) -> None:
    """Delete the results of an earlier fit of this prompt and seed from the run folder, before a new fit.

    Raises:
        ValueError: the folder has the run of another prompt or seed, or one that can be resumed.
    """
    known = read_status(run)
    if "prompt" not in known:
        return
    if str(known.get("prompt")).split() != prompt.split() or known.get("seed") != seed:
        raise ValueError(
            f"{run} has the run of {known.get('prompt')!r} with seed {known.get('seed')}: name another "
            "folder with --trainer.logger.init_args.version, or move that one away"
        )
    checkpoints = list(run.glob("checkpoints/*.ckpt"))
    if known.get("state") != "finished" and any(map(is_whole, checkpoints)):
        raise ValueError(
            f"{run} has this run, unfinished: go on with --resume {run}, or name another folder with "
            "--trainer.logger.init_args.version"
        )
    for name in (STATUS, OBJECT, OBJECT_REPORT, TURNTABLE_VIDEO, TURNTABLE_GIF, VIEWER):
        (run / name).unlink(missing_ok=True)
    for place in (*run.glob(f"{RENDERS}/step_*.png"), *checkpoints):
        place.unlink()


def tensorboard(trainer: Trainer) -> SummaryWriter | None:
    """Return the run's TensorBoard writer, if it has one."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            return logger.experiment
    return None


def hold_events(trainer: Trainer) -> None:
    """Keep TensorBoard's file open, so that events reach it wherever the run folder goes.

    TensorBoard opens it by its name at every flush; in a folder that was renamed, its thread would fail.
    """
    writer = tensorboard(trainer)
    if writer is None:
        return
    try:
        events = writer._get_file_writer().event_writer
        events.flush()
        records = events._async_writer._writer
        records._writer.close()
        records._writer = Path(events._file_name).open("ab")  # noqa: SIM115
    except AttributeError:  # of another version of TensorBoard: a fit whose folder is renamed then fails
        return


def read_status(run: Path) -> dict[str, Any]:
    """Return the contents of status.json; empty if it is missing, cannot be read, or is no status.

    It may come from a stranger. A pipe in its place would never end, a long text or deep brackets would
    exhaust the memory or the stack, and numbers without bounds cannot be computed with. If there is a
    ``metrics``, it is a mapping; everything else may be of any type.
    """
    place = run / STATUS
    try:
        if not place.is_file() or place.stat().st_size > _MOST_BYTES:
            return {}
        read = json.loads(place.read_text(encoding="utf-8"), parse_int=_bounded)
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(read, dict):
        return {}
    if "metrics" in read and not isinstance(read["metrics"], dict):
        read["metrics"] = {}
    return read


def _bounded(digits: str) -> int:
    if len(digits) > 19:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def newest_run(place: Path) -> Path | None:
    """Return the run in a folder that was written last, by its own account; None if there is none.

    Runs without a readable status count by the time of their files.
    """

    def moment(run: Path) -> float:
        try:
            return datetime.fromisoformat(str(read_status(run).get("updated"))).timestamp()
        except (ValueError, OverflowError):
            return max(file.stat().st_mtime for file in run.glob("checkpoints/*.ckpt"))

    runs = {file.parent.parent for file in place.glob("version_*/checkpoints/*.ckpt") if file.is_file()}
    return max(sorted(runs), key=moment, default=None)
