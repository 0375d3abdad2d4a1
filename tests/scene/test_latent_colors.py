"""Scenes that emit latents: what they look like, how they are composited, and who gets them."""

import pytest
import torch
from fakes import ColorPrior, small_model
from scenes import frequency_scene, plane_scene
from tiny_families import save_tiny_family

from dreamfusion_pl.data.orbit import orbit
from dreamfusion_pl.diffusion.encoded_colors import encoded_colors
from dreamfusion_pl.diffusion.families.pretrained import PretrainedPrior
from dreamfusion_pl.rendering.renderer import Renderer
from dreamfusion_pl.scene.background import SolidBackground
from dreamfusion_pl.scene.latent_colors import LatentColors

CPU = torch.device("cpu")
VIEWS = orbit([10.0, 120.0], 10.0, 1.5, 1.1, 8, 8, (0.2, 0.5, 0.9))


def fitted(channels: int = 4) -> LatentColors:
    draw = torch.Generator().manual_seed(0)
    colors = LatentColors(channels)
    known = torch.rand(50, 3, generator=draw)
    colors.fit(known, known @ torch.randn(3, channels, generator=draw) + 0.3)
    return colors


def test_an_affine_map_is_found_exactly_in_both_directions():
    draw = torch.Generator().manual_seed(1)
    colors = fitted()
    shown = 0.1 + 0.8 * torch.rand(7, 3, generator=draw)
    torch.testing.assert_close(colors.colors(colors.latents(shown)), shown, rtol=0.0, atol=1e-5)
    assert bool(colors.is_fitted)


def test_colours_have_a_limit_and_their_gradient_has_none():
    colors = fitted()
    far = (100.0 * torch.randn(9, 4, generator=torch.Generator().manual_seed(2))).requires_grad_()
    shown = colors.colors(far)
    assert (float(shown.detach().amin()), float(shown.detach().amax())) == (0.0, 1.0)
    (gradient,) = torch.autograd.grad(shown[:, 0].sum(), far)
    torch.testing.assert_close(gradient, colors.to_color[:-1, 0].expand(9, 4))


def test_the_latents_of_a_pixel_space_prior_are_its_pixels():
    colors = LatentColors(3)
    colors.fit(*encoded_colors(ColorPrior(), CPU))  # z = 2 x - 1
    torch.testing.assert_close(colors.to_color[:-1], 0.5 * torch.eye(3), rtol=0.0, atol=1e-5)
    torch.testing.assert_close(colors.to_latent[-1], -torch.ones(3), rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("scene_class", [plane_scene, frequency_scene])
def test_a_scene_emits_colours_and_the_latents_that_they_are_of(scene_class):
    torch.manual_seed(0)
    scene = scene_class(latents=4)
    scene.latent_colors.load_state_dict(fitted().state_dict())
    points = 0.4 * torch.randn(20, 3).clamp(-1, 1)
    density, appearance, _ = scene(points, 0.3)
    assert appearance.shape == (20, 7)
    torch.testing.assert_close(appearance[:, :3], scene.latent_colors.colors(appearance[:, 3:]))
    torch.testing.assert_close(scene.density(points, 0.3), density)
    assert scene_class().latent_colors is None


@pytest.mark.parametrize("normals", ["surface", "exact", "finite_difference"])
def test_latents_are_composited_as_colours_are(normals):
    torch.manual_seed(0)
    scene = plane_scene(resolution=8, channels=4, width=8, latents=3)
    scene.latent_colors.fit(*encoded_colors(ColorPrior(), CPU))
    renderer = Renderer(num_samples=8, normals=normals, occupancy_resolution=0)
    rendering = renderer(scene, SolidBackground(), VIEWS, 0.0)
    assert rendering.latent.shape == (2, 8, 8, 3)
    # an affine map of colours commutes with compositing over a background
    torch.testing.assert_close(0.5 * rendering.latent + 0.5, rendering.albedo, rtol=0.0, atol=1e-4)
    plain = renderer(plane_scene(resolution=8, channels=4, width=8), SolidBackground(), VIEWS, 0.0)
    assert plain.latent.shape == (2, 8, 8, 0)


def test_latents_go_to_the_prior_until_colours_do():
    model = small_model(latents=3, latent_until=0.5)
    rendering = model(VIEWS)
    for progress, gives in ((0.0, True), (0.49, True), (0.5, False), (1.0, False)):
        model.progress = progress
        assert model.gives_latents == gives
        expected = model.prior.resize(rendering.latent) if gives else model.prior.encode(rendering.rgb, 0.0)
        assert torch.equal(model.encode(rendering), expected)
    model.latent_until = 1.0
    assert model.gives_latents


@pytest.mark.parametrize("family", ["stable_diffusion", "stable_diffusion_3"])
def test_decoding_is_that_of_the_pipeline(family, tmp_path):
    prior = PretrainedPrior(str(save_tiny_family(family, tmp_path / "tiny")), dtype="float32")
    vae, draw = prior._encoder._vae, torch.Generator().manual_seed(0)
    z = torch.randn(2, prior.channels, 8, 8, generator=draw)
    shift = vae.config.shift_factor or 0.0
    with torch.no_grad():
        expected = vae.decode(z / vae.config.scaling_factor + shift).sample
    torch.testing.assert_close(prior.decode(z), expected.permute(0, 2, 3, 1) / 2 + 0.5)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="emits colours"):
        small_model(latent_until=0.5)
    with pytest.raises(ValueError, match="progress"):
        small_model(latent_until=1.5)
    with pytest.raises(ValueError, match="number of channels"):
        LatentColors(-1)
