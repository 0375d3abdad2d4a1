"""This version reads what version 0.1 wrote and what was written for it: files, words, checkpoints, runs."""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import dreamfusion_pl.optimizers  # noqa: F401 - the state of Shampoo is in the checkpoints of mlp
from dreamfusion_pl.cli import main
from dreamfusion_pl.configuration import layers
from dreamfusion_pl.configuration.old_names import migration, renames
from dreamfusion_pl.configuration.parsing import read_configuration
from dreamfusion_pl.evaluation.finished_runs import load

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


def test_the_networks_of_a_prior_in_training_are_its_familys(folder, capsys):
    old = {"class_path": "dreamfusion_pl.diffusion.denoising.DenoiserTraining"}
    old["init_args"] = {"vocabulary": ["a", "ball"], "size": 16, "channels": [32, 64], "attention_size": 8}
    (folder / "old.yaml").write_text(yaml.safe_dump({"model": old}))
    model = read_configuration(
        ["--config", "denoiser.yaml", "--config", "old.yaml", "--model.text_width", "64"]
    )["model"]
    assert model["class_path"] == renames.TRAINING and not {*renames.NETWORKS} & model["init_args"].keys()
    family = model["init_args"]["family"]
    assert family["class_path"] == renames.PIXELS
    found = {name: family["init_args"][name] for name in ("size", "channels", "attention_size", "text_width")}
    assert found == {"size": 16, "channels": [32, 64], "attention_size": 8, "text_width": 64}
    said = capsys.readouterr().err
    assert "model.size is model.family.size" in said and "model.text_width is model.family.text_width" in said


def test_an_overlay(folder, capsys):
    (folder / "old.yaml").write_text(OVERLAY)
    model = model_of("--config", "old.yaml")
    message = capsys.readouterr().err
    assert message.count("warning") == 1 and "old.yaml has names of version 0.1" in message
    assert "model.directions is model.prompts.directions" in message
    assert model["scene"]["init_args"]["features"]["init_args"] == {
        **{"resolution": 12, "channels": 3, "width": 5},
        **{"initial_noise": 0.1, "mlp_rate": 0.1, "smoothing": 0.0},
    }
    field = model["scene"]["init_args"]["field"]["init_args"]
    assert field["bias"]["init_args"] == {"strength": 7.0} and field["shape"]["init_args"] == {"radius": 0.6}
    assert model["scene"]["init_args"]["radius"] == 1.0
    weights = [model["regularizers"][name]["init_args"]["value"] for name in ("opacity", "orientation")]
    assert weights == pytest.approx([2.0 / (32**2 * 7.0), 3.0 / (32**2 * 7.0)])  # the unit of the default run
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
    (["--model.perp_neg={}", "--model.perp_neg", "null"], ("prompts", "perp_neg"), None),
    (["--model.perp_neg={}", "--model.perp_neg=null"], ("prompts", "perp_neg"), None),
    (["--model.opacity_weight.first=3"], ("regularizers", "opacity", "init_args", "first"), 3.0 / 7168),
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


GAUSSIAN, LINEAR, BLOB = ("GaussianBias", 5.0, 0.2), ("LinearBias", 10.0, 0.5), ("LinearBias", 3.0, 0.6)
BASE, TRIPLANE, MLP = "dreamfusion_pl.scene.base", *renames.SCENES
FIELDS = [  # words over default.yaml, and the density bias of version 0.1: class, strength, width or extent
    (["--model.scene", MLP], GAUSSIAN),
    (["--model.scene", "MLPScene"], GAUSSIAN),
    (["--model.init_args.scene.class_path", MLP], GAUSSIAN),
    ([f"--model.scene={{class_path: {MLP}, init_args: {{width: 16}}}}"], GAUSSIAN),
    (["--model.scene={class_path: MLPScene}"], GAUSSIAN),
    (["--model.scene", TRIPLANE], BLOB),  # the same class: its arguments stay
    (["--config", "paper.yaml", "--model.scene", "TriplaneScene"], ("LinearBias", 10.0, 0.6)),
    (
        ["--config", "paper.yaml", "--model.scene=TriplaneScene", "--model.scene.blob=4"],
        ("LinearBias", 4.0, 0.6),
    ),
    (["--config", "paper.yaml"], ("GaussianBias", 9.0, 0.3)),
    (["--model.scene.bias", f"{BASE}.GaussianBias"], GAUSSIAN),
    (["--model.scene.bias", "GaussianBias", "--model.scene.bias.width", "0.4"], ("GaussianBias", 5.0, 0.4)),
    (["--model.scene.blob", "9", "--model.scene.bias", f"{BASE}.GaussianBias"], GAUSSIAN),
    (["--model.scene.bias", f"{BASE}.LinearBias"], LINEAR),
    (["--model.scene.bias", "LinearBias", "--model.scene.bias.extent=.3"], ("LinearBias", 10.0, 0.3)),
    (["--model.scene.bias.class_path", f"{BASE}.LinearBias"], LINEAR),
    (["--model.scene", TRIPLANE, "--model.scene.bias", f"{BASE}.LinearBias"], LINEAR),
    (
        [f"--model.scene.bias={{class_path: {BASE}.LinearBias, init_args: {{strength: 2}}}}"],
        ("LinearBias", 2.0, 0.5),
    ),
    (["--config", "null.yaml"], GAUSSIAN),
    (["--config", "string.yaml"], GAUSSIAN),
    (["--config", "short.yaml"], LINEAR),
    (["--config", "gauss.yaml"], ("GaussianBias", 5.0, 0.4)),
    (["--config", "gauss.yaml", "--config", "mlp.yaml"], GAUSSIAN),
    (["--config", "gaussian_mlp.yaml", "--model.scene.bias", f"{BASE}.LinearBias"], LINEAR),
    (["--config", "stable_diffusion.yaml", "--model.scene.blob", "7"], ("LinearBias", 7.0, 0.6)),
    (["--model.scene.blob", "7"], ("LinearBias", 7.0, 0.6)),
]
FILES = {
    "null.yaml": f"model: {{init_args: {{scene: {{class_path: {MLP}, init_args: {{bias: null}}}}}}}}",
    "gaussian_mlp.yaml": (
        f"model: {{init_args: {{scene: {{class_path: {MLP}, init_args: {{bias: {{class_path: "
        f"{BASE}.GaussianBias}}}}}}}}}}"
    ),
    "string.yaml": f"model: {{init_args: {{scene: {MLP}}}}}",
    "mlp.yaml": "model: {init_args: {scene: MLPScene}}",
    "short.yaml": "model: {init_args: {scene: {init_args: {bias: LinearBias}}}}",
    "gauss.yaml": (
        f"model: {{init_args: {{scene: {{init_args: {{bias: {{class_path: {BASE}.GaussianBias, "
        "init_args: {width: 0.4}}}}}}"
    ),
}


@pytest.mark.parametrize(("words", "wanted"), FIELDS, ids=[" ".join(words) for words, _ in FIELDS])
def test_the_initial_density_is_that_of_before(folder, words, wanted):
    for name, text in FILES.items():
        (folder / name).write_text(text)
    scene = model_of(*words)["scene"]["init_args"]
    field = scene["field"]["init_args"]
    name, bias = field["bias"]["class_path"].rpartition(".")[2], field["bias"]["init_args"]
    is_gaussian = name == "GaussianBias"
    width = bias["width"] if is_gaussian else field["shape"]["init_args"]["radius"]
    assert (name, bias["strength"], width) == wanted
    is_mlp = scene["features"]["class_path"].endswith("FrequencyFeatures")
    assert scene["field"]["class_path"].endswith("ExponentialDensity" if is_mlp else "SoftplusDensity")


def test_a_checkpoint_with_the_defaults_of_its_scene_is_the_same_field(folder):
    stored = torch.load(RUNS / "mlp" / "checkpoints" / "last.ckpt", weights_only=True)
    stored["hyper_parameters"]["scene"]["init_args"]["bias"] = None
    torch.save(stored, folder / "alone.ckpt")
    tree = layers.arrange(["--resume", "alone.ckpt"]).layers[-1].tree
    field = tree["model"]["init_args"]["scene"]["init_args"]["field"]
    assert field["class_path"] == "dreamfusion_pl.scene.density.ExponentialDensity"
    assert field["init_args"]["bias"]["init_args"] == {"strength": 5.0, "width": 0.2}


WRONG = [
    (["--model.scene={oops"], "model.scene"),
    (["--config", "list.yaml"], "model.scene.bias must be a class or a mapping"),
    (["--config", "mixed.yaml"], "model.directions is now model.prompts.directions"),
    (["--model.scene.width={oops"], "is not valid YAML"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=[words[-1] for words, _ in WRONG])
def test_what_cannot_be_moved_is_one_message(folder, capsys, words, message):
    (folder / "list.yaml").write_text("model: {init_args: {scene: {init_args: {bias: [1]}}}}")
    (folder / "mixed.yaml").write_text("model: {init_args: {directions: 4, prompts: other.yaml}}")
    assert main(["fit", "--prompt", "a red chair", *words]) == 2
    assert message in capsys.readouterr().err


def test_what_is_not_ours_is_left_alone():
    scene = {"class_path": "mine.Scene", "init_args": {"width": 5, "bias": None}}
    for tree in (
        {"model": {"init_args": {"scene": scene}}},
        {"model": {"class_path": "mine.MyDreamFusion", "init_args": {"directions": 4}}},
    ):
        assert migration.update_tree(tree) == (tree, {})
    words = ["--prompt", f"{BASE}.LinearBias", f"--prompt={BASE}.LinearBias", "--model.scene", "mine.Scene"]
    assert migration.update_words(words) == (words, {})


def test_a_batch_of_before_goes_on(folder):
    from dreamfusion_pl.commands.batch_checks import OPTIONS, keep_options

    (folder / "old.yaml").write_text(OVERLAY)
    options = ["--config", "old.yaml", "--model.directions", "4"]
    kept = {"options": options, "configs": {"old.yaml": yaml.safe_load(OVERLAY)}}
    (folder / OPTIONS).write_text(json.dumps(kept))
    keep_options(options, folder)
    (folder / "old.yaml").write_text(OVERLAY.replace("7.0", "8.0"))
    with pytest.raises(ValueError, match=r"other contents of old.yaml"):
        keep_options(options, folder)


def test_perp_neg_can_be_switched_off_by_its_name_of_today(folder):
    words = ["--model.prompts.perp_neg", "PerpNeg", "--model.prompts.overhead_deg=50"]
    assert model_of(*words)["prompts"]["perp_neg"]["side_behind"] == [1.0, 0.5, -0.606]
    prompts = model_of(*words, "--model.prompts.perp_neg", "null", "--model.prompts.front_deg", "30")[
        "prompts"
    ]
    assert [prompts[name] for name in ("perp_neg", "overhead_deg", "front_deg")] == [None, 50.0, 30.0]


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


def test_a_run_with_shampoo_is_looked_at_by_a_process_that_knows_nothing_of_it():
    place = RUNS / "mlp"
    code = "from pathlib import Path; from dreamfusion_pl.evaluation.finished_runs import load; "
    code += f"load(Path({str(place)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_checkpoint_without_its_folder(folder, capsys):
    shutil.copy(RUNS / "triplane" / "checkpoints" / "previous.ckpt", folder / "alone.ckpt")
    few = ["--trainer.max_steps", "6", "--data.resolution", "8", "--data.views_per_step", "2"]
    few += ["--trainer.callbacks", "dreamfusion_pl.callbacks.checkpoints.LastCheckpoints"]
    assert main(["fit", "--resume", "alone.ckpt", *few]) == 0
    assert "alone.ckpt has names of version 0.1" in capsys.readouterr().err
    (last,) = folder.glob("lightning_logs/version_0/checkpoints/last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] == 6
