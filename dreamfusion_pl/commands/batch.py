"""``python -m dreamfusion_pl batch``: many prompts on many cores, GPUs or machines."""

from __future__ import annotations

import argparse
import csv
import io
import time
from pathlib import Path

from dreamfusion_pl.batch.driver import Resources, run_all
from dreamfusion_pl.batch.jobs import Job, Request, jobs_of, read_requests, status
from dreamfusion_pl.batch.worker import LOG, Outcome
from dreamfusion_pl.callbacks import folder
from dreamfusion_pl.export.atomic import replacing
from dreamfusion_pl.export.gallery import Card, write_gallery
from dreamfusion_pl.terminal import complain, guarded


def main(args: list[str]) -> int:
    """Run ``batch``; return the exit status: 0 if every job finished, 1 if some failed, 2 for wrong usage."""
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
    parser.add_argument("--gpus", type=float, default=0.0, help="GPUs of one process; a fraction shares one")
    parser.add_argument(
        "--together", type=int, default=1, help="fits in one process, with one call of the prior a step"
    )
    parser.add_argument("--in-flight", type=int, default=0, help="fits submitted at once; 0: twice what fits")
    parser.add_argument("--retries", type=int, default=2, help="repetitions of a fit that failed")
    parser.add_argument("--address", help="a Ray cluster, such as auto or ray://host:10001")
    return parser


def batch(options: argparse.Namespace, fit_options: list[str]) -> list[Job]:
    """Run the batch; return the jobs that failed.

    Raises:
        ValueError: an option or the prompt file is wrong, or Ray is not there.
        OSError: the folder cannot be written.
    """
    if min(options.seeds, options.cpus, options.together) < 1:
        raise ValueError("--seeds, --cpus and --together must be 1 or more")
    if min(options.gpus, options.in_flight, options.retries) < 0:
        raise ValueError("--gpus, --in-flight and --retries must be 0 or more")
    out = options.out.absolute()
    jobs = jobs_of(read_requests(options.prompts), options.seeds, out)
    out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    made = 0

    def report(job: Job, outcome: Outcome, settled: int, total: int) -> None:
        nonlocal made
        made += 1
        left = (time.monotonic() - start) / made * (total - settled)
        note = f": {outcome.reason.splitlines()[-1]}" if outcome.reason else ""
        name = job.folder.relative_to(out)
        print(f"{settled}/{total}, {left / 60:.0f} min left, {outcome.state} {name}{note}", flush=True)

    resources = Resources(options.cpus, options.gpus, options.in_flight, options.together)
    outcomes = run_all(jobs, tuple(fit_options), resources, options.retries, options.address, report)
    write_summary(outcomes, out)
    failed = [job for job in jobs if outcomes[job].state != "finished"]
    print(f"{len(jobs) - len(failed)} of {len(jobs)} finished; gallery: {out / 'gallery.html'}", flush=True)
    return failed


def best_of(outcomes: dict[Job, Outcome]) -> set[Job]:
    """Of every request that has several scored seeds, the one with the highest score."""
    scored: dict[Request, dict[Job, float]] = {}
    for job, outcome in outcomes.items():
        score = status(job).get("metrics", {}).get("score")
        if outcome.state == "finished" and score is not None:
            scored.setdefault(job.request, {})[job] = score
    return {max(jobs, key=lambda job: jobs[job]) for jobs in scored.values() if len(jobs) > 1}


def write_summary(outcomes: dict[Job, Outcome], out: Path) -> None:
    """Write summary.csv and gallery.html of a batch."""
    columns = ["prompt", "seed", "state", "score", "best", "seconds", "loss", "opacity", "folder", "reason"]
    best = best_of(outcomes)
    buffer = io.StringIO()
    table = csv.DictWriter(buffer, columns)
    table.writeheader()
    cards = []
    for job, outcome in outcomes.items():
        known = status(job)
        metrics = known.get("metrics", {})
        place = job.folder.relative_to(out)
        row = {
            "prompt": job.request.prompt,
            "seed": known.get("seed", job.seed),
            "state": outcome.state,
            "score": metrics.get("score"),
            "best": int(job in best),
            "seconds": known.get("seconds"),
            "loss": metrics.get("loss"),
            "opacity": metrics.get("opacity"),
            "folder": place.as_posix(),
            "reason": outcome.reason,
        }
        table.writerow(row)
        is_shown = (job.folder / folder.TURNTABLE_GIF).exists()
        page = folder.VIEWER if (job.folder / folder.VIEWER).exists() else LOG
        note = f"seed {row['seed']}, {outcome.state}"
        note += f", {known['seconds']:.0f} s" if "seconds" in known else ""
        note += f", score {row['score']:.4f}" if row["score"] is not None else ""
        note += ", the best of its seeds" if job in best else ""
        picture = place / folder.TURNTABLE_GIF if is_shown else None
        cards.append(Card(job.request.prompt, place / page, picture, note))
    with replacing(out / "summary.csv") as temporary:
        temporary.write_text(buffer.getvalue(), encoding="utf-8", errors="replace")
    write_gallery(f"{len(cards)} objects", cards, out / "gallery.html")
