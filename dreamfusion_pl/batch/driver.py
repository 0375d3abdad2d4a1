"""All jobs on Ray: a bounded number in flight, on this machine's cores or on a cluster."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from dreamfusion_pl.batch import worker
from dreamfusion_pl.batch.jobs import Job, is_done
from dreamfusion_pl.batch.worker import Outcome

POLL_SECONDS = 5.0  # between looks at jobs that run, here or by another driver


class Resources(NamedTuple):
    """What the process of one fit or several takes, and how many may run or wait at once."""

    cpus: int = 1
    gpus: float = 0.0
    in_flight: int = 0  # 0: as many as the machines hold, and as many again waiting
    together: int = 1  # fits in one process, which share the prior and its calls


def run_all(
    jobs: list[Job],
    options: tuple[str, ...],
    resources: Resources,
    retries: int,
    address: str | None,
    report: Callable[[Job, Outcome, int, int], None],
    watch: Callable[[dict[Job, Outcome], int], None] = lambda outcomes, running: None,
) -> dict[Job, Outcome]:
    """Run what is not done; return what came of every job.

    Args:
        jobs: all jobs of the batch.
        options: words for the command line of every fit.
        resources: of one process.
        retries: repetitions of a failed fit.
        address: a Ray cluster; None starts Ray on this machine.
        report: is told each job with its outcome, how many are settled, and how many there are.
        watch: is told what came of those that are settled and how many run, every few seconds.

    Raises:
        ValueError: Ray is not installed, the cluster does not answer, or it has no room for a single fit.
    """
    outcomes = {job: Outcome("finished") for job in jobs if is_done(job)}
    waiting = deque(groups([job for job in jobs if job not in outcomes], resources.together))
    if not waiting:
        return outcomes
    ray = _connect(address, resources)
    task = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=3)(worker.run)
    slots = _slots(ray, resources)
    limit = resources.in_flight or 2 * slots
    running: dict[Any, tuple[Job, ...]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < limit:
                group = waiting.popleft()
                running[task.remote(group, options, retries, resources.cpus)] = group
            ready, _ = ray.wait(list(running), num_returns=1, timeout=POLL_SECONDS)
            watch(outcomes, sum(len(group) for group in list(running.values())[:slots]))
            if not ready:
                continue
            group = running.pop(ready[0])
            came = dict(zip(group, _outcomes(ray, ready[0], len(group)), strict=True))
            for job, outcome in came.items():
                if outcome.state != "busy":
                    outcomes[job] = outcome
                    report(job, outcome, len(outcomes), len(jobs))
            busy = tuple(job for job in group if job not in outcomes)
            if busy:  # another driver has them: look again later
                waiting.append(busy)
                time.sleep(POLL_SECONDS if not running else 0.1)
    finally:
        ray.shutdown()
    return outcomes


def groups(jobs: list[Job], size: int) -> list[tuple[Job, ...]]:
    """Put up to ``size`` jobs into one process; jobs with options of their own only with their like."""
    alike: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        alike.setdefault(job.request.options, []).append(job)
    return [tuple(some[i : i + size]) for some in alike.values() for i in range(0, len(some), size)]


def _outcomes(ray: Any, reference: Any, count: int) -> list[Outcome]:
    try:
        return [Outcome(*outcome) for outcome in ray.get(reference)]
    except ray.exceptions.RayError as error:
        return count * [Outcome("failed", 0, f"{type(error).__name__}: {error}")]


def _connect(address: str | None, resources: Resources) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's own 15 starves fits beside any other process
    try:
        import ray
    except ImportError as error:
        raise ValueError('a batch needs Ray: pip install "dreamfusion_pl[batch]"') from error
    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
            ray.init(
                address="local",  # not that of another driver on this machine
                num_cpus=cores,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=100 * 2**20,
                _node_ip_address="127.0.0.1",
            )
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise ValueError(f"Ray did not start{f' at {address}' if address else ''}: {error}") from error
    if _slots(ray, resources) < 1:
        ray.shutdown()
        raise ValueError(
            f"no machine has room for one fit: it asks for {resources.cpus} cores and {resources.gpus:g} GPUs"
        )
    return ray


def _slots(ray: Any, resources: Resources) -> int:
    """How many fits the machines hold at once."""
    there = ray.cluster_resources()
    slots = there.get("CPU", 0.0) / resources.cpus
    if resources.gpus:
        slots = min(slots, there.get("GPU", 0.0) / resources.gpus)
    return int(slots + 1e-6)
