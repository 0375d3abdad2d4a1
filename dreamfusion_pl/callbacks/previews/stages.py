"""Says what a run does after its last step: filming, meshing, writing the page."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pytorch_lightning import Trainer
from tqdm import tqdm


@contextmanager
def stage(trainer: Trainer, name: str, total: int | None = None) -> Iterator[Callable[[], object]]:
    """Show that some work is under way while the block runs: a bar in a terminal, a line otherwise.

    Nothing is shown on other ranks than the first, and in a run without progress output.

    Args:
        trainer: the trainer of the run.
        name: what is done, such as "filming".
        total: number of parts, each of which ends with a call of the yielded function; None: unknown.

    Yields:
        The function to call after every part.
    """
    if trainer.progress_bar_callback is None or not trainer.is_global_zero:
        yield lambda: None
    elif sys.stderr.isatty():
        shape = "{desc}: {elapsed}" if total is None else None
        with tqdm(total=total, desc=name, dynamic_ncols=True, bar_format=shape) as bar:
            yield bar.update
    else:
        print(name, flush=True)
        yield lambda: None
