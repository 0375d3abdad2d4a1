"""docs/slurm.sh with a pretended srun and scontrol: a job that has to end saves, queues again and goes on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fakes import SMALL_RUN

TESTS = Path(__file__).parents[1]
SCRIPT = TESTS.parent / "docs" / "slurm.sh"


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_job_that_is_told_to_end_goes_on(tmp_path, number):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (
        ("srun", '[ "$1" = --kill-on-bad-exit=1 ] && shift && exec "$@"'),
        ("scontrol", 'echo "$@" >> requeued.txt'),
    ):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "71234", "SLURM_JOB_NAME": "dreamfusion", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}
    job |= {"SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NODELIST": "localhost"}
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    environment = os.environ | job | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    python = str(Path(sys.executable).parent)
    environment["PATH"] = os.pathsep.join([str(programs), python, os.environ["PATH"]])
    probe = ["--trainer.callbacks+=probe.Probe", f"--trainer.callbacks.folder={tmp_path}"]
    probe += ["--trainer.callbacks.victim=0", "--trainer.callbacks.last_step=2"]
    command = ["bash", str(SCRIPT), "a red ball", *SMALL_RUN, "--trainer.max_steps", "6", *probe]
    command.append(f"--trainer.callbacks.number={int(number)}")

    def run() -> subprocess.CompletedProcess:
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    done = run()
    assert done.returncode == 128 + number, done.stderr
    assert (tmp_path / "requeued.txt").read_text() == "requeue 71234\n"
    stored = tmp_path / "runs" / "job_71234" / "checkpoints" / "last.ckpt"
    assert torch.load(stored, weights_only=True)["global_step"] == 3
    assert not list(tmp_path.glob("hpc*"))  # Lightning's own checkpoint of a preempted job
    done = run()
    assert done.returncode == 0, done.stderr
    assert torch.load(stored, weights_only=True)["global_step"] == 6
    assert (tmp_path / "requeued.txt").read_text().count("\n") == 1
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["job_71234"]
