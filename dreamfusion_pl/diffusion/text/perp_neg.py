"""Perp-Neg: weights of the texts of other views as negative prompts (Armandpour et al. 2023)."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

Decay = tuple[float, float, float]  # (a, b, c) of f(r) = a exp(-b r) + c


@final
class PerpNeg:
    """Weights of the front and side texts as negative prompts, against objects with several faces (Janus).

    Each weight is f(r) = a exp(-b r) + c, monotonic for r in [0, 1]. It must not be negative: the guidance
    direction of such a text, projected perpendicular to that of the view's own text, is subtracted with
    weight f(r); see ``DiffusionPrior.guided``. The defaults are threestudio's. As in the paper, the back text
    is never a negative prompt, and an overhead view has none.

    Args:
        front_ahead: a, b, c of the front's weight between front (r = 1) and side (r = 0).
        side_ahead: a, b, c of the side's weight between front (r = 0) and side (r = 1).
        front_behind: a, b, c of the front's weight between side (r = 1) and back (r = 0).
        side_behind: a, b, c of the side's weight between side (r = 1) and back (r = 0).

    Raises:
        ValueError: a weight would be negative, or is not finite.
    """

    def __init__(
        self,
        front_ahead: Decay = (4.0, 0.5, -2.426),
        side_ahead: Decay = (4.0, 0.5, -2.426),
        front_behind: Decay = (1.0, 0.5, 0.967),
        side_behind: Decay = (1.0, 0.5, -0.606),
    ) -> None:
        self.front_ahead = _checked("front_ahead", front_ahead)
        self.side_ahead = _checked("side_ahead", side_ahead)
        self.front_behind = _checked("front_behind", front_behind)
        self.side_behind = _checked("side_behind", side_behind)

    def __call__(self, place: Tensor) -> Tensor:
        """Return the weights of the front and side texts.

        Args:
            place: positions of B views, [B]: 0 at the front, 1 at the side, 2 at the back.

        Returns:
            Weights [2, B], >= 0.
        """
        front = torch.where(
            place <= 1.0, _decay(self.front_ahead, 1.0 - place), _decay(self.front_behind, 2.0 - place)
        )
        side = torch.where(
            place <= 1.0, _decay(self.side_ahead, place), _decay(self.side_behind, 2.0 - place)
        )
        return torch.stack([front, side])


def _decay(numbers: Decay, r: Tensor) -> Tensor:
    a, b, c = numbers
    return a * torch.exp(-b * r) + c


def _checked(name: str, numbers: Decay) -> Decay:
    a, b, c = numbers
    ends = a + c, a * math.exp(-b) + c  # at r = 0 and r = 1; between them f is monotonic
    if not all(0.0 <= end < math.inf for end in ends):
        raise ValueError(
            f"perp_neg.{name}: a weight a exp(-b r) + c is subtracted and must not be negative for r in "
            f"[0, 1], got {numbers}, which is {ends[0]:g} at r = 0 and {ends[1]:g} at r = 1"
        )
    return numbers
