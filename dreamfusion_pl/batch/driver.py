"""Runs the jobs of a batch on Ray, on this machine or a cluster, with a bounded number in flight."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dreamfusion_pl.batch import worker
from dreamfusion_pl.batch.jobs import Job, is_done
from dreamfusion_pl.batch.machines import Resources, connect, machines_of
from dreamfusion_pl.batch.processes import GRACE_SECONDS, StillRuns
from dreamfusion_pl.batch.worker import Outcome, ProcessSettings, UnsuitableMachineError

POLL_SECONDS = 1.0  # interval at which running jobs are polled, and SIGTERM is noticed
BUSY_SECONDS = 5.0  # the same of jobs that other drivers run


def run_all(
    jobs: list[Job],
    options: tuple[str, ...],
    resources: Resources,
    retries: int,
    address: str | None,
    report: Callable[[Job, Outcome, int, int], None],
    watch: Callable[[dict[Job, Outcome], int], None] = lambda outcomes, running: None,
) -> dict[Job, Outcome]:
    """Run all jobs that are not finished; return the outcome of every job.

    Args:
        jobs: all jobs of the batch.
        options: command-line arguments of every fit.
        resources: resources of one process.
        retries: how often a failed fit is repeated.
        address: address of a Ray cluster; None starts Ray on this machine.
        report: called when a job ends with (job, outcome, number of jobs that have ended, number of jobs).
        watch: called every few seconds with (outcomes so far, number of running jobs).

    Raises:
        ValueError: Ray is not installed, the cluster does not answer or is too small for a single fit, or
            one of its machines lacks the package or cannot see the batch's folder.
    """
    outcomes = {job: Outcome("finished") for job in jobs if is_done(job)}
    waiting = deque(groups([job for job in jobs if job not in outcomes], resources.together))
    if not waiting:
        return outcomes
    before = signal.getsignal(signal.SIGTERM)
    ray = connect(address)
    still, slots = StillRuns(), 0
    running: dict[Any, tuple[Job, ...]] = {}
    terminated = _note_sigterm()
    try:
        machines = machines_of(ray)
        resources = resources.resolved(machines)
        slots = resources.slots(machines)
        if slots < 1:
            raise ValueError(f"no machine has room for one fit: it asks for {resources}")
        task = _task(ray, resources, address)
        limit = resources.in_flight or 2 * slots
        with _process_settings(resources, jobs[0].folder.parent.parent) as settings:
            while waiting or running:
                while waiting and len(running) < limit:
                    group = waiting.popleft()
                    running[task.remote(group, options, retries, settings)] = group
                ready, _ = ray.wait(list(running), num_returns=1, timeout=POLL_SECONDS)
                if terminated:
                    raise SystemExit(signal.SIGTERM)
                begun = list(running.values())[:slots]
                still.look([job for group in begun for job in group], time.monotonic())
                watch(outcomes, sum(map(len, begun)))
                if not ready:
                    continue
                group = running.pop(ready[0])
                ended = dict(zip(group, _outcomes(ray, ready[0], len(group)), strict=True))
                for job, outcome in ended.items():
                    if outcome.state != "busy":
                        outcomes[job] = outcome
                        report(job, outcome, len(outcomes), len(jobs))
                busy = tuple(job for job in group if job not in outcomes)
                if busy:  # another driver runs them: check again later
                    waiting.append(busy)
                    time.sleep(BUSY_SECONDS if not running else 0.1)
    except (KeyboardInterrupt, SystemExit):
        # Their marker is gone, on which the workers end their fits: these have the time to save.
        if tasks := list(running)[:slots]:
            ray.wait(tasks, num_returns=len(tasks), timeout=GRACE_SECONDS + 5.0)
        raise
    finally:
        ray.shutdown()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
    return outcomes


def _note_sigterm() -> list[int]:
    """Note SIGTERM in the list that is returned; Ray's own handler, in C++, would abort the process."""
    received: list[int] = []
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    return received


def _task(ray: Any, resources: Resources, address: str | None) -> Any:
    modules = [
        str(Path(path).absolute()) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path
    ]
    elsewhere = {"env_vars": {"PYTHONPATH": os.pathsep.join(modules)}}
    return ray.remote(
        num_cpus=resources.cpus,
        num_gpus=resources.gpus,
        memory=int(1e9 * resources.memory) or None,
        max_retries=3,
        runtime_env=elsewhere if address and modules else None,  # local workers inherit PYTHONPATH
    )(worker.run)


@contextmanager
def _process_settings(resources: Resources, out: Path) -> Iterator[ProcessSettings]:
    """Yield the environment of the fits; a marker file is in the batch's folder while the block runs."""
    with tempfile.NamedTemporaryFile(prefix=".driver-", dir=out) as marker:
        cpus, gpus, folder = resources.cpus, resources.gpus or 0.0, str(Path.cwd())
        yield ProcessSettings(cpus, gpus, folder, marker.name, resources.timeout)


def groups(jobs: list[Job], size: int) -> list[tuple[Job, ...]]:
    """Group up to ``size`` jobs per process; only jobs with the same options share one."""
    alike: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        alike.setdefault(job.request.options, []).append(job)
    return [tuple(some[i : i + size]) for some in alike.values() for i in range(0, len(some), size)]


def _outcomes(ray: Any, reference: Any, count: int) -> list[Outcome]:
    try:
        return [Outcome(*outcome) for outcome in ray.get(reference)]
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, UnsuitableMachineError):
            raise ValueError(str(cause)) from error
        if "No module named 'dreamfusion_pl" in str(error):
            raise ValueError(
                "a machine of the cluster has no dreamfusion_pl: install it on all of them, or "
                "start the batch by ray job submit --working-dir with a folder that has it (docs/batch.md)"
            ) from error
        return count * [Outcome("failed", 0, f"{type(error).__name__}: {error}")]
