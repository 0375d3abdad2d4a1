"""Many fits by the command that a user types, each in its own process; finished ones are not repeated."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch

from dreamfusion_pl.cli import main
from dreamfusion_pl.evaluation.ground_truth import Judgement, judge_result

# What a fit and its judgement import, so that a process forked from one with it begins at once.
IMPORTED = [
    "pytorch_lightning",
    "diffusers",
    "transformers",
    "trimesh",
    "dreamfusion_pl.evaluation.ground_truth",
]


class Fit(NamedTuple):
    """One run."""

    prompt: str
    seed: int
    folder: Path  # its run folder
    options: tuple[str, ...] = ()  # further words of the command


def run_fits(fits: Sequence[Fit], jobs: int = 1) -> None:
    """Run every fit that has not finished, ``jobs`` at a time with an equal share of the cores.

    An unfinished one, which an interrupted benchmark has left, begins anew.
    """
    threads, missing = max(1, (os.cpu_count() or 1) // jobs), [fit for fit in fits if not is_finished(fit)]
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(_run, missing, [threads] * len(missing)))


def run_and_judge(fits: Sequence[Fit], jobs: int = 1) -> list[tuple[Fit, dict[str, Any]]]:
    """Run and judge every fit, ``jobs`` at a time; what failed is said and left out.

    Each has a process of its own, forked from one that has imported what all need. Seconds of a fit are from
    its first preparation on, imports not included.

    Returns:
        Finished fits, and of each its steps, seconds and measures, which its folder keeps.
    """
    threads = max(1, (os.cpu_count() or 1) // jobs)
    context = get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with context.Pool(jobs, maxtasksperchild=1) as pool:
        found = pool.starmap(_run_and_judge, [(fit, threads) for fit in fits], chunksize=1)
    return [(fit, measures) for fit, measures in zip(fits, found, strict=True) if measures]


def judged(fit: Fit) -> dict[str, Any]:
    """Measures of a finished fit; None stands for what is not a number."""
    kept = fit.folder / "measures.json"
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    if set(Judgement._fields) <= set(known):
        return known
    status, found = _status(fit), judge_result(fit.folder)._asdict()
    measures = {name: None if value != value else value for name, value in found.items()}  # JSON has no NaN
    known = {"steps": status["step"], "seconds": status["seconds"], **measures}
    kept.write_text(json.dumps(known), encoding="utf-8")
    return known


def is_finished(fit: Fit) -> bool:
    """Whether the run says that it is finished."""
    return (fit.folder / "status.json").exists() and _status(fit)["state"] == "finished"


def seconds_of(fit: Fit) -> float:
    """Seconds of a finished fit, from its first preparation to its page."""
    return float(_status(fit)["seconds"])


def _status(fit: Fit) -> dict[str, Any]:
    return json.loads((fit.folder / "status.json").read_text(encoding="utf-8"))


def _run_and_judge(fit: Fit, threads: int) -> dict[str, Any] | None:
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    if not is_finished(fit):
        _begin(fit)
        start, log = time.time(), fit.folder.with_name(fit.folder.name + ".log")
        with log.open("w", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
            code = main(_words(fit))
        _report(fit, code, time.time() - start, log.read_text(encoding="utf-8"))
    return judged(fit) if is_finished(fit) else None


def _run(fit: Fit, threads: int) -> None:
    _begin(fit)
    start, environment = time.time(), dict(os.environ, OMP_NUM_THREADS=str(threads))
    command = [sys.executable, "-m", "dreamfusion_pl", *_words(fit)]
    log = subprocess.run(command, env=environment, capture_output=True, text=True)
    _report(fit, log.returncode, time.time() - start, log.stderr)


def _begin(fit: Fit) -> None:
    shutil.rmtree(fit.folder, ignore_errors=True)
    fit.folder.parent.mkdir(parents=True, exist_ok=True)


def _report(fit: Fit, code: int, seconds: float, log: str) -> None:
    if code:
        print(f"{fit.folder} failed ({code}):\n{log[-2000:]}", flush=True)
    print(f"{fit.prompt}, seed {fit.seed}, {fit.folder}: {seconds:.0f} s", flush=True)


def _words(fit: Fit) -> list[str]:
    logger = "--trainer.logger.init_args"
    what = ["--prompt", fit.prompt, "--seed_everything", str(fit.seed)]
    where = [f"{logger}.save_dir", str(fit.folder.parent), f"{logger}.name", ""]
    version = [f"{logger}.version", fit.folder.name]
    return ["fit", *what, *where, *version, *fit.options]
