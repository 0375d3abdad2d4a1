"""The exact prior of tests/benchmarks against a loop over its pictures."""

import math

import pytest
import torch
from benchmarks.exact_prior import ExactPrior


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    file = tmp_path_factory.mktemp("exact") / "pictures.pt"
    rng = torch.Generator().manual_seed(0)
    angles = torch.tensor([[10.0, 5.0], [40.0, 350.0], [12.0, 91.0], [70.0, 180.0]])
    torch.save({"pictures": torch.rand(4, 3, 64, 64, generator=rng).half(), "angles_deg": angles}, file)
    return ExactPrior(str(file))


def by_a_loop(prior, z_t, t, known):
    """The mean of the known pictures, each with its likelihood, in double precision."""
    time = torch.tensor([t])
    alpha, sigma = float(prior.schedule.alpha(time)), float(prior.schedule.sigma(time))
    pictures = [prior._pictures[k].double().view(3, 64, 64) for k in known]
    exponents = [-float((z_t - alpha * x).square().sum()) / (2.0 * sigma**2) for x in pictures]
    weights = [math.exp(exponent - max(exponents)) for exponent in exponents]
    x0 = sum(w * x for w, x in zip(weights, pictures, strict=True)) / sum(weights)
    return (z_t - alpha * x0) / sigma


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("", [0, 1, 2, 3]),
        ("a ball, front view", [0, 1]),
        ("a ball, overhead view", [3]),
        ("a ball, front view, elevation 45", [1]),
        ("a ball, left side view, elevation 15", [2]),
    ],
)
def test_noise_is_what_a_loop_over_the_described_pictures_says(prior, text, known):
    rng = torch.Generator().manual_seed(1)
    for t in (0.5, 0.97, 0.999):
        eps = torch.randn(1, 3, 64, 64, generator=rng)
        z_t = prior.schedule.diffuse(0.02 * prior._pictures[:1].view(1, 3, 64, 64), eps, torch.tensor([t]))
        found = prior.predict(z_t, torch.tensor([t]), prior.embed([text]))
        expected = by_a_loop(prior, z_t[0].double(), t, known)
        torch.testing.assert_close(found[0].double(), expected, atol=2e-3, rtol=2e-3)


def test_a_text_without_a_view_is_refused(prior):
    with pytest.raises(ValueError, match="'a ball, from afar' names no view"):
        prior.embed(["a ball, from afar"])
