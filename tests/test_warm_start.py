"""What is started warm is, for who has started it, what Python would have started."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes import SMALL_RUN, finish

TESTS = Path(__file__).parent
pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="all starts are real ones here")


def environment(**variables: str) -> dict[str, str]:
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths} | variables


@pytest.mark.parametrize("words", [["--version"], ["paint"], []])
def test_output_and_status_are_the_same(warm_python, tmp_path, words):
    real, warm = [
        subprocess.run(
            [python, "-m", "dreamfusion_pl", *words],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
        )
        for python in (sys.executable, warm_python)
    ]
    assert (warm.returncode, warm.stdout, warm.stderr) == (real.returncode, real.stdout, real.stderr)


def is_warm(process: int) -> bool:
    """Whether a process waits for another one, of the server, instead of having become Python itself."""
    return b"stand-in" in Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_it_ends_with_its_stand_in_or_by_the_signal(warm_python, tmp_path, number):
    """Its end is that of the pipes: of its output, and of another file that it was given."""
    long = ["fit", *SMALL_RUN, "--prompt=a red ball", "--trainer.max_steps=100000"]
    status, deadline = tmp_path / "lightning_logs" / "version_0" / "status.json", time.monotonic() + 120
    end, given = os.pipe()
    process = subprocess.Popen(
        [warm_python, "-m", "dreamfusion_pl", *long, "--trainer.val_check_interval=100000"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        pass_fds=[given],
        text=True,
    )
    os.close(given)
    while not status.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    assert is_warm(process.pid)
    os.set_blocking(end, False)
    with pytest.raises(BlockingIOError):
        os.read(end, 1)
    process.send_signal(number)
    finish(process, timeout=60)
    os.set_blocking(end, True)
    assert os.read(end, 1) == b""
    os.close(end)
    assert process.returncode == -number


@pytest.mark.parametrize(
    "words, variables, said",
    [
        (["-c", "import sys; print('torch' in sys.modules)"], {}, "False"),
        (["-m", "dreamfusion_pl", "--version"], {"PYTHONVERBOSE": "1"}, "import 'encodings'"),
    ],
)
def test_another_command_or_other_variables_have_a_real_start(warm_python, words, variables, said):
    done = subprocess.run([warm_python, *words], env=environment(**variables), capture_output=True, text=True)
    assert done.returncode == 0 and said in done.stdout + done.stderr


def test_without_a_server_there_is_a_real_start(tmp_path):
    from warm_start import WarmPython

    with WarmPython(tmp_path) as warm:
        warm._server.kill()
    done = subprocess.run([warm.path, "-m", "dreamfusion_pl", "--version"], env=environment())
    assert done.returncode == 0
