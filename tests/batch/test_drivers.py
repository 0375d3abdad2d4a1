"""Two drivers of one batch at once: every prompt is made, and made once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import SMALL_RUN

pytest.importorskip("ray")
TESTS = Path(__file__).parent.parent


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
