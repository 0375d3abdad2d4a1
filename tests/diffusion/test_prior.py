"""Guidance in the paper's convention."""

import copy
from typing import Self, final

import pytest
import torch
from torch import Tensor

from dreamfusion_pl.diffusion.noise import VariancePreserving
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.types import Condition, TextEmbedding


@final
class LinearPrior(DiffusionPrior):
    """eps = z_t + mean of the text + t; counts its calls."""

    schedule = VariancePreserving(torch.linspace(0.99, 0.01, 10))
    resolution = 2
    channels = 1
    calls = 0

    def to(self, device: torch.device | str) -> Self:
        return self

    def encode(self, rgb: Tensor, progress: float) -> Tensor:
        return rgb

    def decode(self, z: Tensor) -> Tensor:
        return z

    def embed(self, prompts: list[str]) -> TextEmbedding:
        return TextEmbedding(torch.zeros(len(prompts), 1, 1))

    def predict(self, z_t: Tensor, t: Tensor, text: TextEmbedding) -> Tensor:
        self.calls += 1
        return z_t + (text.tokens.mean((1, 2)) + t)[:, None, None, None]


@pytest.mark.parametrize("omega", [0.0, 1.0, 100.0])
def test_guidance_is_the_papers_formula_and_the_other_convention_with_one_more(omega):
    prior = LinearPrior()
    z_t, t = torch.randn(3, 1, 2, 2, dtype=torch.float64), torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    condition = Condition(*(TextEmbedding(torch.randn(n, 1, 4, dtype=torch.float64)) for n in (3, 1)))
    guided = prior.guided(z_t, t, condition, omega)
    assert prior.calls == 1
    with_text = prior.predict(z_t, t, condition.text)
    without = prior.predict(z_t, t, condition.null.expand(3))
    torch.testing.assert_close(guided, (1 + omega) * with_text - omega * without)
    torch.testing.assert_close(guided, without + (1 + omega) * (with_text - without))


def test_without_guidance_the_unconditional_branch_is_not_computed():
    prior, z_t = LinearPrior(), torch.randn(3, 1, 2, 2)
    rows = []
    prior.predict = lambda z_t, t, text: rows.append(len(z_t)) or z_t
    prior.guided(z_t, torch.rand(3), Condition(prior.embed(["y"] * 3), prior.embed([""])), 0.0)
    assert rows == [3]


def test_every_part_of_an_embedding_is_chosen_repeated_and_joined():
    whole = TextEmbedding(torch.arange(6.0).view(2, 3, 1), torch.arange(4.0).view(2, 2), torch.ones(2, 3))
    assert whole.num_texts == 2
    twice = whole.rows(torch.tensor([1, 0, 1]))
    assert twice.tokens[:, 0, 0].tolist() == [3.0, 0.0, 3.0] and twice.pooled[0].tolist() == [2.0, 3.0]
    many = whole.rows(slice(1, 2)).expand(4).join(whole)
    assert [len(part) for part in many] == [6, 6, 6]
    assert many.tokens[3].equal(whole.tokens[1]) and many.tokens[4].equal(whole.tokens[0])
    bare = TextEmbedding(whole.tokens).join(TextEmbedding(whole.tokens).to(torch.float32))
    assert bare.pooled is None and bare.mask is None and bare.num_texts == 4


def test_a_deep_copy_shares_the_prior():
    prior = LinearPrior()
    assert copy.deepcopy({"prior": prior})["prior"] is prior
