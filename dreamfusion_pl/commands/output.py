"""Output that ends when its reader does, as in ``fit ... | head -1``: quietly, and with the run saved.

It also never ends a command because of a letter: what a console's encoding lacks is written as its escape.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, final

_SIGPIPE = 13  # Windows has no signal of this name
_GONE = (errno.EPIPE, errno.EINVAL)  # what writing to a closed pipe is answered; the second on Windows
STATUS = 128 + _SIGPIPE  # exit status, as of any program whose reader is gone


@final
class _Output:
    """A stream that ends the command when nobody reads it any more.

    While a run is training, which handles SIGTERM, it is told as by a signal: it saves after the step and
    ends. Otherwise the command ends at once. What is written after that is dropped.
    """

    def __init__(self, stream: TextIO, told: list[int]) -> None:
        self._stream = stream
        self._told = told  # shared by all streams; not empty once the run has been told

    def write(self, text: str) -> int:
        try:
            return self._write(text)
        except OSError as error:
            self._end(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._end(error)

    def _write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except UnicodeEncodeError:
            encoding = self._stream.encoding
            return self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def _end(self, error: OSError) -> None:
        if error.errno not in _GONE:
            raise error
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, self._stream.fileno())  # also what is still in the buffer goes there
        os.close(devnull)
        handler = signal.getsignal(signal.SIGTERM)
        if not callable(handler) or not handler.__module__.startswith("dreamfusion_pl."):
            raise SystemExit(STATUS)
        if not self._told:  # a second time would end the run before it has saved
            self._told.append(_SIGPIPE)
            handler(_SIGPIPE, None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def ends_with_its_reader() -> Iterator[list[int]]:
    """Let stdout and stderr be such streams while the block runs.

    Yields:
        A list that is not empty once a reader has gone and a run has been told.

    Raises:
        SystemExit: with ``STATUS``, if a reader has gone.
    """
    before = sys.stdout, sys.stderr
    if None in before:  # a program without a terminal on Windows
        yield []
        return
    told: list[int] = []
    outputs = _Output(before[0], told), _Output(before[1], told)
    sys.stdout, sys.stderr = outputs
    try:
        yield told
    finally:
        try:
            for output in outputs:
                output.flush()
        finally:
            sys.stdout, sys.stderr = before
