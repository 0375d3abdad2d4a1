"""Waits for the processes of a batch, ends them if they take too long or the batch is stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import final

from dreamfusion_pl.batch.jobs import Job
from dreamfusion_pl.run_folder import layout

GRACE_SECONDS = 30.0  # between SIGTERM, after which a fit saves, and SIGKILL
# On Windows, SIGTERM ends a process at once. What it can still answer is Ctrl-Break, in a group of its own.
ASK = getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM)
OWN_GROUP = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
POLL_SECONDS = 1.0  # between two looks whether a process has ended, or shall
STILL_SECONDS = 1800.0  # without a sign of life, after which a run is named


def wait_for(process: subprocess.Popen[str], timeout: float, is_stopped: Callable[[], bool]) -> bool:
    """Wait for a process; end it if it takes too long, or if the batch was stopped.

    Args:
        process: the process.
        timeout: its time in seconds; 0: no limit.
        is_stopped: returns whether the batch was stopped.

    Returns:
        Whether it took too long.
    """
    deadline = time.monotonic() + timeout
    while not is_stopped():
        if timeout > 0.0 and time.monotonic() > deadline:
            end(process)
            return True
        try:
            process.wait(POLL_SECONDS)
            return False
        except subprocess.TimeoutExpired:
            continue
    end(process)
    return False


def end(process: subprocess.Popen[str]) -> None:
    """End a process: SIGTERM (on Windows Ctrl-Break), on which a fit saves; SIGKILL if it does not obey."""
    try:
        process.send_signal(ASK)
    except OSError:  # Windows without a console
        process.terminate()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@final
class StillRuns:
    """Names runs that have shown no sign of life for a long time: no status, no line, no checkpoint.

    A fit that hangs holds its place for ever. Whether it hangs or is slow cannot be told from outside, so it
    is named and not ended; ``--timeout`` ends it.

    Args:
        seconds: how long a run may be still.
    """

    def __init__(self, seconds: float = STILL_SECONDS) -> None:
        self._seconds, self._begin = seconds, time.time() - 1.0  # file times are coarse
        self._signs: dict[Job, tuple[float, float]] = {}  # last file time, and when it was first seen
        self._named: set[Job] = set()
        self._next = 0.0  # time of the next look

    def look(self, jobs: list[Job], now: float) -> list[Job]:
        """Return the jobs that are newly found to be still, and print a warning for each.

        Args:
            jobs: jobs that may be running.
            now: the time, in seconds of a steady clock.
        """
        found: list[Job] = []
        if now < self._next:
            return found
        self._next = now + min(0.02 * self._seconds, 30.0)
        for job in jobs:
            sign = _sign_of_life(job.folder)
            if sign < self._begin:  # it has not begun, or is left from an earlier batch
                continue
            if sign != self._signs.get(job, (0.0, 0.0))[0]:
                self._signs[job] = sign, now
                self._named.discard(job)
            elif now - self._signs[job][1] >= self._seconds and job not in self._named:
                self._named.add(job)
                found.append(job)
        for job in found:
            said = f"{job.folder} has shown no sign of life for {self._seconds / 60:.0f} minutes"
            cure = "if it hangs, end its process: it is tried again. --timeout MINUTES does so by itself"
            print(f"dreamfusion_pl: warning: {said}; {cure}", file=sys.stderr, flush=True)
        return found


def _sign_of_life(run: Path) -> float:
    """Return the time of the newest file that a running fit writes; 0 if there is none."""
    times = [0.0]
    for name in (layout.STATUS, layout.LOG, "checkpoints/last.ckpt"):
        try:
            times.append((run / name).stat().st_mtime)
        except OSError:
            continue
    return max(times)
