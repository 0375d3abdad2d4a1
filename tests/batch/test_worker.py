"""One job: repeated while it helps, never by two at once."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from dreamfusion_pl.batch import worker
from dreamfusion_pl.batch.jobs import Job, Request, jobs_of
from dreamfusion_pl.batch.locks import HELD, told_locks, try_lock, variables
from dreamfusion_pl.batch.worker import ProcessSettings, UnsuitableMachineError
from dreamfusion_pl.terminal import GPU_SHARE

FINISH = """
import json, pathlib, sys
run = pathlib.Path(sys.argv[2]); run.mkdir(parents=True, exist_ok=True)
tries = run / "tries"; tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
if len(tries.read_text()) < int(sys.argv[3]): print("not yet"); sys.exit(int(sys.argv[4]))
(run / "status.json").write_text(json.dumps({"state": "finished"}))
"""


@pytest.fixture
def job(tmp_path) -> Job:
    return jobs_of([Request("a red ball")], 1, tmp_path)[0]


@pytest.fixture
def pretend(monkeypatch):
    """Replace the fit by a process that succeeds at the n-th try, and otherwise exits with a status."""

    def install(tries: int, status: int) -> None:
        def command(job, options, seed):
            return [str(job.folder), str(tries), str(status)]

        monkeypatch.setattr(worker, "PROGRAM", (sys.executable, "-c", FINISH))
        monkeypatch.setattr(worker, "command", command)

    return install


def wait_until(holds, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def run(job, retries) -> worker.Outcome:
    (outcome,) = worker.run((job,), (), retries, ProcessSettings())
    return outcome


def tries_of(job: Job) -> int:
    return len((job.folder / "tries").read_text())


def test_a_failure_is_repeated_until_it_works(job, pretend):
    pretend(tries=3, status=1)
    assert run(job, 2) == worker.Outcome("finished", 3)
    assert run(job, 2) == worker.Outcome("finished", 0)
    assert tries_of(job) == 3


def test_but_not_for_ever(job, pretend):
    pretend(tries=9, status=137)
    outcome = run(job, 1)
    assert outcome == worker.Outcome("failed", 2, "not yet\nnot yet") and tries_of(job) == 2


def test_wrong_usage_is_not_repeated(job, pretend):
    pretend(tries=9, status=2)
    assert run(job, 5).attempts == 1


def test_one_at_a_time(job, pretend):
    pretend(tries=1, status=1)
    for name in (
        "seed_0.lock",
        "seed_0.fit.lock",
    ):  # of another worker, and of the fit of one that was killed
        with try_lock(job.folder.with_name(name)) as is_mine:
            assert is_mine
            assert run(job, 0) == worker.Outcome("busy")
            assert not job.folder.exists()
    assert run(job, 0).state == "finished"


WORK = """
import sys
from pathlib import Path
from dreamfusion_pl.batch import worker
from dreamfusion_pl.batch.jobs import Request, jobs_of
fit = "import sys, time; from dreamfusion_pl.batch.locks import told_locks\\n"
fit += "with told_locks() as held: print(held, flush=True); time.sleep(60)"
worker.PROGRAM = (sys.executable, "-c", fit)
worker.command = lambda job, options, seed: []
worker.run(tuple(jobs_of([Request("a red ball")], 1, Path(sys.argv[1]))), (), 0, worker.ProcessSettings())
"""


def test_the_fit_of_a_killed_worker_keeps_its_job(job, tmp_path, pretend):
    """And it is the only one that does: nothing is left locked when it ends."""
    log = job.folder / "log.txt"
    other = subprocess.Popen([sys.executable, "-c", WORK, str(tmp_path)])
    wait_until(lambda: log.exists() and log.read_text() == "True\n")
    fit = next(one for one in psutil.Process(other.pid).children())
    other.kill()
    other.wait()
    pretend(tries=1, status=1)
    assert run(job, 0) == worker.Outcome("busy")
    fit.kill()
    wait_until(lambda: run(job, 0).state == "finished")


def test_a_fit_that_comes_too_late_ends_and_the_job_is_busy(job, tmp_path, monkeypatch):
    words = [sys.executable, "-m", "dreamfusion_pl", "--version"]
    environment = os.environ | variables([job.folder])
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0
    with try_lock(job.folder.with_name("seed_0.fit.lock")):
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == HELD and "another process makes this object" in done.stderr
    monkeypatch.setattr(worker, "PROGRAM", (sys.executable, "-c", f"raise SystemExit({HELD})"))
    assert run(job, 3) == worker.Outcome("busy", 1)


def test_only_the_fit_itself_is_told_of_its_lock(job, monkeypatch):
    """Otherwise the processes that it starts, as with DDP, would find it taken and end."""
    for name, value in variables([job.folder]).items():
        monkeypatch.setenv(name, value)
    with told_locks() as first, told_locks() as second:
        assert first and second and variables([]).keys().isdisjoint(os.environ)
        assert run(job, 0) == worker.Outcome("busy")


def test_the_command(job):
    words = worker.command(job, ("--trainer.max_steps", "5"), 7)
    assert words[:2] == ["--trainer.max_steps", "5"]
    assert "--prompt=a red ball" in words and "--seed_everything=7" in words
    (job.folder / "checkpoints").mkdir(parents=True)
    torch.save({}, job.folder / "checkpoints" / "last.ckpt")
    (job.folder / "config.yaml").touch()
    resumed = worker.command(job, ("--trainer.max_steps", "5"), 7)
    assert resumed[:2] == ["--resume", str(job.folder)]
    # Where it lies now, as its config.yaml may name the folder that it lay in before.
    assert resumed[2:] == words[-3:] and f"--trainer.logger.init_args.version={job.folder.name}" in resumed


def test_a_job_whose_checkpoints_are_all_damaged_starts_afresh(job):
    (job.folder / "checkpoints").mkdir(parents=True)
    for name in ("last.ckpt", "previous.ckpt"):
        (job.folder / "checkpoints" / name).write_bytes(b"half")
    (job.folder / "config.yaml").touch()
    assert "--prompt=a red ball" in worker.command(job, (), 0)


def test_a_job_that_has_weights_only_starts_afresh(job):
    (job.folder / "checkpoints").mkdir(parents=True)
    torch.save({"state_dict": {}}, job.folder / "checkpoints" / "last.ckpt")
    (job.folder / "config.yaml").touch()
    assert "--prompt=a red ball" in worker.command(job, (), 0)


def test_a_prompt_that_looks_like_an_option_stays_a_prompt(tmp_path):
    job = Job(Request("--help"), 0, Path(tmp_path))
    assert "--prompt=--help" in worker.command(job, (), 0)


DIVERGED = """
import json, pathlib, sys
run, seed = pathlib.Path(sys.argv[2]), int(sys.argv[3])
assert sorted(path.name for path in run.iterdir()) == ["log.txt"], "the run before is still here"
(run / "checkpoints").mkdir(); (run / "checkpoints" / "last.ckpt").touch(); (run / "config.yaml").touch()
status = {"state": "failed", "seed": seed, "error": "DivergedError: the object has vanished"}
(run / "status.json").write_text(json.dumps(status))
print("lost with", seed); sys.exit(3)
"""


def test_a_hopeless_run_is_tried_with_other_seeds(job, monkeypatch):
    monkeypatch.setattr(worker, "PROGRAM", (sys.executable, "-c", DIVERGED))
    monkeypatch.setattr(worker, "command", lambda job, options, seed: [str(job.folder), str(seed)])
    assert run(job, 1) == worker.Outcome("failed", 2, "lost with 0\nlost with 1000")
    assert (job.folder / "checkpoints" / "last.ckpt").exists()  # the last one stays, to be looked at
    assert run(job, 0).reason.endswith("lost with 2000")  # the same command again takes yet another seed


def test_several_jobs_in_one_process_have_their_own_ends(tmp_path, monkeypatch):
    script = """
import json, pathlib, sys
fits = json.loads(pathlib.Path(sys.argv[2]).read_text()); codes = []
for number, fit in enumerate(fits):
    code = int(fit["words"][0]); codes.append(code)
    run = pathlib.Path(fit["log"]).parent
    if code == 0: (run / "status.json").write_text('{"state": "finished"}')
    else: print(len(fits), file=open(fit["log"], "a"))
print(codes)
"""
    jobs = tuple(jobs_of([Request("a ball"), Request("a mug"), Request("a cup")], 1, tmp_path))
    codes = {jobs[0]: ["0"], jobs[1]: ["2"], jobs[2]: ["1"]}
    monkeypatch.setattr(worker, "PROGRAM", (sys.executable, "-c", script))
    monkeypatch.setattr(worker, "command", lambda job, options, seed: codes[job])
    finished, wrong, failed = worker.run(jobs, (), 0, ProcessSettings())
    assert finished.state == "finished" and finished.attempts == 1
    assert wrong == worker.Outcome("failed", 1, "3") and failed == worker.Outcome("failed", 1, "3")


def test_jobs_whose_process_was_killed_are_all_repeated(tmp_path, monkeypatch):
    jobs = tuple(jobs_of([Request("a ball"), Request("a mug")], 1, tmp_path))
    kill = "import os; os.kill(os.getpid(), 9)"
    monkeypatch.setattr(worker, "PROGRAM", (sys.executable, "-c", kill))
    assert [outcome.attempts for outcome in worker.run(jobs, (), 2, ProcessSettings())] == [3, 3]


def test_a_machine_that_does_not_see_the_batch_makes_nothing(job, tmp_path, pretend):
    pretend(tries=1, status=1)
    with pytest.raises(UnsuitableMachineError, match="file system that all machines of the cluster share"):
        worker.run((job,), (), 0, ProcessSettings(marker=str(tmp_path / ".driver-elsewhere")))
    assert not list(tmp_path.iterdir())
    (tmp_path / ".driver-here").touch()
    assert (
        worker.run((job,), (), 0, ProcessSettings(marker=str(tmp_path / ".driver-here")))[0].state
        == "finished"
    )


def test_a_fit_works_where_the_driver_does(tmp_path, monkeypatch):
    (job,) = jobs_of([Request("a ball")], 1, tmp_path / "out")
    monkeypatch.setattr(worker, "PROGRAM", (sys.executable, "-c", "import os; print(os.getcwd())"))
    folder = tmp_path / "of the driver"
    folder.mkdir()
    for place, expected in ((folder, folder), (tmp_path / "nowhere", Path.cwd())):
        (outcome,) = worker.run((job,), (), 0, ProcessSettings(folder=str(place)))
        assert outcome.reason.splitlines()[-1] == str(expected)


def test_the_log_has_every_letter_whatever_the_locale(job, monkeypatch):
    for name, value in {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(worker, "PROGRAM", (sys.executable, "-c", "print('gr\\xfcn')"))
    assert run(job, 0).reason == "gr\xfcn"


def test_a_process_sees_the_gpus_that_it_is_given(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")  # by Ray
    seen = {}
    for gpus in (0.0, 0.25, 1.0, 2.0):
        environment = ProcessSettings(gpus=gpus).environment()
        seen[gpus] = (environment["CUDA_VISIBLE_DEVICES"], environment.get(GPU_SHARE))
    assert seen == {0.0: ("", None), 0.25: ("3", "0.25"), 1.0: ("3", None), 2.0: ("3", None)}
