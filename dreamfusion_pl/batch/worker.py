"""Jobs in a process of their own, ``fit`` or ``together``: once at a time, repeated while it helps."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from dreamfusion_pl.batch.jobs import Job, is_done
from dreamfusion_pl.callbacks.safety import DivergedError
from dreamfusion_pl.configuration.layers import flaw_for_fit
from dreamfusion_pl.run_folder import layout
from dreamfusion_pl.terminal import GPU_SHARE, WRONG_USAGE

SEED_STEP = 1000  # between the seeds that a hopeless job is tried with
PROGRAM = (sys.executable, "-m", "dreamfusion_pl")
State = Literal["finished", "failed", "busy", "unfinished"]


class Outcome(NamedTuple):
    """What came of a job."""

    state: State
    attempts: int = 0
    reason: str = ""  # of a failure: the last lines that the fit printed


class UnfitMachineError(RuntimeError):
    """Fits cannot run on this machine, whichever they are; the message says why."""


class Surroundings(NamedTuple):
    """What the process of a fit finds around it, whatever machine it is on."""

    threads: int = 1  # cores that it may use
    gpus: float = 0.0  # 0: it sees none; below 1: a share of one, and as much of its memory
    folder: str = "."  # its working folder, where the machine has it; else that of this process
    mark: str = ""  # file that is in the batch's folder; "": it need not be seen

    def check(self) -> None:
        """See that this machine has the batch's folder.

        Raises:
            UnfitMachineError: it has not: what it made would be lost.
        """
        if self.mark and not Path(self.mark).exists():
            raise UnfitMachineError(
                f"{Path(self.mark).parent} on {platform.node()} is not the driver's folder of that name: "
                "--out has to be on a file system that all machines of the cluster share"
            )

    def working_folder(self) -> str | None:
        """Where to start the process; None: here."""
        return self.folder if Path(self.folder).is_dir() else None

    def environment(self) -> dict[str, str]:
        """Variables of the process: this one's, and what the fits may use."""
        variables = {"OMP_NUM_THREADS": str(self.threads), "PYTHONUNBUFFERED": "1"}
        if self.gpus == 0.0:  # Ray would leave all GPUs in sight, and every fit would take the first
            variables["CUDA_VISIBLE_DEVICES"] = ""
        elif self.gpus < 1.0:
            variables[GPU_SHARE] = str(self.gpus)
        return os.environ | variables


def run(
    jobs: tuple[Job, ...], options: tuple[str, ...], retries: int, surroundings: Surroundings
) -> tuple[Outcome, ...]:
    """Make the objects of a few jobs in one process, unless they are made or being made by somebody else.

    A fit that fails is repeated, from its newest checkpoint if it has one; one that ends with the status for
    wrong usage is not, and a hopeless one is repeated with another seed.

    Args:
        jobs: what to make; several share the prior, which they must have in common.
        options: words for the command line of every fit; the request's own come later and win.
        retries: repetitions of a failed fit.
        surroundings: of the process.

    Raises:
        UnfitMachineError: this machine does not see the batch's folder.
    """
    surroundings.check()
    with ExitStack() as claims:
        locks = {job: claims.enter_context(_claim(job.folder.with_suffix(".lock"))) for job in jobs}
        outcomes = {job: Outcome("finished" if locks[job] is not None else "busy") for job in jobs}
        open_ = [job for job in jobs if locks[job] is not None and not is_done(job)]
        for attempt in range(1, retries + 2):
            words = {job: command(job, options, _next_seed(job)) for job in open_}
            codes = _fits(words, surroundings, locks)
            for job in open_:
                state: State = "finished" if is_done(job) else "failed"
                outcomes[job] = Outcome(state, attempt, "" if is_done(job) else _last_lines(job))
            open_ = [
                job
                for job, code in zip(open_, codes, strict=True)
                if outcomes[job].state == "failed" and code != WRONG_USAGE
            ]
        return tuple(outcomes[job] for job in jobs)


def command(job: Job, options: tuple[str, ...], seed: int) -> list[str]:
    """The words after ``fit`` of the job's fit, or of going on with it where a checkpoint is whole."""
    checkpoints = job.folder.glob("checkpoints/*.ckpt")
    if (job.folder / "config.yaml").is_file() and not all(map(flaw_for_fit, checkpoints)):
        return ["--resume", str(job.folder), *place(job)]  # the batch's folder may have been moved
    return [
        *options,
        *job.request.options,
        f"--prompt={job.request.prompt}",
        f"--seed_everything={seed}",
        *place(job),
    ]


def place(job: Job) -> list[str]:
    """The words after ``fit`` that put its run into the job's folder."""
    logger = "--trainer.logger.init_args"
    return [
        f"{logger}.save_dir={job.folder.parent}",
        f"{logger}.name=",
        f"{logger}.version={job.folder.name}",
    ]


def _fits(words: dict[Job, list[str]], surroundings: Surroundings, locks: dict[Job, int | None]) -> list[int]:
    """Run the fits in one process; return their exit statuses."""
    if not words:
        return []
    for job in words:
        job.folder.mkdir(parents=True, exist_ok=True)
    log = next(iter(words)).folder / layout.LOG
    if len(words) == 1:
        (fit,) = words.values()
        return [_process(["fit", *fit], surroundings, locks, log).returncode]
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "fits.json"
        fits = [{"words": fit, "log": str(job.folder / layout.LOG)} for job, fit in words.items()]
        file.write_text(json.dumps(fits), encoding="utf-8")
        done = _process(["together", str(file)], surroundings, locks, log, stdout=subprocess.PIPE)
    try:
        codes = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):  # it was killed
        codes = []
    return codes if len(codes) == len(words) else [done.returncode or 1] * len(words)


def _process(
    words: list[str],
    surroundings: Surroundings,
    locks: dict[Job, int | None],
    log: Path,
    stdout: int | None = None,
) -> subprocess.CompletedProcess[str]:
    # The process inherits the locks: should this one be killed, nobody starts a job while that goes on.
    held = tuple(lock for lock in locks.values() if lock is not None)
    with log.open("ab") as file:
        return subprocess.run(
            [*PROGRAM, *words],
            stdout=stdout or file,
            stderr=subprocess.STDOUT if stdout is None else file,
            cwd=surroundings.working_folder(),
            env=surroundings.environment(),
            pass_fds=held,
            text=True,
            errors="replace",
        )


def _next_seed(job: Job) -> int:
    """The seed to go on with: another one after a run of which nothing can come, which is removed.

    What it printed stays. A run that nobody tries again stays whole, so that one can see why.
    """
    last = layout.read_status(job.folder)
    seed = int(last.get("seed", job.seed))
    if not str(last.get("error", "")).startswith(DivergedError.__name__):
        return seed
    _clear(job)
    return seed + SEED_STEP


def _clear(job: Job) -> None:
    for place in job.folder.iterdir():
        if place.is_dir():
            shutil.rmtree(place)
        elif place.name != layout.LOG:
            place.unlink()


def _last_lines(job: Job, count: int = 5) -> str:
    try:
        text = (job.folder / layout.LOG).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return str(error)
    return "\n".join(text.strip().splitlines()[-count:])


@contextmanager
def _claim(path: Path) -> Iterator[int | None]:
    """Hold a lock on a file while the block runs; hand out its descriptor, or None if another has it."""
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
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
