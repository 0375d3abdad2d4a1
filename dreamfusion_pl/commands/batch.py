"""``python -m dreamfusion_pl batch``: many prompts on many cores, GPUs or machines."""

from __future__ import annotations

import argparse
import csv
import io
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import final

from dreamfusion_pl.atomic import replacing
from dreamfusion_pl.batch.driver import run_all
from dreamfusion_pl.batch.jobs import Job, Request, is_done, jobs_of, read_requests
from dreamfusion_pl.batch.machines import Resources
from dreamfusion_pl.batch.worker import Outcome
from dreamfusion_pl.commands.batch_checks import check_options, check_prompts, keep_options
from dreamfusion_pl.evaluation.gallery_cards import card_of
from dreamfusion_pl.evaluation.seeds import diversity_of
from dreamfusion_pl.export.pages.gallery import write_gallery
from dreamfusion_pl.metrics.diversity import Diversity
from dreamfusion_pl.run_folder import layout
from dreamfusion_pl.terminal import ERROR, complain, guarded

LINE_SECONDS = 30.0  # minimum time between two lines of progress


def main(args: list[str]) -> int:
    """Run ``batch``; return the exit status: 0 all jobs finished, 1 some failed, 2 usage error."""
    failed: list[Job] = []
    code = guarded(lambda: failed.extend(batch(*_parser().parse_known_args(args))), "batch")
    if code == 0 and failed:
        return complain(f"{len(failed)} jobs failed; the same command tries them again", 1)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dreamfusion_pl batch",
        description="Make an object of every prompt and seed, each by a fit of its own. The same command "
        "again makes what is missing and repeats nothing. Every other option goes to the fits, such as "
        "--config FILE or --trainer.max_steps N.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--prompts", required=True, help=".txt, .csv or .jsonl file, or the list 'world'")
    parser.add_argument("--out", type=Path, required=True, help="folder of the batch")
    parser.add_argument("--seeds", type=int, default=1, help="seeds of every prompt")
    parser.add_argument("--cpus", type=int, default=1, help="cores of one process")
    parser.add_argument(
        "--gpus",
        type=float,
        help="GPUs of one process, 0 for none; a fraction is a share of one and of its memory; "
        "left out: 1 where the machines have any, else 0",
    )
    parser.add_argument(
        "--memory", type=float, default=0.0, help="GB of main memory of one process; 0: not counted"
    )
    parser.add_argument(
        "--together", type=int, default=1, help="fits in one process, with one call of the prior a step"
    )
    parser.add_argument("--in-flight", type=int, default=0, help="fits submitted at once; 0: twice what fits")
    parser.add_argument("--retries", type=int, default=2, help="repetitions of a fit that failed")
    parser.add_argument(
        "--timeout", type=float, default=0.0, help="minutes that one try of a fit may take; 0: no limit"
    )
    parser.add_argument("--address", help="a Ray cluster, such as auto or ray://host:10001")
    return parser


def batch(options: argparse.Namespace, fit_options: list[str]) -> list[Job]:
    """Run the batch; return the jobs that failed.

    Raises:
        ArgumentError: an option of the fits is invalid.
        ValueError: an option or the prompt file is invalid, or Ray is not installed.
        OSError: the folder cannot be written.
    """
    if min(options.seeds, options.cpus, options.together) < 1:
        raise ValueError("--seeds, --cpus and --together must be 1 or more")
    gpus = options.gpus or 0.0
    if not min(gpus, options.memory, options.in_flight, options.retries, options.timeout) >= 0:
        raise ValueError("--gpus, --memory, --in-flight, --retries and --timeout must be 0 or more")
    if gpus > 1.0 and not gpus.is_integer():
        raise ValueError(f"--gpus is a share of one GPU or a whole number of them, got {gpus:g}")
    out = options.out.absolute()
    jobs = jobs_of(read_requests(options.prompts), options.seeds, out)
    wrong = check_options(jobs, fit_options)
    wrong |= check_prompts([job for job in jobs if job not in wrong], fit_options)
    keep_options(fit_options, out)
    for job, outcome in wrong.items():
        print(f"failed {job.folder.relative_to(out)}: {outcome.reason}", flush=True)
    possible = [job for job in jobs if job not in wrong]
    progress = _Progress(out, len(possible))
    limits = options.in_flight, options.together, 60.0 * options.timeout
    resources = Resources(options.cpus, options.gpus, options.memory, *limits)
    work = (possible, tuple(fit_options), resources, options.retries, options.address)
    try:
        outcomes = run_all(*work, progress.report, progress.watch)
    except (KeyboardInterrupt, SystemExit) as stop:
        known = {job: Outcome("finished" if is_done(job) else "unfinished") for job in jobs}
        write_summary(known | progress.settled | wrong, out)
        if isinstance(stop, SystemExit) and stop.code == signal.SIGTERM:  # raised by Ray's own handler
            print("stopped by SIGTERM; the same command goes on", file=sys.stderr)
            raise SystemExit(128 + signal.SIGTERM) from stop
        raise
    outcomes = {job: wrong.get(job) or outcomes[job] for job in jobs}
    diversity = _diversity(outcomes)
    write_summary(outcomes, out, diversity)
    if diversity:
        shape, pictures = (sum(parts) / len(diversity) for parts in zip(*diversity.values(), strict=True))
        print(f"seeds of a prompt differ by {shape:.2f} in shape (1 - IoU) and {pictures:.3f} in pictures")
    failed = [job for job in jobs if outcomes[job].state != "finished"]
    print(f"{len(jobs) - len(failed)} of {len(jobs)} finished; gallery: {out / 'gallery.html'}", flush=True)
    return failed


@final
class _Progress:
    """Prints a line for every job that ends, and the state of the batch at intervals."""

    def __init__(self, out: Path, total: int) -> None:
        self._out, self._total = out, total
        self._start = self._said = time.monotonic()
        self.settled: dict[Job, Outcome] = {}  # jobs that ended in this run of the command

    def report(self, job: Job, outcome: Outcome, settled: int, total: int) -> None:
        """Print the outcome of a job."""
        self.settled[job] = outcome
        lines = outcome.reason.splitlines()
        told = [line for line in lines if line.startswith(ERROR)] or lines[-1:]
        note = f": {told[-1].removeprefix(ERROR)}" if told else ""
        name = job.folder.relative_to(self._out)
        left = self._left(total - settled)
        print(f"{settled}/{total}, {left}, {outcome.state} {name}{note}", flush=True)

    def watch(self, outcomes: dict[Job, Outcome], running: int) -> None:
        """Print the state of the batch, at most every ``LINE_SECONDS``."""
        if time.monotonic() - self._said < LINE_SECONDS:
            return
        self._said = time.monotonic()
        failed = sum(outcome.state == "failed" for outcome in outcomes.values())
        done, left = len(outcomes) - failed, self._left(self._total - len(outcomes))
        print(f"{done} of {self._total} done, {running} running, {failed} failed, {left}", flush=True)

    def _left(self, count: int) -> str:
        if not self.settled:
            return "time left unknown"
        seconds = (time.monotonic() - self._start) / len(self.settled) * count
        return f"{seconds / 60:.0f} min left"


def best_of(outcomes: dict[Job, Outcome]) -> set[Job]:
    """Return the job with the highest score of every request that has several scored seeds."""
    scored: dict[Request, dict[Job, float]] = {}
    for job, outcome in outcomes.items():
        score = layout.read_status(job.folder).get("metrics", {}).get("score")
        if outcome.state == "finished" and isinstance(score, int | float):
            scored.setdefault(job.request, {})[job] = score
    return {max(jobs, key=lambda job: jobs[job]) for jobs in scored.values() if len(jobs) > 1}


def _diversity(outcomes: dict[Job, Outcome]) -> dict[Job, Diversity]:
    """Return how much each finished job differs from the other seeds of its request."""
    finished: dict[Request, dict[Path, Job]] = {}
    for job, outcome in outcomes.items():
        if outcome.state == "finished":
            finished.setdefault(job.request, {})[job.folder] = job
    return {
        jobs[run]: difference
        for jobs in finished.values()
        if len(jobs) > 1
        for run, difference in diversity_of(list(jobs)).items()
    }


def write_summary(
    outcomes: dict[Job, Outcome], out: Path, diversity: Mapping[Job, Diversity] = MappingProxyType({})
) -> None:
    """Write summary.csv and gallery.html of a batch.

    Args:
        outcomes: the outcome of every job.
        out: folder of the batch.
        diversity: difference of a job from the other seeds of its request, where it is known.
    """
    columns = ["prompt", "seed", "state", "score", "best", "shape_difference", "picture_difference"]
    columns += ["seconds", "loss", "opacity", "folder", "reason"]
    best = best_of(outcomes)
    buffer = io.StringIO()
    table = csv.DictWriter(buffer, columns)
    table.writeheader()
    cards = []
    for job, outcome in outcomes.items():
        known = layout.read_status(job.folder)
        metrics = known.get("metrics", {})
        row = {
            "prompt": job.request.prompt,
            "seed": known.get("seed", job.seed),
            "state": outcome.state,
            "score": metrics.get("score"),
            "best": int(job in best),
            "shape_difference": diversity[job].shape if job in diversity else None,
            "picture_difference": diversity[job].pictures if job in diversity else None,
            "seconds": known.get("seconds"),
            "loss": metrics.get("loss"),
            "opacity": metrics.get("opacity"),
            "folder": job.folder.relative_to(out).as_posix(),
            "reason": outcome.reason,
        }
        table.writerow(row)
        shown = known | {name: row[name] for name in ("prompt", "seed", "state")}
        cards.append(card_of(job.folder, out, shown, "the best of its seeds" if job in best else ""))
    with replacing(out / "summary.csv") as temporary:
        temporary.write_text(buffer.getvalue(), encoding="utf-8", errors="replace", newline="")
    write_gallery(f"{len(cards)} objects", cards, out / "gallery.html")
