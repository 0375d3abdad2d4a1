"""Options of a batch's fits are those of fit, and fits that a batch cannot follow are refused."""

from pathlib import Path

import pytest
from fakes import SMALL_RUN

from dreamfusion_pl.batch.jobs import Request, jobs_of
from dreamfusion_pl.cli import main
from dreamfusion_pl.commands.batch_checks import check_options


def test_a_runs_config_and_what_print_config_shows_are_accepted(finished_run, capsys, tmp_path):
    jobs = jobs_of([Request("a blue ball")], 1, tmp_path)
    assert check_options(jobs, ["--config", str(finished_run / "config.yaml")]) == {}
    assert main(["fit", *SMALL_RUN, "--prompt", "a", "--print_config"]) == 0
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    assert check_options(jobs, ["--config", str(tmp_path / "printed.yaml")]) == {}


def test_fits_that_never_say_that_they_are_finished(tmp_path):
    requests = [
        Request("a"),
        Request("b", ("--trainer.callbacks=[]",)),
        Request("c", ("--trainer.logger=false",)),
    ]
    plain, silent, elsewhere = jobs_of(requests, 1, tmp_path)
    wrong = check_options([plain, silent, elsewhere], SMALL_RUN)
    assert wrong.keys() == {silent, elsewhere} and "has no Report" in wrong[silent].reason
    with pytest.raises(ValueError, match="has no Report"):
        check_options([plain], [*SMALL_RUN, "--trainer.callbacks=[]"])


def test_what_only_single_fits_have(finished_run, tmp_path):
    jobs = jobs_of([Request("a")], 1, tmp_path)
    with pytest.raises(ValueError, match="'a red chair' is no option of a batch"):
        check_options(jobs, [*SMALL_RUN, "a red chair"])
    with pytest.raises(ValueError, match="a batch resumes its own runs"):
        check_options(jobs, ["--resume", str(finished_run)])
    assert not list(Path(tmp_path).iterdir())
