"""One job: repeated while it helps, never by two at once."""

import fcntl
import os
import sys
from pathlib import Path

import pytest

from dreamfusion_pl.batch import worker
from dreamfusion_pl.batch.jobs import Job, Request, jobs_of

FINISH = """
import json, pathlib, sys
run = pathlib.Path(sys.argv[1]); run.mkdir(parents=True, exist_ok=True)
tries = run / "tries"; tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
if len(tries.read_text()) < int(sys.argv[2]): print("not yet"); sys.exit(int(sys.argv[3]))
(run / "status.json").write_text(json.dumps({"state": "finished"}))
"""


@pytest.fixture
def job(tmp_path) -> Job:
    return jobs_of([Request("a red ball")], 1, tmp_path)[0]


@pytest.fixture
def pretend(monkeypatch):
    """Replace the fit by a process that succeeds at the n-th try, and otherwise exits with a status."""

    def install(tries: int, status: int) -> None:
        def command(job, options):
            return [sys.executable, "-c", FINISH, str(job.folder), str(tries), str(status)]

        monkeypatch.setattr(worker, "command", command)

    return install


def tries_of(job: Job) -> int:
    return len((job.folder / "tries").read_text())


def test_a_failure_is_repeated_until_it_works(job, pretend):
    pretend(tries=3, status=1)
    assert worker.run(job, (), retries=2, threads=1) == worker.Outcome("finished", 3)
    assert worker.run(job, (), retries=2, threads=1) == worker.Outcome("finished", 0)
    assert tries_of(job) == 3


def test_but_not_for_ever(job, pretend):
    pretend(tries=9, status=137)
    outcome = worker.run(job, (), retries=1, threads=1)
    assert outcome == worker.Outcome("failed", 2, "not yet\nnot yet") and tries_of(job) == 2


def test_wrong_usage_is_not_repeated(job, pretend):
    pretend(tries=9, status=2)
    assert worker.run(job, (), retries=5, threads=1).attempts == 1


def test_one_at_a_time(job, pretend):
    pretend(tries=1, status=1)
    job.folder.parent.mkdir(parents=True)
    other = os.open(job.folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT)
    fcntl.flock(other, fcntl.LOCK_EX)
    assert worker.run(job, (), 0, 1) == worker.Outcome("busy")
    assert not job.folder.exists()
    os.close(other)
    assert worker.run(job, (), 0, 1).state == "finished"


def test_the_command(job):
    words = worker.command(job, ("--trainer.max_steps", "5"))
    assert words[1:6] == ["-m", "dreamfusion_pl", "fit", "--trainer.max_steps", "5"]
    assert "--prompt=a red ball" in words and "--seed_everything=0" in words
    (job.folder / "checkpoints").mkdir(parents=True)
    (job.folder / "checkpoints" / "last.ckpt").touch()
    (job.folder / "config.yaml").touch()
    assert worker.command(job, ("--trainer.max_steps", "5"))[4:] == ["--resume", str(job.folder)]


def test_a_prompt_that_looks_like_an_option_stays_a_prompt(tmp_path):
    job = Job(Request("--help"), 0, Path(tmp_path))
    assert "--prompt=--help" in worker.command(job, ())
