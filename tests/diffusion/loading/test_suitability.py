"""Files of a hub that load, or are refused by name before the first step; doctor says the same as fit."""

import json
import shutil
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoint import save_checkpoint
from tiny_families import WIDTH, save_tiny_family, stable_diffusion, tiny_autoencoder, tiny_family, unet
from tiny_pipeline import save_tiny_pipeline

from dreamfusion_pl.cli import main
from dreamfusion_pl.diffusion.families.pretrained import PretrainedPrior
from dreamfusion_pl.diffusion.loading import files, sources

TEXT = "a red chair"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_family("stable_diffusion_xl", tmp_path_factory.mktemp("hub") / "tiny")


def prior_of(model, **options) -> PretrainedPrior:
    return PretrainedPrior(str(model), dtype="float32", resolution=8, **options)


def refused(model, message: str, capsys) -> None:
    """The prior is refused with this message, and doctor gives the same reason."""
    with pytest.raises(ValueError, match=message) as found:
        prior_of(model).embed([TEXT])
    assert main(["doctor", "--json", "--model.prior.model", str(model)]) == 1
    report = json.loads(capsys.readouterr().out)["prior"]
    assert report["problem"] == str(found.value)


def change(folder, part: str, **settings) -> None:
    file = folder / part / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


@pytest.mark.parametrize("shards", ["10GB", "20KB"])
def test_a_folder_of_a_variant_alone_is_the_same_prior(folder, tmp_path, shards, capsys):
    tiny_family("stable_diffusion_xl").save_pretrained(
        tmp_path / "fp16", variant="fp16", max_shard_size=shards
    )
    plain, found = prior_of(folder), prior_of(tmp_path / "fp16")
    z_t, t = torch.randn(1, 4, 8, 8), torch.tensor([0.4])
    text = plain.embed([TEXT])
    torch.testing.assert_close(found.embed([TEXT]).tokens, text.tokens)
    torch.testing.assert_close(found.predict(z_t, t, text), plain.predict(z_t, t, text))
    rgb = torch.rand(1, 16, 16, 3)
    torch.testing.assert_close(found.encode(rgb, 0.0), plain.encode(rgb, 0.0))
    counts = []
    for model in (folder, tmp_path / "fp16"):
        assert main(["doctor", "--json", "--model.prior.model", str(model)]) == 0
        counts.append(json.loads(capsys.readouterr().out)["prior"]["weights_gb"])
    assert counts[0] == counts[1]


def test_a_folder_with_a_variant_of_some_parts_is_loaded(folder, tmp_path):
    mixed = shutil.copytree(folder, tmp_path / "mixed")
    weights = mixed / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    z_t, t = torch.randn(1, 4, 8, 8), torch.tensor([0.4])
    text = prior_of(folder).embed([TEXT])
    expected = prior_of(folder).predict(z_t, t, text)
    torch.testing.assert_close(prior_of(mixed).predict(z_t, t, text), expected)


def test_the_plain_files_go_before_a_variant():
    unet = "unet/diffusion_pytorch_model"
    half, plain = f"{unet}.fp16.safetensors", f"{unet}.safetensors"
    assert files.variant_of([half, plain], ["unet"]) is None
    assert files.variant_of([half], ["unet"]) == "fp16"
    assert files.variant_of([f"{unet}.safetensors.index.bf16.json"], ["unet"]) == "bf16"
    assert files.variant_of([half, plain.replace("safetensors", "bin")], ["unet"]) == "fp16"
    assert files.variant_of([half], ["vae"]) is None


def test_the_variant_of_a_hub_model_is_asked_of_the_hub(folder, tmp_path, monkeypatch):
    snapshot = tmp_path / ("0" * 40)
    snapshot.mkdir()
    shutil.copy(folder / "model_index.json", snapshot)
    index = json.loads((folder / "model_index.json").read_text())
    source = sources.Source("some/xl", "some/xl", None, index, "0" * 40, snapshot)
    listed = ["unet/diffusion_pytorch_model.fp16.safetensors", "vae/diffusion_pytorch_model.safetensors"]
    from dreamfusion_pl.diffusion.loading import pipelines

    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda name, revision: listed)
    assert pipelines._variant(source, ["unet", "vae", "scheduler"]) == "fp16"
    assert pipelines._variant(source, ["vae", "tokenizer"]) is None

    def fail(name, revision):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "list_repo_files", fail)
    assert pipelines._variant(source, ["unet", "vae"]) is None


@pytest.mark.parametrize(
    ("channels", "reason"), [(9, "inpainting.*mask"), (8, "edits a given picture"), (12, "more")]
)
def test_a_unet_that_reads_more_than_a_noisy_picture_is_refused(tmp_path, capsys, channels, reason):
    pipeline = stable_diffusion()
    pipeline.unet = unet(cross_attention_dim=WIDTH, in_channels=channels)
    pipeline.save_pretrained(tmp_path / "more")
    refused(
        tmp_path / "more", f"no text-to-image model: its network takes {channels} channels.*{reason}", capsys
    )


def test_the_second_stage_of_if_is_refused(tmp_path, capsys):
    folder = save_tiny_pipeline(tmp_path / "second")
    change(folder, "unet", in_channels=6)
    refused(folder, "takes 6 channels, and its pictures have 3.*later stage of DeepFloyd", capsys)
    change(folder, "unet", in_channels=3, class_embed_type="timestep")
    refused(folder, "also takes a class label or a noise level", capsys)


def test_a_flux_that_fills_is_refused(tmp_path, capsys):
    folder = save_tiny_family("flux", tmp_path / "fill")
    own = json.loads((folder / "transformer" / "config.json").read_text())["in_channels"]
    change(folder, "transformer", in_channels=6 * own)
    refused(folder, "no text-to-image model: its network takes", capsys)


def test_an_inpainting_checkpoint_in_one_file_is_one_message(tmp_path):
    pipeline = stable_diffusion()
    config = tmp_path / "config"
    pipeline.save_pretrained(config)
    pipeline.unet = unet(cross_attention_dim=WIDTH, in_channels=9)
    file = save_checkpoint(pipeline, tmp_path / "inpainting.safetensors")
    with pytest.raises(ValueError, match=r"inpainting.safetensors"):
        prior_of(file, config=str(config))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder_2"])
def test_a_quantized_part_is_named(folder, tmp_path, capsys, part):
    quantized = shutil.copytree(folder, tmp_path / "quantized")
    change(quantized, part, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    refused(quantized, rf"is quantized: {part} \(bitsandbytes\).*float16", capsys)


@pytest.mark.parametrize(
    "odd",
    [
        {"mid_block.attentions.0.proj_in.weight": torch.zeros(4, 4, dtype=torch.int8)},
        {"conv_in.weight_scale": torch.ones(1)},
        {"conv_in.weight.quant_state.bitsandbytes__nf4": torch.zeros(4, dtype=torch.uint8)},
    ],
)
def test_quantized_weights_are_recognized_without_a_word_in_the_configuration(folder, tmp_path, capsys, odd):
    quantized = shutil.copytree(folder, tmp_path / "quantized")
    file = quantized / "unet" / "diffusion_pytorch_model.safetensors"
    save_file(load_file(file) | odd, file)
    refused(quantized, r"is quantized: unet \(by its weights\)", capsys)


def test_plain_float8_weights_are_read_as_they_are(folder, tmp_path):
    eighths = shutil.copytree(folder, tmp_path / "eighths")
    file = eighths / "unet" / "diffusion_pytorch_model.safetensors"
    rounded = {name: weight.to(torch.float8_e4m3fn) for name, weight in load_file(file).items()}
    save_file(rounded, file)
    weights = prior_of(eighths)._network.state_dict()
    assert all(weights[name].equal(weight.float()) for name, weight in rounded.items())


def test_a_gguf_file_is_refused():
    with pytest.raises(ValueError, match="GGUF file, which holds quantized weights"):
        sources.find("flux1-dev-Q4_0.gguf")


def test_means_and_deviations_of_latents_are_those_of_xl(folder, tmp_path, capsys):
    model = shutil.copytree(folder, tmp_path / "normalized")
    mean, std = [-1.6, 1.1, -1.7, 0.6], [5.6, 5.9, 6.0, 5.8]
    change(model, "vae", latents_mean=mean, latents_std=std, scaling_factor=0.5)
    prior = prior_of(model)
    pixels = torch.rand(2, 16, 16, 3)
    z, vae = prior.encode(pixels, 0.0), prior._encoder._vae
    moments = vae.encode(pixels.permute(0, 3, 1, 2) * 2 - 1).latent_dist.mean
    column = SimpleNamespace(mean=torch.tensor(mean).view(1, 4, 1, 1), std=torch.tensor(std).view(1, 4, 1, 1))
    # As StableDiffusionXLPipeline turns its result into what it decodes.
    torch.testing.assert_close(z * column.std / 0.5 + column.mean, moments)
    decoded = vae.decode(moments).sample.permute(0, 2, 3, 1) * 0.5 + 0.5
    torch.testing.assert_close(prior.decode(z), decoded)
    tiny_autoencoder().save_pretrained(tmp_path / "taesd")
    with pytest.raises(ValueError, match="normalizes latents.*leave out --model.prior.autoencoder"):
        prior_of(model, autoencoder=str(tmp_path / "taesd"))
    other = save_tiny_family("stable_diffusion", tmp_path / "other")
    change(other, "vae", latents_mean=mean, latents_std=std)
    refused(other, "normalizes latents.*StableDiffusionPipeline of diffusers ignores", capsys)
