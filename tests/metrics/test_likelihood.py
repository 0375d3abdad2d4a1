"""The prior's own score, on a prior whose texts are colours."""

import torch
from fakes import ColorPrior

from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.metrics.likelihood import TIMES, prompt_evidence
from dreamfusion_pl.types import Condition, TextEmbedding

RED, GREEN = torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.1, 0.9, 0.1])


class Painter(DiffusionPrior):
    """Knows one colour for every text, whose embedding is that colour."""

    def __init__(self):
        self._plain = ColorPrior()
        self.schedule, self.resolution, self.channels, self.differentiable = self._plain.schedule, 8, 3, True
        self.rows = []

    def to(self, device):
        return self

    def encode(self, rgb, progress):
        return self._plain.encode(rgb, progress)

    def decode(self, z):
        return self._plain.decode(z)

    def embed(self, prompts):
        raise NotImplementedError

    def predict(self, z_t, t, text):
        self.rows.append(len(z_t))
        parts = []
        for row in range(len(z_t)):
            self._plain.mean = 2.0 * text.tokens[row, 0][:, None, None] - 1.0
            parts.append(self._plain.predict(z_t[row : row + 1], t[row : row + 1], text))
        return torch.cat(parts)


def evidence(shown: torch.Tensor, prompt: torch.Tensor) -> float:
    prior = Painter()
    z = prior.encode(shown.expand(2, 8, 8, 3), 1.0)
    condition = Condition(TextEmbedding(prompt.expand(2, 1, 3)), TextEmbedding(torch.full((1, 1, 3), 0.5)))
    value = prompt_evidence(prior, z, condition)
    assert prior.rows == [4] * len(TIMES)
    return value


def test_the_right_prompt_helps_and_a_wrong_one_harms():
    assert evidence(RED, RED) > 0.0 > evidence(GREEN, RED)
    assert abs(evidence(RED, torch.full((3,), 0.5))) < 1e-7


def test_it_is_always_the_same():
    assert evidence(RED, RED) == evidence(RED, RED)
