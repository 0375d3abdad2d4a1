"""Whatever other libraries' loaders raise is one message."""

import diffusers
import httpx2
import huggingface_hub
import pytest
import torch
from diffusers.loaders import single_file_utils
from diffusers.loaders.single_file_utils import SingleFileComponentError
from safetensors.torch import save_file
from tiny_families import save_tiny_family
from tiny_pipeline import save_tiny_pipeline

from dreamfusion_pl.cli import main
from dreamfusion_pl.diffusion.families.pretrained import PretrainedPrior
from dreamfusion_pl.diffusion.loading import lora, pipelines, single_file, sources

ERRORS = [
    (AssertionError(), "AssertionError"),
    (ImportError("no module named x"), "Install the package that it names"),
    (SingleFileComponentError("no T5 in it"), "no T5 in it"),
    (httpx2.ProxyError("refused"), "HF_HUB_OFFLINE=1"),
    (httpx2.ReadTimeout("timed out"), "HF_HUB_OFFLINE=1"),
    (TimeoutError("timed out"), "HF_HUB_OFFLINE=1"),
]


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_pipeline(tmp_path_factory.mktemp("prior") / "tiny")


@pytest.mark.parametrize(("error", "message"), ERRORS)
def test_what_a_loader_raises_is_one_message(folder, monkeypatch, error, message):
    monkeypatch.setattr(diffusers.AutoencoderTiny, "from_pretrained", raising(error))
    with pytest.raises(ValueError, match=f"(?s)autoencoder 'tiny' could not be loaded.*{message}"):
        pipelines.load_tiny("tiny", None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", raising(error))
    with pytest.raises(ValueError, match=f"(?s)prior 'some/model' could not be fetched.*{message}"):
        sources.find("some/model")
    with pytest.raises(ValueError, match=f"(?s)LoRA 'some/lora' could not be fetched.*{message}"):
        lora._fetch("some/lora")
    monkeypatch.setattr(diffusers.IFPipeline, "from_pretrained", raising(error))
    with pytest.raises(ValueError, match=f"(?s)prior .* could not be loaded.*{message}"):
        PretrainedPrior(str(folder))


def test_a_lora_that_the_loader_stumbles_over(tmp_path, monkeypatch):
    pytest.importorskip("peft")
    folder = save_tiny_family("stable_diffusion", tmp_path / "tiny")
    save_file({}, tmp_path / "lora.safetensors")
    loader = "diffusers.StableDiffusionPipeline.load_lora_weights"
    monkeypatch.setattr(loader, raising(AssertionError("odd")))
    with pytest.raises(ValueError, match="(?s)does not fit.*odd"):
        PretrainedPrior(str(folder), lora=str(tmp_path / "lora.safetensors"))


def test_doctor_without_a_hub_behind_a_proxy(folder, monkeypatch, capsys):
    index = folder / "model_index.json"

    def download(name, file, revision=None, force_download=False):
        if force_download:
            raise httpx2.ProxyError("refused")
        return str(index)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    (folder / "unet").rename(folder / "hidden")
    try:
        assert main(["doctor", "--model.prior.model", "some/model"]) == 1
    finally:
        (folder / "hidden").rename(folder / "unet")
    assert "hf download some/model" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "keys", "held"),
    [
        ("StableDiffusionPipeline", ["cond_stage_model.a"], ["text_encoder"]),
        (
            "StableDiffusionXLPipeline",
            ["conditioner.embedders.0.a", "conditioner.embedders.1.a"],
            ["text_encoder", "text_encoder_2"],
        ),
        (
            "StableDiffusion3Pipeline",
            ["text_encoders.clip_l.a", "text_encoders.clip_g.a"],
            ["text_encoder", "text_encoder_2"],
        ),
        ("StableDiffusion3Pipeline", ["text_encoders.t5xxl.a"], ["text_encoder_3"]),
        ("FluxPipeline", ["text_encoders.clip_l.a"], ["text_encoder"]),
        ("FluxPipeline", ["text_encoders.t5xxl.a"], ["text_encoder_2"]),
    ],
)
def test_a_file_holds_the_text_encoders_whose_weights_it_has(tmp_path, kind, keys, held):
    save_file({key: torch.zeros(1) for key in keys}, tmp_path / "one.safetensors")
    names = ["vae", "text_encoder", "text_encoder_2", "text_encoder_3", "tokenizer"]
    if kind == "FluxPipeline":
        names.remove("text_encoder_3")
    assert single_file.parts_in(tmp_path / "one.safetensors", kind, names) == held


def test_a_file_that_the_loader_cannot_place(tmp_path, monkeypatch):
    save_file({"a": torch.zeros(1)}, tmp_path / "one.safetensors")
    monkeypatch.setattr(single_file_utils, "fetch_diffusers_config", raising(KeyError("odd")))
    with pytest.raises(ValueError, match="(?s)was not recognized.*odd.*--model.prior.config"):
        sources.find(str(tmp_path / "one.safetensors"))


@pytest.mark.parametrize("name", ["deepfloyd", "pixart_sigma"])
def test_a_kind_that_is_in_no_single_file_says_so(name, tmp_path):
    folder = save_tiny_family(name, tmp_path / "tiny")
    save_file({}, tmp_path / "one.safetensors")
    with pytest.raises(ValueError, match="cannot load a .*Pipeline from a single-file checkpoint"):
        PretrainedPrior(str(tmp_path / "one.safetensors"), config=str(folder))
