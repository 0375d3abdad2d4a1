"""One job in its own process, ``python -m dreamfusion_pl fit``: once at a time, repeated while it helps."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from dreamfusion_pl.batch.jobs import Job, is_done

WRONG_USAGE = 2  # exit status of a fit that cannot work however often it is repeated
LOG = "log.txt"


class Outcome(NamedTuple):
    """What came of a job."""

    state: Literal["finished", "failed", "busy"]
    attempts: int = 0
    reason: str = ""  # of a failure: the last lines that the fit printed


def run(job: Job, options: tuple[str, ...], retries: int, threads: int) -> Outcome:
    """Make one object, unless it is made or being made by somebody else.

    A fit that fails is repeated, from its newest checkpoint if it has one; one that ends with the status for
    wrong usage is not.

    Args:
        job: what to make.
        options: words for the command line of every fit; the request's own come later and win.
        retries: repetitions of a failed fit.
        threads: cores that it may use.
    """
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    with _claim(job.folder.with_suffix(".lock")) as lock:
        if lock is None:
            return Outcome("busy")
        attempts = 0
        while not is_done(job):
            if attempts > retries:
                return Outcome("failed", attempts, _last_lines(job))
            attempts += 1
            code = _fit(job, options, threads, lock)
            if code == WRONG_USAGE:
                return Outcome("failed", attempts, _last_lines(job))
        return Outcome("finished", attempts)


def command(job: Job, options: tuple[str, ...]) -> list[str]:
    """The command line of the job's fit, or of going on with it."""
    fit = [sys.executable, "-m", "dreamfusion_pl", "fit"]
    if (job.folder / "config.yaml").is_file() and any(job.folder.glob("checkpoints/*.ckpt")):
        return [*fit, "--resume", str(job.folder)]
    logger = "--trainer.logger.init_args"
    where = [
        f"{logger}.save_dir={job.folder.parent}",
        f"{logger}.name=",
        f"{logger}.version={job.folder.name}",
    ]
    what = [f"--prompt={job.request.prompt}", f"--seed_everything={job.seed}"]
    return [*fit, *options, *job.request.options, *what, *where]


def _fit(job: Job, options: tuple[str, ...], threads: int, lock: int) -> int:
    job.folder.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads), PYTHONUNBUFFERED="1")
    with (job.folder / LOG).open("ab") as log:
        # The process inherits the lock: should this one be killed, nobody starts the job while that goes on.
        done = subprocess.run(
            command(job, options), stdout=log, stderr=subprocess.STDOUT, env=environment, pass_fds=(lock,)
        )
    return done.returncode


def _last_lines(job: Job, count: int = 5) -> str:
    try:
        text = (job.folder / LOG).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return str(error)
    return "\n".join(text.strip().splitlines()[-count:])


@contextmanager
def _claim(path: Path) -> Iterator[int | None]:
    """Hold a lock on a file while the block runs; hand out its descriptor, or None if another has it."""
    import fcntl

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
