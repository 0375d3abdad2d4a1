"""Locks that keep two processes off one run; the system releases them when their process ends, in any way.

A run of a batch has two. ``seed_N.lock`` is held by the worker that looks after the run, ``seed_N.fit.lock``
by the fit itself: if the worker is killed, the fit goes on, and no other worker begins a second one. Neither
is inherited, since Windows could not do that.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

LOCKS = "DREAMFUSION_PL_LOCKS"  # environment variable: lock files that a fit shall hold, a JSON list
HELD = 4  # exit status: another process makes this object


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Lock a file while the block runs, without waiting.

    Yields:
        Whether the lock is this block's; False if another process, or another block, holds it.

    Raises:
        OSError: the file cannot be opened, or its file system has no locks.
    """
    from filelock import lock_descriptor

    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield lock_descriptor(descriptor, blocking=False)
    finally:
        os.close(descriptor)


@contextmanager
def claimed(run: Path) -> Iterator[bool]:
    """Claim a run folder while the block runs, without waiting.

    Yields:
        Whether it is this block's; False if another worker has it, or if the fit of one that was killed still
        runs in it.

    Raises:
        OSError: its lock files cannot be opened, or their file system has no locks.
    """
    with try_lock(run.with_suffix(".lock")) as is_mine:
        if is_mine:
            with try_lock(_lock_of_fit(run)) as is_free:
                is_mine = is_free
        yield is_mine


def variables(runs: Sequence[Path]) -> dict[str, str]:
    """Environment variables that tell the process of the fits to hold their locks, see ``told_locks``."""
    return {LOCKS: json.dumps([str(_lock_of_fit(run.absolute())) for run in runs])}


@contextmanager
def told_locks() -> Iterator[bool]:
    """Hold the locks that the environment names, while the block runs; processes that it starts hold none.

    Yields:
        Whether they are this process's, as they are if none are named.

    Raises:
        OSError: a lock file cannot be opened.
    """
    names = json.loads(os.environ.pop(LOCKS, "[]"))
    with ExitStack() as stack:
        yield all([stack.enter_context(try_lock(Path(name))) for name in names])


def _lock_of_fit(run: Path) -> Path:
    return run.with_suffix(".fit.lock")
