"""Several fits in one process that share the prior: one batched call of it per step.

Every fit is an ordinary one with its own trainer, callbacks and run folder, in its own thread. One thread
runs at a time, and their calls of the prior are batched (``diffusion/shared.py``). The result of a fit is the
same as alone, up to rounding in a larger batch. A fit that ends early does not block the others.
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
from dreamfusion_pl.callbacks.progress import Progress
from dreamfusion_pl.callbacks.signals import HANDLED_SIGNALS, Signals
from dreamfusion_pl.diffusion.shared import PriorBatcher
from dreamfusion_pl.runs import fit_in_memory
from dreamfusion_pl.terminal import FAILED, guarded

_USAGE = """\
usage: python -m dreamfusion_pl together FILE

Run several fits in one process, with one call of the prior a step; `batch --together N` does this by itself.

  FILE  JSON: a list such as [{"words": ["--prompt", "a red chair"], "log": "log.txt"}], where words are the
        arguments of a fit and log is the file for its output

The last line printed is the list of the fits' exit statuses.
"""


class Fit(NamedTuple):
    """One of several fits."""

    words: list[str]  # command-line arguments after ``fit``
    log: str  # file for its output


def main(args: list[str]) -> int:
    """Run the fits of a JSON file; print the list of their exit statuses as the last line."""
    codes: list[int] = []
    if set(args) & {"--help", "-h"}:
        print(_USAGE)
        return 0

    def run() -> None:
        if len(args) != 1 or not Path(args[0]).is_file():
            raise ValueError('together needs a file with a list such as [{"words": [...], "log": "log.txt"}]')
        codes.extend(fit_together([Fit(**fit) for fit in json.loads(Path(args[0]).read_text("utf-8"))]))
        print(json.dumps(codes), flush=True)

    return guarded(run, "together") or max(codes, default=0)


def fit_together(fits: Sequence[Fit]) -> list[int]:
    """Run fits that have the same prior; return their exit statuses.

    Args:
        fits: their configurations may differ in everything but the prior. A fit whose prior differs from that
            of the first one built ends with the exit status of a usage error.
    """
    batcher, signals, received = PriorBatcher(len(fits)), list[Signals](), list[int]()
    priors: list[Any] = []  # settings of every fit's prior; all must equal the first
    codes = [FAILED] * len(fits)

    def run_fit(index: int) -> None:
        def share_prior(model: LightningModule, trainer: Trainer) -> None:
            if not isinstance(model, DreamFusion):
                raise ValueError(f"only fits of a prompt can share a prior, a {type(model).__name__} cannot")
            prior = model.hparams.get("prior")
            if prior != (priors or [prior])[0]:
                raise ValueError(
                    f"this fit's prior, {prior}, differs from that of the other fits in this process, "
                    f"{priors[0]}: run it in a process of its own"
                )
            priors.append(prior)
            signals.extend(one for one in trainer.callbacks if isinstance(one, Signals))
            bar = trainer.progress_bar_callback
            if bar is not None and not isinstance(bar, Progress):
                bar.disable()  # Lightning's draws in the one terminal of the process
            if received:  # stop before training; later signals reach the listeners
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
    except Exception:  # it must not end the other fits
        traceback.print_exc()
        return FAILED


@contextmanager
def _forward_signals(listeners: list[Signals], received: list[int]) -> Iterator[None]:
    """Forward signals, which only the main thread receives, to every fit; a second one ends the process.

    Args:
        listeners: signal callbacks of the fits built so far; the list grows while other fits train.
        received: the signal's number is appended here, for fits that are not built yet.
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
    """Redirects the output of every thread to its own file."""

    def __init__(self, other: TextIO) -> None:
        self._other, self._local = other, threading.local()

    @contextmanager
    def redirect(self, path: str) -> Iterator[None]:
        """Append the current thread's output to a file while the block runs."""
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
