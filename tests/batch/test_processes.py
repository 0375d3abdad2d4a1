"""A fit that hangs, and one whose batch was stopped: it is ended, first gently."""

import os
import subprocess
import sys
import time

import pytest

from dreamfusion_pl.batch import processes, worker
from dreamfusion_pl.batch.jobs import Request, jobs_of
from dreamfusion_pl.batch.processes import StillRuns
from dreamfusion_pl.batch.worker import ProcessSettings

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); "
HANG = "import time; print('hangs', flush=True); time.sleep(60)"


@pytest.fixture
def job(tmp_path):
    return jobs_of([Request("a red ball")], 1, tmp_path)[0]


def pretend(monkeypatch, code: str) -> None:
    monkeypatch.setattr(worker, "PROGRAM", (sys.executable, "-c", code))
    monkeypatch.setattr(worker, "command", lambda job, options, seed: [])
    monkeypatch.setattr(processes, "POLL_SECONDS", 0.05)


def test_a_fit_that_hangs_is_ended_and_tried_again(job, monkeypatch):
    pretend(monkeypatch, HANG)
    begin = time.monotonic()
    (outcome,) = worker.run((job,), (), 1, ProcessSettings(timeout=1.2))
    assert (outcome.state, outcome.attempts) == ("failed", 2) and time.monotonic() - begin < 20.0
    assert outcome.reason.count("it took more than 0.02 minutes and was ended (--timeout)") == 2


def test_without_a_limit_it_is_left_alone(job, monkeypatch):
    pretend(monkeypatch, "import time; time.sleep(0.5); print('slow')")
    (outcome,) = worker.run((job,), (), 0, ProcessSettings())
    assert outcome.reason == "slow"


def test_one_that_does_not_obey_is_killed(monkeypatch):
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.3)
    code = f"{DEAF}time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "deaf\n"
        processes.end(process)
        assert process.returncode == -9


def test_the_fits_of_a_stopped_batch_end_and_are_not_tried_again(job, monkeypatch, tmp_path):
    marker = tmp_path / ".driver-here"
    marker.touch()
    code = f"import os, time; os.remove({str(marker)!r}); print('begun', flush=True); time.sleep(60)"
    pretend(monkeypatch, code)
    (outcome,) = worker.run((job,), (), 5, ProcessSettings(marker=str(marker)))
    assert (outcome.state, outcome.attempts, outcome.reason) == ("failed", 1, "begun")


def test_a_run_without_a_sign_of_life_is_named_once(job, capsys):
    runs = StillRuns(seconds=60.0)
    assert runs.look([job], 0.0) == []  # it has not begun
    job.folder.mkdir(parents=True)
    status = job.folder / "status.json"
    status.touch()
    assert [runs.look([job], moment) for moment in (10.0, 40.0, 69.0)] == [[], [], []]
    assert runs.look([job], 80.0) == [job] and runs.look([job], 200.0) == []
    error = capsys.readouterr().err
    assert f"{job.folder} has shown no sign of life for 1 minutes" in error and error.count("\n") == 1
    (job.folder / "log.txt").touch()
    os.utime(job.folder / "log.txt", (time.time() + 5, time.time() + 5))
    assert runs.look([job], 300.0) == [] and runs.look([job], 370.0) == [job]
