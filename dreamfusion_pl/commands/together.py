"""Several fits in one process: the same algorithm, with one call of the prior a step for all of them.

Every fit is an ordinary one with a trainer, callbacks and a run folder of its own, in a thread of its own;
the threads take turns and meet where they ask the prior (``diffusion/shared.py``). So a fit gives what it
would give alone, up to the rounding of a larger batch, and one that ends early does not hold up the others.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, TextIO, final

from pytorch_lightning import LightningModule, Trainer

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.callbacks.signals import HANDLED_SIGNALS, Signals
from dreamfusion_pl.diffusion.shared import PriorBatcher
from dreamfusion_pl.runs import fit_in_memory
from dreamfusion_pl.terminal import FAILED, guarded


class Fit(NamedTuple):
    """One of several fits."""

    words: list[str]  # of its command line, after ``fit``
    log: str  # file that gets what it prints


def main(args: list[str]) -> int:
    """Run the fits of a JSON file; the last line printed is the list of their exit statuses."""
    codes: list[int] = []

    def run() -> None:
        if len(args) != 1 or not Path(args[0]).is_file():
            raise ValueError('together needs a file with a list such as [{"words": [...], "log": "log.txt"}]')
        codes.extend(fit_together([Fit(**fit) for fit in json.loads(Path(args[0]).read_text("utf-8"))]))
        print(json.dumps(codes), flush=True)

    return guarded(run, "together") or max(codes, default=0)


def fit_together(fits: Sequence[Fit]) -> list[int]:
    """Run fits that have the same prior; return their exit statuses.

    Args:
        fits: their configurations may differ in everything but the prior; one whose prior is not that of
            the first to be built ends with the status of wrong usage.
    """
    batcher, signals, received = PriorBatcher(len(fits)), list[Signals](), list[int]()
    priors: list[Any] = []  # settings of the first one
    codes = [FAILED] * len(fits)

    def run_fit(index: int) -> None:
        def share_prior(model: LightningModule, trainer: Trainer) -> None:
            if not isinstance(model, DreamFusion):
                raise ValueError(f"only fits of a prompt can share a prior, {type(model).__name__} is none")
            prior = model.hparams.get("prior")
            if prior != (priors or [prior])[0]:
                raise ValueError(
                    f"this fit's prior, {prior}, is not that of the fits it shares a process with, "
                    f"{priors[0]}: give it a process of its own"
                )
            priors.append(prior)
            signals.extend(one for one in trainer.callbacks if isinstance(one, Signals))
            if received:  # all are to end, this one before it begins; a later signal finds its listeners
                raise SystemExit(128 + received[0])
            model.prior = batcher.share(index, model.prior)
            model.distillation.check(model.prior)

        with batcher.lock:
            try:
                with output.redirect(fits[index].log):
                    codes[index] = _exit_status(lambda: fit_in_memory(fits[index].words, share_prior))
            finally:
                batcher.leave(index)

    output = _PerThreadOutput(sys.stdout)
    with _forward_signals(signals, received), redirect_stdout(output), redirect_stderr(output):
        threads = [threading.Thread(target=run_fit, args=(index,)) for index in range(len(fits))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return codes


def _exit_status(fit: Callable[[], object]) -> int:
    try:
        return guarded(fit, "fit")
    except Exception:  # what would end a process of its own must not end the others' fits
        traceback.print_exc()
        return FAILED


@contextmanager
def _forward_signals(listeners: list[Signals], received: list[int]) -> Iterator[None]:
    """Pass signals, which only the main thread gets, on to every fit; a second one ends the process.

    Args:
        listeners: of the fits that have been built; more come while others train.
        received: gets the signal's number, for those that are still to come.
    """

    def notice(number: int, frame: FrameType | None) -> None:
        if received or not listeners:
            os._exit(128 + number)
        received.append(number)
        for listener in listeners:
            listener.notice(number)

    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, notice) for number in HANDLED_SIGNALS} if is_main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@final
class _PerThreadOutput(io.TextIOBase):
    """Sends what a thread prints to that thread's file."""

    def __init__(self, other: TextIO) -> None:
        self._other, self._local = other, threading.local()

    @contextmanager
    def redirect(self, path: str) -> Iterator[None]:
        """Append what the current thread prints to a file while the block runs."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with Path(path).open("a", buffering=1, encoding="utf-8", errors="replace") as file:
            self._local.file = file
            try:
                yield
            finally:
                del self._local.file

    def write(self, text: str, /) -> int:
        return self._target().write(text)

    def flush(self) -> None:
        self._target().flush()

    def _target(self) -> Any:
        return getattr(self._local, "file", self._other)
