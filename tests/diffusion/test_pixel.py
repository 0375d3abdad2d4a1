"""PixelPrior against the diffusers pipeline that it wraps."""

import pytest
import torch
from tiny_pipeline import save_tiny_pipeline, tiny_pipeline

from dreamfusion_pl.diffusion.pixel import PixelPrior
from dreamfusion_pl.types import Condition


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_pipeline(tmp_path_factory.mktemp("prior") / "tiny")


@pytest.fixture(scope="module")
def prior(folder):
    return PixelPrior(str(folder), dtype="float32")


class Recorder:
    """Keeps what a pipeline hands to its scheduler."""

    def __init__(self, scheduler):
        self.scheduler, self.steps, self._step = scheduler, [], scheduler.step
        scheduler.step = self

    def __call__(self, model_output, timestep, sample, **rest):
        self.steps.append((model_output[:, :3], timestep, sample))
        return self._step(model_output, timestep, sample, **rest)


@pytest.mark.parametrize("omega", [0.5, 6.0])
def test_guided_noise_is_the_pipelines_own(prior, omega):
    pipeline = tiny_pipeline()
    pipeline.set_progress_bar_config(disable=True)
    recorder = Recorder(pipeline.scheduler)
    pipeline(
        "A red chair",
        guidance_scale=1.0 + omega,
        num_inference_steps=3,
        output_type="pt",
        clean_caption=False,
        generator=torch.Generator().manual_seed(0),
    )
    condition = Condition(prior.embed(["A red chair"]), prior.embed([""]))
    assert len(recorder.steps) == 3
    for expected, timestep, sample in recorder.steps:
        t = (timestep / (pipeline.scheduler.config.num_train_timesteps - 1)).reshape(1)
        with torch.no_grad():
            guided = prior.guided(sample, t, condition, omega)
        torch.testing.assert_close(guided, expected, atol=1e-5, rtol=1e-5)


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
    assert not any(p.requires_grad for p in prior._pipeline.unet.parameters())


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
    half = PixelPrior(str(folder), dtype="bfloat16", channels_last=False)
    z_t, t = torch.randn(2, 3, 8, 8), torch.tensor([0.3, 0.6])
    fine = prior.predict(z_t, t, prior.embed(["a red ball", "a chair"]))
    coarse = half.predict(z_t, t, half.embed(["a red ball", "a chair"]))
    assert coarse.dtype == torch.float32
    assert float((fine - coarse).norm() / fine.norm()) < 0.05


def test_other_prediction_types_are_converted(folder):
    prior = PixelPrior(str(folder), dtype="float32")
    z_t, t, text = torch.randn(1, 3, 8, 8), torch.tensor([0.4]), prior.embed(["a ball"])
    raw = prior.predict(z_t, t, text)
    alpha, sigma = prior.schedule.alpha(t), prior.schedule.sigma(t)
    prior._prediction = "v_prediction"
    torch.testing.assert_close(prior.predict(z_t, t, text), alpha * raw + sigma * z_t)
    prior._prediction = "sample"
    torch.testing.assert_close(prior.predict(z_t, t, text), (z_t - alpha * raw) / sigma)


def test_unknown_words_are_named_once_without_punctuation(prior):
    assert prior.unknown_words("A red Zebra, on a (shiny) chair; zebra!") == ["zebra", "on", "shiny"]


def test_a_prompt_longer_than_the_model_reads_is_refused(prior):
    assert prior.embed(["red " * 76]).tokens.shape[1] == 77
    with pytest.raises(ValueError, match="78 tokens.*reads 77.*shorten"):
        prior.embed(["red " * 77])


def test_a_model_that_is_not_there_is_explained(tmp_path):
    with pytest.raises(ValueError, match="is not there.*save_pretrained"):
        PixelPrior(str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="no model_index.json"):
        PixelPrior(str(tmp_path))


def test_another_kind_of_pipeline_is_named(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(ValueError, match="is a StableDiffusionPipeline.*IFPipeline"):
        PixelPrior(str(tmp_path))
