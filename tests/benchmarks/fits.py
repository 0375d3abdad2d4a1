"""Many fits by the command that a user types, each in its own process; finished ones are not repeated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple


class Fit(NamedTuple):
    """One run."""

    prompt: str
    seed: int
    folder: Path  # its run folder
    options: tuple[str, ...] = ()  # further words of the command


def run_fits(fits: Sequence[Fit], jobs: int = 1) -> None:
    """Run every fit that has not finished, ``jobs`` at a time with an equal share of the cores."""
    environment = dict(os.environ, OMP_NUM_THREADS=str(max(1, (os.cpu_count() or 1) // jobs)))

    def run(fit: Fit) -> None:
        start = time.time()
        log = subprocess.run(_command(fit), env=environment, capture_output=True, text=True)
        if log.returncode:
            print(f"{fit.folder} failed ({log.returncode}):\n{log.stderr[-2000:]}", flush=True)
        print(f"{fit.prompt}, seed {fit.seed}, {fit.folder}: {time.time() - start:.0f} s", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run, [fit for fit in fits if not is_finished(fit)]))


def is_finished(fit: Fit) -> bool:
    """Whether the run says that it is finished."""
    status = fit.folder / "status.json"
    return status.exists() and json.loads(status.read_text(encoding="utf-8"))["state"] == "finished"


def _command(fit: Fit) -> list[str]:
    fit.folder.parent.mkdir(parents=True, exist_ok=True)
    logger = "--trainer.logger.init_args"
    what = ["--prompt", fit.prompt, "--seed_everything", str(fit.seed)]
    where = [f"{logger}.save_dir", str(fit.folder.parent), f"{logger}.name", ""]
    version = [f"{logger}.version", fit.folder.name]
    return [sys.executable, "-m", "dreamfusion_pl", "fit", *what, *where, *version, *fit.options]
