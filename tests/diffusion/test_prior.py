"""Guidance in the paper's convention."""

import copy
from typing import Self, final

import pytest
import torch
from torch import Tensor

from dreamfusion_pl.diffusion.noise import NoiseSchedule
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.types import Condition


@final
class LinearPrior(DiffusionPrior):
    """eps = z_t + mean of the text + t; counts its calls."""

    schedule = NoiseSchedule(torch.linspace(0.99, 0.01, 10))
    resolution = 2
    channels = 1
    calls = 0

    def to(self, device: torch.device | str) -> Self:
        return self

    def encode(self, rgb: Tensor, progress: float) -> Tensor:
        return rgb

    def embed(self, prompts: list[str]) -> Tensor:
        return torch.zeros(len(prompts), 1, 1)

    def predict(self, z_t: Tensor, t: Tensor, text: Tensor) -> Tensor:
        self.calls += 1
        return z_t + (text.mean((1, 2)) + t)[:, None, None, None]


@pytest.mark.parametrize("omega", [0.0, 1.0, 100.0])
def test_guidance_is_the_papers_formula_and_the_other_convention_with_one_more(omega):
    prior = LinearPrior()
    z_t, t = torch.randn(3, 1, 2, 2, dtype=torch.float64), torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    condition = Condition(
        torch.randn(3, 1, 4, dtype=torch.float64), torch.randn(1, 1, 4, dtype=torch.float64)
    )
    guided = prior.guided(z_t, t, condition, omega)
    assert prior.calls == 1
    with_text = prior.predict(z_t, t, condition.text)
    without = prior.predict(z_t, t, condition.null.expand(3, -1, -1))
    torch.testing.assert_close(guided, (1 + omega) * with_text - omega * without)
    torch.testing.assert_close(guided, without + (1 + omega) * (with_text - without))


def test_a_deep_copy_shares_the_prior():
    prior = LinearPrior()
    assert copy.deepcopy({"prior": prior})["prior"] is prior
