"""One prior for several fits: they run in turns, and what they ask in a step is answered in one call."""

from __future__ import annotations

import threading
import warnings
from functools import reduce
from typing import NamedTuple, Self, final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.types import TextEmbedding


class _Question(NamedTuple):
    """What one fit wants to have predicted."""

    z_t: Tensor  # [N, C, h, w]
    t: Tensor  # [N]
    text: TextEmbedding  # of N texts


@final
class Meeting:
    """Where the threads of K fits meet.

    One thread runs at a time: the one that holds ``turn``. A thread that asks the prior gives its turn away
    until all others have asked or left; then the last of them asks for all, in one call. If memory runs out
    in it, half as many are answered in a call from then on.

    Args:
        count: threads that will come, K.
    """

    def __init__(self, count: int) -> None:
        self.turn = threading.Condition()
        self._present, self._at_once = set(range(count)), count
        self._prior: DiffusionPrior | None = None
        self._questions: dict[int, _Question] = {}
        self._answers: dict[int, Tensor | Exception] = {}

    def share(self, seat: int, prior: DiffusionPrior) -> SharedPrior:
        """Return what thread ``seat`` is to use for its prior: the first one's serves all."""
        self._prior = self._prior or prior
        return SharedPrior(self._prior, self, seat)

    def ask(self, seat: int, question: _Question) -> Tensor:
        """Wait for the others, then return the prediction.

        Raises:
            Exception: what the call raised.
        """
        self._questions[seat] = question
        self._answer_when_complete()
        self.turn.wait_for(lambda: seat in self._answers)
        answer = self._answers.pop(seat)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def leave(self, seat: int) -> None:
        """Thread ``seat`` asks no more."""
        self._present.discard(seat)
        self._answer_when_complete()

    def _answer_when_complete(self) -> None:
        if not self._questions or self._questions.keys() < self._present:
            return
        seats = sorted(self._questions)
        asked = [self._questions.pop(seat) for seat in seats]
        answers: list[Tensor | Exception] = []
        while len(answers) < len(asked):
            answers += self._answer(asked[len(answers) :][: self._at_once])
        self._answers.update(zip(seats, answers, strict=True))
        self.turn.notify_all()

    def _answer(self, asked: list[_Question]) -> list[Tensor | Exception]:
        """Answer questions in one call; no answers mean that memory is for fewer of them."""
        assert self._prior is not None
        try:
            z_t = torch.cat([question.z_t for question in asked])
            t = torch.cat([question.t for question in asked])
            text = reduce(TextEmbedding.join, [question.text for question in asked])
            return [*self._prior.predict(z_t, t, text).split([len(question.z_t) for question in asked])]
        except torch.OutOfMemoryError as error:
            if len(asked) == 1:
                return [error]
            self._at_once = len(asked) // 2
            advice = f"from now on it answers {self._at_once} of the fits in one call"
            warnings.warn(f"the prior ran out of memory ({error}): {advice}", stacklevel=2)
            return []
        except Exception as error:  # each of them has to hear it
            return [error for _ in asked]


@final
class SharedPrior(DiffusionPrior):
    """A prior as one of several fits sees it.

    Predictions that need a gradient through the prior are made alone: a backward pass of one fit would free
    what the others still need.

    Args:
        prior: the model.
        meeting: where predictions are put together.
        seat: number of the fit at the meeting.
    """

    def __init__(self, prior: DiffusionPrior, meeting: Meeting, seat: int) -> None:
        self.schedule, self.resolution, self.channels = prior.schedule, prior.resolution, prior.channels
        self.differentiable = prior.differentiable
        self._prior, self._meeting, self._seat = prior, meeting, seat

    def to(self, device: torch.device | str) -> Self:
        self._prior.to(device)
        return self

    def encode(self, rgb: Tensor, progress: float) -> Tensor:
        return self._prior.encode(rgb, progress)

    def decode(self, z: Tensor) -> Tensor:
        return self._prior.decode(z)

    def embed(self, prompts: list[str]) -> TextEmbedding:
        return self._prior.embed(prompts)

    def predict(self, z_t: Tensor, t: Tensor, text: TextEmbedding) -> Tensor:
        if torch.is_grad_enabled() and z_t.requires_grad:
            return self._prior.predict(z_t, t, text)
        return self._meeting.ask(self._seat, _Question(z_t, t, text))
