"""What doctor says of priors that are there, half there, and not there."""

import json

import pytest
from tiny_pipeline import save_tiny_pipeline

from dreamfusion_pl.cli import main


def diagnose(capsys, *words):
    status = main(["doctor", "--json", *words])
    return status, json.loads(capsys.readouterr().out)


def test_the_builtin_prior(capsys):
    status, report = diagnose(capsys)
    assert status == 0 and report["ok"] and report["prior"]["kind"] == "IFPipeline"
    weights = report["prior"]["weights_gb"]
    assert weights["float32"] == pytest.approx(2 * weights["bfloat16"]) and weights["float32"] > 0.001
    assert report["machine"]["memory_gb"] > 0.1


def test_a_half_downloaded_folder(capsys, tmp_path):
    folder = save_tiny_pipeline(tmp_path / "tiny")
    assert diagnose(capsys, "--model.prior.model", str(folder))[0] == 0
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    status, report = diagnose(capsys, "--model.prior.model", str(folder))
    assert status == 1 and report["prior"]["missing"] == ["unet/*.safetensors"]
    assert "download it again" in report["prior"]["problem"]


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
    import huggingface_hub

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
    status, report = diagnose(capsys, "--trial", "4", *small)
    trial = report["trial"]
    assert status == 0 and trial["steps"] == 4 and trial["max_steps"] == 7200 and trial["device"] == "cpu"
    assert (
        trial["hours"] == pytest.approx(2.0 * trial["seconds_per_step"]) and trial["seconds_per_step"] > 0.0
    )
    assert 0.1 < trial["peak_memory_gb"] < report["machine"]["memory_gb"]


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
