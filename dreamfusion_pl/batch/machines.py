"""Ray's machines: this one or a cluster's, and how many processes fit on them."""

from __future__ import annotations

import logging
import os
from typing import Any, NamedTuple


class Resources(NamedTuple):
    """What the process of one fit or several takes, and how many may run or wait at once."""

    cpus: int = 1
    gpus: float | None = None  # below 1: a share of one GPU; None: one where the machines have any, else none
    memory: float = 0.0  # GB of main memory; 0: not counted
    in_flight: int = 0  # 0: as many as the machines hold, and as many again waiting
    together: int = 1  # fits in one process, which share the prior and its calls

    def decided(self, machines: list[dict[str, float]]) -> Resources:
        """The same with a number of GPUs.

        Args:
            machines: what each has, by Ray's names: CPU, GPU, memory in bytes.
        """
        if self.gpus is not None:
            return self
        return self._replace(gpus=float(any(machine.get("GPU", 0.0) >= 1.0 for machine in machines)))

    def slots(self, machines: list[dict[str, float]]) -> int:
        """How many such processes run at once; none is spread over machines, nor a share over GPUs."""
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
    """What each machine of a cluster has, whether used or not."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def connect(address: str | None) -> Any:
    """Start Ray on this machine's cores, or join a cluster; return the module.

    Raises:
        ValueError: Ray is not installed, or the cluster does not answer.
    """
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
    return ray
