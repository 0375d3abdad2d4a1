"""Serves the page of a folder, by the command itself."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent


class Served(NamedTuple):
    """A page that is served."""

    address: str  # with the token, if it asks for one
    out: Path
    process: subprocess.Popen
    log: Path  # what the command printed


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@contextmanager
def served(python: str, out: Path, *words: str) -> Iterator[Served]:
    """Serve a page while the block runs.

    Args:
        python: the program that runs the command.
        out: the page's folder.
        words: further words of the command.
    """
    log = out.with_suffix(".txt")
    variables = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    command = [python, "-m", "dreamfusion_pl", "app", "--out", str(out), "--port", "17860", *words]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, cwd=out.parent, env=variables
        )
    try:
        until(lambda: "Ctrl-C ends it" in log.read_text() or process.poll() is not None, 60.0)
        assert process.poll() is None, log.read_text()
        (address,) = re.findall(r"page: +(\S+)", log.read_text())
        yield Served(address, out, process, log)
    finally:
        process.terminate()
        try:
            process.wait(40.0)
        finally:
            process.kill()
