"""Runs jobs in a subprocess (``fit`` or ``together``), under a lock, with retries."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, NamedTuple

from dreamfusion_pl.batch import processes
from dreamfusion_pl.batch.jobs import Job, is_done
from dreamfusion_pl.batch.locks import HELD, claimed, variables
from dreamfusion_pl.callbacks.safety import DivergedError
from dreamfusion_pl.configuration.checkpoints import flaw_for_fit
from dreamfusion_pl.run_folder import layout
from dreamfusion_pl.terminal import ERROR, GPU_SHARE, WRONG_USAGE

SEED_STEP = 1000  # added to the seed after a run that diverged
PROGRAM = (sys.executable, "-m", "dreamfusion_pl")
# The log is read while the program runs, as UTF-8; Windows would write it in an encoding of its own.
LOGGED = {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
State = Literal["finished", "failed", "busy", "unfinished"]


class Outcome(NamedTuple):
    """Outcome of a job."""

    state: State
    attempts: int = 0
    reason: str = ""  # of a failure: the last lines of the fit's output


class UnsuitableMachineError(RuntimeError):
    """No fit of the batch can run on this machine; the message says why."""


class ProcessSettings(NamedTuple):
    """Environment of the subprocess of a fit, on whatever machine it runs."""

    threads: int = 1  # CPU threads
    gpus: float = 0.0  # 0: no GPU is visible; below 1: a share of one GPU and of its memory
    folder: str = "."  # working directory, if this machine has it; otherwise the worker's own is kept
    marker: str = ""  # marker file in the batch's folder; "": not checked
    timeout: float = 0.0  # seconds that the subprocess may take; 0: no limit

    def check(self) -> None:
        """Check that this machine sees the batch's folder.

        Raises:
            UnsuitableMachineError: it does not, and results would be lost.
        """
        if self.marker and not Path(self.marker).exists():
            raise UnsuitableMachineError(
                f"{Path(self.marker).parent} on {platform.node()} is not the driver's folder of that name: "
                "--out has to be on a file system that all machines of the cluster share"
            )

    def is_stopped(self) -> bool:
        """Return whether the driver has ended; one that was killed leaves its marker, and its fits go on."""
        try:
            return bool(self.marker) and not Path(self.marker).exists()
        except OSError:  # the file system does not answer now
            return False

    def working_folder(self) -> str | None:
        """Working directory of the subprocess; None keeps the worker's."""
        return self.folder if Path(self.folder).is_dir() else None

    def environment(self) -> dict[str, str]:
        """Environment variables of the subprocess: the worker's, with limits on threads and GPUs."""
        variables = {"OMP_NUM_THREADS": str(self.threads)} | LOGGED
        if self.gpus == 0.0:  # Ray would leave all GPUs visible, and every fit would use the first
            variables["CUDA_VISIBLE_DEVICES"] = ""
        elif self.gpus < 1.0:
            variables[GPU_SHARE] = str(self.gpus)
        return os.environ | variables


def run(
    jobs: tuple[Job, ...], options: tuple[str, ...], retries: int, settings: ProcessSettings
) -> tuple[Outcome, ...]:
    """Run a few jobs in one subprocess, except those that are finished or that another worker runs.

    A failed fit is repeated, from its newest checkpoint if it has one. After a usage error it is not
    repeated; after divergence it is repeated with another seed.

    Args:
        jobs: the jobs; if there are several, they share one prior and must all have the same.
        options: command-line arguments of every fit; those of a request come after them and win.
        retries: how often a failed fit is repeated.
        settings: environment of the subprocess.

    Returns:
        The outcome of every job; "busy" if another worker runs it.

    Raises:
        UnsuitableMachineError: this machine does not see the batch's folder.
    """
    settings.check()
    with ExitStack() as stack:
        mine = [job for job in jobs if stack.enter_context(claimed(job.folder))]
        outcomes = {job: Outcome("finished" if job in mine else "busy") for job in jobs}
        pending = [job for job in mine if not is_done(job)]
        for attempt in range(1, retries + 2):
            words = {job: command(job, options, _next_seed(job)) for job in pending}
            codes = _fits(words, settings)
            for job, code in zip(pending, codes, strict=True):
                state: State = "finished" if is_done(job) else "busy" if code == HELD else "failed"
                outcomes[job] = Outcome(state, attempt, _last_lines(job) if state == "failed" else "")
            pending = [
                job
                for job, code in zip(pending, codes, strict=True)
                if outcomes[job].state == "failed" and code != WRONG_USAGE and not settings.is_stopped()
            ]
        return tuple(outcomes[job] for job in jobs)


def command(job: Job, options: tuple[str, ...], seed: int) -> list[str]:
    """Return the arguments of ``fit`` that start a job, or resume it if it has an intact checkpoint."""
    checkpoints = job.folder.glob("checkpoints/*.ckpt")
    if (job.folder / "config.yaml").is_file() and not all(map(flaw_for_fit, checkpoints)):
        return [
            "--resume",
            str(job.folder),
            *run_folder_options(job),
        ]  # the batch's folder may have been moved
    return [
        *options,
        *job.request.options,
        f"--prompt={job.request.prompt}",
        f"--seed_everything={seed}",
        *run_folder_options(job),
    ]


def run_folder_options(job: Job) -> list[str]:
    """Return the arguments of ``fit`` that make the job's folder its run folder."""
    logger = "--trainer.logger.init_args"
    return [
        f"{logger}.save_dir={job.folder.parent}",
        f"{logger}.name=",
        f"{logger}.version={job.folder.name}",
    ]


def _fits(words: dict[Job, list[str]], settings: ProcessSettings) -> list[int]:
    """Run the fits in one subprocess; return their exit statuses."""
    if not words:
        return []
    for job in words:
        job.folder.mkdir(parents=True, exist_ok=True)
    log = next(iter(words)).folder / layout.LOG
    environment = settings.environment() | variables([job.folder for job in words])
    if len(words) == 1:
        (fit,) = words.values()
        return [_process(["fit", *fit], settings, environment, log).returncode]
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "fits.json"
        fits = [{"words": fit, "log": str(job.folder / layout.LOG)} for job, fit in words.items()]
        file.write_text(json.dumps(fits), encoding="utf-8")
        done = _process(["together", str(file)], settings, environment, log, stdout=subprocess.PIPE)
    try:
        codes = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):  # the subprocess was killed
        codes = []
    return codes if len(codes) == len(words) else [done.returncode or 1] * len(words)


def _process(
    words: list[str],
    settings: ProcessSettings,
    environment: dict[str, str],
    log: Path,
    stdout: int | None = None,
) -> subprocess.CompletedProcess[str]:
    command = [*PROGRAM, *words]
    with (
        log.open("ab") as file,
        subprocess.Popen(
            command,
            stdout=stdout or file,
            stderr=subprocess.STDOUT if stdout is None else file,
            cwd=settings.working_folder(),
            env=environment,
            creationflags=processes.OWN_GROUP,
            text=True,
            errors="replace",
        ) as process,
    ):
        if processes.wait_for(process, settings.timeout, settings.is_stopped):
            said = f"{ERROR}it took more than {settings.timeout / 60:g} minutes and was ended (--timeout)\n"
            file.write(said.encode())
        output = process.stdout.read() if process.stdout is not None else ""
        return subprocess.CompletedProcess(command, process.returncode, output)


def _next_seed(job: Job) -> int:
    """Return the seed of the next attempt. After divergence it is a new one, and the old run is deleted.

    The log is kept. After the last attempt nothing is deleted, so that the failure can be inspected.
    """
    last = layout.read_status(job.folder)
    seed = last.get("seed")
    seed = seed if type(seed) is int else job.seed
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
