"""Checkpoints in one file: the same prior as the folder with their weights; what they lack is said."""

import shutil

import pytest
import torch
from tiny_checkpoint import save_checkpoint
from tiny_families import stable_diffusion

from dreamfusion_pl.cli import main
from dreamfusion_pl.diffusion.families.pretrained import PretrainedPrior
from dreamfusion_pl.diffusion.loading import sources


def other_pipeline():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return stable_diffusion()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The pipeline whose weights are in the file."""
    folder = tmp_path_factory.mktemp("whole") / "tiny"
    other_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return save_checkpoint(other_pipeline(), tmp_path_factory.mktemp("file") / "tiny.safetensors")


@pytest.fixture(scope="module")
def config(folder, tmp_path_factory):
    """What a checkpoint needs besides: the pipeline's folder without its weights."""
    config = shutil.copytree(folder, tmp_path_factory.mktemp("config") / "tiny")
    for weights in config.rglob("*.safetensors"):
        weights.unlink()
    return config


def test_a_checkpoint_is_the_prior_of_its_weights(file, folder, config):
    expected = PretrainedPrior(str(folder), dtype="float32")
    prior = PretrainedPrior(str(file), config=str(config), dtype="float32")
    text = expected.embed(["a red chair", ""])
    torch.testing.assert_close(prior.embed(["a red chair", ""]).tokens, text.tokens)
    z_t, t = torch.randn(2, 4, 8, 8), torch.tensor([0.3, 0.7])
    torch.testing.assert_close(prior.predict(z_t, t, text), expected.predict(z_t, t, text))
    rgb = torch.rand(1, 16, 16, 3)
    torch.testing.assert_close(prior.encode(rgb, 0.0), expected.encode(rgb, 0.0))


def test_doctor_says_whether_all_is_there(file, config, tmp_path, capsys):
    words = ["doctor", "--model.prior.model", str(file), "--model.prior.config"]
    assert main([*words, str(config)]) == 0
    assert "StableDiffusionPipeline" in capsys.readouterr().out
    half = shutil.copytree(config, tmp_path / "half")
    shutil.rmtree(half / "tokenizer")
    assert main([*words, str(half)]) == 1
    assert "missing: tokenizer" in capsys.readouterr().out


def test_what_cannot_be_loaded_is_explained(file, config, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="is pickled.*may run code.*safetensors"):
        sources.find("model.ckpt")
    with pytest.raises(ValueError, match="nowhere.safetensors' is not there: no such file"):
        sources.find("nowhere.safetensors")
    with pytest.raises(ValueError, match="config is for a single-file checkpoint"):
        sources.find("builtin", config=str(config))
    with pytest.raises(ValueError, match="--model.prior.config.*no folder"):
        sources.find(str(file), config=str(tmp_path / "no" / "where"))
    (tmp_path / "half.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match="half.safetensors is damaged"):
        PretrainedPrior(str(tmp_path / "half.safetensors"), config=str(config))


def test_its_weights_tell_the_pipeline(file, monkeypatch):
    asked = []

    def fail(name, revision):
        asked.append(name)
        raise ValueError("not reached")

    monkeypatch.setattr(sources, "_fetch_index", fail)
    with pytest.raises(ValueError, match="needs the configurations and tokenizers.*--model.prior.config"):
        sources.find(str(file))
    assert asked == ["stable-diffusion-v1-5/stable-diffusion-v1-5"]
