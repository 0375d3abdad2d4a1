"""Ray and its machines: this machine or a cluster, and how many processes fit on it."""

from __future__ import annotations

import logging
import os
from typing import Any, NamedTuple


class Resources(NamedTuple):
    """Resources of one process, which runs one fit or several, and limits of the batch."""

    cpus: int = 1
    gpus: float | None = None  # below 1: a share of one GPU; None: one GPU if any machine has one, else 0
    memory: float = 0.0  # main memory in GB; 0: unlimited
    in_flight: int = 0  # processes submitted at once; 0: twice as many as can run
    together: int = 1  # fits per process; they share the prior and batch its calls
    timeout: float = 0.0  # seconds that one process may take; 0: no limit

    def resolved(self, machines: list[dict[str, float]]) -> Resources:
        """Return the same resources with ``gpus`` set to a number.

        Args:
            machines: resources of every machine under Ray's names: CPU, GPU, memory in bytes.
        """
        if self.gpus is not None:
            return self
        return self._replace(gpus=float(any(machine.get("GPU", 0.0) >= 1.0 for machine in machines)))

    def slots(self, machines: list[dict[str, float]]) -> int:
        """Count the processes that can run at once; each runs on one machine, a share of a GPU on one GPU."""
        return sum(self._slots(machine) for machine in machines)

    def _slots(self, machine: dict[str, float]) -> int:
        fitting = [_parts(machine.get("CPU", 0.0), self.cpus)]
        if self.gpus:
            whole = machine.get("GPU", 0.0)
            shares = int(whole) * _parts(1.0, self.gpus) if self.gpus < 1.0 else _parts(whole, self.gpus)
            fitting.append(shares)
        if self.memory:
            fitting.append(_parts(machine.get("memory", 0.0), 1e9 * self.memory))
        return min(fitting)

    def __str__(self) -> str:
        memory = f" and {self.memory:g} GB of memory" if self.memory else ""
        return f"{self.cpus} cores, {self.gpus or 0.0:g} GPUs{memory}"


def _parts(whole: float, part: float) -> int:
    return int(whole / part + 1e-6)


def machines_of(ray: Any) -> list[dict[str, float]]:
    """Return the total resources of every machine of a cluster, free or in use."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def connect(address: str | None) -> Any:
    """Start Ray on this machine, or connect to a cluster; return the module ``ray``.

    Raises:
        ValueError: Ray is not installed, or the cluster does not answer.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's default, 15, starves fits if anything else runs
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
                address="local",  # not the instance of another driver on this machine
                num_cpus=cores,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=100 * 2**20,
                _node_ip_address="127.0.0.1",
            )
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise ValueError(f"Ray did not start{f' at {address}' if address else ''}: {error}") from error
    return ray
