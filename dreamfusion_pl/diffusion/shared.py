"""One prior shared by several fits: they run in turn, and their predictions are batched into one call."""

from __future__ import annotations

import threading
import warnings
from functools import reduce
from typing import NamedTuple, Self, final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.types import TextEmbedding


class _Request(NamedTuple):
    """Arguments of one fit's call of ``predict``."""

    z_t: Tensor  # [N, C, h, w]
    t: Tensor  # [N]
    text: TextEmbedding  # of N texts


@final
class PriorBatcher:
    """Batches the predictions of K fits, which run in one thread each.

    Only the thread that holds ``lock`` runs. A thread that needs a prediction releases the lock and waits
    until all other threads have submitted a request or left; the last one then runs a single batched call for
    all of them, or one for each size of ``z_t``. If a call runs out of memory, at most half as many requests
    are batched from then on.

    Args:
        count: number of threads, K.
    """

    def __init__(self, count: int) -> None:
        self.lock = threading.Condition()
        self._active, self._max_batch = set(range(count)), count
        self._prior: DiffusionPrior | None = None
        self._requests: dict[int, _Request] = {}
        self._results: dict[int, Tensor | Exception] = {}

    def share(self, index: int, prior: DiffusionPrior) -> SharedPrior:
        """Return the prior that thread ``index`` must use. All threads share the prior of the first call."""
        self._prior = self._prior or prior
        return SharedPrior(self._prior, self, index)

    def submit(self, index: int, request: _Request) -> Tensor:
        """Submit a request, wait for the batched call, and return the prediction.

        Raises:
            Exception: the exception that the batched call raised.
        """
        self._requests[index] = request
        self._run_when_complete()
        self.lock.wait_for(lambda: index in self._results)
        result = self._results.pop(index)
        if isinstance(result, Exception):
            raise result
        return result

    def leave(self, index: int) -> None:
        """Remove thread ``index``: it submits no more requests."""
        self._active.discard(index)
        self._run_when_complete()

    def _run_when_complete(self) -> None:
        if not self._requests or self._requests.keys() < self._active:
            return
        sizes: dict[torch.Size, list[int]] = {}  # fits at different progress may render different sizes
        for index in sorted(self._requests):
            sizes.setdefault(self._requests[index].z_t.shape[1:], []).append(index)
        for indices in sizes.values():
            requests = [self._requests.pop(index) for index in indices]
            results: list[Tensor | Exception] = []
            while len(results) < len(requests):
                results += self._run(requests[len(results) :][: self._max_batch])
            self._results.update(zip(indices, results, strict=True))
        self.lock.notify_all()

    def _run(self, requests: list[_Request]) -> list[Tensor | Exception]:
        """Run requests in one call. Return no results if they must be split because memory ran out."""
        assert self._prior is not None
        try:
            z_t = torch.cat([request.z_t for request in requests])
            t = torch.cat([request.t for request in requests])
            text = reduce(TextEmbedding.join, [request.text for request in requests])
            return [*self._prior.predict(z_t, t, text).split([len(request.z_t) for request in requests])]
        except torch.OutOfMemoryError as error:
            if len(requests) == 1:
                return [error]
            self._max_batch = len(requests) // 2
            advice = f"from now on at most {self._max_batch} of the fits share one call"
            warnings.warn(f"the prior ran out of memory ({error}): {advice}", stacklevel=2)
            return []
        except Exception as error:  # every thread gets it
            return [error for _ in requests]


@final
class SharedPrior(DiffusionPrior):
    """The view of a shared prior that one of several fits has.

    Predictions that need a gradient through the prior are not batched: the backward pass of one fit would
    free the graph that the others still need.

    Args:
        prior: the prior.
        batcher: batches the predictions.
        index: index of the fit's thread.
    """

    def __init__(self, prior: DiffusionPrior, batcher: PriorBatcher, index: int) -> None:
        self.schedule, self.resolution, self.channels = prior.schedule, prior.resolution, prior.channels
        self.differentiable = prior.differentiable
        self._prior, self._batcher, self._index = prior, batcher, index

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
        return self._batcher.submit(self._index, _Request(z_t, t, text))
