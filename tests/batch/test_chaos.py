"""A batch whose drivers, workers and fits die, or that is started twice: every prompt is made, once."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes import SMALL_RUN

pytest.importorskip("ray")
pytestmark = pytest.mark.faults
TESTS = Path(__file__).parent.parent
FRAGILE = ["--trainer.callbacks+=fakes.Fragile", "--trainer.callbacks.step=2"]


def start(folder: Path, *words: str) -> subprocess.Popen:
    """A driver; the folder is the working folder."""
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=paths)
    command = [sys.executable, "-m", "dreamfusion_pl", "batch", "--prompts", "prompts.txt", "--out", "out"]
    with (folder / "driver.txt").open("a") as log:
        return subprocess.Popen(
            [*command, *SMALL_RUN, *words], cwd=folder, env=environment, stdout=log, stderr=log
        )


def check(folder: Path, count: int) -> None:
    """Every job has finished, and has been finished once."""
    jobs = sorted((folder / "out").glob("*/seed_*/"))
    assert len(jobs) == count
    for job in jobs:
        assert json.loads((job / "status.json").read_text())["state"] == "finished"
        assert (job / "log.txt").read_text().count("\ndone: ") == 1, job


def test_two_drivers_share_the_work(tmp_path):
    (tmp_path / "prompts.txt").write_text("a red ball\na mug\na cup\n")
    drivers = [start(tmp_path) for _ in range(2)]
    assert [driver.wait(timeout=300) for driver in drivers] == [0, 0], (tmp_path / "driver.txt").read_text()
    check(tmp_path, 3)


def descendants(pid: int) -> list[int]:
    """Every process below one, which all were started by it."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:  # it has ended
        return []
    return [one for child in children for one in (child, *descendants(child))]


def kill_a_worker(driver: subprocess.Popen) -> bool:
    """Kill a process of Ray that has a job, once there is one."""
    deadline = time.monotonic() + 120
    while driver.poll() is None and time.monotonic() < deadline:
        for pid in descendants(driver.pid):
            try:
                title = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if title.startswith(b"ray::run"):
                os.kill(pid, signal.SIGKILL)
                return True
        time.sleep(0.1)
    return False


def survive(folder: Path, count: int, kills: int, seed: int) -> None:
    """Kill a worker and then the driver ``kills`` times while every fit dies once by itself; let it end."""
    draw = random.Random(seed)
    (folder / "prompts.txt").write_text("".join(f"a ball, number {number}\n" for number in range(count)))
    for _ in range(kills):
        driver = start(folder, *FRAGILE)
        assert kill_a_worker(driver) or driver.wait() == 0, (folder / "driver.txt").read_text()
        time.sleep(draw.uniform(3.0, 25.0))
        driver.kill()
        driver.wait()
    assert start(folder, *FRAGILE).wait(timeout=600) == 0, (folder / "driver.txt").read_text()
    check(folder, count)
    assert len(list((folder / "out").glob("*/seed_0/died.txt"))) == count


def test_drivers_workers_and_fits_die(tmp_path):
    survive(tmp_path, count=2, kills=1, seed=0)
