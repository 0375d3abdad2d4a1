"""What a run says after its last step."""

import io
import sys
from types import SimpleNamespace

import pytest

from dreamfusion_pl.callbacks.previews.stages import stage


class Terminal(io.StringIO):
    def isatty(self):
        return True


def trainer_with(bar: object, rank_zero: bool = True) -> SimpleNamespace:
    return SimpleNamespace(progress_bar_callback=bar, is_global_zero=rank_zero)


def test_a_terminal_gets_a_bar_that_moves(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with stage(trainer_with(object()), "filming", 3) as advance:
        for _ in range(3):
            advance()
    with stage(trainer_with(object()), "writing the page"):
        pass
    shown = sys.stderr.getvalue()
    assert "filming" in shown and "3/3" in shown and "writing the page: 00:00" in shown


def test_a_log_gets_a_line_and_other_ranks_and_runs_without_progress_nothing(capsys):
    with stage(trainer_with(object()), "meshing", 3) as advance:
        advance()
    assert capsys.readouterr().out == "meshing\n"
    for silent in (trainer_with(None), trainer_with(object(), rank_zero=False)):
        with stage(silent, "meshing", 3) as advance:
            advance()
    assert capsys.readouterr() == ("", "")


def test_an_error_passes_through():
    with pytest.raises(KeyError), stage(trainer_with(None), "meshing"):
        raise KeyError


def test_a_fit_names_what_follows_its_steps(tmp_path, monkeypatch, capsys):
    from fakes import SMALL_RUN

    from dreamfusion_pl.cli import main

    monkeypatch.chdir(tmp_path)
    assert main(["fit", *SMALL_RUN, "--prompt", "a red ball"]) == 0
    lines = capsys.readouterr().out.splitlines()
    done = next(index for index, line in enumerate(lines) if line.startswith("done:"))
    assert lines[done + 1 : done + 5] == ["filming", "meshing", "scoring", "writing the page"]
