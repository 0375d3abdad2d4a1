"""This version reads what version 0.1 wrote and what was written for it: files, words, checkpoints, runs."""

import importlib
import shutil
from pathlib import Path

import pytest
import torch
import yaml

import dreamfusion_pl.optimizers  # noqa: F401 - the state of Shampoo is in the checkpoints of mlp
from dreamfusion_pl.cli import main
from dreamfusion_pl.configuration import migration, renames
from dreamfusion_pl.evaluation.finished_runs import load
from dreamfusion_pl.runs import read_configuration

RUNS = Path(__file__).parents[1] / "version_0_1"
SCENES = ("triplane", "mlp", "latents")
OVERLAY = """
model:
  init_args:
    scene: {init_args: {radius: 1.0, resolution: 12, channels: 3, width: 5, blob: 7.0}}
    opacity_weight: {class_path: dreamfusion_pl.schedule.Constant, init_args: {value: 2.0}}
    orientation_weight: {class_path: dreamfusion_pl.schedule.Constant, init_args: {value: 3.0}}
    directions: 4
    view_prompts: {back: a tail}
    perp_neg: {side_behind: [2, 1, 0]}
    prior: {class_path: dreamfusion_pl.diffusion.pretrained.PretrainedPrior, init_args: {dtype: float32}}
trainer:
  callbacks:
    - dreamfusion_pl.callbacks.turntable.Turntable
    - class_path: dreamfusion_pl.callbacks.renders.Renders
"""
CALLBACKS = [
    {
        "class_path": "dreamfusion_pl.callbacks.previews.turntable.Turntable",
        "init_args": {"frames_per_second": 16},
    },
    {"class_path": "dreamfusion_pl.callbacks.previews.renders.Renders"},
]


def found(path: str) -> bool:
    module, _, name = path.rpartition(".")
    try:
        return hasattr(importlib.import_module(module), name)
    except ModuleNotFoundError:
        return False


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def model_of(*words: str) -> dict:
    return read_configuration(["--prompt", "a red chair", *words])["model"]["init_args"]


def tensors(checkpoint: Path, name: str = "state_dict") -> dict[str, torch.Tensor]:
    return migration.update_checkpoint(torch.load(checkpoint, weights_only=True))[name]


@pytest.mark.parametrize(("old", "new"), renames.CLASSES.items())
def test_every_class_has_moved(old, new):
    assert found(new) and not found(old)


@pytest.mark.parametrize(("old", "parts"), renames.SCENES.items())
def test_a_scene_is_made_of_parts_that_are_there(old, parts):
    assert all(map(found, parts)) and found(renames.FIELD_SCENE) and not found(old)


def test_an_overlay(folder, capsys):
    (folder / "old.yaml").write_text(OVERLAY)
    model = model_of("--config", "old.yaml")
    message = capsys.readouterr().err
    assert message.count("warning") == 1 and "old.yaml has names of version 0.1" in message
    assert "model.directions is model.prompts.directions" in message
    assert model["scene"]["init_args"]["features"]["init_args"] == {
        **{"resolution": 12, "channels": 3, "width": 5},
        **{"initial_noise": 0.1, "mlp_rate": 0.1},
    }
    field = model["scene"]["init_args"]["field"]["init_args"]
    assert field["bias"]["init_args"] == {"strength": 7.0} and field["shape"]["init_args"] == {"radius": 0.6}
    assert model["scene"]["init_args"]["radius"] == 1.0
    assert [model["regularizers"][name]["init_args"]["value"] for name in ("opacity", "orientation")] == [
        2,
        3,
    ]
    assert model["prompts"]["directions"] == 4 and model["prompts"]["view_prompts"] == {"back": "a tail"}
    assert model["prompts"]["perp_neg"]["side_behind"] == [2.0, 1.0, 0.0]
    assert model["prior"]["init_args"]["dtype"] == "float32"
    config = read_configuration(["--prompt", "a red chair", "--config", "old.yaml"])
    assert config["trainer"]["callbacks"] == CALLBACKS


FEATURES, FIELD = (
    ("scene", "init_args", "features", "init_args"),
    ("scene", "init_args", "field", "init_args"),
)
WORDS = [
    (["--model.directions", "4"], ("prompts", "directions"), 4),
    (["--model.init_args.overhead_deg=50"], ("prompts", "overhead_deg"), 50.0),
    (["--model.view_prompts.back", "a tail"], ("prompts", "view_prompts", "back"), "a tail"),
    (
        ["--model.perp_neg", "dreamfusion_pl.diffusion.perp_neg.PerpNeg"],
        ("prompts", "perp_neg", "side_behind"),
        [1.0, 0.5, -0.606],
    ),
    (["--model.opacity_weight.first=3"], ("regularizers", "opacity", "init_args", "first"), 3.0),
    (["--model.scene.resolution", "9"], (*FEATURES, "resolution"), 9),
    (
        ["--model.scene.blob", "9"],
        ("scene", "init_args", "field", "init_args", "bias", "init_args", "strength"),
        9.0,
    ),
    (
        ["--model.scene.bias", "dreamfusion_pl.scene.base.LinearBias", "--model.scene.bias.extent=0.3"],
        (*FIELD, "shape", "init_args", "radius"),
        0.3,
    ),
    (
        ["--model.scene.bias=dreamfusion_pl.scene.base.LinearBias"],
        (*FIELD, "shape", "init_args", "radius"),
        0.5,  # what that class had by default
    ),
    (
        ["--model.scene", "dreamfusion_pl.scene.mlp.MLPScene", "--model.scene.num_blocks", "2"],
        (*FEATURES, "num_blocks"),
        2,
    ),
    (
        ["--model.scene", "dreamfusion_pl.scene.mlp.MLPScene", "--model.scene.offset=-3"],
        (*FIELD, "offset"),
        -3.0,
    ),
    (
        ["--model.scene={class_path: dreamfusion_pl.scene.mlp.MLPScene, init_args: {width: 16}}"],
        (*FEATURES, "width"),
        16,
    ),
    (["--model.scene.latents", "4"], ("scene", "init_args", "latents"), 4),  # as before
]


@pytest.mark.parametrize(("words", "place", "value"), WORDS, ids=[words[0] for words, _, _ in WORDS])
def test_words_of_the_command_line(folder, capsys, words, place, value):
    part = model_of(*words)
    for name in place:
        part = part[name]
    assert part == value
    message = capsys.readouterr().err
    assert ("names of version 0.1" in message) == (words[0] != "--model.scene.latents")


def test_words_of_today_are_left_alone():
    words = [
        "--prompt",
        "a mug of --model.directions 8",
        "--model.prompts.directions=8",
        "--model.scene.radius",
    ]
    assert migration.update_words(words) == (words, {})


def test_configurations_of_today_are_left_alone():
    for path in sorted((Path(__file__).parents[2] / "configs").glob("*.yaml")):
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert migration.update_tree(tree) == (tree, {})


@pytest.mark.parametrize("name", SCENES)
def test_a_run_goes_on_as_it_did(folder, name, capsys):
    shutil.copytree(RUNS / name, folder / name)
    last = folder / name / "checkpoints" / "last.ckpt"
    expected = {part: tensors(last, part) for part in ("state_dict", "current_model_state")}
    last.unlink()  # it goes on from step 4, in previous.ckpt
    assert main(["fit", "--resume", name]) == 0
    assert "names of version 0.1" in capsys.readouterr().err
    assert torch.load(last, weights_only=True)["global_step"] == 8
    for part, weights in expected.items():
        torch.testing.assert_close(tensors(last, part), weights, rtol=1e-3, atol=1e-5)


def test_a_playground_goes_on(folder, capsys):
    shutil.copytree(RUNS / "playground", folder / "playground")
    assert main(["fit", "--resume", "playground", "--trainer.max_steps", "12"]) == 0
    assert "Trajectory is dreamfusion_pl.callbacks.previews" in capsys.readouterr().err
    last = folder / "playground" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 12


@pytest.mark.parametrize("name", SCENES)
def test_a_finished_object_is_looked_at(folder, name):
    model = load(RUNS / name)
    weights = tensors(RUNS / name / "checkpoints" / "last.ckpt")
    for key, value in model.scene.state_dict().items():
        assert torch.equal(value, weights[f"scene.{key}"]), key
    assert model.scene.radius == (1.4 if name == "mlp" else 0.6)
    assert not model.distillation.state_dict() and model.prompt == "a red chair"


def test_a_checkpoint_without_its_folder(folder, capsys):
    shutil.copy(RUNS / "triplane" / "checkpoints" / "previous.ckpt", folder / "alone.ckpt")
    few = ["--trainer.max_steps", "6", "--data.resolution", "8", "--data.views_per_step", "2"]
    few += ["--trainer.callbacks", "dreamfusion_pl.callbacks.checkpoints.LastCheckpoints"]
    assert main(["fit", "--resume", "alone.ckpt", *few]) == 0
    assert "alone.ckpt has names of version 0.1" in capsys.readouterr().err
    (last,) = folder.glob("lightning_logs/version_0/checkpoints/last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] == 6
