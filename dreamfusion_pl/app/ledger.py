"""The queue of the page: an ordered list of jobs, on disk, that one server at a time writes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, final, get_args

from dreamfusion_pl.atomic import replacing
from dreamfusion_pl.batch.jobs import Job, Request, slug
from dreamfusion_pl.batch.locks import try_lock

QUEUE = "queue.json"  # in the page's folder
LOCK = ".page.lock"  # held by the server that writes the queue
MARKER = ".running-"  # first part of the name of a file that is there while a fit shall go on
State = Literal["waiting", "running", "stopped", "failed", "finished"]


class Entry(NamedTuple):
    """One job of the queue."""

    prompt: str
    options: tuple[str, ...]  # command-line arguments of its fit
    seed: int
    state: State = "waiting"
    reason: str = ""  # of a failure, or why it does not begin yet

    @property
    def key(self) -> str:
        """Its run folder relative to the page's folder, such as ``a-red-chair-0123456789abcdef/seed_0``."""
        return f"{slug(Request(self.prompt, self.options))}/seed_{self.seed}"


@final
class Ledger:
    """The queue in a folder; safe to use from several threads.

    Args:
        out: the page's folder. Jobs that an ended server left as running are waiting again.

    Raises:
        ValueError: the folder's queue cannot be read.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.revision = 0  # grows with every change
        self.trouble = ""  # why the last change is not on disk; "" if it is
        self._changed = threading.Condition()
        read = [one._replace(state="waiting") if one.state == "running" else one for one in _read(out)]
        self._entries = {one.key: one for one in read}

    def entries(self) -> list[Entry]:
        """All jobs in their order."""
        with self._changed:
            return list(self._entries.values())

    def entry(self, key: str) -> Entry | None:
        """The job of a key; None if there is none."""
        with self._changed:
            return self._entries.get(key)

    def job(self, entry: Entry) -> Job:
        """The job as ``batch`` would run it."""
        return Job(Request(entry.prompt, entry.options), entry.seed, self.out / entry.key)

    def add(self, prompt: str, options: Sequence[str], seeds: Sequence[int]) -> list[str]:
        """Queue one job per seed and return their keys. A job that is there already is kept, not doubled."""
        fresh = [Entry(prompt, tuple(options), seed) for seed in seeds]
        with self._changed:
            for entry in fresh:
                self._entries.setdefault(entry.key, entry)
            self._save()
        return [entry.key for entry in fresh]

    def put(self, key: str, state: State, reason: str = "") -> None:
        """Change the state of a job."""
        with self._changed:
            self._entries[key] = self._entries[key]._replace(state=state, reason=reason)
            self._save()

    def exchange(self, key: str, expected: Sequence[State], state: State) -> bool:
        """Change the state of a job if it is one of ``expected``; return whether it was."""
        with self._changed:
            known = self._entries.get(key)
            if known is None or known.state not in expected:
                return False
            self._entries[key] = known._replace(state=state, reason="")
            self._save()
            return True

    def next_waiting(self, closing: threading.Event) -> Entry | None:
        """Wait for a job, mark the first one as running and return it; None once ``closing`` is set."""
        with self._changed:
            while not closing.is_set():
                for key, entry in self._entries.items():
                    if entry.state == "waiting":
                        self._entries[key] = entry._replace(state="running", reason="")
                        self._save()
                        return self._entries[key]
                self._changed.wait()
            return None

    def wake(self) -> None:
        """Let ``next_waiting`` look again, as when the server closes."""
        with self._changed:
            self._changed.notify_all()

    def _save(self) -> None:
        self.revision += 1
        self._changed.notify_all()
        rows = [entry._asdict() for entry in self._entries.values()]
        try:
            with replacing(self.out / QUEUE) as temporary:
                text = json.dumps({"format": 1, "jobs": rows}, indent=1)
                temporary.write_text(text + "\n", encoding="utf-8")
            self.trouble = ""
        except OSError as error:  # a full disk must not end the thread that runs the jobs
            self.trouble = f"the queue cannot be saved: {error}"


@contextmanager
def opened(out: Path) -> Iterator[Ledger]:
    """Yield the ledger of a folder; no other server can open it while the block runs.

    Raises:
        ValueError: another server has it, or its queue cannot be read.
        OSError: the folder cannot be written.
    """
    with try_lock(out / LOCK) as is_mine:
        if not is_mine:
            raise ValueError(
                f"another page works in {out}: use that one, end it first, or take another folder (--out)"
            )
        for marker in out.glob(f"{MARKER}*"):  # of a server that was killed
            marker.unlink(missing_ok=True)
        yield Ledger(out)


def _read(out: Path) -> list[Entry]:
    place = out / QUEUE
    if not place.exists():
        return []
    try:
        return [_entry(row) for row in json.loads(place.read_text(encoding="utf-8"))["jobs"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"the queue {place} cannot be read ({error!r}): move it away; the runs beside it stay"
        ) from error


def _entry(row: dict[str, Any]) -> Entry:
    entry = Entry(**row)
    texts = (entry.prompt, entry.reason, *entry.options)
    if not all(isinstance(text, str) for text in texts) or type(entry.seed) is not int:
        raise ValueError(f"no job: {row}")
    if entry.state not in get_args(State):
        raise ValueError(f"no state of a job: {entry.state!r}")
    return entry._replace(options=tuple(entry.options))
