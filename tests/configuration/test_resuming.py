"""Going on with a run: in place, as the same object, with as many steps or more. A run begun from another."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from fakes import SMALL_RUN

from dreamfusion_pl.cli import main
from dreamfusion_pl.configuration import resuming
from dreamfusion_pl.configuration.checkpoints import find_checkpoint
from dreamfusion_pl.evaluation.finished_runs import load
from dreamfusion_pl.run_folder import layout

RUN = Path("run")
QUICK = ["--data.num_test_views", "2", "--data.num_val_views", "1"]
KEEPER = "dreamfusion_pl.callbacks.checkpoints.LastCheckpoints"


@pytest.fixture
def folder(finished_run, tmp_path, monkeypatch) -> Path:
    """The working folder, with a finished run of 4 steps, seed 0, "a red ball"."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished_run, RUN)
    return tmp_path


def stored(run: Path, name: str = "last.ckpt") -> dict:
    return torch.load(run / "checkpoints" / name, weights_only=True)


def contents(place: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}


REFUSED = [
    (["--prompt", "a blue mug"], "'a red ball'", "fit --from run --prompt='a blue mug'"),
    (["--seed_everything", "1"], "with seed 0", "fit --from run --seed_everything=1"),
    (["--trainer.max_steps", "2"], "is at step 4 and cannot go back", "fit --config run/config.yaml"),
    (["--from", "run"], "take one of the two", ""),
]


@pytest.mark.parametrize(("words", "said", "cure"), REFUSED, ids=[" ".join(words) for words, *_ in REFUSED])
def test_a_run_does_not_become_another_one(folder, capsys, words, said, cure):
    before = contents(folder)
    assert main(["fit", "--resume", "run", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and cure in error and "Traceback" not in error
    if "--prompt" in words:
        assert "fit --resume run\n" in error
    assert contents(folder) == before


def test_a_finished_run_says_so_and_nothing_is_repeated(folder, capsys):
    before = contents(folder)
    for words in ([], ["--prompt", " a red  ball"], ["--seed_everything", "0"]):
        assert main(["fit", "--resume", "run", *words]) == 0
        out = capsys.readouterr().out
        assert "run is already finished at 4 of 4" in out and "--trainer.max_steps" in out
    assert contents(folder) == before


def test_more_steps_go_on_in_place_and_the_jump_is_said(folder, capsys):
    assert main(["fit", "--resume", "run", "--trainer.max_steps", "5", *QUICK]) == 0
    assert [path.name for path in folder.iterdir()] == ["run"]
    assert stored(RUN)["global_step"] == 5 and layout.read_status(RUN)["step"] == 5
    error = capsys.readouterr().err
    assert "jump from 1.00 to 0.80 of their course" in error and "--schedule_steps 4" in error
    place = yaml.safe_load((RUN / "config.yaml").read_text())["trainer"]["logger"]["init_args"]
    assert (place["save_dir"], place["version"]) == (".", None)  # fit --config makes a new run, as ever


def test_an_extension_keeps_the_final_values(folder, capsys):
    words = ["fit", "--resume", "run", "--trainer.max_steps", "6", *QUICK]
    decay = {"class_path": "dreamfusion_pl.schedule.Linear", "init_args": {"first": 1.0, "last": 0.25}}
    decay = f"--model.decay={json.dumps(decay)}"
    assert main([*words, decay, "--schedule_steps", "4"]) == 0
    assert "jump" not in capsys.readouterr().err
    extended = stored(RUN)
    assert extended["global_step"] == 6 and extended["progress"] == 1.0
    assert extended["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0.03 * 0.25)
    assert main(["fit", "--resume", "run", "--trainer.max_steps", "7", *QUICK]) == 0  # kept with the run
    assert "jump" not in capsys.readouterr().err
    assert stored(RUN)["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0.03 * 0.25)
    assert main(["fit", "--resume", "run", "--trainer.max_steps", "8", "--schedule_steps", "0"]) == 2
    assert "schedule_steps is a number of steps, 1 or more" in capsys.readouterr().err


def test_fewer_steps_than_planned_are_said(folder, capsys):
    (RUN / "status.json").unlink()
    half = stored(RUN) | {"global_step": 2}
    before = resuming.Plan("a red ball", 0, 4, None)
    torch.save(half, RUN / "checkpoints" / "last.ckpt")
    resuming._warn_of_a_jump(RUN, 2, before.course, before._replace(max_steps=3))
    assert "at step 2 they jump from 0.50 to 0.67 of their course" in capsys.readouterr().err


def test_a_moved_run_goes_on_where_it_lies_unless_the_command_says_where(folder):
    shutil.move("run", "moved")
    options = ["--trainer.max_steps", "5", "--schedule_steps", "4", *QUICK]
    assert main(["fit", "--resume", "moved", *options]) == 0
    assert [path.name for path in folder.iterdir()] == ["moved"] and stored(Path("moved"))["global_step"] == 5
    options = ["--trainer.max_steps", "6", "--trainer.logger.init_args.version", "next", *QUICK]
    assert main(["fit", "--resume", "moved", *options]) == 0
    assert stored(folder / "lightning_logs" / "next")["global_step"] == 6
    assert stored(Path("moved"))["global_step"] == 5


def test_an_older_checkpoint_goes_on_elsewhere(folder, capsys):
    before = contents(RUN)
    old = RUN / "checkpoints" / "older.ckpt"
    torch.save(stored(RUN) | {"global_step": 3}, old)
    (RUN / "status.json").unlink()
    words = ["--trainer.max_steps", "4", "--trainer.callbacks", KEEPER, *QUICK]
    assert main(["fit", "--resume", str(old), *words]) == 0
    assert "is not the newest checkpoint of its run" in capsys.readouterr().err
    after = contents(RUN)
    assert all(after[path] == before[path] for path in before if path.name != "status.json")
    assert (folder / "lightning_logs" / "version_0" / "config.yaml").exists()


def test_the_newest_checkpoint_is_that_with_the_most_steps_for_every_command(folder, capsys):
    """Copying in alphabetical order makes previous.ckpt the youngest file."""
    last, previous = (RUN / "checkpoints" / name for name in ("last.ckpt", "previous.ckpt"))
    older = stored(RUN) | {"global_step": 3}
    for values in (older["state_dict"], older["current_model_state"]):
        values["scene.features.planes"] = torch.zeros_like(values["scene.features.planes"])
    torch.save(older, previous)
    os.utime(last, (1000, 1000))
    os.utime(previous, (2000, 2000))
    assert find_checkpoint("run") == last
    assert load(RUN).scene.features.planes.abs().sum() > 0.0
    os.rename(last, RUN / "checkpoints" / "a.ckpt")  # whatever it is called
    assert find_checkpoint("run").name == "a.ckpt"
    assert load(RUN).scene.features.planes.abs().sum() > 0.0
    (RUN / "checkpoints" / "a.ckpt").write_bytes(b"half")
    capsys.readouterr()
    assert load(RUN).scene.features.planes.abs().sum() == 0.0
    assert "a.ckpt is damaged, or another kind of file; looking for an older one" in capsys.readouterr().err


def test_the_last_run_is_the_one_that_says_so_itself(tmp_path):
    for name, moment in (
        ("version_2", "2026-11-28T10:00:00+00:00"),
        ("version_10", "2026-11-28T11:00:00+00:00"),
    ):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "checkpoints" / "last.ckpt").touch()
        (tmp_path / name / "status.json").write_text(json.dumps({"updated": moment}))
    os.utime(tmp_path / "version_10" / "checkpoints" / "last.ckpt", (1000, 1000))
    assert layout.newest_run(tmp_path) == tmp_path / "version_10"
    assert layout.newest_run(tmp_path / "nothing") is None


def parameters(model) -> dict:
    kept = ("scene.", "background.")
    return {name: value for name, value in model.state_dict().items() if name.startswith(kept)}


def test_a_run_begins_as_the_object_of_another(folder, monkeypatch, capsys):
    """The weights before the first step are the averaged ones of the run; steps and optimizer are fresh."""
    from dreamfusion_pl import runs

    begun = {}

    def look(command: runs.RunCommand) -> None:
        begun.update({name: value.clone() for name, value in parameters(command.model).items()})
        assert command.trainer.global_step == 0 and command.model.progress == 0.0

    monkeypatch.setattr(runs.RunCommand, "before_fit", look)
    before = contents(RUN)
    words = ["fit", "--from", "run", "--prompt", "a blue mug", "--seed_everything", "3", *QUICK]
    assert main([*words, "--trainer.max_steps", "3"]) == 0
    assert "begins not quite" not in capsys.readouterr().err
    source = stored(RUN)
    averaged = parameters(load(RUN))
    assert begun.keys() == averaged.keys()
    assert all(torch.equal(value, averaged[name]) for name, value in begun.items())
    assert any(not torch.equal(value, source["current_model_state"][name]) for name, value in begun.items())
    new = folder / "lightning_logs" / "version_0"
    status = layout.read_status(new)
    assert (status["prompt"], status["seed"], status["step"]) == ("a blue mug", 3, 3)
    assert {int(one["step"]) for one in stored(new)["optimizer_states"][0]["state"].values()} == {3}
    assert yaml.safe_load((new / "config.yaml").read_text())["from"] == "run/checkpoints/last.ckpt"
    assert contents(RUN) == before


def test_going_on_with_such_a_run_is_exact(folder):
    """It goes on from its own checkpoint, and not from the object that it began as."""
    keep = ["--trainer.callbacks", KEEPER, "--trainer.callbacks.every", "2"]
    words = ["fit", "--from", "run", "--prompt", "a blue mug", "--trainer.max_steps", "4", *keep, *QUICK]
    assert main(words) == 0
    first = Path("lightning_logs") / "version_0"
    expected = stored(first)
    (first / "checkpoints" / "last.ckpt").unlink()
    shutil.rmtree(RUN)  # it is not needed any more
    assert stored(first, "previous.ckpt")["global_step"] == 2
    assert main(["fit", "--resume", str(first)]) == 0
    resumed = stored(first)
    assert resumed["global_step"] == 4
    for name, value in expected["state_dict"].items():
        assert torch.equal(value, resumed["state_dict"][name]), name


WRONG = [
    (["--model.scene.features.resolution", "16"], 2, "the scene of run is another one"),
    (["--model.background", "DirectionBackground"], 2, "the background of run is another one"),
    (["--from", "nowhere"], 2, "no checkpoint at 'nowhere'"),
    (["--config", "playground.yaml"], 2, "only a fit of a prompt has one"),
]


@pytest.mark.parametrize(("words", "status", "said"), WRONG, ids=[words[-1] for words, *_ in WRONG])
def test_what_no_run_can_begin_as_is_one_message(folder, capsys, words, status, said):
    assert main(["fit", "--from", "run", "--trainer.max_steps", "2", *words]) == status
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error


def test_an_object_of_another_size_is_said(folder, capsys):
    words = ["--from", "run", "--model.scene.radius", "0.8", "--trainer.max_steps", "1", *QUICK]
    assert main(["fit", *words, *SMALL_RUN[2:]]) == 0
    assert "--model.scene differs from that of run" in capsys.readouterr().err
