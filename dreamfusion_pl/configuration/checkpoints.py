"""Finds the checkpoint that a command means."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from dreamfusion_pl.run_folder.checkpoint_io import has_weights_only, is_whole, newest_first, step_of
from dreamfusion_pl.run_folder.layout import newest_run

RUNS = Path("lightning_logs")


def flaw(checkpoint: Path) -> str:
    """Return what is wrong with a checkpoint; "" if it can be evaluated."""
    return "" if is_whole(checkpoint) else "is damaged, or another kind of file"


def flaw_for_fit(checkpoint: Path) -> str:
    """Return what is wrong with a checkpoint; "" if a fit can resume from it."""
    if is_whole(checkpoint) and has_weights_only(checkpoint):
        return (
            "has the weights only (save_weights_only: true), and no fit can go on without the optimizer's "
            "state; it can be validated, tested and exported"
        )
    return flaw(checkpoint)


def find_checkpoint(name: str, flaw: Callable[[Path], str] = flaw) -> Path:
    """Return the newest usable checkpoint for ``name``.

    Args:
        name: a checkpoint file, a run folder, or ``last`` for the newest run in ``lightning_logs``.
        flaw: returns why a checkpoint cannot be used, or "".

    Raises:
        ValueError: there is no checkpoint, or none that can be used.
    """
    path = Path(name)
    if path.is_file():
        if reason := flaw(path):
            raise ValueError(
                f"the checkpoint {path} {reason}; pass its run folder to take the newest one that can be used"
            )
        return path
    run = newest_run(RUNS) if name == "last" else path
    found = [] if run is None else [*run.glob("checkpoints/*.ckpt"), *run.glob("*.ckpt")]
    found = newest_first(file for file in found if file.is_file())
    if not found:
        raise ValueError(
            f"no checkpoint at {name!r}: pass a .ckpt file, a run folder such as {RUNS / 'version_0'}, "
            f"or 'last' for the newest run in {RUNS}"
        )
    for checkpoint in found:
        reason = flaw(checkpoint)
        if not reason:
            return checkpoint
        warn(f"{checkpoint} {reason}; looking for an older one")
    kinds = "or another kind of file"
    if flaw is flaw_for_fit:
        kinds = "or cannot be gone on from: start again without --resume"
    raise ValueError(f"every checkpoint at {name!r} is damaged, {kinds}")


def place_of(checkpoint: Path, name: str) -> Path | None:
    """Return the folder of a run that goes on in place; None if it goes on elsewhere.

    From a file that is not the newest of its run it goes on elsewhere: it would replace the newer ones.

    Args:
        checkpoint: the checkpoint that it goes on from.
        name: what the command calls it.
    """
    run = checkpoint.parent.parent
    if checkpoint.parent.name != "checkpoints" or not (run / "config.yaml").is_file():
        return None
    if Path(name).is_file() and step_of(checkpoint) < max(map(step_of, checkpoint.parent.glob("*.ckpt"))):
        warn(f"{checkpoint} is not the newest checkpoint of its run: what follows goes to a new folder")
        return None
    return run


def warn(message: str) -> None:
    """Print a warning."""
    print(f"dreamfusion_pl: warning: {message}", file=sys.stderr)
