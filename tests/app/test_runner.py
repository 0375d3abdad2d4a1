"""The thread that runs the jobs: in order, one at a time, stopped and resumed, through ends of the server."""

import json
import threading
import time
from pathlib import Path

import pytest
from served_page import until

from dreamfusion_pl.app.ledger import Entry, Ledger
from dreamfusion_pl.app.runner import BUSY, Runner
from dreamfusion_pl.batch.locks import claimed
from dreamfusion_pl.batch.worker import Outcome, ProcessSettings


class Fits:
    """Stands in for ``worker.run``: a fit lasts until it is let go or its marker is gone."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.go = threading.Event()
        self.outcome = "finished"

    def __call__(self, jobs, options, retries, settings):
        (job,) = jobs
        assert options == () and retries == 0
        job.folder.mkdir(parents=True, exist_ok=True)
        self.begun.append(job.request.prompt)
        with claimed(job.folder) as is_mine:
            assert is_mine
            while not self.go.wait(0.01):
                if not Path(settings.marker).exists():
                    self._write(job, "interrupted")
                    return (Outcome("failed", 1, "saved"),)
        self._write(job, self.outcome)
        return (Outcome(self.outcome, 1, "" if self.outcome == "finished" else "line\nlast line"),)

    def _write(self, job, state):
        (job.folder / "status.json").write_text(json.dumps({"state": state}))


@pytest.fixture
def fits():
    return Fits()


@pytest.fixture
def start(tmp_path, fits):
    runners = []

    def begin():
        ledger, closing = Ledger(tmp_path), threading.Event()
        runner = Runner(ledger, ProcessSettings(), closing, fits)
        runner.start()
        runners.append(runner)
        return ledger, runner

    yield begin
    for runner in runners:
        runner.close()


def state(ledger, key):
    return ledger.entry(key).state


def test_jobs_run_in_order_one_at_a_time(start, fits):
    ledger, _ = start()
    chair, ball = ledger.add("a chair", [], [0]) + ledger.add("a ball", [], [0])
    until(lambda: fits.begun)
    time.sleep(0.05)
    assert fits.begun == ["a chair"] and state(ledger, ball) == "waiting"
    fits.go.set()
    until(lambda: state(ledger, ball) == "finished")
    assert fits.begun == ["a chair", "a ball"] and state(ledger, chair) == "finished"
    assert not list(ledger.out.glob(".running-*"))


def test_a_running_job_is_stopped_and_goes_on(start, fits):
    ledger, runner = start()
    (key,) = ledger.add("a chair", [], [0])
    until(lambda: fits.begun)
    assert "saves" in runner.stop(key)
    until(lambda: state(ledger, key) == "stopped")
    fits.go.set()
    assert "its turn" in runner.resume(key)
    until(lambda: state(ledger, key) == "finished")
    assert fits.begun == ["a chair", "a chair"]
    assert "nothing" in runner.resume(key) and "not run" in runner.stop(key)


def test_a_waiting_job_is_stopped_before_it_begins(start, fits):
    ledger, runner = start()
    first, second = ledger.add("a chair", [], [0, 1])
    until(lambda: fits.begun)
    assert "before it began" in runner.stop(second)
    fits.go.set()
    until(lambda: state(ledger, first) == "finished")
    time.sleep(0.05)
    assert state(ledger, second) == "stopped" and len(fits.begun) == 1


def test_a_failure_is_kept_and_the_next_job_runs(start, fits):
    ledger, _ = start()
    fits.outcome = "failed"
    fits.go.set()
    first, second = ledger.add("a chair", [], [0, 1])
    until(lambda: state(ledger, second) == "failed")
    assert ledger.entry(first) == ledger.entry(first)._replace(state="failed", reason="line\nlast line")


def test_what_a_run_raises_is_a_failure(start, fits):
    ledger, _ = start()
    entry = Entry("a chair", (), 0)
    ledger.job(entry).folder.with_suffix(".lock").mkdir(parents=True)  # no lock can be had
    (key,) = ledger.add("a chair", [], [0])
    until(lambda: state(ledger, key) == "failed")
    assert "directory" in ledger.entry(key).reason


def test_a_fit_that_was_interrupted_from_outside_is_stopped(start, fits):
    ledger, _ = start()
    fits.outcome = "interrupted"
    fits.go.set()
    (key,) = ledger.add("a chair", [], [0])
    until(lambda: state(ledger, key) != "running" and fits.begun)
    assert state(ledger, key) == "stopped" and "outside" in ledger.entry(key).reason


def test_the_end_of_the_server_leaves_the_fit_waiting_and_the_next_goes_on(start, fits):
    ledger, runner = start()
    (key,) = ledger.add("a chair", [], [0])
    until(lambda: fits.begun)
    runner.close()
    assert state(ledger, key) == "waiting" and Ledger(ledger.out).entry(key).state == "waiting"
    fits.go.set()
    again, _ = start()
    until(lambda: state(again, key) == "finished")
    assert fits.begun == ["a chair", "a chair"]


def test_the_fit_of_a_killed_server_is_waited_for(start, fits, monkeypatch):
    monkeypatch.setattr("dreamfusion_pl.app.runner.BUSY_SECONDS", 0.02)
    ledger, runner = start()
    fits.go.set()
    (key,) = Ledger(ledger.out).add("a chair", [], [0])
    with claimed(ledger.job(Ledger(ledger.out).entry(key)).folder):  # that fit has it
        ledger.add("a chair", [], [0])
        until(lambda: ledger.entry(key).reason == BUSY)
        assert state(ledger, key) == "running" and not fits.begun
        assert "cannot stop" in runner.stop(key)
    until(lambda: state(ledger, key) == "finished")
    assert ledger.entry(key).reason == ""
