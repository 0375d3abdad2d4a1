"""A simulated Windows in this process, for commands that run in it: it lacks what Windows lacks, and refuses
what Windows refuses. It is a stand-in; the tests that use it say nothing about a real Windows beyond that.

What it refuses: names that Windows cannot write, and replacing, renaming or deleting a file that this
process has open or mapped into memory. What it lacks: modules, functions and signals of POSIX, as far as the
libraries underneath, which see that this is Linux, do without them.

    python tests/windows.py FOLDER WORDS...

runs ``python -m dreamfusion_pl WORDS...`` in it, with an eye on the files in FOLDER.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import psutil  # noqa: F401 - it, filelock and multiprocessing take other ways there, so they are imported first
import torch.multiprocessing  # noqa: F401
from filelock import lock_descriptor  # noqa: F401

MODULES = ("fcntl", "resource")
FUNCTIONS = ("killpg", "sched_getaffinity", "setsid", "sysconf")
SIGNALS = ("SIGALRM", "SIGHUP", "SIGQUIT")
BREAK = int(signal.SIGUSR2)  # stands for Windows' Ctrl-Break
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
LONGEST = 259  # characters of a path
_write_text = Path.write_text


def write_text(path: Path, data: str, encoding: str | None = None, errors: str | None = None, newline=None):
    """``Path.write_text`` with the ends of lines of Windows."""
    text = data.replace("\n", "\r\n") if newline is None else data
    return _write_text(path, text, encoding, errors, newline="")


def pretend(place: Path) -> None:
    """Be Windows from now on.

    Args:
        place: the folder whose files are watched; others are of the libraries.
    """
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for name in FUNCTIONS:
        delattr(os, name)
    for name in SIGNALS:
        delattr(signal, name)
    numbers = signal.valid_signals() - {9, 19}  # Lightning, which takes this for Linux, asks for them
    signal.valid_signals = lambda: numbers
    signal.SIGBREAK = signal.CTRL_BREAK_EVENT = BREAK
    Path.write_text = write_text
    root = str(place.resolve())

    def watch(event: str, arguments: tuple) -> None:
        if event in ("open", "os.mkdir", "os.remove", "os.rmdir"):
            paths = [_full(arguments[0], arguments[-1] if event != "open" else -1)]
        elif event in ("os.rename", "os.link"):
            paths = [_full(path, -1) for path in arguments[:2]]
        elif event == "os.symlink":
            raise OSError(f"WinError 1314, a symbolic link: {arguments[1]}")
        else:
            return
        for path in paths:
            if not path.startswith(root + os.sep):
                continue
            _check_name(path.removeprefix(root + os.sep))
            if event in ("os.remove", "os.rename", "os.rmdir"):
                _check_unused(path)

    sys.addaudithook(watch)


def _full(path: object, folder: int) -> str:
    if not isinstance(path, str | bytes | os.PathLike):
        return ""  # a descriptor
    name = os.fsdecode(path)
    if folder != -1 and not os.path.isabs(name):
        return os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)
    return os.path.abspath(name)


def _check_name(name: str) -> None:
    for part in name.split(os.sep):
        if re.search(r'[<>:"|?*\\\x00-\x1f]', part) or part[-1:] in (".", " ") or RESERVED.fullmatch(part):
            raise OSError(f"WinError 123, no name that Windows can write: {part!r}")
    if len(name) + len(r"C:\Users\somebody\Documents\objects") > LONGEST:
        raise OSError(f"WinError 206, the path is too long: {name}")


def _check_unused(path: str) -> None:
    opened = []
    for number in os.listdir("/proc/self/fd"):
        try:
            opened.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:  # of the listing itself
            continue
    descriptor = os.open("/proc/self/maps", os.O_RDONLY)
    try:
        maps = b"".join(iter(lambda: os.read(descriptor, 65536), b"")).decode()
    finally:
        os.close(descriptor)
    opened += [line.split(maxsplit=5)[5] for line in maps.splitlines() if " /" in line]
    folders = [one for one in opened if one == path and os.path.isdir(one)]  # rmtree's own
    for one in opened:
        if (one == path and one not in folders) or one.startswith(path + os.sep):
            raise PermissionError(f"WinError 32, another process uses the file: {one}")


if __name__ == "__main__":
    import warnings

    pretend(Path(sys.argv[1]))
    warnings.filterwarnings("error", category=EncodingWarning, module=r"dreamfusion_pl\b")
    from dreamfusion_pl.cli import main

    sys.exit(main(sys.argv[2:]))
