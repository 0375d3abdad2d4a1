"""What fits on machines, and a cluster of pretended ones, which runs where the driver does not."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import SMALL_RUN

from dreamfusion_pl.batch.machines import Resources

pytest.importorskip("ray")
TESTS = Path(__file__).parent.parent
SMALL, GPU = {"CPU": 2.0, "memory": 4e9}, {"CPU": 8.0, "GPU": 2.0, "memory": 64e9}


@pytest.mark.parametrize(
    "resources, machines, slots",
    [
        (Resources(), [SMALL, SMALL], 4),
        (Resources(cpus=4), [SMALL, SMALL], 0),  # 4 cores, but on no machine
        (Resources(cpus=2), [{"CPU": 3.0}, {"CPU": 3.0}], 2),
        (Resources(gpus=1.0), [SMALL, GPU], 2),
        (Resources(gpus=2.0), [{"CPU": 8.0, "GPU": 1.0}, GPU], 1),
        (Resources(gpus=0.25), [GPU], 8),
        (Resources(gpus=0.4), [GPU], 4),  # two on each, though five make up two GPUs
        (Resources(memory=3.0), [SMALL, SMALL], 2),
        (Resources(memory=3.0), [{"CPU": 1.0}], 0),
        (Resources(), [{}], 0),
    ],
)
def test_what_fits(resources, machines, slots):
    assert resources.slots(machines) == slots


def test_the_number_of_gpus_is_what_was_asked_for_or_what_is_there():
    machines = [SMALL, GPU]
    assert Resources().resolved(machines).gpus == 1.0
    assert Resources().resolved([SMALL]).gpus == 0.0
    for gpus in (0.0, 0.5, 2.0):
        assert Resources(gpus=gpus).resolved(machines).gpus == gpus


@pytest.fixture
def address(tmp_path, monkeypatch):
    """Of a cluster with 2 cores and a pretended GPU, started elsewhere and without the driver's variables."""
    place = tmp_path / "elsewhere"
    place.mkdir()
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray = [sys.executable, "-c", "from ray.scripts.scripts import main; main()"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    head = ["start", "--head", "--block", "--port", str(port)]
    head += ["--num-cpus=2", "--num-gpus=1", "--include-dashboard=false", "--object-store-memory=100000000"]
    process = subprocess.Popen(
        [*ray, *head],
        cwd=place,
        env=environment | {"RAY_USAGE_STATS_ENABLED": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield f"127.0.0.1:{port}"
    process.terminate()
    process.wait(timeout=60)


def test_a_cluster_finds_what_the_driver_has(tmp_path, address):
    """A relative configuration, and modules from PYTHONPATH: without it the tests' prior is nowhere."""
    place = tmp_path / "driver"
    place.mkdir()
    (place / "steps.yaml").write_text("trainer: {max_steps: 3}\n")
    (place / "prompts.txt").write_text("a red ball\n")
    words = ["batch", "--prompts", "prompts.txt", "--out", "out", "--address", address, *SMALL_RUN]
    done = subprocess.run(
        [sys.executable, "-m", "dreamfusion_pl", *words, "--config", "steps.yaml"],
        cwd=place,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    logs = [log.read_text() for log in place.glob("out/*/seed_0/log.txt")]
    assert done.returncode == 0, "\n".join([done.stdout, done.stderr, *logs])
    (status,) = place.glob("out/*/seed_0/status.json")
    assert json.loads(status.read_text())["max_steps"] == 3
