"""Every family against diffusers' own pipeline: what is computed inside its own call."""

import warnings
from typing import NamedTuple

import pytest
import torch
from tiny_families import FAMILIES, save_tiny_family, tiny_family
from torch import Tensor

from dreamfusion_pl.diffusion.families.flux import pack, unpack
from dreamfusion_pl.diffusion.families.pretrained import ADAPTERS, PretrainedPrior
from dreamfusion_pl.diffusion.noise import StraightPath, eps_from, per_row
from dreamfusion_pl.types import Condition

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in schedulers

SIDE = 8  # of z
CALLS = {  # what a pipeline's call needs besides the usual arguments
    "deepfloyd": {"clean_caption": False},
    "pixart_alpha": {"clean_caption": False, "use_resolution_binning": False},
    "pixart_sigma": {"clean_caption": False, "use_resolution_binning": False},
}


class Step(NamedTuple):
    """One step of a pipeline's loop."""

    z_t: Tensor  # what the network was given for the first picture
    timestep: Tensor  # what the scheduler was told
    guided: Tensor  # what the scheduler was given


def recorded(pipeline, omega, negative, **call) -> list[Step]:
    """Call a pipeline with a prompt; return what went through its loop."""
    network = pipeline.unet if "unet" in pipeline.components else pipeline.transformer
    seen, steps, step = [], [], pipeline.scheduler.step

    def before(_, args, kwargs):
        seen.append(args[0] if args else kwargs["hidden_states"])

    def record(model_output, timestep, sample, *args, **kwargs):
        steps.append(Step(seen[-1][:1].clone(), timestep.reshape(1), model_output.clone()))
        return step(model_output, timestep, sample, *args, **kwargs)

    pipeline.scheduler.step = record
    network.register_forward_pre_hook(before, with_kwargs=True)
    scale = "true_cfg_scale" if type(pipeline).__name__ == "FluxPipeline" else "guidance_scale"
    pixels = SIDE * (pipeline.vae_scale_factor if "vae" in pipeline.components else 1)
    pipeline(
        "A red chair",
        negative_prompt=negative,
        height=pixels,
        width=pixels,
        num_inference_steps=3,
        output_type="latent" if "vae" in pipeline.components else "pt",
        generator=torch.Generator().manual_seed(0),
        **{scale: 1.0 + omega},
        **call,
    )
    assert len(steps) >= 3
    return steps


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: save_tiny_family(name, tmp_path_factory.mktemp("families") / name) for name in FAMILIES}


def prior_of(folder, **options) -> PretrainedPrior:
    return PretrainedPrior(str(folder), dtype="float32", resolution=SIDE, **options)


def compare(prior, steps, omega, negative):
    condition = Condition(prior.embed(["A red chair"]), prior.embed([negative]))
    for step in steps:
        z_t, expected = step.z_t, step.guided[:, : prior.channels]
        if z_t.ndim == 3:  # FLUX
            z_t, expected = unpack(step.z_t, SIDE), unpack(step.guided, SIDE)
        straight = isinstance(prior.schedule, StraightPath)
        t = step.timestep / (1000 if straight else prior.schedule.num_timesteps - 1)
        kind = prior._adapter.prediction
        alpha, sigma = per_row(prior.schedule.alpha(t)), per_row(prior.schedule.sigma(t))
        with torch.no_grad():
            guided = prior.guided(z_t, t, condition, omega)
        torch.testing.assert_close(guided, eps_from(kind, expected, z_t, alpha, sigma), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_guided_noise_is_what_the_pipeline_computes(name, folders):
    steps = recorded(tiny_family(name), 6.0, "blue ball", **CALLS.get(name, {}))
    compare(prior_of(folders[name]), steps, 6.0, "blue ball")


def test_the_empty_text_of_xl_is_what_the_pipeline_takes_without_a_negative_prompt(folders):
    prior = prior_of(folders["stable_diffusion_xl"])
    compare(prior, recorded(tiny_family("stable_diffusion_xl"), 4.0, None), 4.0, "")
    null = prior.embed([""])
    assert not null.tokens.any() and not null.pooled.any()


def test_embedded_guidance_is_that_of_the_pipelines_guidance_scale(folders):
    steps = recorded(tiny_family("flux"), 2.0, "blue", guidance_scale=7.0)
    compare(prior_of(folders["flux"], embedded_guidance=7.0), steps, 2.0, "blue")
    with pytest.raises(AssertionError):
        compare(prior_of(folders["flux"], embedded_guidance=1.0), steps, 2.0, "blue")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_batch_of_any_size_and_times_is_the_rows_one_by_one(name, folders):
    prior = prior_of(folders[name])
    z_t, t = torch.randn(3, prior.channels, SIDE, SIDE), torch.tensor([0.1, 0.5, 0.9])
    text = prior.embed(["a red chair", "a blue ball", "side view"])
    together = prior.predict(z_t, t, text)
    for i in range(3):
        row = slice(i, i + 1)
        alone = prior.predict(z_t[row], t[row], text.rows(row))
        torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_text_and_time_matter(name, folders):
    prior = prior_of(folders[name])
    z_t, t = torch.randn(1, prior.channels, SIDE, SIDE), torch.tensor([0.5])
    chair, ball = prior.embed(["a red chair"]), prior.embed(["a blue ball"])
    eps = prior.predict(z_t, t, chair)
    assert not torch.allclose(eps, prior.predict(z_t, t, ball), atol=1e-6)
    assert not torch.allclose(eps, prior.predict(z_t, torch.tensor([0.8]), chair), atol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_bfloat16_predicts_and_encodes_about_the_same(name, folders):
    fine = prior_of(folders[name])
    coarse = PretrainedPrior(str(folders[name]), dtype="bfloat16", resolution=SIDE)
    draw = torch.Generator().manual_seed(0)
    z_t = torch.randn(2, fine.channels, SIDE, SIDE, generator=draw)
    t, rgb = torch.tensor([0.3, 0.8]), torch.rand(1, 16, 16, 3, generator=draw)
    with torch.no_grad():
        eps, rough = (prior.predict(z_t, t, prior.embed(["a red chair", ""])) for prior in (fine, coarse))
        z, rough_z = (prior.encode(rgb, 0.0) for prior in (fine, coarse))
    assert rough.dtype == rough_z.dtype == torch.float32
    assert float((rough - eps).norm() / eps.norm()) < 0.1
    assert float((rough_z - z).norm() / z.norm()) < 0.1


def test_every_adapter_is_tested():
    assert {type(tiny_family(name)).__name__ for name in FAMILIES} == set(ADAPTERS)


def test_packing_is_that_of_flux():
    z = torch.randn(2, 4, 6, 6)
    pipeline = type(tiny_family("flux"))
    assert pack(z).equal(pipeline._pack_latents(z, 2, 4, 6, 6))
    assert unpack(pack(z), 6).equal(z)


@pytest.mark.parametrize("name", ["pixart_alpha", "pixart_sigma", "stable_diffusion_3", "flux"])
def test_a_transformer_needs_an_even_side(name, folders):
    with pytest.raises(ValueError, match="even, got 7"):
        PretrainedPrior(str(folders[name]), resolution=7)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_negative_side_is_refused(name, folders):
    with pytest.raises(ValueError, match="0 for the model's own, got -8"):
        PretrainedPrior(str(folders[name]), resolution=-8)


def test_a_side_beyond_the_positions_is_refused(folders):
    folder = str(folders["stable_diffusion_3"])
    with pytest.raises(ValueError, match="positions for latents of 32 x 32 and no more.*got 34"):
        PretrainedPrior(folder, resolution=34)
    prior = PretrainedPrior(folder, dtype="float32", resolution=32)
    eps = prior.predict(torch.zeros(1, 16, 32, 32), torch.tensor([0.5]), prior.embed(["a red chair"]))
    assert eps.isfinite().all()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_prompt_that_is_not_read_to_its_end_is_warned_of(name, folders):
    prior = prior_of(folders[name])
    limit = min(limit for _, limit in prior._texts._tokenizers)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prior.embed(["red " * (limit - 1)])
    with pytest.warns(UserWarning, match=r"tokens.*reads.*'blue side view'.*Shorten"):
        prior.embed(["red " * (limit - 1) + "blue side view"])
