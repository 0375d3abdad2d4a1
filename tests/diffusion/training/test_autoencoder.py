"""Training of the autoencoder: what it learns, the folder it writes, exact resume, refusals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fit_networks
import pytest
import torch
from diffusers import AutoencoderTiny
from fit_networks import Batch
from PIL import Image
from torch import Tensor, nn

from dreamfusion_pl.diffusion.families.autoencoder import LatentEncoder
from dreamfusion_pl.diffusion.training.autoencoder import AutoencoderTraining
from dreamfusion_pl.diffusion.training.tiny_autoencoder import build_autoencoder
from dreamfusion_pl.rng import generator

pytestmark = fit_networks.QUIET


def halves(step: int) -> Tensor:
    source = generator(0, "halves", step=step)
    colors = torch.rand(8, 2, 1, 1, 3, generator=source)
    left = torch.arange(16) < torch.randint(4, 13, (8, 1, 1), generator=source)
    return torch.where(left[..., None], colors[:, 0], colors[:, 1]).expand(-1, 16, -1, -1)


def small(output: Path, **changes: object) -> AutoencoderTraining:
    blocks = dict(width=16, encoder_blocks=(0, 1, 1), decoder_blocks=(1, 1, 0))
    arguments = dict(output=str(output), latent_channels=4, warmup_steps=10, sample_every=0, **blocks)
    return AutoencoderTraining(**{**arguments, **changes})


def fit(model: AutoencoderTraining, folder: Path, steps: int, distinct: int = 10_000, **more: Any) -> Path:
    def batch(step: int) -> Batch:
        return Batch(halves(step % distinct), [""] * 8)

    return fit_networks.fit(model, batch, folder, steps, **more)


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_it_learns_pictures_and_a_scale_at_which_the_latents_have_deviation_1(tmp_path: Path) -> None:
    model = small(tmp_path / "vae", average_decay=0.9, learning_rate=3e-3, noise=0.05)
    x = halves(0).permute(0, 3, 1, 2) * 2.0 - 1.0
    before = psnr(LatentEncoder(model.trained().float()), x)
    fit(model, tmp_path, steps=300, distinct=1)
    vae = AutoencoderTiny.from_pretrained(tmp_path / "vae", low_cpu_mem_usage=False)
    assert psnr(LatentEncoder(vae), x) > before + 3.0
    with torch.no_grad():
        z = LatentEncoder(vae)(x, 0.0)
    assert z.shape == (8, 4, 4, 4) and 0.8 < float(z.std()) < 1.25


@torch.no_grad()
def psnr(encoder: LatentEncoder, x: Tensor) -> float:
    """PSNR of reconstructions in dB."""
    error = (encoder.decode(encoder(x, 0.0)) - x).square().mean() / 4.0
    return -10.0 * math.log10(float(error))


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_it_starts_as_a_thumbnail(levels: int) -> None:
    vae = build_autoencoder(8, (0, 1, 2)[:levels], (2, 1, 1)[-levels:], 5)
    x = torch.rand(2, 3, 16, 16, generator=generator(0, "test")) * 2.0 - 1.0
    side = 16 // 2 ** (levels - 1)
    mean = nn.functional.adaptive_avg_pool2d(x, side)
    with torch.no_grad():
        z = vae.encode(x).latents
        decoded = vae.decode(z).sample
    torch.testing.assert_close(z[:, :3], 1.5 * mean, atol=1e-5, rtol=0.0)
    # The decoder starts with tanh(z / 3).
    seen = (torch.tanh(0.5 * mean) * 2.0).repeat_interleave(16 // side, 2).repeat_interleave(16 // side, 3)
    torch.testing.assert_close(decoded, seen, atol=1e-5, rtol=0.0)


def test_resumed_training_is_the_uninterrupted_one(tmp_path: Path, one_thread: None) -> None:
    whole = small(tmp_path / "whole")
    checkpoint = fit(whole, tmp_path / "a", steps=6, save_at=3)
    resumed = small(tmp_path / "resumed")
    fit(resumed, tmp_path / "b", steps=6, resume=checkpoint)
    expected, found = whole.state_dict(), resumed.state_dict()
    assert float(found["latent_variance"]) != 1.0
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_share_of_the_pictures_is_blended_with_their_neighbours(tmp_path: Path) -> None:
    x = torch.arange(400.0)[:, None, None, None].expand(-1, 3, 2, 2)
    blended = small(tmp_path, blended=0.25)._blend(x, generator(0, "test"))
    moved = (blended != x).flatten(1).any(dim=1)
    assert 70 < int(moved[1:].sum()) < 130
    assert ((blended >= x - 1.0) & (blended <= x))[1:].all()  # towards the one before
    assert torch.equal(small(tmp_path, blended=0.0)._blend(x, generator(0, "test")), x)


def test_the_kl_keeps_latents_small(tmp_path: Path) -> None:
    free, bound = small(tmp_path / "free", kl_weight=0.0), small(tmp_path / "bound", kl_weight=1.0)
    for model in (free, bound):
        fit(model, tmp_path / str(model.kl_weight), steps=150)
    assert float(bound.latent_variance) < 0.7 * float(free.latent_variance)


def test_reconstructions_are_drawn(tmp_path: Path) -> None:
    fit(small(tmp_path / "vae", sample_every=2), tmp_path, steps=4)
    files = sorted((tmp_path / "samples").iterdir())
    assert [file.name for file in files] == ["step_000002.png", "step_000004.png"]
    with Image.open(files[0]) as picture:
        assert picture.size == (8 * 16, 2 * 16)


@pytest.mark.parametrize(
    "wrong", [{"kl_weight": -1.0}, {"edge_weight": -1.0}, {"blended": 1.5}, {"noise": -0.1}]
)
def test_impossible_weights_are_refused(tmp_path: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        small(tmp_path, **wrong)


@pytest.mark.parametrize(
    "wrong", [(8, (1,), (1, 1), 4), (8, (), (), 4), (2, (1,), (1,), 4), (8, (1,), (1,), 2)]
)
def test_impossible_networks_are_refused(wrong: tuple) -> None:
    with pytest.raises(ValueError, match="as many levels"):
        build_autoencoder(*wrong)


def test_an_output_that_is_something_else_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match="not a model's folder"):
        fit(small(tmp_path), tmp_path / "run", steps=1)
