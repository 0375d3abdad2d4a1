"""The command: what it refuses, and what it leaves behind when it ends."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from fakes import SMALL_RUN
from served_page import served, until

from dreamfusion_pl.app import command
from dreamfusion_pl.app.ledger import LOCK, QUEUE, Ledger, opened
from dreamfusion_pl.cli import main

LONG = ("--trainer.max_steps", "100000", "--trainer.val_check_interval", "100000")


def test_without_gradio_one_sentence_says_what_to_do(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    assert main(["app", "--out", str(tmp_path / "app")]) == 2
    assert capsys.readouterr().err == (
        "dreamfusion_pl: error: the page needs gradio: pip install 'gradio>=6.30,<7'\n"
    )
    assert not (tmp_path / "app").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "0"], "--port is from 1"),
        (["--no_such", "1"], "no_such"),
        (["--prompt", "a chair"], "--prompt is no option"),
        (["--host", "192.0.2.1"], "--port"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_served(words, said, monkeypatch, capsys, tmp_path):
    pytest.importorskip("gradio")
    monkeypatch.setattr(command, "serve", lambda *some: pytest.fail("it serves"))
    assert main(["app", "--out", str(tmp_path / "app"), *words]) == 2
    assert said in capsys.readouterr().err


def test_a_folder_that_has_a_page(capsys, tmp_path):
    pytest.importorskip("gradio")
    with opened(tmp_path):
        assert main(["app", "--out", str(tmp_path)]) == 2
    assert "another page works in" in capsys.readouterr().err


def test_an_end_lets_the_fit_save_and_the_next_start_goes_on(tmp_path, warm_python):
    pytest.importorskip("gradio")
    out = tmp_path / "app"
    out.mkdir()
    (key,) = Ledger(out).add("a red ball", [*SMALL_RUN, *LONG], [0])
    run = out / key
    with served(warm_python, out, *SMALL_RUN) as page:
        until(lambda: list(run.glob("checkpoints/*.ckpt")), 60.0)
        page.process.send_signal(signal.SIGTERM)
        assert page.process.wait(40.0) == 0
        assert "goes on with what waits" in page.log.read_text()
    assert [one["state"] for one in json.loads((out / QUEUE).read_text())["jobs"]] == ["waiting"]
    assert json.loads((run / "status.json").read_text())["state"] == "interrupted"
    assert list(run.glob("checkpoints/*.ckpt"))
    with served(warm_python, out, *SMALL_RUN):
        until(lambda: json.loads((run / "status.json").read_text())["state"] == "running", 60.0)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_idle_costs_little(small_page):
    """A page that nobody looks at takes under 3 % of a core; with gradio's own loops it was 5 %."""
    lock = str(small_page.out / LOCK)
    (server,) = [place for place in Path("/proc").glob("[0-9]*") if lock in open_files(place)]
    shares = []
    while len(shares) < 5 and min(shares, default=1.0) >= 0.03:  # it may still have to do with its start
        before = processor_seconds(server)
        time.sleep(2.0)
        shares.append((processor_seconds(server) - before) / 2.0)
    assert shares[-1] < 0.03, shares


def open_files(place):
    try:
        return [os.readlink(file) for file in (place / "fd").iterdir()]
    except OSError:
        return []


def processor_seconds(place):
    words = (place / "stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
