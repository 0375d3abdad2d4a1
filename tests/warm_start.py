"""A Python that has imported what a fit needs, and starts ``python -m dreamfusion_pl`` at once.

Nine of the twelve seconds of a small fit in a process of its own are imports. Tests whose point is not the
start of a fresh interpreter take the fixture ``warm_python`` where they would take ``sys.executable``, as in
``subprocess.Popen([warm_python, "-m", "dreamfusion_pl", "fit", ...])``. There are four kinds of processes:

- The stand-in is what the test has started. It passes signals on to the program, and ends as the program
  ends, with its status or by its signal.
- The server, one for each process of pytest, has imported everything, in one thread. It forks a keeper for
  each stand-in.
- The keeper forks the program and tells the stand-in how it ended. If the stand-in or pytest is gone, it
  kills the program.
- The program has the stand-in's open files, working folder, environment and words, and does what
  ``python -m`` does, until the interpreter's end. Its own ``sys.executable`` starts warm too.

The stand-in becomes a real Python if the command is another one, if variables that act while modules are
loaded have other values than the server's, or if there is no server, as where ``os.pidfd_open`` is missing.
What a program does not get: limits of resources, priorities and the group of the stand-in (it leads a session
if the stand-in does).
"""

from __future__ import annotations

import json
import os
import select
import shlex
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

MODULES = ("dreamfusion_pl", "dreamfusion_pl.__main__")
# The package's other modules, which take no time, stay to be imported by the program, as in a real start.
IMPORTED = ("dreamfusion_pl.runs", "trimesh", "networkx", "skimage.measure", "torch.utils.tensorboard")
EARLY = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "TORCH", "PYTORCH_", "HF_", "PYTHON", "LD_")
OF_THE_SERVER = {
    "OMP_NUM_THREADS": "1",  # a pool of threads would not survive the fork
    "OMP_WAIT_POLICY": "PASSIVE",  # as the command line sets it
    "TRANSFORMERS_VERBOSITY": "error",  # likewise
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # to ask CUDA itself whether it is there forbids to fork
}
NOT_COMPARED = ("PYTHONPATH", "PYTHONUNBUFFERED", "PYTORCH_NVML_BASED_CUDA_CHECK", "TORCHINDUCTOR_CACHE_DIR")
PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
END = struct.Struct("=ii")  # from a keeper: the program's process (0: make a real start), and its status
SIZE = struct.Struct("=i")  # of a request
TESTS = Path(__file__).resolve().parent


class Request(NamedTuple):
    """What a program gets from its stand-in."""

    module: str
    words: list[str]
    folder: str
    variables: dict[str, str]
    mask: int  # of the permissions of new files
    leads: bool  # a session of its own
    executable: str
    numbers: list[int]  # of the open files


class WarmPython:
    """The program that starts warm, and its server; a context manager.

    Args:
        folder: an empty folder with a short path.

    Attributes:
        path: of the program, to be used like ``sys.executable``.
    """

    def __init__(self, folder: Path) -> None:
        self.path, self._socket = str(folder / "python"), str(folder / "socket")
        words = [sys.executable, "-I", "-S", __file__, "stand-in", self._socket, self.path]
        Path(self.path).write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', encoding="utf-8")
        Path(self.path).chmod(0o755)

    def __enter__(self) -> WarmPython:
        """Start the server; who asks it before it is ready waits."""
        import subprocess

        paths = [str(TESTS.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        alive, self._alive = os.pipe()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self._socket)
            listener.listen(64)
            self._server = subprocess.Popen(
                [sys.executable, __file__, "server", str(listener.fileno()), str(alive)],
                env=os.environ | OF_THE_SERVER | {"PYTHONPATH": os.pathsep.join(paths)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[listener.fileno(), alive],
                start_new_session=True,
            )
        os.close(alive)
        return self

    def __exit__(self, *_: object) -> None:
        """End the server, with all that it has started."""
        os.close(self._alive)  # as it is when this process is killed
        self._server.wait(60)


def stand_in(place: str, executable: str, words: list[str]) -> NoReturn:
    """Have the server run a command, and end as it ends."""
    if len(words) < 2 or words[0] != "-m" or words[1] not in MODULES:
        os.execv(sys.executable, [sys.executable, *words])
    process, early = 0, list[int]()

    def pass_on(number: int, _: object = None) -> None:
        if not process:
            early.append(number)
            return
        with suppress(ProcessLookupError):
            os.kill(process, number)

    handled = [getattr(signal, name) for name in PASSED_ON]
    handled = [number for number in handled if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, pass_on) for number in handled}
    with socket.socket(socket.AF_UNIX) as server:
        with suppress(OSError):  # there is no server, or it has ended
            server.connect(place)
            _ask(server, executable, words)
            process, _ = END.unpack(_receive(server, END.size))
        if not process:
            for number, handler in before.items():
                signal.signal(number, handler)
            for number in early:
                os.kill(os.getpid(), number)
            os.execv(sys.executable, [sys.executable, *words])
        for number in early:
            pass_on(number)
        status = int(signal.SIGKILL)
        with suppress(OSError):  # the keeper has been killed
            _, status = END.unpack(_receive(server, END.size))
    _end(status)


def _ask(server: socket.socket, executable: str, words: list[str]) -> None:
    numbers = [number for number in map(int, os.listdir("/proc/self/fd")) if _is_inherited(number)]
    mask = os.umask(0o077)
    os.umask(mask)
    leads = os.getsid(0) == os.getpid()
    request = Request(words[1], words[2:], os.getcwd(), dict(os.environ), mask, leads, executable, numbers)
    content = json.dumps(request).encode()
    socket.send_fds(server, [SIZE.pack(len(content))], numbers)
    server.sendall(content)


def _is_inherited(number: int) -> bool:
    try:
        return os.get_inheritable(number)
    except OSError:  # the listing itself
        return False


def _end(status: int) -> NoReturn:
    if os.WIFSIGNALED(status):
        import resource

        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the program has left its own
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


def _receive(connection: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        part = connection.recv(size - len(content))
        if not part:
            raise ConnectionResetError
        content += part
    return content


def serve(listener: socket.socket, alive: int, own: dict[str, str]) -> Request | None:
    """Fork a keeper for every stand-in, until pytest is gone; return a request in a program's process.

    Args:
        listener: the socket that stand-ins connect to.
        alive: a pipe that ends with pytest.
        own: the environment that the server was started with.
    """
    while alive not in select.select([listener, alive], [], [])[0]:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            return _keep(connection, alive, own)
        connection.close()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # keepers that have ended
                pass
    listener.close()
    with suppress(ChildProcessError):
        while os.wait():
            pass
    return None


def _early(variables: dict[str, str]) -> dict[str, str]:
    names = [name for name in variables if name.startswith(EARLY) and name not in NOT_COMPARED]
    return {name: variables[name] for name in names}


def _keep(connection: socket.socket, alive: int, own: dict[str, str]) -> Request:
    head, files, _, _ = socket.recv_fds(connection, SIZE.size, 250)
    request = Request(*json.loads(_receive(connection, *SIZE.unpack(head))))
    asked = {"OMP_WAIT_POLICY": "PASSIVE"} | request.variables
    if _early(asked) != _early(own):
        connection.sendall(END.pack(0, 0))
        os._exit(0)
    process = os.fork()
    if process == 0:
        connection.close()
        os.close(alive)
        _place(files, request.numbers)
        return request
    for file in files:
        os.close(file)
    with suppress(OSError):  # the stand-in has been killed
        connection.sendall(END.pack(process, 0))
    ended = os.pidfd_open(process)
    if ended not in select.select([connection, alive, ended], [], [])[0]:
        os.kill(process, signal.SIGKILL)
        if request.leads:
            with suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    with suppress(OSError):
        connection.sendall(END.pack(process, status))
    os._exit(0)


def _place(files: list[int], numbers: list[int]) -> None:
    import fcntl

    above = 1 + max(numbers, default=0)
    copies = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, above) for file in files]
    for file in files:
        os.close(file)
    for copy, number in zip(copies, numbers, strict=True):
        os.dup2(copy, number)
        os.close(copy)


def become(request: Request, later: list[str]) -> None:
    """Run a module in this process as ``python -m`` would.

    Args:
        request: what to run.
        later: where modules are found after the working folder and PYTHONPATH.
    """
    import runpy

    import numpy as np

    if request.leads:
        os.setsid()
    os.umask(request.mask)
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.variables)
    paths = filter(None, request.variables.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:] = [request.folder, *paths, *later]
    sys.executable, sys.argv = request.executable, [request.module, *request.words]
    unbuffered = bool(request.variables.get("PYTHONUNBUFFERED"))
    sys.stdout.reconfigure(line_buffering=sys.stdout.isatty(), write_through=unbuffered)
    sys.stderr.reconfigure(write_through=unbuffered)
    np.random.seed()
    runpy.run_module(request.module, run_name="__main__", alter_sys=True)


def main() -> None:
    """Be a stand-in or a server."""
    role, *words = sys.argv[1:]
    if role == "stand-in":
        stand_in(words[0], words[1], words[2:])
    import gc
    import importlib

    count = 1 + len(os.environ["PYTHONPATH"].split(os.pathsep))  # this file's folder comes first
    later, alive, variables = sys.path[count:], int(words[1]), dict(os.environ)  # before imports change them
    with socket.socket(fileno=int(words[0])) as listener:
        os.set_inheritable(listener.fileno(), False)
        os.set_inheritable(alive, False)
        del sys.path[0]
        for name in IMPORTED:
            importlib.import_module(name)
        threads = os.listdir("/proc/self/task")
        assert len(threads) == 1, "a process of several threads must not fork"
        gc.collect()
        gc.freeze()  # pages that the collector does not touch stay shared
        request = serve(listener, alive, variables)
    if request is not None:
        become(request, later)


if __name__ == "__main__":
    main()
