"""Distillation by denoised pictures."""

import pytest
import torch
from gaussians import condition, gradient, guided, levels, pictures
from tiny_families import save_tiny_family

from dreamfusion_pl import rng
from dreamfusion_pl.diffusion.families.pretrained import PretrainedPrior
from dreamfusion_pl.diffusion.noise import Uniform
from dreamfusion_pl.distillation.sds import ScoreDistillation
from dreamfusion_pl.distillation.variants.hifa import DenoisedPictures
from dreamfusion_pl.types import Condition

HERE = {"guidance_scale": 3.0, "t_min": 0.4, "t_max": 0.7}


def test_one_step_in_the_priors_space_is_sds():
    z = pictures(3)
    found = gradient(DenoisedPictures(weighting=Uniform(), **HERE), z, condition(3), seed=2)
    sds = ScoreDistillation(weighting=Uniform(), **HERE)
    torch.testing.assert_close(found, gradient(sds, z, condition(3), seed=2))


def test_more_steps_denoise_as_ddim_does():
    z, t, steps = pictures(2), 0.6, 3
    hifa = DenoisedPictures(3.0, Uniform(), t, t + 1e-9, steps=steps)
    generator = torch.Generator().manual_seed(5)
    torch.rand(1, 2, generator=generator)
    z_t = levels(t)[0] * z + levels(t)[1] * torch.randn(z.shape, generator=generator, dtype=z.dtype)
    for step in range(steps):
        (a, s), (b, r) = levels(t * (1 - step / steps)), levels(t * (1 - (step + 1) / steps))
        eps = guided(z_t, t * (1 - step / steps), 3.0)
        z_t = b * (z_t - s * eps) / a + r * eps
    expected = levels(t)[0] / levels(t)[1] * (z - (z_t - r * eps) / b)
    torch.testing.assert_close(gradient(hifa, z, condition(2), seed=5), expected, rtol=1e-4, atol=1e-5)


def test_colours_are_pulled_to_those_of_the_denoised_latents(tmp_path):
    prior = PretrainedPrior(
        str(save_tiny_family("stable_diffusion", tmp_path)), dtype="float32", resolution=8
    )
    where = Condition(prior.embed(["a red chair"]), prior.embed([""]))
    side = prior.decode(torch.zeros(1, prior.channels, 8, 8)).shape[1]
    rgb = torch.rand(1, side, side, 3, generator=rng.generator(0, "rgb")).requires_grad_()
    z = prior.encode(rgb, 0.0).detach().requires_grad_()

    def gradients(weight, colours):
        hifa = DenoisedPictures(weighting=Uniform(), rgb_weight=weight, **HERE)
        loss = hifa(z, where, prior, 0.0, rng.generator(0, "hifa"), colours)
        return torch.autograd.grad(loss.total, [z, rgb], allow_unused=True)

    of_z, of_rgb = gradients(0.5, rgb)
    t = 0.4 + 0.3 * torch.rand(1, 1, generator=rng.generator(0, "hifa"))[0]
    weight = (prior.schedule.alpha(t) / prior.schedule.sigma(t)).item()
    target = prior.decode((z - of_z / weight).detach())
    torch.testing.assert_close(of_rgb, 0.5 * weight * (rgb - target).detach(), rtol=1e-4, atol=1e-5)
    for none in (gradients(0.0, rgb), gradients(0.5, None)):
        torch.testing.assert_close(none[0], of_z)
        assert none[1] is None


@pytest.mark.parametrize("option", [{"steps": 0}, {"rgb_weight": -1.0}])
def test_bad_settings_are_refused(option):
    with pytest.raises(ValueError, match="steps is 1 or more and rgb_weight 0 or more"):
        DenoisedPictures(weighting=Uniform(), **HERE, **option)
