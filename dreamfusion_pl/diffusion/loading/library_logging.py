"""Silences the progress bars and log messages of diffusers and transformers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the loaders' progress bars, and their advice about optional packages, while the block runs."""
    import diffusers.utils.logging as diffusers_log
    import transformers.utils.logging as transformers_log

    logs = (diffusers_log, transformers_log)
    before = [(log, log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
    for log in logs:
        log.set_verbosity_error()
        log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # on outdated configurations of hub models
            yield
    finally:
        for log, verbosity, had_bar in before:
            log.set_verbosity(verbosity)
            if had_bar:
                log.enable_progress_bar()
