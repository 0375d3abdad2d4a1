"""What people type first: misspelt options, prompts of any kind, seeds, numbers, pipes."""

import os
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from fakes import SMALL_EXPORT, SMALL_RUN, small_model

from dreamfusion_pl.callbacks.signals import Signals
from dreamfusion_pl.cli import main
from dreamfusion_pl.configuration import classes, layers
from dreamfusion_pl.configuration.preflight import check_optimizer
from dreamfusion_pl.scene.planes import PlaneFeatures

PROMPTS = ["1e5", "null", "2026-11-28 a", "{a: b} # c", " \u2028\"'~ "]
FILES = {
    "deep.yaml": "model: {init_args: {scene: {init_args: {features: {init_args: {resolutoin: 3}}}}}}",
    "number.yaml": "prompt: 12",
}
RUN = Path("lightning_logs/version_0")


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--promt", "x"], "Did you mean --prompt?"),
        (
            ["--prompt", "x", "--model.guidance_scale", "20"],
            "Did you mean --model.distillation.guidance_scale?",
        ),
        (["--prompt", "x", "--max_steps", "3"], "Did you mean --trainer.max_steps?"),
        (["--prompt", "x", "--lr", "3"], "Did you mean --model.learning_rate?"),
        (["--prompt", "x", "--config", "deep.yaml"], "--model.scene.features.resolution"),
        (["--prompt", "x", "--model.distillation", "ScoreDistilation"], "Did you mean ScoreDistillation?"),
        (
            [
                "--prompt",
                "x",
                "--model.distillation",
                "InversionDistillation",
                "--model.distillation.draws=2",
            ],
            "InversionDistillation takes guidance_scale, weighting,",
        ),
        (["--prompt", "x", "--model.scene.field", "Density"], "model.scene.field must be a Field"),
        (["--prompt", "x", "--model", "DreamFuson"], "Did you mean DreamFusion?"),
        (["--prompt", "x", "--trainer.callbacks+=LiveVew"], "Did you mean LiveView?"),
        (["a", "red", "chair"], 'in quotes, as in --prompt "a red chair"'),
        (["--prompt", "x", "--model.renderer.normal_step", ".nan"], "model.renderer.normal_step: nan"),
        (["--prompt", "x", "--model.learning_rate", "1e30"], "model.learning_rate: 1e+30 is out of range"),
        (["--prompt", "x", "--model.scene.features.initial_noise=.inf"], "initial_noise: inf"),
        (["--prompt", "x", "--model.scene.features.resolution", "0"], "resolution, channels and width"),
        (["--prompt", "x", "--model.renderer.num_strata", "0"], "num_strata must be 1 or more"),
        (["--prompt", "x", "--model.renderer.num_samples", "-1"], "num_samples must be 1 or more"),
        (["--prompt", "x", "--data.position_noise", "-1"], "position_noise must be in"),
        (["--prompt", "x", "--trainer.max_steps", "0"], "makes nothing"),
        (["--prompt", "x", "--trainer.max_steps", "-1"], "number of steps must be known"),
        (["--prompt", "x", "--trainer.devices", "[]"], "trainer.devices"),
        (["--config", "number.yaml"], "prompt: Expected a str. Got value: 12; write it in quotes"),
        (
            ["--prompt", "x", "--trainer.logger.init_args.purge_step", "a"],
            "purge_step must be a whole number",
        ),
    ],
)
def test_one_message_that_helps_and_no_folder(folder, capsys, words, said):
    for name, text in FILES.items():
        Path(name).write_text(text)
    assert main(["fit", *SMALL_RUN, *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("dreamfusion_pl: error: ") and said in error
    assert "NestedArg" not in error and "Traceback" not in error
    assert not Path("lightning_logs").exists()


def configuration(capsys, *words):
    assert main(["fit", *words, "--print_config"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("prompt", PROMPTS)
def test_any_prompt_survives_the_round_trip(folder, capsys, prompt):
    printed = configuration(capsys, *SMALL_RUN, f"--prompt={prompt}")
    assert yaml.safe_load(printed)["prompt"] == prompt
    Path("printed.yaml").write_text(printed, encoding="utf-8")
    assert configuration(capsys, "--config", "printed.yaml") == printed


def test_a_prompt_like_a_number_is_gone_on_with(folder, capsys):
    assert main(["fit", *SMALL_RUN, "1e5", "--seed_everything", "true", "--trainer.max_steps", "2"]) == 0
    config = yaml.safe_load((RUN / "config.yaml").read_text())
    assert config["prompt"] == "1e5" and (RUN / "prompt.txt").read_text() == "1e5\n"
    assert f"the seed of this run is {config['seed_everything']}" in capsys.readouterr().err
    stored = torch.load(RUN / "checkpoints" / "last.ckpt", weights_only=True)
    assert stored["hyper_parameters"]["seed"] == config["seed_everything"] > 1
    assert layers.arrange(["--resume", str(RUN)]).layers[-1].tree["prompt"] == "1e5"
    (RUN / "config.yaml").unlink()  # from the checkpoint alone
    assert layers.arrange(["--resume", str(RUN)]).layers[-1].tree["prompt"] == "1e5"
    assert main(["validate", "--resume", str(RUN)]) == 0


def test_classes_by_their_short_names(folder, capsys):
    words = ["--model.scene.features", "FrequencyFeatures", "--model.scene.field", "ExponentialDensity"]
    words += ["--model.warmup", "Cosine", "--model.warmup.first=.1", "--model.warmup.last=1"]
    model = yaml.safe_load(configuration(capsys, *SMALL_RUN, "--prompt=a", *words))["model"]["init_args"]
    scene = model["scene"]["init_args"]
    assert scene["features"]["class_path"] == "dreamfusion_pl.scene.frequencies.FrequencyFeatures"
    assert scene["field"]["class_path"] == "dreamfusion_pl.scene.density.ExponentialDensity"
    assert model["warmup"]["class_path"] == "dreamfusion_pl.schedule.Cosine"
    assert classes.modules()["MLPPicture"] == ("dreamfusion_pl.scene.pictures",)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fit", "--model.help"], "ParameterSpaceSampling"),  # not imported by any default
        (["fit", "--model.scene.features.help"], "--model.scene.features.resolution"),
        (["fit", "--model.scene.features.help", "FrequencyFeatures"], "num_frequencies"),
        (["fit", "--model.renderer.help"], "num_strata"),
        (["together", "--help"], "usage: python -m dreamfusion_pl together FILE"),
    ],
)
def test_help(capsys, words, said):
    assert main(words) == 0
    # Long lists of classes are broken in the middle of a name.
    assert "".join(said.split()) in "".join(capsys.readouterr().out.split())


def test_a_reader_that_leaves_ends_the_run_quietly_and_saved(folder, capfd, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["fit", *SMALL_RUN, "--prompt", "a red ball", "--trainer.max_steps", "40"]) == 141
    monkeypatch.undo()
    os.chdir(folder)
    error = capfd.readouterr().err
    assert "error" not in error and "space" not in error and f"fit --resume {RUN}" in error
    step = torch.load(RUN / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert 0 < step < 40
    with os.fdopen(os.dup(os.open(os.devnull, os.O_WRONLY)), "w") as fresh:
        monkeypatch.setattr(sys, "stdout", fresh)
        assert main(["fit", "--help"]) == 0


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["fit", *SMALL_RUN, "--prompt", "a", "--print_config"],
        ["validate", "--ckpt_path", "RUN"],
        ["test", "--ckpt_path", "RUN"],
        ["predict", "--ckpt_path", "RUN"],
        ["export", "RUN", *SMALL_EXPORT],
        ["render", "RUN", "--frames", "2", "--size", "8"],
        ["gallery", "RUN", "--out", "gallery.html"],
        ["evaluate", "RUN"],
        ["doctor"],
        ["world", "--prompt", "a red ball", "--size", "8", "--views", "1"],
    ],
    ids=lambda words: words[0],
)
def test_every_command_ends_quietly_when_its_reader_leaves(finished_run, folder, capfd, monkeypatch, words):
    words = [str(finished_run) if word == "RUN" else word for word in words]
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        try:
            status = main(words)
        except SystemExit as end:
            status = end.code
    monkeypatch.undo()
    error = capfd.readouterr().err
    assert status == 141 and "pipe" not in error and "space" not in error and "error" not in error


def test_the_status_tells_that_the_reader_left_where_a_handler_of_a_run_is_in_place(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    before = signal.signal(signal.SIGTERM, Signals().notice)
    try:
        with os.fdopen(writer, "w", buffering=1) as pipe:
            monkeypatch.setattr(sys, "stdout", pipe)
            assert main(["--help"]) == 141
            monkeypatch.undo()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_another_package_cannot_use_is_refused_before_the_run():
    model = small_model()
    check_optimizer(model)
    model.make_optimizer = partial(torch.optim.Adam, betas=(torch.zeros(0), 0.9))
    with pytest.raises(ValueError, match="torch cannot be built with these arguments: RuntimeError"):
        check_optimizer(model)


def test_points_that_are_no_numbers_do_not_end_the_process():
    features = PlaneFeatures(resolution=8, channels=4, width=8)
    points = torch.full((64, 3), float("nan"))  # the backward pass of before wrote outside of the planes
    features.sample(points).sum().backward()
    assert features.planes.grad.isfinite().all()
    inside = torch.rand(64, 3) * 2.0 - 1.0
    grid = torch.stack([inside[:, :2], inside[:, ::2], inside[:, 1:]])[:, None]
    plain = torch.nn.functional.grid_sample(features.planes, grid, padding_mode="border", align_corners=True)
    assert torch.equal(features.sample(inside), plain.sum(0)[:, 0])
