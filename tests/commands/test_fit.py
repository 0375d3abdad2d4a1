"""The command line in one process, with a run that takes a second; and bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from tiny_pipeline import save_tiny_pipeline

from dreamfusion_pl import generate
from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.callbacks.previews.renders import azimuth_name
from dreamfusion_pl.cli import main
from dreamfusion_pl.configuration import layers
from dreamfusion_pl.configuration.preflight import warn_of_unknown_words
from dreamfusion_pl.diffusion.families.pretrained import PretrainedPrior
from dreamfusion_pl.run_folder.checkpoint_io import is_whole

ROOT = Path(__file__).parents[2]
SMALL = ["--config", str(Path(__file__).parents[1] / "small.yaml")]
RUN = Path("lightning_logs/version_0")


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which a fit has ended."""
    folder = tmp_path_factory.mktemp("finished")
    before = os.getcwd()
    os.chdir(folder)
    try:
        assert main(["fit", *SMALL, "--prompt", "a red ball", "--trainer.max_steps", "5"]) == 0
    finally:
        os.chdir(before)
    return folder


def test_a_fit_delivers_everything(finished):
    run = finished / RUN
    assert (run / "prompt.txt").read_text() == "a red ball\n"
    assert yaml.safe_load((run / "config.yaml").read_text())["prompt"] == "a red ball"
    assert (run / "object.glb").read_bytes()[:4] == b"glTF"
    assert (run / "turntable.gif").read_bytes()[:6] == b"GIF89a"
    assert (run / "turntable.mp4").read_bytes()[4:8] == b"ftyp"
    assert sorted(path.name for path in (run / "renders").iterdir()) == [
        "step_000002.png",
        "step_000004.png",
        "step_000005.png",
    ]
    assert (run / "checkpoints" / "last.ckpt").stat().st_size < 1e6
    assert list(run.glob("events.out.tfevents.*"))


def test_tensorboard_has_it_all(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished / RUN), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    wanted = {"loss", "loss/distillation", "loss/opacity", "loss/orientation", "gradient_norm"}
    assert wanted | {"opacity", "learning_rate", "steps_per_second"} <= set(tags["scalars"])
    assert {"renders", "turntable"} <= set(tags["images"])
    assert events.Images("turntable")[0].encoded_image_string[:6] == b"GIF89a"
    assert {"prompt/text_summary", "configuration/text_summary"} <= set(tags["tensors"])
    assert any(tag.startswith("object") for tag in tags["tensors"])


def test_settings_and_metrics_are_in_the_hparams_tab(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    events = EventAccumulator(str(finished / RUN))
    events.Reload()
    contents = events.summary_metadata

    def content(tag):
        return plugin_data_pb2.HParamsPluginData.FromString(contents[tag].plugin_data.content)

    session = content(metadata.SESSION_START_INFO_TAG).session_start_info.hparams
    assert session["prompt"].string_value == "a red ball"
    assert (session["steps"].number_value, session["seed"].number_value) == (5.0, 0.0)
    assert session["scene"].string_value == "PlaneFeatures LaplaceDensity"
    assert session["prior"].string_value == "ColorPrior" and session["guidance_scale"].number_value == 6.0
    assert {"learning_rate", "views_per_step", "resolution", "scene_parameters"} <= set(session)
    assert len(session) <= 12  # columns that people compare
    experiment = content(metadata.EXPERIMENT_TAG).experiment
    metrics = {info.name.tag for info in experiment.metric_infos}
    charts = set(events.Tags()["scalars"])
    assert metrics == {"score", "loss", "opacity"} and metrics <= charts
    assert len(events.Scalars("loss")) > 1 and not any(tag.startswith("final/") for tag in charts)
    score = json.loads((finished / RUN / "status.json").read_text())["metrics"]["score"]
    assert events.Scalars("score")[-1].value == pytest.approx(score)


@pytest.mark.parametrize("name", ["lightning_logs/version_0", str(RUN / "checkpoints" / "last.ckpt"), "last"])
def test_a_run_is_looked_at_without_its_yaml(finished, monkeypatch, capsys, name):
    monkeypatch.chdir(finished)
    assert main(["test", "--ckpt_path", name]) == 0
    place = capsys.readouterr().out.splitlines()[0]
    assert place.startswith("turntable:") and Path(place.split()[-1]).exists()


def test_a_folder_is_used_again_for_the_same_object_only(folder, capsys):
    here = [*SMALL, "--trainer.logger.init_args.version=x"]
    run = folder / "lightning_logs" / "x"
    assert main(["fit", *here, "--prompt", "a red ball"]) == 0
    kept = (run / "object.glb").read_bytes()
    capsys.readouterr()
    assert main(["fit", *here, "--prompt", "a blue ball"]) == 2
    assert "has the run of 'a red ball' with seed 0" in capsys.readouterr().err
    assert main(["fit", *here, "--prompt", "a red ball", "--seed_everything", "1"]) == 2
    assert (run / "object.glb").read_bytes() == kept
    assert (run / "prompt.txt").read_text() == "a red ball\n"
    status = (run / "status.json").read_text()
    (run / "status.json").write_text(status.replace('"finished"', '"interrupted"'))
    assert main(["fit", *here, "--prompt", "a red ball"]) == 2
    assert "go on with --resume lightning_logs/x" in capsys.readouterr().err
    assert (run / "checkpoints" / "last.ckpt").exists()
    (run / "status.json").write_text(status)
    bias = "--model.scene.field.bias"
    empty = [
        "--model.scene.field=SoftplusDensity",
        f"{bias}=GaussianBias",
        f"{bias}.strength=-99",
        f"{bias}.width=9",
    ]
    assert main(["fit", *here, "--prompt", "a red ball", *empty, "--trainer.max_steps", "2"]) == 0
    assert "no mesh was written" in capsys.readouterr().err
    assert not (run / "object.glb").exists() and not (run / "object.report.json").exists()
    assert [path.name for path in (run / "renders").iterdir()] == ["step_000002.png"]
    assert json.loads((run / "status.json").read_text())["step"] == 2


def test_gradients_may_be_accumulated_and_nothing_be_logged(folder, capsys):
    words = ["--trainer.accumulate_grad_batches=3", "--trainer.log_every_n_steps=0", "--trainer.max_steps=2"]
    assert main(["fit", *SMALL, "--prompt", "a red ball", *words]) == 0
    shown = capsys.readouterr().out
    assert shown.count("step 1/2") == 1 and shown.count("step 2/2") == 1


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_a_precision_that_nothing_else_has_is_refused(folder, capsys, precision):
    assert main(["fit", *SMALL, "--prompt", "a red ball", "--trainer.precision", precision]) == 2
    assert "take 32-true, or bf16-mixed" in capsys.readouterr().err
    assert not (folder / RUN / "checkpoints").exists()


def test_names_of_predicted_views_are_in_order():
    names = [azimuth_name(0.5 * count) for count in range(720)]
    assert names[:2] == ["azimuth_000.png", "azimuth_000_50.png"] and len(set(names)) == 720
    assert sorted(names) == names


def test_validate_and_predict(finished, monkeypatch, capsys):
    monkeypatch.chdir(finished)
    for command, pictures in [
        ("validate", ["step_000000.png"]),
        ("predict", ["azimuth_000.png", "azimuth_090.png"]),
    ]:
        assert main([command, "--ckpt_path", str(RUN)]) == 0
        run = Path(capsys.readouterr().out.splitlines()[-1].split()[-1])
        found = sorted(path.name for path in (run / "renders").iterdir())
        assert found[: len(pictures)] == pictures or command == "validate" and len(found) == 1


def test_a_checkpoint_alone_is_enough(finished, monkeypatch, folder):
    alone = folder / "alone.ckpt"
    alone.write_bytes((finished / RUN / "checkpoints" / "last.ckpt").read_bytes())
    assert (
        main(["test", "--ckpt_path", str(alone), "--data.num_test_views", "2", "--data.look_resolution", "8"])
        == 0
    )
    model = DreamFusion.load_from_checkpoint(alone)
    assert model.prompt == "a red ball" and model.progress == 1.0
    stored = torch.load(alone, weights_only=True)["state_dict"]
    assert torch.equal(model.scene.features.planes, stored["scene.features.planes"])


def test_options_win_over_what_the_checkpoint_was_made_with(finished, monkeypatch, capsys):
    monkeypatch.chdir(finished)
    args = ["fit", "--ckpt_path", str(RUN), "--model.learning_rate", "0.5", "--print_config"]
    assert main(args) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["init_args"]["learning_rate"] == 0.5
    assert printed["prompt"] == "a red ball"


def test_a_finished_run_goes_on(finished, folder, capsys):
    shutil.copytree(finished / RUN, RUN)
    assert main(["fit", "--ckpt_path", str(RUN), "--trainer.max_steps", "7"]) == 0
    out = capsys.readouterr().out
    assert "step 6/7" in out and "step 5/7" not in out


def test_generate_is_the_same_path(finished, folder):
    result = generate("a red ball", steps=5, configs=SMALL[1:])
    same = torch.load(finished / RUN / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(result.model.scene.features.planes, same["scene.features.planes"])
    assert result.turntable.read_bytes()[:6] == b"GIF89a"
    assert result.save("ball.obj", resolution=24).read_text().count("\nf ") > 10
    with pytest.raises(ValueError, match="empty"):
        generate("  ")
    with pytest.raises(ValueError, match="text"):
        generate(12)
    with pytest.raises(ValueError, match="max_stepz"):
        generate("a ball", options=["--trainer.max_stepz", "3"])


def test_what_is_said_of_views_reaches_the_model_and_its_checkpoint(folder):
    (folder / "views.yaml").write_text(
        "model: {init_args: {prompts: {directions: 4, view_prompts: {front: a nose}}}}"
    )
    options = [
        *("--model.prompts.view_prompts.back", "a tail"),
        *(
            "--model.prompts.overhead_deg",
            "50",
            "--model.prompts.front_deg=30",
            "--model.prompts.back_deg=140",
        ),
        *("--model.prompts.view_embedding", "interpolated", "--model.prompts.perp_neg", "PerpNeg"),
        *("--model.prompts.perp_neg.side_behind", "[2, 1, 0]"),
    ]
    model = generate("a cat", steps=2, configs=[SMALL[1], "views.yaml"], options=options).model
    prompts = model.prompts.settings
    assert model.prompts.texts == ["a nose", "a cat, side view", "a tail", "a cat, overhead view"]
    assert (prompts.overhead_deg, prompts.front_deg, prompts.back_deg) == (50.0, 30.0, 140.0)
    assert prompts.view_embedding == "interpolated"
    assert prompts.perp_neg.side_behind == (2.0, 1.0, 0.0)
    assert prompts.perp_neg.front_ahead == (4.0, 0.5, -2.426)
    (folder / RUN / "config.yaml").unlink()  # the checkpoint alone
    assert main(["validate", "--resume", "last"]) == 0


BAD = [
    ([], "--prompt"),
    (["--prompt", ""], "empty"),
    (["--prompt", " \t"], "empty"),
    (["--prompt", "?!"], "no word"),
    (["--prompt", "a ball", "--config", "missing.yaml"], "default.yaml"),
    (["--prompt", "a ball", "--config", "unknown.yaml"], "max_stepz"),
    (["--prompt", "a ball", "--config", "deep.yaml"], "resolutoin"),
    (["--prompt", "a ball", "--config", "empty.yaml"], "feild"),
    (["--prompt", "a ball", "--config", "null.yaml"], "'feild' is not accepted"),
    (
        ["--prompt", "a ball", "--config", "type.yaml"],
        "model.scene.features.resolution: Expected a int. Got value: big",
    ),
    (["--config", "number.yaml"], "prompt: Expected a str"),
    (["--prompt", "a ball", "--config", "list.yaml"], "mapping"),
    (["--prompt", "a ball", "--config", "broken.yaml"], "YAML"),
    (["--prompt", "a ball", "--trainer.max_steps", "many"], "trainer.max_steps: Expected a int"),
    (["--prompt", "a ball", "--trainer.max_steps", "-1"], "max_steps"),
    (["--prompt", "a ball", "--model.learning_rate", "-1"], "learning_rate"),
    (["--prompt", "a ball", "--model.prompts.overhead_deg", "120"], "overhead_deg must be in [0, 90]"),
    (["--prompt", "a ball", "--model.prompts.view_embedding", "mean"], "view_embedding"),
    (
        ["--prompt", "a ball", "--model.prompts.directions=8", "--model.prompts.view_prompts.left", "a side"],
        "those of 8: front, front_left, left_side",
    ),
    (
        ["--prompt", "a ball", "--model.prompts.view_prompts.front_0", ""],
        "view_prompts.front_0: the prompt is empty",
    ),
    (["--prompt", "a ball", "--model.prompts.perp_neg.side_ahead", "[-1, 1, 0]"], "perp_neg.side_ahead"),
    (["--prompt", "a ball", "--trainer.logger.init_args.save_dir", "taken"], "cannot be written"),
    (["--prompt", "a ball", "--bogus"], "bogus"),
    (["--prompt", "a ball", "--print_config", "--bogus", "3"], "bogus"),
    (["--prompt", "a ball", "--trainer.max_step", "3"], "trainer.max_steps"),
    (["--prompt", "a ball", "--seed", "3"], "seed"),
    (["--prompt", "a ball", "--ckpt_path", "nowhere"], "no checkpoint"),
]
FILES = {
    "unknown.yaml": "trainer: {max_stepz: 3}",
    "deep.yaml": "model: {init_args: {scene: {init_args: {features: {init_args: {resolutoin: 3}}}}}}",
    "empty.yaml": "feild: {}",
    "null.yaml": "model: {init_args: {feild: }}",
    "type.yaml": "model: {init_args: {scene: {init_args: {features: {init_args: {resolution: big}}}}}}",
    "number.yaml": "prompt: 12",
    "list.yaml": "- a",
    "broken.yaml": "a: [",
    "taken": "a file where a folder should be",
}


@pytest.mark.parametrize(("args", "expected"), BAD, ids=[" ".join(args[-2:]) or "nothing" for args, _ in BAD])
def test_bad_input_gets_one_message(folder, capsys, args, expected):
    for name, text in FILES.items():
        (folder / name).write_text(text)
    assert main(["fit", *SMALL, *args]) == 2
    err = capsys.readouterr().err
    assert err.startswith("dreamfusion_pl: error: ") and expected in err
    assert "Traceback" not in err and len(err) < 600


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is there")
def test_a_device_that_is_not_there(folder, capsys):
    assert main(["fit", *SMALL, "--prompt", "a ball", "--trainer.accelerator", "gpu"]) == 2
    err = capsys.readouterr().err
    assert "gpu" in err and "--trainer.accelerator auto" in err


@pytest.mark.parametrize("saved", [False, True])
def test_out_of_memory_is_answered_with_fewer_views_at_once(folder, capsys, saved):
    full = ["--trainer.callbacks+=fakes.FullMemory", "--trainer.callbacks.step=2"]
    keeper = ["--trainer.callbacks+=dreamfusion_pl.callbacks.checkpoints.LastCheckpoints"]
    keeper += ["--trainer.callbacks.every=1"]
    words = ["fit", *SMALL, "--prompt", "a red ball", *full, *(keeper if saved else [])]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert captured.err.count("one view at a time") == 1 and "error" not in captured.err
    assert [run.name for run in Path("lightning_logs").iterdir()] == ["version_0"]
    model = yaml.safe_load((RUN / "config.yaml").read_text())["model"]["init_args"]
    assert model["renderer"]["views_at_once"] == 1


def test_out_of_memory_in_spite_of_that_is_one_message(folder, capsys):
    full = ["--trainer.callbacks+=fakes.FullMemory", "--trainer.callbacks.step=2"]
    words = ["fit", *SMALL, "--prompt", "a red ball", *full, "--trainer.callbacks.always=true"]
    assert main(words) == 1
    err = capsys.readouterr().err
    assert err.count("one view at a time") == 1 and err.count("error") == 1
    assert "--data.views_per_step" in err and "Traceback" not in err


def test_looking_needs_something_to_look_at(folder, capsys):
    assert main(["test", *SMALL]) == 2
    assert "--resume" in capsys.readouterr().err


def test_unknown_command(capsys):
    assert main(["paint"]) == 2
    assert "fit" in capsys.readouterr().err
    assert main([]) == 2


def test_words_that_the_prior_does_not_know(folder, capsys):
    args = [
        "fit",
        *SMALL,
        "--prompt",
        "a zorp chair",
        "--trainer.max_steps",
        "1",
        "--model.prior",
        "PretrainedPrior",
    ]
    assert main([*args, "--data.resolution", "8"]) == 0
    err = capsys.readouterr().err
    assert "'zorp'" in err and "chair" in err and "--model.prior" in err


def test_characters_that_another_model_has_no_token_for(tmp_path, capsys):
    prior = PretrainedPrior(str(save_tiny_pipeline(tmp_path / "tiny")), dtype="float32")
    prompts = SimpleNamespace(texts=[], source_text=None)
    model = SimpleNamespace(prior=prior, prompt="a red ☃", prompts=prompts)
    warn_of_unknown_words(model)
    err = capsys.readouterr().err
    assert "tokenizer has no token for '☃'" in err and "embedded prior" not in err


def test_help_is_quick():
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "dreamfusion_pl", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0 and "--prompt" in done.stdout
    assert time.monotonic() - begin < 2.0


def test_from_any_folder_and_without_noise(folder):
    words = [*SMALL, "--prompt", "a red ball", "--trainer.max_steps", "2"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "dreamfusion_pl", "fit", *words],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines[-6:]] == [
        "turntable",
        "video",
        "object",
        "viewer",
        "renders",
        "run folder",
    ]
    stages = [line for line in lines[:-6] if not line.startswith(("step ", "done: "))]
    assert stages == ["filming", "meshing", "scoring", "writing the page"]


def test_configurations_are_packaged():
    assert {"default.yaml", "denoiser.yaml"} <= {path.name for path in layers.PACKAGED.iterdir()}


@pytest.mark.parametrize("number, status, said", [(28, 1, "space left"), (30, 2, "cannot be written")])
def test_a_full_disk_may_be_tried_again_a_read_only_one_not(
    folder, capsys, monkeypatch, number, status, said
):
    def touch(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "touch", touch)
    assert main(["fit", *SMALL, "--prompt", "a red ball"]) == status
    assert said in capsys.readouterr().err


@pytest.fixture
def ctrl_c():
    """Ctrl-C as in a fresh process; Lightning switches it off when it was pressed."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_while_a_command_loads_is_one_line(folder, capsys, monkeypatch, ctrl_c):
    monkeypatch.setattr(layers, "arrange", lambda *words: os.kill(os.getpid(), signal.SIGINT))
    assert main(["fit", "--prompt", "a red ball"]) == 130
    line = "stopped by Ctrl-C; go on with: python -m dreamfusion_pl fit --prompt 'a red ball'\n"
    assert capsys.readouterr().err == line


def test_ctrl_c_while_results_are_written_loses_no_step(folder, capsys, ctrl_c):
    assert main(["fit", *SMALL, "--prompt", "a red ball", "--trainer.callbacks+=fakes.Impatient"]) == 130
    error = capsys.readouterr().err
    assert (
        error.splitlines()[-1]
        == f"stopped by Ctrl-C; go on with: python -m dreamfusion_pl fit --resume {RUN}"
    )
    assert "Traceback" not in error and (RUN / "checkpoints" / "last.ckpt").exists()
    assert json.loads((RUN / "status.json").read_text())["state"] == "interrupted"


def test_a_full_tmpdir_does_not_matter_to_saves(folder, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkstemp", full)
    assert main(["fit", *SMALL, "--prompt", "a red ball"]) == 0
    assert is_whole(RUN / "checkpoints" / "last.ckpt")
