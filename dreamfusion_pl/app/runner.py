"""The thread that runs the waiting jobs of the page, one after another, each in a fit of its own."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import final

from dreamfusion_pl.app.ledger import MARKER, Entry, Ledger
from dreamfusion_pl.batch import worker
from dreamfusion_pl.batch.jobs import Job
from dreamfusion_pl.batch.locks import claimed
from dreamfusion_pl.batch.processes import GRACE_SECONDS
from dreamfusion_pl.batch.worker import Outcome, ProcessSettings, UnsuitableMachineError
from dreamfusion_pl.run_folder import layout

BUSY_SECONDS = 2.0  # between two looks whether the fit of an ended server still runs
BUSY = "the fit that an ended server began still runs; it is waited for"
Run = Callable[[tuple[Job, ...], tuple[str, ...], int, ProcessSettings], tuple[Outcome, ...]]


@final
class Runner:
    """Runs the jobs of a ledger in a thread, in their order.

    Args:
        ledger: the queue.
        settings: environment of the fits; the marker is set for every job.
        closing: set when the server ends: a fit that ends after it is not stopped, but waits.
        run: what runs a job, as ``batch.worker.run`` does.
    """

    def __init__(
        self,
        ledger: Ledger,
        settings: ProcessSettings,
        closing: threading.Event,
        run: Run = worker.run,
    ) -> None:
        self._ledger, self._settings, self._closing, self._run = ledger, settings, closing, run
        self._lock = threading.Lock()  # of the two fields below
        self._current = ""  # key of the job that runs
        self._marker: Path | None = None  # the fit goes on while this file is there
        self._asked: set[str] = set()  # keys of jobs that were asked to stop
        self._thread = threading.Thread(target=self._work, name="runner", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, key: str) -> str:
        """Stop a job; a running fit saves first. Return what there is to say about it."""
        if self._ledger.exchange(key, ["waiting"], "stopped"):
            return "Stopped before it began."
        with self._lock:
            if key != self._current or self._marker is None:
                return "It does not run."
            entry = self._ledger.entry(key)
            if entry is not None and entry.reason == BUSY:
                return "A server that was killed began this fit, so this page cannot stop it; it goes on."
            self._asked.add(key)
            self._marker.unlink(missing_ok=True)
        return "Stopping: the fit finishes its step and saves."

    def resume(self, key: str) -> str:
        """Let a stopped or failed job wait for its turn again. Return what there is to say about it."""
        if self._ledger.exchange(key, ["stopped", "failed"], "waiting"):
            return "It goes on when its turn comes."
        return "There is nothing to go on with."

    def close(self, wait: bool = True) -> None:
        """End the running fit, which saves and then waits for the next server.

        Args:
            wait: wait until it has ended, at most as long as a fit may take to save.
        """
        self._closing.set()
        with self._lock:
            if self._marker is not None:
                self._marker.unlink(missing_ok=True)
        self._ledger.wake()
        if wait and self._thread.is_alive():
            self._thread.join(GRACE_SECONDS + 10.0)

    def _work(self) -> None:
        while (entry := self._ledger.next_waiting(self._closing)) is not None:
            outcome = self._outcome(entry)
            with self._lock:
                is_asked = entry.key in self._asked
                self._asked.discard(entry.key)
                self._current, self._marker = "", None
            self._settle(entry, outcome, is_asked)

    def _outcome(self, entry: Entry) -> Outcome:
        job = self._ledger.job(entry)
        marker = self._ledger.out / f"{MARKER}{secrets.token_hex(4)}"
        try:
            marker.touch()
            with self._lock:
                self._current, self._marker = entry.key, marker
            while True:
                self._wait_for_others(entry, job)
                if self._closing.is_set():
                    return Outcome("unfinished")
                (outcome,) = self._run((job,), (), 0, self._settings._replace(marker=str(marker)))
                if outcome.state != "busy":
                    return outcome
        except (ValueError, OSError, UnsuitableMachineError) as error:
            return Outcome("failed", 1, str(error))
        finally:
            marker.unlink(missing_ok=True)

    def _wait_for_others(self, entry: Entry, job: Job) -> None:
        """Wait while another process runs the job: the fit of a server that was killed, or a ``batch``."""
        while not self._closing.is_set():
            with claimed(job.folder) as is_free:
                if is_free:
                    break
            self._ledger.put(entry.key, "running", BUSY)
            self._closing.wait(BUSY_SECONDS)
        self._ledger.put(entry.key, "running")

    def _settle(self, entry: Entry, outcome: Outcome, is_asked: bool) -> None:
        """Write the state of a job that does not run any more."""
        if outcome.state == "finished":
            self._ledger.put(entry.key, "finished")
        elif self._closing.is_set():  # the next server goes on with it
            self._ledger.put(entry.key, "waiting")
        elif is_asked:
            self._ledger.put(entry.key, "stopped")
        elif layout.read_status(self._ledger.job(entry).folder).get("state") == "interrupted":
            self._ledger.put(entry.key, "stopped", "the fit was ended from outside")
        else:
            self._ledger.put(entry.key, "failed", outcome.reason)
