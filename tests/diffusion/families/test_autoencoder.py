"""Pictures as latents: scale and shift of every family, the tiny autoencoder, exact gradients."""

import pytest
import torch
from diffusers import AutoencoderTiny
from tiny_families import FAMILIES, save_tiny_family, tiny_autoencoder, tiny_family
from tiny_pipeline import save_tiny_pipeline

from dreamfusion_pl.diffusion.families.autoencoder import LatentEncoder
from dreamfusion_pl.diffusion.families.pretrained import PretrainedPrior
from dreamfusion_pl.distillation.base import surrogate

LATENT = [name for name in FAMILIES if name != "deepfloyd"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_family("stable_diffusion", tmp_path_factory.mktemp("latent") / "tiny")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latent") / "taesd"
    tiny_autoencoder().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", LATENT)
def test_latents_are_those_that_the_pipeline_decodes(name):
    vae = tiny_family(name).vae
    pixels = torch.rand(2, 3, 16, 16) * 2 - 1
    z = LatentEncoder(vae)(pixels, 0.0)
    assert z.shape == (2, vae.config.latent_channels, 8, 8)
    decoded_from = z / vae.config.scaling_factor + (
        vae.config.shift_factor or 0.0
    )  # as every pipeline's call
    torch.testing.assert_close(decoded_from, vae.encode(pixels).latent_dist.mean)


def test_shift_and_scale_are_in_the_right_order():
    vae = tiny_family("stable_diffusion_3").vae
    pixels = torch.rand(1, 3, 16, 16) * 2 - 1
    mean = vae.encode(pixels).latent_dist.mean
    torch.testing.assert_close(LatentEncoder(vae)(pixels, 0.0), (mean - 0.0609) * 1.5305)


@pytest.mark.parametrize("use_tiny", [False, True])
def test_the_surrogates_gradient_through_the_encoder_is_that_of_finite_differences(folder, tiny, use_tiny):
    prior = PretrainedPrior(str(folder), dtype="float32", autoencoder=str(tiny) if use_tiny else None)
    prior._encoder.to("cpu", torch.float64, torch.contiguous_format)
    draw = torch.Generator().manual_seed(0)
    rgb = torch.rand(2, 8, 8, 3, generator=draw, dtype=torch.float64, requires_grad=True)  # is enlarged to 16
    z = prior.encode(rgb, 0.0)
    wanted = torch.randn(z.shape, generator=draw, dtype=torch.float64)
    surrogate(z, wanted).backward()
    step = 1e-6 * torch.randn(rgb.shape, generator=draw, dtype=torch.float64)
    with torch.no_grad():
        change = prior.encode(rgb + step, 0.0) - prior.encode(rgb - step, 0.0)
        expected = (change * wanted).sum() / (2 * len(z))
    torch.testing.assert_close((rgb.grad * step).sum(), expected, rtol=1e-5, atol=0.0)
    assert float(expected.abs()) > 0.0


def test_the_tiny_autoencoder_serves_until_the_switch(folder, tiny):
    prior = PretrainedPrior(str(folder), dtype="float32", autoencoder=str(tiny), autoencoder_until=0.25)
    rgb = torch.rand(1, 16, 16, 3)
    pixels = rgb.permute(0, 3, 1, 2) * 2 - 1
    early = tiny_autoencoder().encode(pixels).latents
    late = tiny_family("stable_diffusion").vae.encode(pixels).latent_dist.mean * 0.18215
    torch.testing.assert_close(prior.encode(rgb, 0.24), early)
    torch.testing.assert_close(prior.encode(rgb, 0.25), late)
    assert not torch.allclose(early, late, atol=1e-2)


def test_an_autoencoder_that_cannot_serve_is_refused(folder, tiny, tmp_path):
    with pytest.raises(ValueError, match=r"has 16 channels.*4.*another family.*taesd3"):
        LatentEncoder(tiny_family("stable_diffusion").vae, tiny_autoencoder(16))
    with pytest.raises(ValueError, match="progress"):
        LatentEncoder(tiny_family("stable_diffusion").vae, tiny_autoencoder(), 1.5)
    with pytest.raises(ValueError, match="works on pixels"):
        PretrainedPrior(str(save_tiny_pipeline(tmp_path / "pixels")), autoencoder=str(tiny))
    with pytest.raises(ValueError, match=r"(?s)autoencoder.*could not be loaded.*madebyollin/taesd"):
        PretrainedPrior(str(folder), autoencoder=str(tmp_path))


def test_a_model_whose_own_autoencoder_is_tiny_works_like_its_pipeline(tmp_path):
    pipeline = tiny_family("stable_diffusion")
    pipeline.vae = tiny_autoencoder()
    pipeline.vae.register_to_config(scaling_factor=0.7, shift_factor=0.2)
    pipeline.save_pretrained(tmp_path / "tiny")
    prior = PretrainedPrior(str(tmp_path / "tiny"), dtype="float32")
    rgb = torch.rand(1, 16, 16, 3)
    z = prior.encode(rgb, 0.0)
    with torch.no_grad():
        latents = pipeline.vae.encode(rgb.permute(0, 3, 1, 2) * 2 - 1).latents
        decoded = pipeline.vae.decode(latents).sample
    torch.testing.assert_close(z, (latents - 0.2) * 0.7)
    torch.testing.assert_close(prior.decode(z), decoded.permute(0, 2, 3, 1) * 0.5 + 0.5)


def test_a_tiny_autoencoder_of_another_factor_is_refused():
    coarse = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
    )
    with pytest.raises(ValueError, match="one latent of 4 x 4 pixels, the model's own of 2 x 2"):
        LatentEncoder(tiny_family("stable_diffusion").vae, coarse)
