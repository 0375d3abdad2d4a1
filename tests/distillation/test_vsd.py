"""VSD against what is known of it, and its low-rank copy."""

from __future__ import annotations

import pytest
import torch
from fakes import SMALL_RUN, small_model
from gaussians import COVARIANCE, TEXT, condition, gradient, pictures, prior
from tiny_families import FAMILIES, save_tiny_family
from word_prior import views_at

from dreamfusion_pl import rng
from dreamfusion_pl.cli import main
from dreamfusion_pl.diffusion.families.pretrained import PretrainedPrior
from dreamfusion_pl.diffusion.low_rank import LowRankCopy
from dreamfusion_pl.diffusion.noise import SigmaSquared, Uniform
from dreamfusion_pl.diffusion.text.prompts import ViewDependentPrompts
from dreamfusion_pl.distillation.score_gradient import add_noise
from dreamfusion_pl.distillation.sds import ScoreDistillation
from dreamfusion_pl.distillation.variants.particles import ParticleDistillation
from dreamfusion_pl.distillation.variants.vsd import VariationalDistillation
from dreamfusion_pl.types import Condition

PRETRAINED = "dreamfusion_pl.diffusion.families.pretrained.PretrainedPrior"
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_of_one_picture_it_is_sds():
    z, here = pictures(1), {"guidance_scale": 3.0, "weighting": Uniform(), "t_min": 0.3, "t_max": 0.6}
    vsd = gradient(ParticleDistillation(**here), z, condition(1), seed=3)
    torch.testing.assert_close(vsd, gradient(ScoreDistillation(**here), z, condition(1), seed=3))
    assert vsd.abs().max() > 0.1


def test_nothing_pulls_at_samples_of_the_prior():
    """With the exact score of the pictures, and without guidance; of points elsewhere it does."""
    factor = torch.linalg.cholesky(COVARIANCE)
    noise = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    samples = (TEXT + noise @ factor.T).view(-1, 1, 2, 2)
    vsd = ParticleDistillation(0.0, Uniform(), 0.6, 0.9)

    def pull(z):
        return float(gradient(vsd, z, condition(len(z))).square().mean().sqrt())

    assert pull(samples) < 0.03 and pull(samples + 1.0) > 0.3
    assert pull(TEXT.view(1, 1, 2, 2) + 0.5 * (samples - TEXT.view(1, 1, 2, 2))) > 0.1  # too close together


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def model(request, tmp_path_factory) -> PretrainedPrior:
    folder = save_tiny_family(request.param, tmp_path_factory.mktemp("families"))
    return PretrainedPrior(str(folder), dtype="float32", resolution=8)


def inputs(model: PretrainedPrior) -> tuple[torch.Tensor, torch.Tensor, Condition]:
    z = torch.randn(2, model.channels, 8, 8, generator=rng.generator(0, "z"))
    views = views_at([0.0, 20.0], [0.0, 180.0])
    prompts = ViewDependentPrompts().embed(model, "a red chair")
    return z, torch.tensor([0.3, 0.7]), prompts(views)


def test_the_copy_begins_as_the_network_and_leaves_it_alone(model):
    z, t, where = inputs(model)
    before = model.predict(z, t, where.text)
    copy = LowRankCopy(model.network, 2)
    with copy.active(model.network, where.camera):
        torch.testing.assert_close(model.predict(z, t, where.text), before)
    for parameter in copy.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(0))
    with copy.active(model.network, where.camera):
        changed = model.predict(z, t, where.text)
    assert not torch.allclose(changed, before)
    torch.nn.init.zeros_(copy.camera_out)
    with copy.active(model.network, where.camera):
        assert not torch.allclose(model.predict(z, t, where.text), changed)  # the camera counted
    torch.testing.assert_close(model.predict(z, t, where.text), before)


def test_the_copy_learns_the_scenes_pictures(model):
    """Every parameter gets a gradient but the first camera layer, and L_Diff falls on one fixed picture."""
    z, _, where = inputs(model)
    z = z[:1].repeat(2, 1, 1, 1)
    vsd = VariationalDistillation(2.0, SigmaSquared(), t_max=0.9, rank=2)
    vsd.check(model)
    groups = vsd.param_groups(1.0)
    assert [group["lr"] for group in groups] == [0.01]
    optimizer = torch.optim.Adam(groups[0]["params"], lr=0.02)
    losses = []
    for step in range(40):
        found = vsd(z.clone().requires_grad_(), where, model, 0.0, rng.generator(0, "vsd", 0, step % 4))
        optimizer.zero_grad()
        found.total.backward()
        optimizer.step()
        losses.append(float(found.own["own_score"].detach()))
    assert all(parameter.grad.abs().max() > 0.0 for parameter in vsd.parameters())
    assert sum(losses[-4:]) < 0.99 * sum(losses[:4])
    assert all(parameter.grad is None for parameter in model.network.parameters())


def test_a_prior_without_a_network_is_refused():
    with pytest.raises(ValueError, match="low-rank copy of the prior's network, and none is at hand"):
        small_model(distillation=VariationalDistillation(2.0, SigmaSquared()))
    small_model(distillation=ParticleDistillation(2.0, SigmaSquared()))
    assert prior().network is None


@pytest.mark.parametrize("option", [{"rate": 0.0}, {"guidance_scale": -1.0}, {"t_min": 1.0}])
def test_bad_settings_are_refused(option):
    with pytest.raises(ValueError, match="got"):
        VariationalDistillation(**{"guidance_scale": 2.0, "weighting": SigmaSquared(), **option})


def test_half_precision_is_refused(tmp_path):
    half = PretrainedPrior(str(save_tiny_family("stable_diffusion", tmp_path)), dtype="float32", resolution=8)
    z, _, where = inputs(half)
    vsd = VariationalDistillation(2.0, SigmaSquared())
    vsd.check(half)
    half.network.half()
    with pytest.raises(ValueError, match="vanish in float16: pass --model.prior.dtype float32"):
        vsd.own_score(add_noise(z, z, torch.tensor([0.3, 0.7]), half), where, half)


WORDS = ["--prompt", "a red chair", "--model.prior", PRETRAINED, "--model.prior.dtype", "float32"]
VSD = ["--model.distillation", "VariationalDistillation", "--model.distillation.guidance_scale", "2"]


def test_a_run_resumes_exactly_and_keeps_its_distillation(tmp_path, monkeypatch, capsys):
    """With averages, accumulated gradients, the embedded prior; a refused resume leaves the run as it was."""
    monkeypatch.chdir(tmp_path)
    words = [*SMALL_RUN, *WORDS, *VSD, "--trainer.accumulate_grad_batches", "2", "--trainer.max_steps"]
    assert main(["fit", *words, "4"]) == 0
    assert main(["fit", *words, "2", "--schedule_steps", "4"]) == 0
    whole, half = (tmp_path / "lightning_logs" / f"version_{index}" for index in (0, 1))
    configuration = (half / "config.yaml").read_text(encoding="utf-8")
    for change in (["--model.distillation", "ScoreDistillation"], ["--model.distillation.rank", "8"]):
        assert main(["fit", "--resume", str(half), "--trainer.max_steps", "4", *change]) == 2
        said = capsys.readouterr().err
        assert "has another distillation than this configuration" in said and said.count("\n") < 4, said
        assert (half / "config.yaml").read_text(encoding="utf-8") == configuration
    assert main(["fit", "--resume", str(half), "--trainer.max_steps", "4"]) == 0, capsys.readouterr().err
    first, second = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["current_model_state"]
        for run in (whole, half)
    )
    assert any("distillation.copy.up" in name for name in first)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    for command in (["validate", "--resume"], ["fit", "--trainer.max_steps", "1", "--from"], ["render"]):
        assert main([*command, str(half)]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["VariationalDistillation"],
        ["NoiseFreeDistillation", "--model.distillation.negative_text", "a gray ball"],
        ["BridgeDistillation", "--model.distillation.source_text", "a gray {}"],
    ],
)
def test_texts_are_embedded_ahead(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fit = [*SMALL_RUN, *WORDS, "--model.distillation", *words, "--model.distillation.guidance_scale", "2"]
    assert main(["embed", *fit, "--out", "texts"]) == 0, capsys.readouterr().err
    assert main(["fit", *fit, "--model.prior.embeddings", "texts", "--trainer.max_steps", "1"]) == 0


@pytest.mark.parametrize(
    ("rank", "said"), [("0", "rank of 1 or more, got 0"), ("100000", "at most, got 100000")]
)
def test_impossible_ranks_are_refused(rank, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--model.distillation", "VariationalDistillation", "--model.distillation.rank", rank]
    assert main(["fit", "--prompt", "a red chair", *words]) == 2
    assert said in capsys.readouterr().err
