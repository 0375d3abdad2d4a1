"""Training of a denoiser: objective against closed forms, exact resume, learning, the folder it writes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fit_networks
import pytest
import torch
import yaml
from diffusers import DiffusionPipeline
from fit_networks import Batch
from PIL import Image
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from dreamfusion_pl.data.world.captions import VOCABULARY
from dreamfusion_pl.diffusion.training.deepfloyd import DeepFloydFamily
from dreamfusion_pl.diffusion.training.denoiser import DenoiserTraining
from dreamfusion_pl.diffusion.training.objective import (
    min_snr_weight,
    stratified_timesteps,
    variational_bound,
    words_error,
)
from dreamfusion_pl.rng import generator

COLORS = {"red": (0.9, 0.1, 0.1), "blue": (0.1, 0.1, 0.9)}
CONFIG = Path(__file__).parents[3] / "configs" / "denoiser.yaml"
pytestmark = fit_networks.QUIET


def swatches(step: int, pixels: int) -> Batch:
    """Pictures of one colour."""
    picks = torch.rand(16, generator=generator(0, "swatches", step=step)) < 0.5
    names = ["red" if pick else "blue" for pick in picks.tolist()]
    colors = torch.tensor([COLORS[name] for name in names])
    captions = [f"a {name} ball" for name in names]
    return Batch(colors[:, None, None, :].expand(-1, pixels, pixels, 3), captions)


def small(output: Path, **changes: object) -> DenoiserTraining:
    networks = dict(size=8, channels=(8, 64), attention_size=4, text_width=32, text_layers=1)
    networks |= {name: changes.pop(name) for name in networks.keys() & changes.keys()}
    arguments = dict(
        family=DeepFloydFamily(**networks),
        vocabulary=["a", "red", "blue", "ball"],
        output=str(output),
        warmup_steps=10,
        sample_prompts=("a red ball", "a blue ball"),
        sample_every=0,
        sample_steps=2,
    )
    return DenoiserTraining(**{**arguments, **changes})


def fit(model: DenoiserTraining, folder: Path, steps: int, **more: Any) -> Path:
    return fit_networks.fit(
        model, lambda step: swatches(step, model.family.picture_size), folder, steps, **more
    )


def test_timesteps_are_one_in_each_part_and_uniform() -> None:
    draws = torch.stack([stratified_timesteps(10, 1000, generator(0, "t", step=i)) for i in range(500)])
    assert (draws // 100 == torch.arange(10)).all()
    assert draws.min() == 0 or draws.min() < 3
    assert abs(float(draws.float().mean()) - 499.5) < 3.0


def test_a_share_of_timesteps_lies_in_the_noisiest_fifth() -> None:
    draws = [stratified_timesteps(10, 1000, generator(0, "t", step=i), 0.5) for i in range(500)]
    counts = torch.histc(torch.cat(draws).float(), 5, 0, 1000) / 5000
    torch.testing.assert_close(counts, torch.tensor([0.1, 0.1, 0.1, 0.1, 0.6]), atol=0.01, rtol=0.0)
    only = stratified_timesteps(10, 1000, generator(0, "t"), 1.0)
    assert only.min() >= 800 and (only.diff() > 0).all()
    noisiest = stratified_timesteps(10, 1000, generator(0, "t"), 1.0, 0.94)
    assert noisiest.min() >= 940 and (noisiest.diff() > 0).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"snr_cap": 0.5},
        {"variance_weight": -1.0},
        {"words_weight": -1.0},
        {"null_fraction": 1.0},
        {"noisy_share": 2.0},
        {"noisy_from": 1.0},
    ],
)
def test_impossible_weights_are_refused(tmp_path: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        small(tmp_path / "out", **wrong)


def test_min_snr_weight() -> None:
    squared_alpha = torch.tensor([1e-6, 0.1, 0.5, 5.0 / 6.0, 0.99])
    expected = torch.tensor([1.0, 1.0, 1.0, 1.0, 5.0 / 99.0])
    torch.testing.assert_close(min_snr_weight(squared_alpha, 5.0), expected)


def test_words_error_is_the_cross_entropy_of_each_text_on_its_own() -> None:
    source = generator(0, "test")
    embedding, table = torch.randn(2, 5, 4, generator=source), torch.randn(9, 4, generator=source)
    words = torch.tensor([[6, 7, 7, 1, 0], [8, 1, 0, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]])
    errors = []
    for rows, has in zip(embedding, ({6, 7, 1}, {8, 1}), strict=True):
        scores = [float(rows.mean(dim=0) @ vector) / 2.0 for vector in table]
        total = math.log(sum(math.exp(score) for score in scores))
        errors.append(sum(total - scores[word] for word in has) / len(has))
    assert float(words_error(embedding, words, mask, table)) == pytest.approx(sum(errors) / 2.0, rel=1e-5)


def test_words_error_teaches_every_row_alike_and_stops_at_the_entropy_of_the_words() -> None:
    source = generator(0, "test")
    embedding = torch.randn(2, 5, 8, generator=source).requires_grad_()
    words, table = torch.tensor([[3, 1, 0, 0, 0], [4, 1, 0, 0, 0]]), torch.eye(8)
    optimizer = torch.optim.Adam([embedding], 0.3)
    for _ in range(300):
        optimizer.zero_grad()
        error = words_error(embedding, words, words.ne(0).long(), table)
        error.backward()
        assert embedding.grad is not None
        torch.testing.assert_close(embedding.grad, embedding.grad[:, :1].expand(-1, 5, -1))
        optimizer.step()
    assert math.log(2.0) <= float(error.detach()) < math.log(2.0) + 0.01


@pytest.mark.parametrize("step", [1, 10, 500, 990])
def test_variational_bound_is_the_divergence_of_the_two_gaussians(step: int) -> None:
    scheduler, source = DeepFloydFamily().scheduler(), generator(0, "test")
    table = scheduler.alphas_cumprod.double()
    x, eps, eps_hat = (torch.randn(1, 3, 2, 2, generator=source).double() for _ in range(3))
    variance = torch.rand(1, 3, 2, 2, generator=source).double() * 2.0 - 1.0
    t = torch.tensor([step])
    now, before = table[step], table[step - 1]
    beta = 1.0 - now / before
    z = now.sqrt() * x + (1.0 - now).sqrt() * eps

    def posterior_mean(picture: Tensor) -> Tensor:
        return (before.sqrt() * beta * picture + (1.0 - beta).sqrt() * (1.0 - before) * z) / (1.0 - now)

    x_hat = (z - (1.0 - now).sqrt() * eps_hat) / now.sqrt()
    scale = scheduler._get_variance(step, predicted_variance=variance).mul(0.5).exp()  # it returns the log
    posterior = Normal(posterior_mean(x), (beta * (1.0 - before) / (1.0 - now)).sqrt())
    expected = kl_divergence(posterior, Normal(posterior_mean(x_hat), scale)).mean() / math.log(2.0)
    bits = variational_bound(eps_hat - eps, variance, t, table)
    torch.testing.assert_close(bits, expected[None], rtol=1e-3, atol=1e-6)


def test_variational_bound_vanishes_at_the_truth_and_at_t_0() -> None:
    table = DeepFloydFamily().scheduler().alphas_cumprod
    zero, low = torch.zeros(2, 3, 2, 2), -torch.ones(2, 3, 2, 2)
    bits = variational_bound(zero, low, torch.tensor([0, 300]), table)
    torch.testing.assert_close(bits, torch.zeros(2))
    assert variational_bound(zero + 1.0, low, torch.tensor([0, 300]), table)[1] > 0.0


def test_text_is_embedded_as_the_pipeline_does(tmp_path: Path) -> None:
    model = small(tmp_path / "prior")
    prompts = ["a red ball", "", " A Blue ball ", "a red ball"]
    text, null = model.pipeline().encode_prompt(prompts)
    with torch.no_grad():
        embedded, _ = model.embed(prompts)
    torch.testing.assert_close(embedded, text)
    torch.testing.assert_close(embedded[1], null[0])


def test_same_seed_same_weights(tmp_path: Path) -> None:
    first, second, other = (small(tmp_path, seed=seed).networks.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["unet.conv_in.weight"], other["unet.conv_in.weight"])


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums of several threads are not bitwise the same from run to run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_resumed_training_is_the_uninterrupted_one(tmp_path: Path, one_thread: None) -> None:
    whole = small(tmp_path / "whole")
    checkpoint = fit(whole, tmp_path / "a", steps=6, save_at=3)
    resumed = small(tmp_path / "resumed", seed=0)
    fit(resumed, tmp_path / "b", steps=6, resume=checkpoint)
    expected, found = whole.state_dict(), resumed.state_dict()
    assert int(found["average.n_averaged"]) == 6
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_it_learns_and_writes_a_pipeline_that_draws_the_prompt(tmp_path: Path) -> None:
    output = tmp_path / "prior"
    tiny = {"size": 4, "attention_size": 2, "channels": (32, 64)}
    fit(small(output, learning_rate=3e-3, average_decay=0.95, **tiny), tmp_path, steps=200)
    pipeline = DiffusionPipeline.from_pretrained(output, low_cpu_mem_usage=False)
    pipeline.set_progress_bar_config(disable=True)
    pictures = pipeline(
        ["a red ball", "a blue ball"],
        num_inference_steps=20,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
        clean_caption=False,
    ).images
    red, blue = torch.as_tensor(pictures).mean(dim=(1, 2))
    assert red[0] - red[2] > 0.3
    assert blue[2] - blue[0] > 0.3


def test_pictures_of_another_size_are_refused(tmp_path: Path) -> None:
    pictures = torch.zeros(2, 16, 16, 3)
    with pytest.raises(ValueError, match=r"16 pixels a side, and the prior 8: .*--data.size"):
        small(tmp_path).training_step(Batch(pictures, ["a red ball"] * 2), 0)


def test_sample_grids_are_written(tmp_path: Path) -> None:
    fit(small(tmp_path / "prior", sample_every=2), tmp_path, steps=4)
    files = sorted((tmp_path / "samples").iterdir())
    assert [file.name for file in files] == ["step_000002.png", "step_000004.png"]
    with Image.open(files[0]) as picture:
        assert picture.size == (16, 8)


def test_an_output_that_is_something_else_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match="not a pipeline folder"):
        fit(small(tmp_path), tmp_path / "run", steps=1)


def test_the_configuration_knows_every_word_of_the_captions() -> None:
    vocabulary = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["model"]["init_args"]["vocabulary"]
    assert vocabulary == list(VOCABULARY)


def test_training_continues_from_a_pipeline_folder(tmp_path):
    first = small(tmp_path / "first")
    first.save(tmp_path / "first")
    second = small(tmp_path / "second", seed=5, initial=str(tmp_path / "first"))
    for name, value in first.networks.state_dict().items():
        assert torch.allclose(second.networks.state_dict()[name], value, atol=2e-3, rtol=2e-3), name
        assert torch.equal(second.average.module.state_dict()[name], second.networks.state_dict()[name])
    with pytest.raises(ValueError, match="no pipeline folder"):
        small(tmp_path / "third", initial=str(tmp_path / "missing"))
    with pytest.raises(ValueError, match="other layers"):
        small(tmp_path / "third", channels=(64, 64), initial=str(tmp_path / "first"))


def test_new_words_come_between_known_ones(tmp_path):
    first = small(tmp_path / "first")
    first.save(tmp_path / "first")
    more = small(
        tmp_path / "more", vocabulary=["a", "left", "red", "blue", "ball"], initial=str(tmp_path / "first")
    )
    texts = ["a red ball", "blue"]
    with torch.no_grad():
        assert torch.allclose(more.embed(texts)[0], first.embed(texts)[0], atol=1e-4)
        assert not torch.allclose(more.embed(["a left ball"])[0], more.embed(["a ball"])[0], atol=1e-2)
    with pytest.raises(ValueError, match="lacks: .*ball"):
        small(tmp_path / "less", vocabulary=["a", "red", "blue"], initial=str(tmp_path / "first"))
