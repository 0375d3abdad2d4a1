"""Where a run's results go: its folder and its TensorBoard file."""

from __future__ import annotations

import json
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
LOG = "log.txt"  # what a fit of a batch printed


_KNOWN: WeakKeyDictionary[Trainer, Path] = WeakKeyDictionary()


def run_folder(trainer: Trainer) -> Path:
    """The run's folder.

    The first call has to come from every rank, since ranks agree on it: ``SavedConfiguration`` makes it at
    setup. Later ones may come from one rank alone, where ``trainer.log_dir`` would wait for the others.
    """
    if trainer not in _KNOWN:
        _KNOWN[trainer] = Path(trainer.log_dir or trainer.default_root_dir)
    return _KNOWN[trainer]


def make_room(run: Path, prompt: str, seed: int) -> None:
    """Remove what an earlier fit of this prompt and seed left in the run folder, to be made again.

    Raises:
        ValueError: the folder has the run of another prompt or seed, or one that can go on.
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
    """The run's TensorBoard writer, if it has one."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            return logger.experiment
    return None


def read_status(run: Path) -> dict[str, Any]:
    """What the status.json of a run folder says; empty where there is none that can be read."""
    try:
        read = json.loads((run / STATUS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}
