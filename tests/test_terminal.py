"""What a process takes of the machine, and how its output ends."""

import errno
import os
import signal
import subprocess
import sys

import pytest
import torch
from fakes import SMALL_RUN

from dreamfusion_pl.cli import main
from dreamfusion_pl.commands.output import STATUS, ends_with_its_reader
from dreamfusion_pl.terminal import GPU_SHARE, WRONG_USAGE, guarded


@pytest.mark.parametrize(
    "share, is_there, taken", [("0.25", True, [0.225]), ("0.25", False, []), (None, True, [])]
)
def test_a_share_of_a_gpu_is_a_share_of_its_memory(monkeypatch, share, is_there, taken):
    fractions = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_there)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", fractions.append)
    if share is None:
        monkeypatch.delenv(GPU_SHARE, raising=False)
    else:
        monkeypatch.setenv(GPU_SHARE, share)
    assert guarded(lambda: None, "fit") == 0
    assert fractions == taken


@pytest.mark.parametrize("own", [None, "ACTIVE"])
def test_waiting_threads_sleep_unless_the_user_wants_otherwise(own):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_DISPLAY_ENV": "true"} | ({} if own is None else {"OMP_WAIT_POLICY": own})
    code = "from dreamfusion_pl.cli import main; main(['world', '--size', '1'])"  # loads torch
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    shown = [line for line in done.stderr.splitlines() if "OMP_WAIT_POLICY" in line]
    assert shown and all((own or "PASSIVE") in line for line in shown), done.stderr


def test_a_name_that_is_not_utf8_is_one_message(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    place = "--trainer.logger.init_args.save_dir=f\udcf6lder"  # from a terminal in latin-1
    assert main(["fit", *SMALL_RUN, "--prompt", "a red ball", place]) == WRONG_USAGE
    error = capsys.readouterr().err
    assert error.startswith("dreamfusion_pl: error: a path or a text on the command line is not UTF-8")
    assert "PYTHONUTF8=1" in error and "Traceback" not in error


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EINVAL])  # of Linux and macOS, of Windows
def test_output_ends_with_its_reader(monkeypatch, tmp_path, number):
    with (tmp_path / "pipe").open("w") as stream:

        class Closed:
            encoding, fileno = "utf-8", stream.fileno

            def write(self, text):
                raise OSError(number, "nobody reads")

            def flush(self):
                return

        monkeypatch.setattr(sys, "stdout", Closed())
        monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_DFL)  # no run is training
        with pytest.raises(SystemExit) as ended, ends_with_its_reader():
            print("too late")
        assert ended.value.code == STATUS
