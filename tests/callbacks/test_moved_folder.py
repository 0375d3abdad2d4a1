"""The folder of a running fit is renamed, moved away or deleted: the run goes on, and says where."""

import shutil
from pathlib import Path

import pytest
import torch
from fakes import SMALL_RUN
from pytorch_lightning import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dreamfusion_pl.callbacks.signals import Signals
from dreamfusion_pl.cli import main
from dreamfusion_pl.run_folder import layout

RUN = Path("lightning_logs") / "version_0"


@pytest.fixture
def during_a_fit(tmp_path, monkeypatch):
    """Run a small fit of 4 steps, and something else after its second step."""
    monkeypatch.chdir(tmp_path)

    def run(action) -> int:
        def act(self: Callback, trainer, *_):
            if trainer.global_step == 2 and not done:
                done.append(action())

        done = []
        monkeypatch.setattr(Signals, "on_train_batch_start", act, raising=False)
        words = ["--prompt", "a red ball", "--data.num_test_views", "2", "--trainer.val_check_interval", "3"]
        return main(["fit", *SMALL_RUN, *words])

    return run


def is_whole(run: Path) -> bool:
    names = ("config.yaml", "prompt.txt", "object.glb", "turntable.gif", "viewer.html", "status.json")
    stored = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    state = layout.read_status(run)["state"]
    return all((run / name).exists() for name in names) and (stored["global_step"], state) == (4, "finished")


def test_a_renamed_folder_is_followed(during_a_fit, capsys):
    new = RUN.with_name("the chair")
    assert during_a_fit(lambda: RUN.rename(new)) == 0
    captured = capsys.readouterr()
    assert captured.err == (
        f"dreamfusion_pl: warning: the run folder {RUN} is now {new}: this run goes on there\n"
    )
    assert [path.name for path in RUN.parent.iterdir()] == ["the chair"] and is_whole(new)
    assert f"run folder: {new}" in captured.out
    events = EventAccumulator(str(new))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [0, 1, 2, 3]


def test_a_folder_of_another_run_at_the_old_place_is_left_alone(during_a_fit):
    def act():
        RUN.rename(new)
        RUN.mkdir()
        for name in names:
            (RUN / name).write_text("{}")

    new, names = RUN.with_name("mine"), {"config.yaml", "hparams.yaml"}
    assert during_a_fit(act) == 0
    assert {path.name for path in RUN.iterdir()} == names and is_whole(new)


@pytest.mark.parametrize("how", ["deleted", "moved far away"])
def test_a_folder_that_is_gone_begins_again_with_a_checkpoint(during_a_fit, tmp_path, capsys, how):
    def act():
        if how == "deleted":
            shutil.rmtree(RUN)
        else:
            (tmp_path / "far").mkdir()
            RUN.rename(tmp_path / "far" / "away")

    assert during_a_fit(act) == 0
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"the run folder {RUN} is gone" in error and "step 3" in error
    assert is_whole(RUN)
    previous = torch.load(RUN / "checkpoints" / "previous.ckpt", weights_only=True)
    assert previous["global_step"] == 3  # saved as soon as it was noticed
