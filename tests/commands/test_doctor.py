"""What doctor says of priors that are there, half there, and not there."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
import yaml
from fakes import SMALL_RUN
from safetensors.torch import save_file
from tiny_families import save_tiny_family, tiny_autoencoder, tiny_family
from tiny_pipeline import save_tiny_pipeline

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.callbacks.mesh import MeshExport
from dreamfusion_pl.callbacks.previews.renders import Renders
from dreamfusion_pl.callbacks.previews.turntable import Turntable
from dreamfusion_pl.callbacks.report import Report
from dreamfusion_pl.callbacks.score import Score
from dreamfusion_pl.cli import main
from dreamfusion_pl.commands import cost_estimate, prior_check
from dreamfusion_pl.commands.cost_estimate import _Clock
from dreamfusion_pl.data.views import RandomViews
from dreamfusion_pl.diffusion.loading import files
from dreamfusion_pl.schedule import Steps


def diagnose(capsys, *words):
    status = main(["doctor", "--json", *words])
    return status, json.loads(capsys.readouterr().out)


def test_the_builtin_prior(capsys):
    status, report = diagnose(capsys)
    assert status == 0 and report["ok"] and report["prior"]["kind"] == "StableDiffusionPipeline"
    weights = report["prior"]["weights_gb"]
    assert weights["float32"] == pytest.approx(2 * weights["bfloat16"]) and weights["float32"] > 0.001
    assert report["machine"]["memory_gb"] > 0.1


def test_an_autoencoder_that_stays_float32_counts_as_such(capsys, tmp_path):
    """That of XL overflows in float16, and is kept in float32 beside a network in float16."""
    for name in ("stable_diffusion", "stable_diffusion_xl"):
        folder = save_tiny_family(name, tmp_path / name)
        found = diagnose(capsys, "--model.prior.model", str(folder))[1]["prior"]["weights_gb"]
        vae = files.num_weights(folder / "vae") / 1e9
        assert found["float32"] == pytest.approx(2 * found["bfloat16"]) and vae > 0.0
        extra = found["float16"] - found["bfloat16"]
        assert extra == pytest.approx(2 * vae if name.endswith("xl") else 0.0)


def test_a_half_downloaded_folder(capsys, tmp_path):
    folder = save_tiny_pipeline(tmp_path / "tiny")
    assert diagnose(capsys, "--model.prior.model", str(folder))[0] == 0
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    status, report = diagnose(capsys, "--model.prior.model", str(folder))
    assert status == 1 and report["prior"]["missing"] == ["unet/diffusion_pytorch_model.safetensors"]
    assert "Download it again" in report["prior"]["problem"]


def test_a_folder_that_a_fit_refuses(capsys, tmp_path):
    folder = save_tiny_pipeline(tmp_path / "tiny")
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"block_out_channels": [8, 24]}))
    words = ["--model.prior.model", str(folder)]
    said = problem(capsys, *words)
    assert main(["fit", "--prompt", "a", "--trainer.logger.save_dir", str(tmp_path), *words]) == 2
    assert said.splitlines()[0] in capsys.readouterr().err


def test_an_unsupported_pipeline(capsys, tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "AudioLDMPipeline"}')
    status, report = diagnose(capsys, "--model.prior.model", str(tmp_path))
    assert status == 1 and "AudioLDMPipeline" in report["prior"]["problem"]


def test_a_missing_name_offline(capsys, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    status, report = diagnose(capsys, "--config", "stable_diffusion.yaml")
    assert status == 1 and "HF_HUB_OFFLINE is set" in report["prior"]["problem"]
    assert report["prior"]["model"] == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert report["prior"]["todo"] == ["hf download stable-diffusion-v1-5/stable-diffusion-v1-5"]


def test_a_missing_configuration_is_one_message(capsys):
    assert main(["doctor", "--config", "nowhere.yaml"]) == 2
    assert "nowhere.yaml" in capsys.readouterr().err


def test_a_damaged_file(capsys, tmp_path):
    folder = save_tiny_pipeline(tmp_path / "tiny")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"broken")
    status, report = diagnose(capsys, "--model.prior.model", str(folder))
    assert status == 1 and "damaged" in report["prior"]["problem"]


@pytest.mark.parametrize("reachable", [True, False])
def test_a_hub_model_of_which_only_the_index_is_cached(capsys, monkeypatch, tmp_path, reachable):
    index = tmp_path / "models--some--model" / "snapshots" / ("0" * 40) / "model_index.json"
    index.parent.mkdir(parents=True)
    index.write_text('{"_class_name": "IFPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}')

    def download(name, file, revision=None, force_download=False):
        if force_download and not reachable:
            raise huggingface_hub.errors.LocalEntryNotFoundError("no network")
        return str(index)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: str(index))
    status, report = diagnose(capsys, "--model.prior.model", "some/model")
    assert status == (0 if reachable else 1)
    assert report["prior"]["missing"] == ["unet"]
    assert report["prior"].get("needs_network", False) is reachable


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("model_index.json", "[]"),
        ("model_index.json", '{"_class_name": "IFPipeline", "unet": []}'),
        ("unet/diffusion_pytorch_model.safetensors.index.json", "{}"),
        ("unet/diffusion_pytorch_model.safetensors.index.json", "half a"),
    ],
)
def test_a_damaged_index(capsys, tmp_path, file, text):
    folder = save_tiny_pipeline(tmp_path / "tiny")
    (folder / file).write_text(text)
    status, report = diagnose(capsys, "--model.prior.model", str(folder))
    assert status == 1 and "damaged" in report["prior"]["problem"]


def test_a_trial_says_what_the_whole_fit_takes(capsys):
    small = ["--data.views_per_step=1", "--data.resolution=16", "--trainer.max_steps=7200"]
    small += ["--data.look_resolution=16", "--data.num_val_views=1", "--data.num_test_views=2"]
    status, report = diagnose(capsys, "--trial", "4", *small)
    trial = report["trial"]
    assert status == 0 and trial["steps"] == 4 and trial["max_steps"] == 7200 and trial["device"] == "cpu"
    assert (
        trial["hours"] == pytest.approx(2.0 * trial["seconds_per_step"]) and trial["seconds_per_step"] > 0.0
    )
    assert 0.1 < trial["peak_memory_gb"] < report["machine"]["memory_gb"]


def test_a_trial_has_the_share_of_each_size_of_renders_that_the_fit_has(monkeypatch):
    clock, now = _Clock(), iter((10.0, 11.0, 12.0, 13.0, 16.0))  # steps of 1, 1, 1 and 3 s after the first
    monkeypatch.setattr(cost_estimate.time, "perf_counter", lambda: next(now))
    data = RandomViews(resolution=Steps({0.0: 4, 0.8: 8}))
    model = torch.nn.Module()
    model.device = torch.device("cpu")
    for step in range(5):
        batch = data.draw(step, step / 5, data.side(step / 5, 64))
        clock.on_train_batch_end(SimpleNamespace(global_step=step + 1), model, None, batch, step)
    assert clock.seconds() == pytest.approx((1.0 + 1.0 + 1.0 + 3.0) / 4)


def test_a_trial_skips_what_comes_on_top(capsys, monkeypatch):
    def fail(*args):
        raise AssertionError("this is not part of a step")

    for one in (Turntable, MeshExport, Score, Renders, Report):
        monkeypatch.setattr(one, "on_fit_end", fail)
    monkeypatch.setattr(DreamFusion, "validation_step", fail)
    words = [*SMALL_RUN, "--trial", "3", "--trainer.val_check_interval", "1"]
    status, report = diagnose(capsys, *words)
    assert status == 0 and report["trial"]["seconds_per_step"] > 0.0


def test_a_trial_of_a_training_leaves_its_output_alone(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["--data.count", "32", "--data.batch_size", "4", "--model.sample_every", "0"]
    accumulated = ["--trainer.accumulate_grad_batches", "2", "--trainer.precision", "32-true"]
    report = diagnose(capsys, "--config", "denoiser.yaml", "--trial", "3", *small, *accumulated)[1]
    assert report["trial"]["steps"] == 3 and report["trial"]["max_steps"] == 6000
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--trainer.max_steps", "5"], "goes with --trial"),
        (["--trial", "2"], "3 steps or more"),
        (["--trial", "4", "--trainer.max_steps", "-1"], "no last step"),
        (["--trial", "4", "--trainer.max_stps", "5"], "max_stps"),
    ],
)
def test_a_trial_that_cannot_be(capsys, words, message):
    assert main(["doctor", *words]) == 2
    assert message in capsys.readouterr().err


def problem(capsys, *words):
    status, report = diagnose(capsys, *words)
    assert status == 1 and report["ok"] is False
    return report["prior"]["problem"]


@pytest.fixture
def latent(tmp_path):
    return save_tiny_family("stable_diffusion", tmp_path / "latent")


@pytest.mark.parametrize(
    "prior", ["PretrainedPrior", {"class_path": "PretrainedPrior", "init_args": {"model": "no"}}]
)
def test_a_prior_by_its_short_name_is_looked_into(capsys, tmp_path, prior):
    tree = {"model": {"init_args": {"prior": prior}}}
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(tree))
    words = ["--config", str(tmp_path / "short.yaml"), "--model.prior.model", "nowhere"]
    assert "no folder nowhere" in problem(capsys, *words)


@pytest.mark.parametrize(
    ("name", "known", "word"),
    [("playground.yaml", None, "MixturePrior"), ("denoiser.yaml", True, None)],
)
def test_what_is_no_pretrained_prior_is_not_called_whole(capsys, name, known, word):
    status, report = diagnose(capsys, "--config", name)
    assert status == 0 and report["ok"] is known
    assert report["prior"]["model"] is word or report["prior"]["model"].endswith(word)


def test_embeddings_that_are_not_there(capsys, tmp_path):
    words = ["--model.prior.embeddings", str(tmp_path / "no")]
    assert "no folder of embeddings" in problem(capsys, *words)
    assert diagnose(capsys, *words)[1]["prior"]["todo"] == [
        f"python -m dreamfusion_pl embed --out {tmp_path / 'no'}"
    ]


def test_a_lora_is_looked_into(capsys, tmp_path, latent, monkeypatch):
    pytest.importorskip("peft")
    words = ["--model.prior.model", str(latent), "--model.prior.lora"]
    file = tmp_path / "lora.safetensors"
    unet = tiny_family("stable_diffusion").unet
    name, layer = next(named for named in unet.named_modules() if named[0].endswith("to_q"))
    shapes = {"lora_A": (2, layer.in_features), "lora_B": (layer.out_features, 2)}
    save_file({f"unet.{name}.{part}.weight": torch.ones(shapes[part]) for part in shapes}, file)
    assert diagnose(capsys, *words, str(file))[0] == 0
    save_file({"unet.a.lokr_w1": torch.zeros(2)}, file)
    assert "no plain LoRA, it holds LoKr" in problem(capsys, *words, str(file))
    save_file({"unet.a.lora_A.weight": torch.zeros(2)}, file)  # of no network, as fit says too
    assert problem(capsys, *words, str(file))
    file.write_bytes(b"half")
    assert "lora.safetensors is damaged" in problem(capsys, *words, str(file))
    assert "there is no LoRA" in problem(capsys, *words, "nowhere")
    monkeypatch.setattr(huggingface_hub, "file_exists", lambda *_: False)
    assert "`hf download some/lora" in problem(capsys, *words, "some/lora")
    monkeypatch.setattr(huggingface_hub, "file_exists", lambda *_: True)
    assert diagnose(capsys, *words, "some/lora")[1]["prior"]["needs_network"]


def test_a_tiny_autoencoder_is_looked_into(capsys, tmp_path, latent, monkeypatch):
    words = ["--model.prior.model", str(latent), "--model.prior.autoencoder"]
    tiny_autoencoder().save_pretrained(tmp_path / "taesd")
    assert diagnose(capsys, *words, str(tmp_path / "taesd"))[0] == 0
    (tmp_path / "taesd" / "config.json").unlink()
    assert "incomplete, missing: config.json" in problem(capsys, *words, str(tmp_path / "taesd"))
    assert "no such folder" in problem(capsys, *words, "nowhere")
    monkeypatch.setattr(huggingface_hub, "file_exists", lambda *_: False)
    assert "`hf download some/taesd" in problem(capsys, *words, "some/taesd")
    words[1] = str(save_tiny_pipeline(tmp_path / "pixels"))
    assert "works on pixels" in problem(capsys, *words, str(tmp_path / "taesd"))


def test_a_precision_that_the_device_has_not(capsys, monkeypatch):
    def refuse(name, device):
        raise ValueError(f"no {name} here")

    monkeypatch.setattr(prior_check, "resolve_dtype", refuse)
    assert "no bfloat16 here" in problem(capsys, "--model.prior.dtype", "bfloat16")


def test_text_encoders_are_opened_and_counted(capsys, tmp_path):
    folder = save_tiny_pipeline(tmp_path / "tiny")
    words = ["--model.prior.model", str(folder)]
    found = diagnose(capsys, *words)[1]["prior"]
    assert found["text_encoders_gb"]["float32"] > 0.0 and found["fits_memory"] is True
    (tmp_path / "texts").mkdir()
    without = diagnose(capsys, *words, "--model.prior.embeddings", str(tmp_path / "texts"))[1]["prior"]
    assert without["text_encoders_gb"]["float32"] == 0.0 and without["weights_gb"] == found["weights_gb"]
    (folder / "text_encoder" / "model.safetensors").write_bytes(b"half")
    assert "model.safetensors is damaged" in problem(capsys, *words)


def test_what_does_not_fit_the_memory_is_said_with_a_cure(capsys, tmp_path, monkeypatch):
    words = [
        "--model.prior.model",
        str(save_tiny_pipeline(tmp_path / "tiny")),
        "--model.prior.dtype",
        "float32",
    ]
    found = diagnose(capsys, *words)[1]["prior"]
    weights = found["weights_gb"]["float32"]
    memory = int(1e9 * (weights + 0.5 * found["text_encoders_gb"]["float32"]))
    monkeypatch.setattr(prior_check, "available_memory", lambda: memory)
    status, report = diagnose(capsys, *words)
    assert status == 0 and report["prior"]["fits_memory"] is False
    (todo,) = report["prior"]["todo"]
    assert "dreamfusion_pl embed --out" in todo
    monkeypatch.setattr(prior_check, "available_memory", lambda: int(0.5e9 * weights))
    assert "this machine has" in problem(capsys, *words)


@pytest.mark.parametrize(
    ("gone", "junk", "missing"),
    [
        (
            "unet/diffusion_pytorch_model.safetensors",
            "unet/diffusion_pytorch_model.non_ema.safetensors",
            "unet/diff",
        ),
        ("text_encoder/model.safetensors", "text_encoder/model.tf.safetensors", "text_encoder/model.saf"),
        ("tokenizer/tokenizer.json", "tokenizer/notes.txt", "tokenizer/tokenizer.json"),
        ("tokenizer/tokenizer_config.json", "tokenizer/notes.txt", "tokenizer/tokenizer_config.json"),
        ("scheduler/scheduler_config.json", "scheduler/notes.txt", "scheduler/scheduler_config.json"),
    ],
)
def test_other_files_do_not_stand_in_for_those_that_are_loaded(capsys, tmp_path, gone, junk, missing):
    folder = save_tiny_pipeline(tmp_path / "tiny")
    shutil.move(folder / gone, folder / junk)
    assert f"missing: {missing}" in problem(capsys, "--model.prior.model", str(folder))
    report = diagnose(capsys, "--model.prior.model", str(folder))[1]
    assert report["prior"]["todo"] == [f"hf download OWNER/NAME --local-dir {Path(folder)}"]
