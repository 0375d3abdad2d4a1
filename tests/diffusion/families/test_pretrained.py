"""PretrainedPrior: what it does for every family, and what it says of models that it cannot load."""

import importlib.util
import json
import shutil
import sys
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors
from tiny_pipeline import save_spiece_tokenizer, save_tiny_pipeline, tiny_pipeline

from dreamfusion_pl.cli import main
from dreamfusion_pl.diffusion.families.precision import resolve_dtype
from dreamfusion_pl.diffusion.families.pretrained import PretrainedPrior
from dreamfusion_pl.diffusion.loading import files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_pipeline(tmp_path_factory.mktemp("prior") / "tiny")


@pytest.fixture(scope="module")
def prior(folder):
    return PretrainedPrior(str(folder), dtype="float32")


def test_embeddings_are_the_pipelines_own(prior):
    expected, expected_null = tiny_pipeline().encode_prompt(["A red chair", "blue ball "])
    torch.testing.assert_close(prior.embed(["A red chair", "blue ball "]).tokens, expected)
    torch.testing.assert_close(prior.embed([""]).tokens, expected_null[:1])


def test_the_model_is_frozen_but_differentiable_in_its_input(prior):
    z_t = torch.randn(2, 3, 8, 8, requires_grad=True)
    eps = prior.predict(z_t, torch.tensor([0.2, 0.7]), prior.embed(["a chair", "a ball"]))
    assert eps.shape == z_t.shape
    eps.sum().backward()
    assert float(z_t.grad.abs().sum()) > 0.0
    assert not any(p.requires_grad for p in prior._adapter.network.parameters())


def test_encode_maps_to_the_models_range_and_size(prior):
    assert prior.encode(torch.zeros(1, 8, 8, 3), 0.0).unique().tolist() == [-1.0]
    rgb = torch.rand(1, 8, 8, 3)
    torch.testing.assert_close(prior.encode(rgb, 0.0), rgb.permute(0, 3, 1, 2) * 2 - 1)
    halves = torch.cat([torch.zeros(1, 16, 8, 3), torch.ones(1, 16, 8, 3)], dim=2).requires_grad_()
    z = prior.encode(halves, 0.0)
    assert z.shape == (1, 3, 8, 8)
    torch.testing.assert_close(z[..., 0], torch.full((1, 3, 8), -1.0))
    torch.testing.assert_close(z[..., -1], torch.full((1, 3, 8), 1.0))
    z.sum().backward()
    torch.testing.assert_close(halves.grad.sum(), torch.tensor(2.0 * z.numel()))


def test_bfloat16_is_close_and_returns_the_callers_dtype(folder, prior):
    half = PretrainedPrior(str(folder), dtype="bfloat16", channels_last=False)
    z_t, t = torch.randn(2, 3, 8, 8), torch.tensor([0.3, 0.6])
    fine = prior.predict(z_t, t, prior.embed(["a red ball", "a chair"]))
    coarse = half.predict(z_t, t, half.embed(["a red ball", "a chair"]))
    assert coarse.dtype == torch.float32
    assert float((fine - coarse).norm() / fine.norm()) < 0.05


def test_unknown_words_are_named_once_without_punctuation(prior):
    assert prior.unknown_words("A red Zebra, on a (shiny) chair; zebra!") == ["zebra", "on", "shiny"]


def test_words_of_a_tokenizer_with_one_token_for_end_and_unknown_are_not_called_unknown(prior, monkeypatch):
    class Clip:
        unk_token_id = 7

        def __len__(self):
            return 49_408

        def __call__(self, text):
            return SimpleNamespace(input_ids=[0, 7])

    monkeypatch.setattr(prior._texts, "_tokenizers", [(Clip(), 77)])
    assert prior.unknown_words("zebra") == []


def test_text_encoders_are_freed_and_come_back(folder, prior):
    fresh = PretrainedPrior(str(folder), dtype="float32")
    first = fresh.embed(["a red chair"])
    assert isinstance(fresh._texts._encoder.text_encoder, torch.nn.Module)
    assert fresh._texts._encoder.unet is None  # no second network
    fresh.to("cpu")
    assert fresh._texts._encoder is None
    torch.testing.assert_close(fresh.embed(["a red chair"]).tokens, first.tokens)


def test_a_model_that_is_not_there_is_explained(tmp_path):
    with pytest.raises(ValueError, match="is not there.*save_pretrained"):
        PretrainedPrior(str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="no model_index.json"):
        PretrainedPrior(str(tmp_path))
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(ValueError, match="damaged.*download"):
        PretrainedPrior(str(tmp_path))


@pytest.mark.parametrize(
    "kind", ["StableVideoDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "MusicPipeline"]
)
def test_a_pipeline_of_another_kind_is_named_with_those_that_serve(tmp_path, kind):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    with pytest.raises(ValueError, match=f"is a {kind}.*IFPipeline.*FluxPipeline"):
        PretrainedPrior(str(tmp_path))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            errors.GatedRepoError,
            "gated: accept its licence at https://huggingface.co/some/model.*hf auth login",
        ),
        (errors.RepositoryNotFoundError, "no model 'some/model'"),
        (errors.RevisionNotFoundError, "no revision 'v2'"),
        (
            errors.LocalEntryNotFoundError,
            "not on this disk and HF_HUB_OFFLINE is set.*hf download some/model",
        ),
        (errors.EntryNotFoundError, "no diffusers pipeline"),
        (OSError, "could not be fetched"),
    ],
)
def test_what_the_hub_says_is_explained(monkeypatch, error, message):
    def fail(*args, **kwargs):
        raise error.__new__(error)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match=message):
        PretrainedPrior("some/model", revision="v2")


@pytest.mark.parametrize(
    "file", ["unet/diffusion_pytorch_model.safetensors", "unet/config.json", "text_encoder"]
)
def test_a_folder_that_is_not_whole_is_named_with_what_it_lacks(tmp_path, folder, file):
    broken = shutil.copytree(folder, tmp_path / "broken")
    path = broken / file
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ValueError, match=r"is incomplete.*(unet/.*|text_encoder).*Download it again"):
        PretrainedPrior(str(broken)).embed(["a chair"])


def test_pickled_weights_are_not_loaded(tmp_path, folder):
    pickled = shutil.copytree(folder, tmp_path / "pickled")
    weights = pickled / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ValueError, match="missing: unet/.*pickled .bin.* may run code"):
        PretrainedPrior(str(pickled))


def test_damaged_weights_are_explained(tmp_path, folder):
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match="(?s)could not be loaded.*complete"):
        PretrainedPrior(str(broken))


def test_missing_shards_are_named(tmp_path):
    part = tmp_path / "transformer"
    part.mkdir()
    (part / "config.json").write_text("{}")
    (part / "diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})
    )
    (part / "model-1.safetensors").touch()
    assert files.missing_files(part) == [part / "model-2.safetensors"]


def test_a_cpu_that_emulates_bfloat16_is_warned_of_once(monkeypatch, folder):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {})
    prior = PretrainedPrior(str(folder), dtype="bfloat16")  # it may go to a GPU yet
    with pytest.warns(UserWarning, match="does not compute in bfloat16.*--model.prior.dtype auto") as found:
        prior.to("cpu")
    assert len(found) == 1
    PretrainedPrior(str(folder), dtype="auto").to("cpu")


def test_a_mac_without_bfloat16_is_explained(monkeypatch):
    mac = torch.device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda *_: True)
    assert resolve_dtype("bfloat16", mac) == torch.bfloat16
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda *_: False)
    with pytest.raises(ValueError, match="macOS 14.*--model.prior.dtype float32"):
        resolve_dtype("bfloat16", mac)
    assert resolve_dtype("auto", mac) == torch.float32


def test_a_sentencepiece_tokenizer_needs_its_package(tmp_path, folder, monkeypatch, capsys):
    model = shutil.copytree(folder, tmp_path / "spiece")
    save_spiece_tokenizer(model)
    known = PretrainedPrior(str(model), dtype="float32")
    assert known.unknown_words("a red zebra") == ["zebra"]
    real = importlib.util.find_spec
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "sentencepiece" else real(name)
    )
    with pytest.raises(ValueError, match="needs the package sentencepiece: pip install"):
        PretrainedPrior(str(model), dtype="float32")
    assert main(["doctor", "--model.prior.model", str(model)]) == 1
    assert "needs the package sentencepiece: pip install" in capsys.readouterr().out
